"""Byte for byte through a real router, whole and streamed, in any spelling and cut anywhere: I23, and I22 end to end.

`tests/fidelity.py` makes and plays the cases; `tests/garble.py` plays thousands of them.
"""

from __future__ import annotations

import json

import pytest
from fidelity import Case, a_passage

SEED = 20261122
CASES = 60


@pytest.fixture(scope="module")
def passage(tmp_path_factory):
    """A router before a vendor that keeps what it is sent."""
    with a_passage(tmp_path_factory.mktemp("fidelity") / "home") as opened:
        yield opened


def respelt(data):
    """The same JSON as a library writes it."""
    return json.dumps(json.loads(data)).encode()


def test_what_comes_out_is_what_went_in(passage):
    """Unknown fields, tool calls, logprobs, ids, numbers, escapes and blanks, in both directions."""
    played = [passage.play(Case.drawn(SEED, number)) for number in range(1, CASES)]
    assert [(one.number, one.wrong) for one in played if one.wrong] == []
    assert {(one.vendor, one.stream) for one in played} == {(v, s) for v in ("alpha", "beta") for s in (True, False)}


def test_a_router_that_writes_bodies_anew_is_found_out(passage):
    """The positive control: the same values in another spelling, in a request and in an answer."""
    for number in range(1, 12):
        good = passage.play(Case.drawn(SEED, number))
        assert good.wrong == []
        good.check_request(respelt(passage.sent))
        asked = len(good.wrong)
        assert asked, "another spelling of a request went unnoticed"
        good.check_answer(passage.got[:-1] if good.stream else respelt(passage.got))
        assert len(good.wrong) > asked, "another spelling of an answer went unnoticed"


def test_what_a_vendor_must_be_sent_is_worked_out_by_hand(passage):
    """One request of each kind, written down with what must arrive."""
    whole = b'{ "m\\u006fdel" : "alpha-model","seed":1.0e2, "coe" : {"tags":["a"]} ,"messages":[{"role":"user","content":"h\\u0069"}] }'
    case = Case.drawn(SEED, 1)
    case.vendor, case.stream, case.body, case.wants_usage = "alpha", False, whole, False
    case.pieces = [b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"z":1.0}']
    case.answer = case.pieces[0]
    case.head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(case.answer)
    assert passage.play(case).wrong == []
    assert (
        passage.sent
        == b'{ "m\\u006fdel" : "alpha-wire","seed":1.0e2 ,"messages":[{"role":"user","content":"h\\u0069"}] }'
    )
    assert passage.got == case.answer
