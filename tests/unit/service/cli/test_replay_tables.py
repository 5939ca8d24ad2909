"""What `coe replay --policy` tells: exact money, signed differences, estimates called that."""

from __future__ import annotations

import json

from service.cli.replay_policy import Books, Comparison, Group, LeftOut
from service.cli.replay_tables import FORMATS, GROUPS_SHOWN, as_json, as_table


def found(groups=1):
    """A comparison with some of everything."""
    books = Books(attempts=9, booked_pusd=2 * 10**12, again_pusd=2 * 10**12)
    one = Comparison(decisions=10, same=7, same_pusd=10**12, books=books, uncounted=1, other_registry=2)
    for place in range(groups):
        group = Group(2, 10**12, 3 * 10**11 + place, 10**11, 2 * 10**12, ["dec_1"])
        one.groups["p/a", "q/b", f"i{place}"] = group
    one.left_out["still running"] = LeftOut(1, 5)
    return one


def test_a_table():
    """Who goes where, what it costs, and what was left out."""
    text = as_table(found())
    assert "10 decisions: 7 the same, 2 changed, 1 left out" in text
    assert "computed again 2 USD, difference 0\n" in text
    assert "2 USD booked, 1.3 USD under this policy (an estimate), difference -0.7 USD" in text
    assert "between -0.9 and +1 USD" in text
    assert "of 1 changed ones no vendor counted" in text
    assert "2 were decided with another registry" in text
    assert "p/a   q/b  i0          2           1           0.3            -0.7  dec_1" in text
    assert "1 still running: 0.000000000005 USD booked" in text


def test_nothing_changed_is_no_estimate():
    """Then there is no interval and no group."""
    one = Comparison(decisions=3, same=3, same_pusd=5, books=Books(3, 5, 5))
    text = as_table(one)
    assert "0.000000000005 USD booked, 0.000000000005 USD under this policy, difference 0 USD" in text
    assert "estimate" not in text
    assert "left out:" not in text


def test_many_groups():
    """The table has those with the largest differences and says that there are more; JSON has all."""
    many = found(GROUPS_SHOWN + 2)
    assert "and 2 more groups" in as_table(many)
    told = json.loads(as_json(many))
    assert len(told["groups"]) == GROUPS_SHOWN + 2
    assert told["groups"][0]["intent"] == "i0"


def test_json():
    """Money as exact decimals in strings; differences signed."""
    told = json.loads(FORMATS["json"](found()))
    assert told["totals"] == {
        "old_usd": "2",
        "new_usd": "1.3",
        "difference_usd": "-0.7",
        "estimated": True,
        "difference_between_usd": ["-0.9", "1"],
    }
    assert told["ledger"]["difference_usd"] == "0"
    assert told["left_out"] == [{"reason": "still running", "count": 1, "booked_usd": "0.000000000005"}]
    assert told["groups"][0]["difference_usd"] == "-0.7"
