"""How long answers are: the priors per intent, and the table of what models really say and think, learned.

Where on the path: `estimate` asks it for every deployment. The table is read from `lengths.json` at start and at
reload; `learning` makes it, `coe train --lengths` writes it. Without one the priors stand.

Priors are tokens of one choice, `base + per_input x tokens of the newest user message`: a translation is as long as its
source, an extraction is not. The figures are ours: medians over natural assistant traffic as public length studies
report them (chat 100-300, code 500-1,000, reasoned maths 500-800), rounded.

The table says what share of the prior a model really gives, in thousandths, so that what is learned from short texts
holds for long ones. The finest cell that was seen counts: (model, intent, effort), then (model, intent), then the model
alone, its verbosity. Each is shrunk toward the next coarser one before it is written, so a cell of three answers says
little more than its parent.

Invariants
1. A table is whole numbers and its version is a hash of all of them: equal versions give equal decisions.
2. What is read was checked: names, ranges, no cell twice, the hash. A table that is not in order is refused whole.
3. A high figure is never under the expected one.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.domain.decision import UNCLASSIFIED
from service.domain.features import DEFAULT_EFFORT, EFFORTS

FORMAT: Final = 1
KIND: Final = "lengths"

WHOLE: Final = 1_000
"""Shares are thousandths: 1,000 is the prior itself."""

SHARE_MAX: Final = 50 * WHOLE
"""No answer is taken for longer than fifty times its prior: that is a loop, not a length."""

REASONING_MAX: Final = 1_000_000
"""Hidden tokens of one choice; no model thinks longer."""

REASONING_HIGH_FACTOR: Final = 2
"""A registry figure for hidden tokens is a mean; so many times they are held for what 90 % of answers stay under."""

CELLS_MAX: Final = 50_000
"""A thousand models, sixteen intents and three efforts."""

LENGTHS_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest table that is read: `CELLS_MAX` cells with long names."""

NAME_CHARS_MAX: Final = 256

VERSION_CHARS: Final = 12

KNOWN_EFFORTS: Final = frozenset({*EFFORTS, DEFAULT_EFFORT, "other"})

_AGAIN: Final = "delete it, or learn it again with `coe train --lengths`"


