"""Which model did well on which prompt: outcome rows from disk, checked, as matrices. For evaluation and training.

Where on the path: beside it. `evaluate` and `train` read files through `read_outcomes`; everything behind works on the
matrices of `Outcomes`.

Invariants:
1. A row that is not understood stops the reading with `file:line`; nothing is skipped in silence, and no message quotes
   a prompt.
2. What a source did not record is NaN and stays NaN: a missing outcome is neither a success nor a failure.
3. Splits depend on the id of a row alone, so they survive reordering and other rows coming or going.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from classifiers.rows import LINE_BYTES_MAX, ROWS_MAX, RowError

MODELS_MAX: Final = 1_000
"""Models of one file; more is a mistake in the field `outcomes`."""

TRAIN_ROWS_MIN: Final = 20
"""Rows below which nothing can be learned, let alone validated."""

TEST_DIGIT: Final = 7
"""Rows whose digit is this or more are the test part when a file has to serve as both."""

FOLDS: Final = 5
UNKNOWN_LANGUAGE: Final = "und"

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """n rows and m models. `categories` has "" where a row names none.

    `scores` (n, m) in 0..1; `costs` (n, m) in USD; `input_tokens` and `output_tokens` (n, m): NaN where not recorded.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    languages: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[str, ...]
    models: tuple[str, ...]
    scores: Floats
    costs: Floats
    input_tokens: Floats
    output_tokens: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Index) -> Outcomes:
        """The rows at these places, in this order."""
        places = index.tolist()
        return Outcomes(
            ids=tuple(self.ids[place] for place in places),
            prompts=tuple(self.prompts[place] for place in places),
            languages=tuple(self.languages[place] for place in places),
            categories=tuple(self.categories[place] for place in places),
            sources=tuple(self.sources[place] for place in places),
            models=self.models,
            scores=self.scores[index],
            costs=self.costs[index],
            input_tokens=self.input_tokens[index],
            output_tokens=self.output_tokens[index],
        )

    def with_models(self, models: Sequence[str]) -> Outcomes:
        """The same rows with exactly these models as columns; a model that no row knows is NaN throughout."""
        place = {name: column for column, name in enumerate(self.models)}

        def columns(values: Floats) -> Floats:
            missing = np.full(len(self), np.nan)
            return np.stack([values[:, place[name]] if name in place else missing for name in models], axis=1)

        return Outcomes(
            ids=self.ids,
            prompts=self.prompts,
            languages=self.languages,
            categories=self.categories,
            sources=self.sources,
            models=tuple(models),
            scores=columns(self.scores),
            costs=columns(self.costs),
            input_tokens=columns(self.input_tokens),
            output_tokens=columns(self.output_tokens),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    prompt: str
    language: str
    category: str
    source: str
    outcomes: Mapping[str, tuple[float, float, float, float]]


def _number(record: Mapping[str, Any], name: str, where: str, most: float = math.inf) -> float:
    """A number between 0 and `most`, or NaN for null and absent."""
    value = record.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= most:
        limit = "0 or more" if math.isinf(most) else f"between 0 and {most:g}"
        raise RowError(f"{where}: {name!r} must be a number {limit}, or null where the source has none")
    if math.isinf(value):
        raise RowError(f"{where}: {name!r} must be finite")
    return float(value)


def _text(record: Mapping[str, Any], name: str, where: str, default: str) -> str:
    value = record.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise RowError(f"{where}: {name!r} must be a string or null")
    return value


def _parse(line: bytes, where: str) -> _Row:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where}: not JSON ({type(error).__name__}); write one object per line") from None
    if not isinstance(record, dict):
        raise RowError(f"{where}: a {type(record).__name__}, not an object; write one object per line")
    prompt, outcomes = record.get("prompt"), record.get("outcomes")
    if not isinstance(prompt, str) or not isinstance(outcomes, dict):
        raise RowError(f"{where}: each row needs 'prompt' (a string) and 'outcomes' (an object by model)")
    found = {}
    for model, outcome in outcomes.items():
        if outcome is None:
            continue
        if not isinstance(outcome, dict):
            raise RowError(f"{where}: the outcome of {model!r} must be an object with 'score', or null")
        at = f"{where}: {model!r}"
        found[model] = (
            _number(outcome, "score", at, 1.0),
            _number(outcome, "cost_usd", at),
            _number(outcome, "input_tokens", at),
            _number(outcome, "output_tokens", at),
        )
    identity = record.get("id")
    return _Row(
        # Without an id the prompt stands in: the split must not depend on where a row stands.
        id=str(identity)
        if identity not in (None, "")
        else hashlib.md5(prompt.encode(), usedforsecurity=False).hexdigest(),
        prompt=prompt,
        language=_text(record, "language", where, UNKNOWN_LANGUAGE),
        category=_text(record, "category", where, ""),
        source=_text(record, "source", where, ""),
        outcomes=found,
    )


