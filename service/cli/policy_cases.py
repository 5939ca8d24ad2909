"""Policy tests as data: a file of cases (a request, and what must and must not become of it), read and checked.

Where on the path: `coe check` and CI read cases here, `policy_runs` runs them. The file is YAML, read by the registry's
own reader, so every mistake comes as `file:line:column: what is wrong; what to do`.

Invariants
1. Unknown fields, names that the registry does not have and expectations that expect nothing are errors: a case that
   checks nothing would pass for ever.
2. A case says at which instant it is decided; nothing of it depends on the day on which it runs.
3. No message repeats a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from service.catalog import words
from service.catalog.draft import entry_at
from service.catalog.fields import Number, OneOf, OneOrMany, Shape, Whole, refuse
from service.catalog.positions import MAX_FILE_BYTES, Document, Plain, read
from service.catalog.price_schema import Entry
from service.catalog.problems import Path as Place
from service.catalog.problems import Problems, shown
from service.catalog.schema import Label, Prose, Ratio
from service.domain.access import ANONYMOUS, Caller
from service.domain.decision import UNCLASSIFIED, UNSURE, ReasonCode
from service.routing.capable import REJECTIONS

CASES_MAX = 2_000
"""Cases of one file: at a millisecond each they take two seconds."""

PROMPT_CHARACTERS_MAX = 20_000
"""Of one text of a case as it is written; `repeat` makes longer ones."""

REPEAT_MAX = 1_000_000

INTENTS_TOLD = {**words.ROUTE_INTENTS, UNSURE: "the classifier abstains", UNCLASSIFIED: "the request names its model"}
REASON_CODES = {code.value: code.name for code in ReasonCode}
LANGUAGES = {"en": "English", "zh": "Chinese", "other": "any other", "und": "no letters"}
DEGRADED = {
    "quality_floor": "no floor kept",
    "allow": "an allow list given up",
    "plan": "a plan given up",
    "classifier": "the classifier failed",
}


class Content(Shape):
    """The text of a prompt: anything, the empty one too."""

    def check(self, value: object) -> str:
        """The text; a validation error that does not repeat it otherwise."""
        if not isinstance(value, str):
            refuse("expected a text; put quotes around a number or a word such as true")
        if len(value) > PROMPT_CHARACTERS_MAX:
            refuse(f"a text of more than {PROMPT_CHARACTERS_MAX} characters; write a shorter one with `repeat`")
        return value


class Instant(Shape):
    """An instant with its zone, such as 2026-11-21T12:00Z."""

    def check(self, value: object) -> datetime:
        """The instant; a validation error otherwise."""
        try:
            instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            refuse(f"expected an instant with its zone, such as 2026-11-21T12:00Z, got {shown(value)}")
        return instant


Words = Annotated[list[Annotated[str, Content()]], Field(max_length=64)]
Names = Annotated[list[Prose], OneOrMany()]
Usd = Annotated[Decimal, Number(Decimal(0), Decimal(10_000), decimals=12)]


class KeyEntry(Entry):
    """The key of the caller; absent: nobody's, as on loopback."""

    tags: list[Label] = Field(default_factory=list, description="Labels of the key.")
    models: list[Prose] = Field(default_factory=list, description="Models that it may use. Empty: all.")
    policies: list[Prose] = Field(default_factory=list, description="Policies that it may choose. Empty: all.")


class ExpectEntry(Entry):
    """What must become of the request. Every field that is given must hold."""

    must: Names | None = Field(None, description="The choice is one of these: model, provider, region:cn, tag:x.")
    must_not: Names | None = Field(None, description="The choice is none of these.")
    all_must: Names | None = Field(None, description="Whoever may be asked, fallbacks too, is one of these.")
    none_may: Names | None = Field(None, description="Nobody who may be asked is one of these.")
    order: list[Prose] | None = Field(None, description="These deployments stand in this order, whoever is between.")
    rejected: dict[Prose, Annotated[str, OneOf("kind of reason", REJECTIONS)]] = Field(
        default_factory=dict, description="Deployments that can't serve, each with the kind of its reason."
    )
    intent: Annotated[list[Annotated[str, OneOf("intent", INTENTS_TOLD)]], OneOrMany()] | None = Field(
        None, description="What it is about, or unsure; a list holds alternatives."
    )
    language: Annotated[str, OneOf("language", LANGUAGES)] | None = Field(None, description="Its language.")
    reason_code: Annotated[list[Annotated[str, OneOf("reason code", REASON_CODES)]], OneOrMany()] | None = Field(
        None, description="Why the choice was chosen; a list holds alternatives."
    )
    policy: Prose | None = Field(None, description="The policy that applied.")
    route: Prose | None = Field(None, description="The route that applied.")
    degraded: list[Annotated[str, OneOf("degradation", DEGRADED)]] | None = Field(
        None, description="What was given up; [] for nothing."
    )
    min_quality: Ratio | None = Field(None, description="Least P(acceptable) of the choice.")
    max_expected_cost_usd: Usd | None = Field(None, description="Most that the choice may be expected to cost.")
    max_share_of_baseline: Annotated[Decimal, Number(Decimal(0), Decimal(100))] | None = Field(
        None, description="Most that the choice may be expected to cost, as a share of the baseline's expected cost."
    )
    error: Prose | None = Field(None, description="The request is refused with this code.")


