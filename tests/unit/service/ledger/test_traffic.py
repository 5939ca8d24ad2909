"""A journal read back as traffic: decisions with their attempts, whatever lies between, nothing left out in silence."""

from __future__ import annotations

import pytest

from service.ledger import traffic as module
from service.ledger.lines import encode
from service.ledger.segments import journal_dir
from service.ledger.sinks.port import Problem
from service.ledger.traffic import Ended, Stray, Traffic

PRICE = {"rates": {"input": 2, "output": 3, "requests": 0}, "multiply": "1", "usd_per_unit": "1"}


def decision(number, at=1_000):
    """A decision line."""
    return encode("decision", {"id": f"dec_{number}", "created_ms": at})


def opened(number, decision_of, at=1_000):
    """An open row."""
    body = {"attempt_id": f"att_{number}", "decision_id": f"dec_{decision_of}", "provider": "p", "model": "m"}
    return encode("open", {**body, "at_ms": at, "reserved_pusd": 77})


def ended(number, cost=26, **more):
    """A terminal row of 10 input and 2 output tokens: 26 pico-dollars."""
    body = {"attempt_id": f"att_{number}", "state": "settled", "ended": "complete", "final": True, "cost_pusd": cost}
    usage = {"usage": {"input": 8, "cache_read": 2, "output": 2}, "usage_source": "provider"}
    return encode("terminal", {**body, **usage, "price": PRICE, **more})


def write(data, *segments):
    """A journal of these segments, each by a writer of its own."""
    directory = journal_dir(data)
    directory.mkdir(parents=True)
    for place, lines in enumerate(segments):
        (directory / f"20261101T00000000{place}Z-1-0000000{place}.00000.jsonl").write_bytes(b"".join(lines))


def read(data, since_ms=None):
    """All of it; a decision is kept as its id."""
    return list(Traffic(data, lambda record: record["id"], since_ms))


def test_rows_find_their_decision(tmp_path):
    """Interleaved, with a fallback, an end in another writer's segment, and one that still runs."""
    write(
        tmp_path,
        [
            *(decision(1), opened(1, 1), decision(2), opened(2, 2)),
            *(ended(1, state="refused", cost=0, final=False, ended="timeout"), opened(3, 1), ended(3)),
            *(decision(3), opened(4, 3)),
        ],
        [ended(2, cost=77, state="unknown", usage={}, ended="crash")],
    )
    first, second, third = read(tmp_path)
    assert [one.decision for one in (first, second, third)] == ["dec_1", "dec_2", "dec_3"]
    assert [(one.state, one.booked_pusd, one.again_pusd) for one in first.attempts] == [
        ("refused", 0, 0),
        ("settled", 26, 26),
    ]
    assert (first.attempts[1].input_tokens, first.attempts[1].deployment) == (10, "p/m")
    assert [one.booked_pusd for one in second.attempts] == [77]
    assert (second.attempts[0].input_tokens, second.attempts[0].answered) == (None, False)
    assert [(one.state, one.booked_pusd) for one in third.attempts] == [("open", None)]


def test_an_answer_from_the_cache_is_no_call(tmp_path):
    """Booked at nothing, and told apart."""
    write(tmp_path, [decision(1), opened(1, 1), ended(1, cost=0, usage={}, ended="cache_hit")])
    ((one,),) = [found.attempts for found in read(tmp_path)]
    assert (one.cached, one.answered, one.booked_pusd, one.again_pusd, one.input_tokens) == (True, False, 0, 0, None)


def test_nothing_is_left_out_in_silence(tmp_path):
    """A row without its decision, an end without its open row, a torn line; a tail that is being written is no fault."""
    torn = ended(9).replace(b"settled", b"setTled")
    write(tmp_path, [opened(1, 8), ended(1), ended(7), torn, opened(5, 6), decision(1)[:-20]])
    found = read(tmp_path)
    assert [type(one) for one in found] == [Stray, Stray, Problem, Stray]
    assert [one.attempt.booked_pusd for one in found if isinstance(one, Stray)] == [26, 26, None]
    assert [type(one) for one in read(tmp_path, 500)] == [Stray, Stray, Problem, Stray]


def test_since(tmp_path):
    """What was decided before is left out with its attempts, also with those that end later."""
    write(tmp_path, [decision(1, 10), opened(1, 1, 10), decision(2, 20), opened(2, 2, 20), ended(1), ended(2)])
    assert [one.decision for one in read(tmp_path, 15)] == ["dec_2"]
    assert len(read(tmp_path)) == 2


def test_a_row_that_does_not_add_up(tmp_path):
    """Both figures are there, or why there is none."""
    write(tmp_path, [decision(1), opened(1, 1), ended(1, cost=27), decision(2), opened(2, 2), ended(2, price={})])
    one, two = (found.attempts[0] for found in read(tmp_path))
    assert (one.booked_pusd, one.again_pusd, one.wrong) == (27, 26, None)
    assert two.wrong is not None
    assert "no price" in two.wrong


@pytest.mark.parametrize("running", [0, 3])
def test_memory_is_bounded(tmp_path, monkeypatch, running):
    """Whoever has ended is given while the journal is read; who runs stays until its end is there."""
    monkeypatch.setattr(module, "BEHIND", 10)
    lines = [line for place in range(running) for line in (decision(place), opened(place, place))]
    for number in range(100, 400):
        lines += [decision(number), opened(number, number), ended(number)]
    lines += [ended(place) for place in range(running)]
    write(tmp_path, lines)
    traffic = Traffic(tmp_path, lambda record: record["id"])
    most = given = 0
    for one in traffic:
        given += 1
        assert isinstance(one, Ended)
        assert all(attempt.booked_pusd == 26 for attempt in one.attempts)
        assert len(one.attempts) == 1
        most = max(most, len(traffic._kept))
    assert given == 300 + running
    assert most <= 10 + running
    assert traffic.read_bytes == traffic.whole_bytes


def test_an_answer_from_the_cache_is_told_apart(tmp_path):
    """Nobody was called for it."""
    write(tmp_path, [decision(1), opened(1, 1), ended(1, cost=0, ended="cache_hit", usage={}), opened(2, 1), ended(2)])
    ((stored, called),) = (found.attempts for found in read(tmp_path))
    assert (stored.cached, stored.answered, stored.again_pusd) == (True, False, 0)
    assert (called.cached, called.answered) == (False, True)


def test_no_journal(tmp_path):
    """Nothing."""
    assert read(tmp_path) == []
