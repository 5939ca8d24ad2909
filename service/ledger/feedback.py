"""What callers say of answers: one line of the journal each, of which the last one about a decision counts.

Where on the path: beside it; `POST /v1/feedback` writes it, `coe replay --policy` reads it.

Invariants
1. A line is about one decision and says whose key sent it; who may send it is the API's to check.
2. Said again, the later line counts: nothing is changed in the journal, only added.
3. A comment is the caller's own words: it is stored only where the operator asked for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from service.ledger.lines import MAX_LINE_BYTES, LineError, decode
from service.ledger.segments import journal_dir, list_segments, read_lines

DECISION_ID_CHARACTERS_MAX: Final = 64
LABEL_CHARACTERS_MAX: Final = 64
COMMENT_CHARACTERS_MAX: Final = 2_000

_PREFIX: Final = b'{"v":1,"t":"feedback"'
"""How such a line begins: the others need not be taken apart."""


class Feedback(NamedTuple):
    """One caller's word on one answer. `score` is from 0 to 1, `at_ms` Unix milliseconds."""

    decision_id: str
    key_id: str | None
    at_ms: int
    score: float
    label: str | None = None
    comment: str | None = None


def body_of(one: Feedback) -> dict[str, object]:
    """The body of its line: what is not said is left out. Raises ValueError for a score or a length out of range."""
    if not 0 <= one.score <= 1:
        raise ValueError("a score is from 0 to 1")
    if len(one.label or "") > LABEL_CHARACTERS_MAX or len(one.comment or "") > COMMENT_CHARACTERS_MAX:
        raise ValueError(f"a label has at most {LABEL_CHARACTERS_MAX} characters, a comment {COMMENT_CHARACTERS_MAX}")
    return {name: value for name, value in one._asdict().items() if value is not None}


def scores(data_dir: Path) -> Mapping[str, float]:
    """The score of every decision that was judged, by its id: the last one that was said, by its time.

    Damaged lines are left out here; whoever reads the traffic tells them. Raises OSError.
    """
    found: dict[str, tuple[int, float]] = {}
    for segment in list_segments(journal_dir(data_dir)):
        for raw in read_lines(segment.path):
            if not raw.data.startswith(_PREFIX) or not raw.whole or len(raw.data) >= MAX_LINE_BYTES:
                continue
            try:
                body = decode(raw.data).body
            except LineError:
                continue
            name, score, at_ms = body.get("decision_id"), body.get("score"), body.get("at_ms")
            if not isinstance(name, str) or not isinstance(score, int | float) or not isinstance(at_ms, int):
                continue
            if 0 <= score <= 1 and at_ms >= found.get(name, (at_ms, 0.0))[0]:
                found[name] = at_ms, float(score)
    return {name: score for name, (_, score) in found.items()}
