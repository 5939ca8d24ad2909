"""Prices change under load (I3): rows stay, and come to their cost again. `tests/price_changes.py` plays two hundred."""

from __future__ import annotations

import copy

from price_changes import PriceChanges, unlike

SEED = 20261122
CHANGES = 20


def test_no_row_changes_and_every_row_computes_itself(tmp_path):
    """Under load, with twenty prices of one version; and a byte that is changed on disk is noticed."""
    changing = PriceChanges(tmp_path, SEED)
    try:
        seen = changing.change(CHANGES)
    finally:
        changing.close()
    assert not seen.wrong, seen
    assert seen.served == CHANGES
    assert len(seen.by_version) >= 3
    assert len(changing.measured) >= CHANGES // 5
    path, size, _ = changing.measured[0]
    raw = bytearray(path.read_bytes())
    raw[size // 2] ^= 1
    path.write_bytes(raw)
    assert changing.changed()


def test_what_would_be_found():
    """A figure that was re-rated in place, a list that says two things, a list of two names, an answer for nothing."""
    price = {"version": "a@2026-01-01", "list": "aa", "rates": {"input": 2, "output": 3, "requests": 0}}
    row = {"state": "settled", "usage": {"input": 10, "output": 1}, "price": price, "cost_pusd": 23}
    opened = {"attempt_id": "att_1", "price_version": "a@2026-01-01"}
    assert unlike([(opened, [row])]) == []
    other = copy.deepcopy(row)
    other["cost_pusd"] = 24
    assert "computed again 23" in unlike([(opened, [other])])[0]
    other = copy.deepcopy(row)
    other["price"]["rates"]["output"], other["cost_pusd"] = 4, 24
    assert "list aa" in unlike([(opened, [row]), (opened, [other])])[0]
    other = copy.deepcopy(row)
    other["price"]["list"] = "bb"
    assert unlike([(opened, [row]), (opened, [other])]) == ["one price has several lists"]
    assert "opened at b" in unlike([({**opened, "price_version": "b"}, [row])])[0]
    assert unlike([(opened, [{**row, "usage": {}, "cost_pusd": 0}])]) == ["a row that costs nothing"]
