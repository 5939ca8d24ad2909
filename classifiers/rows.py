"""Labelled prompts on disk: one JSON object per line, plain or gzipped. Read by training and evaluation only.

Invariants:
1. A row that is not understood stops the reading with its line number; nothing is skipped in silence.
2. An error message never quotes a prompt.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from classifiers.corpus import CorpusRow
from classifiers.taxonomy import INDEX, INTENTS

ROWS_MAX: Final = 2_000_000
"""Rows read of one file; more is a mistake in the path."""

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
LOW_CONFIDENCE: Final = "low"
OWN_PREFIX: Final = "coe-"


class RowError(ValueError):
    """A data file that can't be used; the message gives `file:line`, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled prompt.

    `confident` is false when the source's own label maps to the intent only roughly. `earlier` are the person's turns
    before the prompt, oldest first. Rows of the project's own corpus are `own` and know more: acceptable intents
    (`also`), `difficulty` 1-5, `flags`. Rows that are not `judged` teach only: steps of compound prompts. `intent` is
    None for an own prompt that fits nothing of the taxonomy.
    """

    id: str
    source: str
    language: str
    prompt: str
    intent: str | None
    confident: bool = True
    earlier: tuple[str, ...] = ()
    own: bool = False
    also: tuple[str, ...] = ()
    difficulty: int | None = None
    flags: tuple[str, ...] = ()
    judged: bool = True

    @classmethod
    def of_corpus(cls, row: CorpusRow) -> Self:
        """A row of the project's own corpus, its world as the source group: `coe-work/en`."""
        world, _, language = row.source.rpartition("-")
        return cls(
            id=row.id,
            source=f"{OWN_PREFIX}{world or language}/{row.language}",
            language=row.language,
            prompt=row.prompt,
            intent=row.intent,
            earlier=row.said[:-1],
            own=True,
            also=row.also,
            difficulty=row.difficulty,
            flags=row.flags,
        )

    @classmethod
    def steps_of(cls, row: CorpusRow) -> tuple[Self, ...]:
        """The steps of a compound prompt as rows of their own that teach and are never judged."""
        whole = cls.of_corpus(row)
        return tuple(
            replace(
                whole,
                id=f"{row.id}.{place}",
                prompt=part.text,
                intent=part.intent,
                earlier=(),
                judged=False,
                difficulty=None,
            )
            for place, part in enumerate(row.parts, start=1)
        )

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """(role, text) of the person's turns, oldest first: what the classifier reads of a conversation."""
        return tuple(("user", text) for text in (*self.earlier, self.prompt))

    @property
    def label(self) -> int:
        """The place of the intent in the order of all. Raises `ValueError` for a row that has none."""
        if self.intent is None:
            raise ValueError(f"row {self.id} fits no intent; leave such rows out before training")
        return INDEX[self.intent]

    @property
    def group(self) -> str:
        """The source without its sub-source: what is left out together (`AGIEval/math` and `AGIEval/lsat-lr`)."""
        return self.source.split("/", 1)[0]


def _text(record: dict[str, object], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise RowError(
            f"{where}: field {name!r} is missing or not a string; each row needs prompt, intent and language"
        )
    return value


def _parse(line: bytes, where: str) -> Row:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RowError(f"{where}: not JSON ({type(error).__name__}); write one object per line") from None
    if not isinstance(record, dict):
        raise RowError(f"{where}: a {type(record).__name__}, not an object; write one object per line")
    intent = _text(record, "intent", where)
    if intent not in INTENTS:
        raise RowError(f"{where}: unknown intent {intent!r}; use one of {', '.join(INTENTS)}")
    return Row(
        id=str(record.get("id", "")),
        source=str(record.get("source", "unnamed")),
        language=_text(record, "language", where),
        prompt=_text(record, "prompt", where),
        intent=intent,
        confident=record.get("map_conf") != LOW_CONFIDENCE,
    )


def _lines(path: Path) -> Iterator[bytes]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            yield from stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RowError(f"{path.name}: damaged or no gzip at all ({error}); fetch it again or unpack it") from error


def iterate_rows(path: Path) -> Iterator[Row]:
    """The rows of a `.jsonl` or `.jsonl.gz` file, in file order. Raises `RowError`, and `OSError` when unreadable."""
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path.name}:{number}"
        if number > ROWS_MAX:
            raise RowError(f"{where}: more than {ROWS_MAX} rows; split the file")
        if len(line) > LINE_BYTES_MAX:
            raise RowError(f"{where}: line over {LINE_BYTES_MAX} bytes; is this a rows file?")
        if line.strip():
            yield _parse(line, where)


def read_rows(path: Path) -> tuple[Row, ...]:
    """All rows of a file. Raises `RowError` when there are none."""
    rows = tuple(iterate_rows(path))
    if not rows:
        raise RowError(f"{path.name}: no rows; give a file with at least one labelled prompt")
    return rows


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
