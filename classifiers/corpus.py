"""The project's own corpus: its row format, and the check that keeps it worth its size.

`classifiers/corpus/*.jsonl` holds natural prompts written for this project. Training reads them through `read_corpus`;
`tests/unit/classifiers/test_corpus.py` runs `complaints` over all of them. Standard library only.

Invariants:
1. A row that breaks the format stops the reading with `file:line`, what is wrong and what to do.
2. Two rows whose character 5-grams overlap by more than `NEAR_MAX` (Jaccard, over all turns of the person) are refused:
   a template filled in twice teaches nothing twice. The search is exact, not sampled.
3. An error message never quotes a prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from classifiers.taxonomy import INTENTS

LANGUAGES: Final = ("en", "zh")
FLAGS: Final = ("code", "math", "tools", "personal", "harness", "pasted", "mixed", "typos", "table")
"""code: holds or wants code. math: formulas or a computation. tools: wants an outside action or live data.
personal: personal data in it. harness: noise of an agent or app around the person's words. pasted: a given text to work
on. mixed: two languages in one prompt. typos: typed in a hurry. table: rows and columns."""

DIFFICULTIES: Final = range(1, 6)
GRAM: Final = 5
NEAR_MAX: Final = 0.6
TURNS_MAX: Final = 9
TURN_CHARS_MAX: Final = 6_000


class CorpusError(ValueError):
    """A corpus file that can't be used; the message gives `file:line`, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a compound prompt: `text` is the very piece of the last turn that asks for it."""

    intent: str
    text: str


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """One labelled conversation. `intent` is None when the prompt fits nothing of the taxonomy.

    `turns` alternate person, assistant, … and end with the person. `also` are intents that a careful reader accepts.
    """

    id: str
    source: str
    language: str
    turns: tuple[str, ...]
    intent: str | None
    also: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    difficulty: int = 1
    flags: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The last turn of the person: what is to be classified."""
        return self.turns[-1]

    @property
    def said(self) -> tuple[str, ...]:
        """The person's turns, oldest first."""
        return self.turns[-1::-2][::-1]

    @property
    def accepted(self) -> frozenset[str]:
        """Every intent that counts as right."""
        return frozenset((*self.also, self.intent)) if self.intent else frozenset(self.also)


def _names(record: dict[str, object], name: str, known: Sequence[str], where: str) -> tuple[str, ...]:
    value = record.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CorpusError(f"{where}: {name!r} must be a list of names")
    for item in value:
        if item not in known:
            raise CorpusError(f"{where}: unknown name in {name!r}; use some of {', '.join(known)}")
    if len(set(value)) != len(value):
        raise CorpusError(f"{where}: {name!r} names something twice")
    return tuple(value)


def _turns(record: dict[str, object], where: str) -> tuple[str, ...]:
    turns = record.get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise CorpusError(f"{where}: 'turns' must be a list of texts: person, assistant, …, person")
    if not 1 <= len(turns) <= TURNS_MAX or not len(turns) % 2:
        raise CorpusError(f"{where}: {len(turns)} turns; an odd number up to {TURNS_MAX} is wanted, the person's last")
    if not all(turn.strip() and len(turn) <= TURN_CHARS_MAX for turn in turns):
        raise CorpusError(f"{where}: a turn is empty or longer than {TURN_CHARS_MAX} characters")
    return tuple(turns)


def _parts(record: dict[str, object], intent: str | None, prompt: str, where: str) -> tuple[Part, ...]:
    value = record.get("parts", [])
    if not isinstance(value, list):
        raise CorpusError(f"{where}: 'parts' must be a list of {{intent, text}}")
    parts = []
    for item in value:
        if not isinstance(item, dict) or item.get("intent") not in INTENTS or item["intent"] == "compound":
            raise CorpusError(f"{where}: each part needs an intent of the taxonomy other than compound")
        text = item.get("text")
        if not isinstance(text, str) or not text.strip() or text not in prompt:
            raise CorpusError(f"{where}: a part's text must be a verbatim piece of the last turn")
        parts.append(Part(item["intent"], text))
    if (intent == "compound") != (len(parts) >= 2):
        raise CorpusError(f"{where}: a compound row has two parts or more, and no other row has any")
    return tuple(parts)


