"""Traffic under another policy: every decision in one place, and money that adds up to the ledger."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from statistics import fmean, stdev

import orjson
import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.cli.replay_policy import (
    CACHED,
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
from service.cli.replay_tables import as_json, as_table
from service.domain.access import ANONYMOUS
from service.domain.catalog import PolicySpec
from service.domain.features import features_of
from service.ledger.feedback import Feedback, body_of, scores
from service.ledger.journal import Journal
from service.ledger.sinks.port import Problem
from service.ledger.traffic import Attempted, Ended, Stray, Traffic
from service.routing.explain import record
from service.routing.exploring import DRAWS
from service.routing.off_policy import Judged, Quality, Refused, Z, quality
from service.routing.router import decide
from service.routing.weighing import Circumstances

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
        (CACHED, stored(), (ANSWERED._replace(answered=False, cached=True),), BEST),
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


OWN = PolicySpec("balanced", min_quality=0.8, max_cost_pusd=10**11, explore=0.2)
EXPLORING = a_catalog(
    a_model("m", (1, 2), quality={"default": 0.85, "coding": 0.6}),
    a_model("n", (3, 6), quality=0.9),
    policies={"balanced": OWN},
)
"""Questions go to m, and some are drawn for n; code goes to n for certain."""

TO_N = replace(EXPLORING, policies={"balanced": PolicySpec("balanced", "max_quality")})
GOOD = {("m", "factual_qa"): 0.9, ("n", "factual_qa"): 0.95, ("n", "coding"): 0.7}
"""How often an answer is good."""

TRUTH = (0.95 + 0.7) / 2
"""What it is worth to send everything to n, where half of it is code."""


def drawn(number, label="factual_qa", name="dec_1"):
    """A decision of the exploring policy, with a number."""
    around = Circumstances(name, NOW, ANONYMOUS, draw=number)
    return decide(features_of(a_chat()), an_intent(label), EXPLORING, around)


def test_what_was_said_of_an_answer_is_weighed():
    """By the chance of its choice; whether the new policy agrees, could have been drawn, and is another one's choice."""

    def judged(decision, catalog=TO_N, scores=None):
        told = json.loads(orjson.dumps(record(decision)))
        return Retaker((EXPLORING,), (catalog,), None, {"dec_1": 1.0} if scores is None else scores).take(told)

    own, other, sure = judged(drawn(DRAWS - 1)), judged(drawn(0)), judged(drawn(0, "coding"))
    assert own.judged == Judged(1.0, 0.8, agrees=False, expected=0.9, covered=True, changed=True)
    assert other.judged == Judged(1.0, 0.2, agrees=True, expected=0.9, covered=True, changed=True)
    assert sure.judged == Judged(1.0, 1.0, agrees=True, expected=0.9, covered=True, changed=False)
    assert (own.drawn, other.drawn, sure.drawn) == (False, True, False)
    assert judged(drawn(0), scores={}).judged is None
    # The same policy draws the same one again; what is judged are its own choices.
    again = judged(drawn(0), EXPLORING)
    assert (again.new, again.chosen) == ("p/n", None)
    assert again.judged == Judged(1.0, 0.2, agrees=False, expected=0.85, covered=True, changed=False)
    elsewhere = a_catalog(a_model("x"), policies={"balanced": OWN})
    assert judged(drawn(0), elsewhere).judged == Judged(1.0, 0.2, False, 0.9, covered=False, changed=True)


@pytest.mark.parametrize(
    ("attempts", "counts"),
    [
        ((ANSWERED._replace(deployment="p/n"),), True),
        ((ANSWERED._replace(deployment="q/n"),), True),
        ((ANSWERED._replace(deployment="p/m", final=False, answered=False), ANSWERED._replace(deployment="p/n")), True),
        ((ANSWERED._replace(deployment="p/n", final=False, answered=False), ANSWERED), False),
        ((ANSWERED._replace(deployment="p/n", answered=False, cached=True),), False),
        ((ANSWERED._replace(answered=False, cached=True),), False),
    ],
    ids=["the choice", "at another host", "in the end", "a fallback", "from the cache", "another's from the cache"],
)
def test_only_what_the_choice_itself_answered_is_weighed(attempts, counts):
    """A score of another model's answer would be counted for the choice, with the weight of its chance."""
    told = json.loads(orjson.dumps(record(drawn(0))))
    assert told["chosen"] == "p/n"
    retaker = Retaker((EXPLORING,), (TO_N,), None, {"dec_1": 0.0})
    found = compare(traffic(Ended(retaker.take(told), attempts)), lambda *_: None)
    assert (found.sums.judged, found.drawn.judged, found.elsewhere) == (counts, counts, not counts)
    assert found.drawn.count == 1
    assert ("1 judged answers are left out: another model gave them" in as_table(found)) is not counts
    assert json.loads(as_json(found))["quality"]["judged_elsewhere"] == (not counts)


async def test_from_a_journal_to_the_truth(tmp_path):
    """Decided, drawn, judged and written by the real journal: the interval holds the truth, the naive mean's does not."""
    draw, naive, journal = random.Random(5), [], Journal(tmp_path)
    await journal.start()
    for place in range(3_000):
        label = draw.choice(["factual_qa", "coding"])
        decision = drawn(draw.randrange(DRAWS), label, f"dec_{place}")
        journal.hold_decision(record(decision))
        journal.no_attempt()
        model = decision.chosen.deployment.model
        score = float(draw.random() < GOOD[model, label])
        if model == "n":
            naive.append(score)
        await journal.append_feedback(body_of(Feedback(decision.id, None, place, score)))
    await journal.close()
    retaker = Retaker((EXPLORING,), (TO_N,), None, scores(tmp_path))
    found = compare(Traffic(tmp_path, retaker.take), lambda *_: None)
    told = quality(found.sums)
    assert isinstance(told, Quality)
    assert told.low <= TRUTH <= told.high
    assert told.high - told.low < 0.1
    half = Z * stdev(naive) / len(naive) ** 0.5
    assert fmean(naive) + half < TRUTH
    assert (found.own.count + found.drawn.count, found.own.judged + found.drawn.judged) == (3_000, 3_000)
    assert 230 < found.drawn.count < 370
    text = as_table(found)
    assert f"quality: {told.mean:.3f} (95 %: " in text
    assert "judged were 100.0% of the old policy's own choices and 100.0% of those drawn" in text
    assert json.loads(as_json(found))["quality"]["judged"] == 3_000


def test_certain_choices_tell_nothing():
    """Propensity 1 everywhere: refused, with what to do."""
    told = [json.loads(orjson.dumps(record(drawn(None, name=f"dec_{place}")))) for place in range(300)]
    retaker = Retaker((EXPLORING,), (TO_N,), None, {one["id"]: 1.0 for one in told})
    found = compare(traffic(*[Ended(retaker.take(one), (ANSWERED,)) for one in told]), lambda *_: None)
    assert isinstance(quality(found.sums), Refused)
    assert "quality: not told, every choice in the log was certain (propensity 1)" in as_table(found)
    assert json.loads(as_json(found))["quality"]["refused"].startswith("every choice")
    assert "not told, no answer was judged" in as_table(compared(CATALOG, (stored(), (ANSWERED,))))
