"""Feedback in the journal: written, read back, the last word counts; and nothing else in the journal minds it."""

from __future__ import annotations

import pytest

from service.ledger.feedback import Feedback, body_of, scores
from service.ledger.indexer import Indexer
from service.ledger.journal import Journal
from service.ledger.lines import decode, encode
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks import open_sink


def one(decision=1, score=0.5, at_ms=10, **more):
    """A feedback."""
    return Feedback(f"dec_{decision}", "key_1", at_ms, score, **more)


async def write(data, *said, sync="group"):
    """Through the real journal."""
    journal = Journal(data, sync=sync)
    await journal.start()
    for each in said:
        await journal.append_feedback(body_of(each))
    await journal.close()


@pytest.mark.parametrize("sync", ["group", "always", "interval"])
async def test_what_is_written_is_read(tmp_path, sync):
    """In every mode; the later word counts, also when it stands in an earlier segment."""
    await write(tmp_path, one(1, 1, 20), one(2, 0.25), sync=sync)
    await write(tmp_path, one(1, 0, 10), one(2, 0.75), one(3, 0.0, label="wrong_language"), sync=sync)
    assert scores(tmp_path) == {"dec_1": 1.0, "dec_2": 0.75, "dec_3": 0.0}


async def test_the_index_minds_nothing(tmp_path):
    """It is no attempt and no problem."""
    await write(tmp_path, one())
    sink = open_sink(tmp_path)
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
    assert sink.problems() == []
    assert sink.decision("dec_1") is None


def test_what_is_not_said_is_left_out():
    """A line is as short as what it says."""
    assert body_of(one()) == {"decision_id": "dec_1", "key_id": "key_1", "at_ms": 10, "score": 0.5}
    full = one(label="l", comment="c")
    assert decode(encode("feedback", body_of(full))[:-1]).body == full._asdict()


@pytest.mark.parametrize("wrong", [{"score": 1.1}, {"score": -0.1}, {"label": "x" * 65}, {"comment": "x" * 2_001}])
def test_what_can_not_be_stored(wrong):
    """Whoever writes has checked it; this is the last look."""
    with pytest.raises(ValueError, match=r"score|label"):
        body_of(one(**wrong))


async def test_damaged_lines_are_left_out(tmp_path):
    """Their checksum says so; a body that is none of ours is not taken for one."""
    await write(tmp_path, one(1), one(2))
    (segment,) = list_segments(journal_dir(tmp_path))
    data = segment.path.read_bytes().replace(b'"dec_1"', b'"dec_9"')
    data += encode("feedback", {"decision_id": 7}) + encode("feedback", {**body_of(one(3)), "score": 7})
    segment.path.write_bytes(data + encode("feedback", body_of(one(4)))[:-9])
    assert scores(tmp_path) == {"dec_2": 0.5}
    assert scores(tmp_path / "none") == {}