class LengthsError(ValueError):
    """A table that is not in order; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class OutputPrior:
    """Expected visible output tokens of an intent, and the 95th percentile."""

    base: int
    per_input_percent: int
    p95: int

    def expected(self, last_user_tokens: int) -> int:
        """Tokens expected for a newest user message of this size."""
        return self.base + last_user_tokens * self.per_input_percent // 100

    def high(self, last_user_tokens: int) -> int:
        """Tokens that 95 % of answers stay under."""
        return self.p95 + last_user_tokens * self.per_input_percent * 3 // 200


OUTPUT_PRIORS: Mapping[str, OutputPrior] = {
    "chitchat": OutputPrior(80, 0, 400),
    "advice_ideas": OutputPrior(500, 0, 1_500),
    "rewriting": OutputPrior(60, 100, 400),
    "translation": OutputPrior(30, 110, 300),
    "summarization": OutputPrior(220, 5, 900),
    "extraction": OutputPrior(120, 5, 800),
    "factual_qa": OutputPrior(220, 0, 900),
    "writing": OutputPrior(700, 0, 2_500),
    "roleplay": OutputPrior(200, 0, 800),
    "coding": OutputPrior(800, 10, 4_000),
    "math": OutputPrior(600, 0, 2_500),
    "logic": OutputPrior(500, 0, 2_000),
    "domain_expert": OutputPrior(650, 0, 2_000),
    "tool_use": OutputPrior(120, 0, 600),
    "compound": OutputPrior(900, 20, 3_500),
    UNCLASSIFIED: OutputPrior(400, 0, 2_000),
}


def prior_of(intent: str) -> OutputPrior:
    """The prior of an intent; of an unread request where the name is no intent."""
    return OUTPUT_PRIORS.get(intent, OUTPUT_PRIORS[UNCLASSIFIED])


@dataclass(frozen=True, slots=True)
class Length:
    """One cell. `visible` and `high` are thousandths of the prior's expected and high figure.

    `reasoning` and `reasoning_high` are hidden tokens of one choice, `None` where only the registry knows. The high
    ones are what 90 % of answers stay under. `n` is how many answers the cell has seen itself.
    """

    visible: int
    high: int
    reasoning: int | None
    reasoning_high: int | None
    n: int


Key = tuple[str, str | None, str | None]
"""(model, intent, effort); `None` is any."""

Cells = Mapping[tuple[str | None, str | None], Length]
"""The cells of one model by (intent, effort)."""


class Lengths:
    """The learned table. Immutable; equal tables have equal versions."""

    __slots__ = ("_by_model", "cells", "version")

    def __init__(self, cells: Mapping[Key, Length]) -> None:
        """Raises LengthsError when a cell is out of range."""
        if len(cells) > CELLS_MAX:
            raise LengthsError(f"{len(cells):,} cells, the limit is {CELLS_MAX:,}: learn from fewer models")
        by_model: dict[str, dict[tuple[str | None, str | None], Length]] = {}
        for (model, intent, effort), length in cells.items():
            _check((model, intent, effort), length)
            by_model.setdefault(model, {})[intent, effort] = length
        self.cells = dict(cells)
        self._by_model = by_model
        text = json.dumps(_rows(cells), separators=(",", ":"), ensure_ascii=False)
        self.version = f"{KIND}@{hashlib.sha256(text.encode()).hexdigest()[:VERSION_CHARS]}"

    def of(self, model: str) -> Cells | None:
        """What is known of a model, `None` when nothing is."""
        return self._by_model.get(model)

    def plain(self, learned_from: Mapping[str, object]) -> dict[str, object]:
        """The table as JSON values; `learned_from` says of what it was made and is no part of the version."""
        columns = ("model", "intent", "effort", "n", "visible", "high", "reasoning", "reasoning_high")
        return {
            "format": FORMAT,
            "kind": KIND,
            "version": self.version,
            "learned_from": dict(learned_from),
            "columns": list(columns),
            "cells": _rows(self.cells),
        }


def from_plain(told: object) -> Lengths:
    """The table that `plain` told. Raises LengthsError for anything else, and when its version is not its hash."""
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise LengthsError(f"this is no table of lengths; {_AGAIN}")
    if told.get("format") != FORMAT:
        raise LengthsError(f"its format is {_told(told.get('format'))}, this version reads {FORMAT}; {_AGAIN}")
    rows = told.get("cells")
    if not isinstance(rows, list):
        raise LengthsError(f"it has no cells; {_AGAIN}")
    cells: dict[Key, Length] = {}
    for number, row in enumerate(rows[: CELLS_MAX + 1]):
        if not isinstance(row, list) or len(row) != 8:
            raise LengthsError(f"cell {number} is not a list of eight; {_AGAIN}")
        model, intent, effort, n, visible, high, reasoning, reasoning_high = row
        key = (model, intent, effort)
        if not all(part is None or isinstance(part, str) for part in key) or key in cells:
            raise LengthsError(f"cell {number} is there twice, or its names are no text; {_AGAIN}")
        cells[key] = Length(visible, high, reasoning, reasoning_high, n)
    found = Lengths(cells)
    if told.get("version") != found.version:
        raise LengthsError(f"it says {_told(told.get('version'))} of itself and is {found.version}; {_AGAIN}")
    return found


def cell(cells: Cells, intent: str, effort: str) -> Length | None:
    """The finest cell that there is for an intent and an effort."""
    return cells.get((intent, effort)) or cells.get((intent, None)) or cells.get((None, None))


def _rows(cells: Mapping[Key, Length]) -> list[list[object]]:
    """The cells in an order that does not depend on how they came in."""
    ordered = sorted(cells.items(), key=lambda item: tuple((part is not None, part or "") for part in item[0]))
    return [[*key, one.n, one.visible, one.high, one.reasoning, one.reasoning_high] for key, one in ordered]


def _told(value: object) -> str:
    """What a file holds, as a message tells it: a wrong file may hold megabytes in one name."""
    return reprlib.repr(value)


def _check(key: Key, length: Length) -> None:
    model, intent, effort = key
    where = f"the cell of {_told(model)}, {_told(intent)}, {_told(effort)}"
    if not isinstance(model, str) or not 0 < len(model) <= NAME_CHARS_MAX:
        raise LengthsError(f"{where}: the model must be a name of up to {NAME_CHARS_MAX} characters; {_AGAIN}")
    if (intent is not None and intent not in OUTPUT_PRIORS) or (effort is not None and effort not in KNOWN_EFFORTS):
        raise LengthsError(f"{where}: not an intent, or not an effort; {_AGAIN}")
    if intent is None and effort is not None:
        raise LengthsError(f"{where}: an effort without an intent; {_AGAIN}")
    limits = (("visible", length.visible, SHARE_MAX), ("high", length.high, SHARE_MAX), ("n", length.n, 10**15))
    for name, value, most in limits:
        if type(value) is not int or not 0 < value <= most:
            raise LengthsError(f"{where}: {name} must be a whole number from 1 to {most:,}; {_AGAIN}")
    for name, hidden in (("reasoning", length.reasoning), ("reasoning_high", length.reasoning_high)):
        if hidden is not None and (type(hidden) is not int or not 0 <= hidden <= REASONING_MAX):
            raise LengthsError(f"{where}: {name} must be null or a whole number up to {REASONING_MAX:,}; {_AGAIN}")
    if (length.reasoning is None) is not (length.reasoning_high is None):
        raise LengthsError(f"{where}: reasoning and reasoning_high go together; {_AGAIN}")
    if length.reasoning is not None and length.reasoning > (length.reasoning_high or 0):
        raise LengthsError(f"{where}: reasoning is above reasoning_high; {_AGAIN}")
