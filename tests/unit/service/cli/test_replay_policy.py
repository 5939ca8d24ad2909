"""Traffic under another policy: every decision in one place, and money that adds up to the ledger."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest
from scenery import a_catalog, a_chat, a_model, decided

from service.cli.replay_policy import (
    DAMAGED,
    NO_PRICE,
    OLDER,
    RUNNING,
    STRAY,
    UNANSWERED,
    UNPRICED,
    UNREADABLE,
    Retaker,
    compare,
)
from service.domain.catalog import PolicySpec
from service.ledger.sinks.port import Problem
from service.ledger.traffic import Attempted, Ended, Stray
from service.routing.explain import record

CATALOG = a_catalog(a_model("m", (1, 2), quality=0.9), a_model("n", (3, 6), quality=0.95))
BEST = replace(CATALOG, policies={**CATALOG.policies, "balanced": PolicySpec("balanced", "max_quality")})
ANSWERED = Attempted("p/m", "settled", 500, 500, None, 1_000, final=True, answered=True)


def stored(catalog=CATALOG, **changes):
    """A record as it is read back."""
    return json.loads(orjson.dumps(record(decided(a_chat(), catalog)))) | changes


def traffic(*found):
    """As a journal gives it."""

    class Given(list):
        read_bytes = whole_bytes = 1

    return Given(found)


def compared(catalog, *found, old=CATALOG):
    """What comes of decisions, given as (record, attempts), and of all else."""
    retaker = Retaker((old,), (catalog,), None)
    taken = [Ended(retaker.take(one[0]), one[1]) if type(one) is tuple else one for one in found]
    return compare(traffic(*taken), lambda *_: None)


def test_the_same_policy_changes_nothing():
    """And costs the same, to the last digit."""
    found = compared(CATALOG, *[(stored(), (ANSWERED,))] * 3)
    assert (found.decisions, found.same, found.changed, found.left_out) == (3, 3, 0, {})
    assert found.new_pusd() == found.old_pusd == found.new_pusd("low_pusd") == 1_500
    assert found.books.again_pusd - found.books.booked_pusd == found.books.differing == 0


def test_what_changes_is_grouped():
    """By whom from, whom to, and intent; failed attempts count to what it cost."""
    failed = Attempted("p/n", "refused", 0, 0)
    found = compared(BEST, *[(stored(id=f"dec_{place}"), (failed, ANSWERED)) for place in range(5)])
    assert (found.same, found.changed) == (0, 5)
    ((key, group),) = found.groups.items()
    assert key == ("p/m", "p/n", "factual_qa")
    assert (group.count, group.old_pusd, group.examples) == (5, 2_500, ["dec_0", "dec_1", "dec_2"])
    assert group.low_pusd == 5 * 1_000 * 3_000_000
    assert group.low_pusd < group.new_pusd < group.high_pusd


@pytest.mark.parametrize(
    ("reason", "told", "attempts", "catalog"),
    [
        (DAMAGED, stored(at="never"), (ANSWERED,), BEST),
        (OLDER, stored(versions={"record": "2"}), (ANSWERED,), BEST),
        (RUNNING, stored(), (ANSWERED, Attempted("p/m", "open")), CATALOG),
        (UNPRICED, stored(), (ANSWERED, Attempted("p/m", "settled")), CATALOG),
        (UNANSWERED, stored(), (ANSWERED._replace(answered=False),), BEST),
        (NO_PRICE, stored(), (ANSWERED,), a_catalog(a_model("n", None))),
        (
            "refused under the new policy: no_capable_model",
            stored(),
            (ANSWERED,),
            replace(CATALOG, policies={"balanced": PolicySpec("balanced", max_cost_pusd=1)}),
        ),
        ("refused under the new policy: policy_not_found", stored(), (ANSWERED,), replace(CATALOG, default_policy="x")),
    ],
)
def test_what_is_left_out_is_told_with_its_cost(reason, told, attempts, catalog):
    """Each reason, and the sums add up to the ledger."""
    found = compared(catalog, (told, attempts))
    assert list(found.left_out) == [reason]
    assert (found.left_out[reason].count, found.left_out[reason].pusd) == (1, 500)
    assert (found.same, found.changed, found.old_pusd) == (0, 0, 0)


def test_all_of_it_adds_up():
    """What is compared and what is left out is what the ledger has."""
    found = compared(
        BEST,
        (stored(), (ANSWERED,)),
        (stored(BEST), (ANSWERED,)),
        (stored(at=1), (ANSWERED,)),
        Stray(ANSWERED),
        Problem("s", 1, "torn"),
    )
    assert found.books.booked_pusd == found.old_pusd + sum(one.pusd for one in found.left_out.values()) == 2_000
    assert {name: one.count for name, one in found.left_out.items()} == {DAMAGED: 1, STRAY: 1, UNREADABLE: 1}
    assert (found.decisions, found.same, found.changed) == (3, 1, 1)


def test_rows_that_do_not_come_to_what_was_booked():
    """Are counted, and the first are named."""
    wrong = ANSWERED._replace(again_pusd=499)
    found = compared(CATALOG, *[(stored(), (wrong,))] * 12, (stored(), (ANSWERED._replace(wrong="no price"),)))
    assert found.books.differing == 13
    assert found.books.told[0] == "p/m: booked 500, computed again 499"
    assert len(found.books.told) == 10
    assert found.books.again_pusd - found.books.booked_pusd == -12


def test_each_form_of_the_registry_meets_its_own():
    """A decision of a router with other keys is retaken with them; one of none of them where its choice can be had."""
    off = replace(CATALOG.models["m"].deployments[0], inactive_reason="no key")
    poor = replace(CATALOG, models={**CATALOG.models, "m": replace(CATALOG.models["m"], deployments=(off,))})
    poor = replace(poor, by_id={**poor.by_id, "p/m": off})
    retaker = Retaker((poor, CATALOG), (poor, CATALOG), None)
    assert (retaker.take(stored()).new, retaker.take(stored()).other) == ("p/m", False)
    assert (retaker.take(stored(poor)).new, retaker.take(stored(poor)).other) == ("p/n", False)
    unknown = stored(versions={**stored()["versions"], "offer": "another"})
    assert (retaker.take(unknown).new, retaker.take(unknown).other) == ("p/m", True)
    assert compared(CATALOG, (unknown, (ANSWERED,))).other_registry == 1


def test_a_prompt_that_nobody_counted():
    """The router's own estimate stands, and it is told how often."""
    found = compared(BEST, (stored(), (ANSWERED._replace(input_tokens=None),)))
    assert (found.changed, found.uncounted) == (1, 1)