class CaseEntry(Entry):
    """One request and what must become of it. Exactly one of prompt, turns and body."""

    name: Prose = Field(description="What it shows, in a sentence.")
    prompt: Annotated[str, Content()] | None = Field(None, description="The person's message.")
    turns: Words | None = Field(None, description="Person, assistant, person, …; the last is the person's.")
    body: dict[str, Any] | None = Field(None, description="A whole chat request.")
    repeat: Annotated[int, Whole(1, REPEAT_MAX)] = Field(1, description="How often the prompt is written out.")
    model: Prose | None = Field(None, description="auto (the default), auto:<policy>, a model, provider/model.")
    policy: Prose | None = Field(None, description="A policy of the registry.")
    coe: dict[str, Any] = Field(default_factory=dict, description="What is asked of the router, as in a body.")
    headers: dict[str, str] = Field(default_factory=dict, description="The same, as x-coe-* headers.")
    key: KeyEntry | None = Field(None, description="Whose key it is.")
    at: Annotated[datetime, Instant()] | None = Field(None, description="When, if not at the file's instant.")
    expect: ExpectEntry = Field(description="What must become of it.")


class HeadEntry(Entry):
    """The single values at the top of a file of cases."""

    at: Annotated[datetime, Instant()] = Field(description="The instant at which the cases are decided.")
    registry: Prose | None = Field(None, description="Registry file, from here. Absent: the one that is checked.")


class CasesFile(HeadEntry):
    """A whole file of cases."""

    cases: list[CaseEntry] = Field(description="The cases.")


@dataclass(frozen=True, slots=True)
class Case:
    """A case that is well-formed by itself, and where it stands. `path` leads to it in its file."""

    file: Path
    line: int
    path: Place
    entry: CaseEntry
    at: datetime
    caller: Caller = ANONYMOUS


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file of cases. `registry` is the file that they are decided by, `None` for the one that is checked."""

    file: Path
    document: Document
    registry: Path | None
    cases: tuple[Case, ...]


def read_cases(file: Path) -> CaseFile:
    """The cases of a file. Raises RegistryError with every problem of the file, OSError when it can't be read."""
    problems = Problems(str(file))
    with file.open("rb") as opened:
        document = read(opened.read(MAX_FILE_BYTES + 1), problems)
    if document is None:
        problems.fail()
    problems.locate_with(document)
    root = document.value
    head = None
    raw: list[Plain] = []
    if isinstance(root, dict):
        raw = _items(root, problems)
        head = entry_at((), {name: value for name, value in root.items() if name != "cases"}, HeadEntry, problems)
    else:
        problems.at((), f"expected a mapping with at and cases, got {shown(root)}")
    found = [_case(file, place, value, head, document, problems) for place, value in enumerate(raw)]
    _name_once([one for one in found if one is not None], problems)
    if problems or head is None:
        problems.fail()
    registry = None if head.registry is None else file.parent / head.registry
    return CaseFile(file, document, registry, tuple(one for one in found if one is not None))


def read_folder(folder: Path) -> list[CaseFile]:
    """Every `*.yaml` of a folder by name. Raises RegistryError with every problem of the first file that has any."""
    return [read_cases(file) for file in sorted(folder.glob("*.yaml"))]


def _items(root: dict[str, Plain], problems: Problems) -> list[Plain]:
    cases = root.get("cases")
    if not isinstance(cases, list) or not cases:
        problems.at(("cases",), f"expected a list with at least one case, got {shown(cases)}")
        return []
    if len(cases) > CASES_MAX:
        problems.at(("cases",), f"more than {CASES_MAX} cases; split the file")
        return []
    return cases


def _case(
    file: Path, place: int, raw: Plain, head: HeadEntry | None, document: Document, problems: Problems
) -> Case | None:
    path: Place = ("cases", place)
    entry = entry_at(path, raw, CaseEntry, problems)
    if entry is None:
        return None
    given = [name for name in ("prompt", "turns", "body") if getattr(entry, name) is not None]
    if len(given) != 1:
        problems.at((*path, "name"), "a case has exactly one of prompt, turns and body", of_key=True)
    if entry.turns is not None and len(entry.turns) % 2 == 0:
        problems.at((*path, "turns"), "the last turn is the person's: write person, assistant, person, …", of_key=True)
    if entry.body is not None and (entry.model or entry.policy or entry.coe or entry.repeat != 1):
        problems.at((*path, "body"), "a body has its own model and coe; write them there", of_key=True)
    if entry.policy is not None and "policy" in entry.coe:
        problems.at((*path, "policy"), "the policy twice; write it here or in coe", of_key=True)
    said = entry.expect.model_fields_set
    if not said:
        problems.at((*path, "expect"), "expects nothing, so it would always pass; add must, must_not, …", of_key=True)
    if entry.expect.error is not None and len(said) > 1:
        problems.at((*path, "expect", "error"), "a refused request has nothing else to expect; remove the rest")
    key = entry.key
    caller = ANONYMOUS
    if key is not None:
        caller = Caller("key_case", "case", frozenset(key.tags), frozenset(key.models), frozenset(key.policies))
    at = entry.at or (head.at if head is not None else None)
    if at is None:
        return None
    return Case(file, document.position(path)[0], path, entry, at, caller)


def _name_once(cases: Sequence[Case], problems: Problems) -> None:
    """A name stands for one case in reports."""
    first: dict[str, int] = {}
    for one in cases:
        line = first.setdefault(one.entry.name, one.line)
        if line != one.line:
            problems.at((*one.path, "name"), f"a second case of this name, first on line {line}; give each its own")