def parse_row(record: object, where: str) -> CorpusRow:
    """One row from its JSON object. Raises `CorpusError`."""
    if not isinstance(record, dict):
        raise CorpusError(f"{where}: not an object; write one object per line")
    extra = set(record) - {"id", "source", "language", "turns", "intent", "also", "parts", "difficulty", "flags"}
    if extra:
        raise CorpusError(f"{where}: unknown fields {', '.join(sorted(extra))}")
    texts = {name: record.get(name) for name in ("id", "source", "language")}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise CorpusError(f"{where}: field {name!r} is missing or not a text")
    if texts["language"] not in LANGUAGES:
        raise CorpusError(f"{where}: language must be one of {', '.join(LANGUAGES)}")
    intent = record.get("intent")
    if intent is not None and intent not in INTENTS:
        raise CorpusError(f"{where}: unknown intent; use one of {', '.join(INTENTS)}, or null for none of them")
    difficulty = record.get("difficulty")
    if not isinstance(difficulty, int) or isinstance(difficulty, bool) or difficulty not in DIFFICULTIES:
        raise CorpusError(f"{where}: difficulty must be a whole number from 1 to 5")
    turns = _turns(record, where)
    also = _names(record, "also", INTENTS, where)
    if intent in also:
        raise CorpusError(f"{where}: 'also' repeats the intent")
    return CorpusRow(
        id=str(texts["id"]),
        source=str(texts["source"]),
        language=str(texts["language"]),
        turns=turns,
        intent=intent,
        also=also,
        parts=_parts(record, intent, turns[-1], where),
        difficulty=difficulty,
        flags=_names(record, "flags", FLAGS, where),
    )


def read_file(path: Path) -> tuple[CorpusRow, ...]:
    """The rows of one file, in order. Raises `CorpusError`, and `OSError` when unreadable."""
    rows = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            where = f"{path.name}:{number}"
            try:
                record = json.loads(line)
            except ValueError:
                raise CorpusError(f"{where}: not JSON; write one object per line") from None
            rows.append(parse_row(record, where))
    return tuple(rows)


def read_corpus(folder: Path) -> tuple[CorpusRow, ...]:
    """All rows of all files, files in the order of their names. Raises `CorpusError` when there are none."""
    rows = tuple(row for path in sorted(folder.glob("*.jsonl")) for row in read_file(path))
    if not rows:
        raise CorpusError(f"{folder.name}: no rows; give a folder of .jsonl files")
    return rows


def folder_sha256(folder: Path) -> str:
    """Hex digest over the names and bytes of a corpus folder's files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def grams(text: str) -> frozenset[str]:
    """The character 5-grams of a text, blind to case and to the amount of white space."""
    flat = " ".join(text.lower().split())
    return frozenset(flat[at : at + GRAM] for at in range(max(1, len(flat) - GRAM + 1)))


def near_duplicates(texts: Sequence[str], limit: float = NEAR_MAX) -> list[tuple[int, int, float]]:
    """Every pair of texts with a Jaccard similarity of their 5-grams above `limit`, as (earlier, later, similarity).

    Exact: texts are taken from short to long, and a pair above the limit must share one of the rarest grams of each
    (prefix filtering), so only such pairs are compared in full.
    """
    bags = [grams(text) for text in texts]
    counts = Counter(gram for bag in bags for gram in bag)
    rank = {gram: place for place, gram in enumerate(sorted(counts, key=lambda gram: (counts[gram], gram)))}
    ranked = [sorted(rank[gram] for gram in bag) for bag in bags]
    holders: dict[int, list[int]] = defaultdict(list)
    found = []
    for later in sorted(range(len(texts)), key=lambda place: (len(ranked[place]), place)):
        bag = ranked[later]
        size = len(bag)
        # A shorter text that is similar enough shares at least limit * size grams, one of them among the first few.
        candidates = {other for gram in bag[: size - math.ceil(limit * size) + 1] for other in holders.get(gram, ())}
        for earlier in candidates:
            if len(ranked[earlier]) < limit * size:
                continue
            shared = len(bags[later] & bags[earlier])
            similarity = shared / (size + len(bags[earlier]) - shared)
            if similarity > limit:
                found.append((min(earlier, later), max(earlier, later), similarity))
        # Whoever comes later is at least as long, so fewer grams of this one need to be known.
        for gram in bag[: size - math.ceil(2 * limit / (1 + limit) * size) + 1]:
            holders[gram].append(later)
    return sorted(found)


def complaints(rows: Iterable[CorpusRow]) -> list[str]:
    """What is wrong with the corpus as a whole: ids used twice and near-duplicates. Empty when it is sound."""
    rows = list(rows)
    wrong = [f"id {name} is used {count} times" for name, count in Counter(r.id for r in rows).items() if count > 1]
    for earlier, later, similarity in near_duplicates(["\n".join(row.said) for row in rows]):
        wrong.append(
            f"{rows[later].id} repeats {rows[earlier].id} (similarity {similarity:.2f}); write it anew or drop it"
        )
    return wrong