def _lines(path: Path) -> Iterator[bytes]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            yield from stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RowError(f"{path.name}: damaged or no gzip at all ({error}); fetch it again or unpack it") from error


def _rows(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path.name}:{number}"
        if number > ROWS_MAX:
            raise RowError(f"{where}: more than {ROWS_MAX} rows; split the file")
        if len(line) > LINE_BYTES_MAX:
            raise RowError(f"{where}: line over {LINE_BYTES_MAX} bytes; is this a rows file?")
        if line.strip():
            yield _parse(line, where)


def read_outcomes(path: Path) -> Outcomes:
    """The rows of a `.jsonl` or `.jsonl.gz` file. Models come sorted by name.

    Raises `RowError` for rows that can't be used, for no rows at all, and when no row has a score of any model.
    """
    rows = list(_rows(path))
    models = sorted({model for row in rows for model in row.outcomes})
    if not rows or not models:
        raise RowError(
            f"{path.name}: no outcomes; give rows with 'prompt' and 'outcomes': {{model: {{'score': 0..1}}}}"
        )
    if len(models) > MODELS_MAX:
        raise RowError(f"{path.name}: {len(models)} models, the limit is {MODELS_MAX}; is 'outcomes' keyed by model?")
    place = {name: column for column, name in enumerate(models)}
    cells = np.full((4, len(rows), len(models)), np.nan)
    for number, row in enumerate(rows):
        for model, values in row.outcomes.items():
            cells[:, number, place[model]] = values
    if np.isnan(cells[0]).all():
        raise RowError(f"{path.name}: every score is null; give rows with scores from 0 to 1")
    return Outcomes(
        ids=tuple(row.id for row in rows),
        prompts=tuple(row.prompt for row in rows),
        languages=tuple(row.language for row in rows),
        categories=tuple(row.category for row in rows),
        sources=tuple(row.source for row in rows),
        models=tuple(models),
        scores=cells[0],
        costs=cells[1],
        input_tokens=cells[2],
        output_tokens=cells[3],
    )


def _hash(identity: str) -> int:
    return int(hashlib.md5(identity.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(), 16)


def digits(outcomes: Outcomes, place: int = 0) -> Index:
    """(n,) a decimal digit of each id's MD5, the last one by default."""
    return np.array([_hash(identity) // 10**place % 10 for identity in outcomes.ids], dtype=np.int64)


def split(outcomes: Outcomes) -> tuple[Outcomes, Outcomes]:
    """(train, test) of a file that has to be both: digits 0-6 and 7-9.

    A file that is itself the 0-6 part of such a split has no 7-9 left; the next digit then decides. Raises `RowError`
    when either part stays empty.
    """
    for place in range(3):
        is_test = digits(outcomes, place) >= TEST_DIGIT
        if is_test.any() and not is_test.all():
            return outcomes.take(np.flatnonzero(~is_test)), outcomes.take(np.flatnonzero(is_test))
    raise RowError(f"{len(outcomes)} rows can't be split into train and test; give more rows, or --test")


def folds(outcomes: Outcomes) -> Index:
    """(n,) the validation fold of each row, 0 to `FOLDS` - 1, by id; every fold holds a row when there are `FOLDS`."""
    order = sorted(range(len(outcomes)), key=lambda place: (_hash(outcomes.ids[place]) // 1_000, place))
    result = np.zeros(len(outcomes), dtype=np.int64)
    result[order] = np.arange(len(outcomes)) % FOLDS
    return result


def without_prompts_of(train: Outcomes, test: Outcomes) -> tuple[Outcomes, int]:
    """TRAIN without the rows whose prompt TEST holds too, and how many those were: they would be learned by heart."""
    held = set(test.prompts)
    kept = [place for place, prompt in enumerate(train.prompts) if prompt not in held]
    return train.take(np.array(kept, dtype=np.int64)), len(train) - len(kept)


def usable(train: Outcomes, test: Outcomes) -> tuple[Outcomes, Outcomes]:
    """Both with the models that have scores on both sides, and only rows with at least one of them.

    Raises `RowError` when fewer than two models or too few rows are left.
    """
    scored = {name for name, values in zip(train.models, train.scores.T, strict=True) if not np.isnan(values).all()}
    models = [
        name
        for name, values in zip(test.models, test.scores.T, strict=True)
        if name in scored and not np.isnan(values).all()
    ]
    if len(models) < 2:
        raise RowError(f"{len(models)} models have scores in both TRAIN and TEST; routing needs two or more")
    parts = []
    for rows, least, name in ((train, TRAIN_ROWS_MIN, "TRAIN"), (test, 1, "TEST")):
        aligned = rows.with_models(models)
        kept = np.flatnonzero(~np.isnan(aligned.scores).all(axis=1))
        if len(kept) < least:
            raise RowError(f"{name} has {len(kept)} rows with scores of these models; give {least} or more")
        parts.append(aligned.take(kept))
    return parts[0], parts[1]
