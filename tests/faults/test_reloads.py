"""A registry that is read again under load, good and bad (I24); the great number is in `make chaos`."""

from __future__ import annotations

import reloads as module
from reloads import MISTAKES, Reloading, Seen, judge, played

SEED = 20261122
RELOADS = 24


def test_no_request_notices_a_reload_and_no_answer_is_made_of_two_files(tmp_path):
    """Good ones serve, bad ones leave the one before; every attempt is decided, called and priced by one file."""
    seen = played(tmp_path, SEED, RELOADS)
    assert not seen.wrong, seen
    assert seen.served + seen.refused == RELOADS
    assert seen.refused >= 3
    assert len(seen.by_version) >= 3
    assert seen.answers > RELOADS


def test_each_mistake_is_refused(tmp_path, monkeypatch):
    """None of them is a good file in disguise, and the last good one serves after all of them."""
    kinds = iter(MISTAKES)
    monkeypatch.setattr(module, "INVALID_SHARE", 1.0)
    reloading = Reloading(tmp_path, SEED)
    monkeypatch.setattr(reloading._chance, "choice", lambda _: next(kinds))
    try:
        seen = reloading.play(len(MISTAKES))
    finally:
        reloading.close()
    assert not seen.wrong, seen
    assert (seen.served, seen.refused) == (0, len(MISTAKES))
    assert set(seen.by_version) == {0}


def test_an_answer_of_two_files_would_be_found():
    """The judge itself: a price of another file, a version of two files, an answer without an attempt."""
    rows = [("decision", {"id": name, "versions": {"registry": "v1"}}) for name in ("d1", "d2")]
    opened = {"decision_id": "d1", "wire_name": "alpha-wire-4"}
    right, other = ({"price": {"rates": {"output": output}}} for output in (1_000_005, 1_000_006))
    seen = Seen(answers=4)
    judge(rows, [(opened, [right])] * 4, seen)
    assert seen.wrong == []
    judge(rows, [(opened, [other]), ({**opened, "decision_id": "d2", "wire_name": "alpha-wire-5"}, [other])], seen)
    assert [one.split(" ")[0] for one in seen.wrong] == ["called", "version", "4"]
