"""The alarm on the share of strong choices: when it begins, when it ends, what it remembers, what it says."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service import telemetry
from service.domain.access import Caller
from service.errors import LedgerUnavailable
from service.guard.strong_share import CLEAR_SHARE, SLICES, StrongShares, StrongShareWatch, is_strong
from service.settling import Settler
from service.simulator import Script
from service.work import Arrival, Work

WINDOW_S = 1_200.0
SLICE_S = WINDOW_S / SLICES
KEY = Caller("key_a1", "alice")


def shares(**changes):
    """An alarm at half of at least ten requests in twenty minutes."""
    return StrongShares(**{"limit": 0.5, "window_s": WINDOW_S, "requests_min": 10, **changes})


def feed(watched, choices, *, now=0.0, key="k"):
    """Tell a row of choices ('s' strong, '.' not) at one instant; the alarms that began."""
    told = [watched.observe(key, strong=one == "s", now=now) for one in choices]
    return [one for one in told if one is not None]


class Clock:
    """Time that stands until it is moved."""

    def __init__(self):
        self.now = 50.0

    def utc(self):
        return NOW

    def monotonic(self):
        return self.now


def test_it_begins_above_the_limit_and_is_told_once():
    """At the limit nothing happens; the first request over it is told, the next ones are not."""
    watched = shares()
    assert feed(watched, "sssss.....") == []
    (alarm,) = feed(watched, "sssss")
    assert (alarm.key_id, alarm.requests) == ("k", 11)
    assert alarm.share == pytest.approx(6 / 11)
    assert watched.figures() == {telemetry.STRONG_SHARE_ALARMS: 1, telemetry.STRONG_SHARE_KEYS: 1}


def test_a_few_requests_mean_nothing():
    """Nine strong ones in a row are no alarm when ten are asked for; the tenth is."""
    watched = shares()
    assert feed(watched, "s" * 9) == []
    assert len(feed(watched, "s")) == 1


def test_a_share_that_trembles_around_the_limit_is_one_alarm():
    """Down to just above `CLEAR_SHARE` of the limit the alarm stays on; below, it is over, and the next one is told."""
    watched = shares()
    assert len(feed(watched, "ssssss....")) == 1
    assert feed(watched, "..") == []  # 6 of 12, then over the limit again
    assert feed(watched, "ss") == []
    assert watched.figures()[telemetry.STRONG_SHARE_KEYS] == 1
    feed(watched, "." * 6)  # 8 of 20: exactly what clears
    assert pytest.approx(0.5 * CLEAR_SHARE) == 8 / 20
    assert watched.figures()[telemetry.STRONG_SHARE_KEYS] == 0
    assert len(feed(watched, "s" * 20)) == 1
    assert watched.figures() == {telemetry.STRONG_SHARE_ALARMS: 2, telemetry.STRONG_SHARE_KEYS: 1}


def test_what_is_older_than_the_window_is_forgotten():
    """Strong requests of half an hour ago don't count; those of ten minutes ago do."""
    watched = shares()
    feed(watched, "s" * 8)
    assert len(feed(watched, "ss", now=WINDOW_S / 2)) == 1
    gone, kept = shares(), shares()
    feed(gone, "s" * 9)
    assert feed(gone, "s", now=WINDOW_S * 1.5) == []
    feed(kept, "s" * 9, now=SLICE_S * 0.5)
    assert len(feed(kept, "s", now=WINDOW_S - SLICE_S * 0.5)) == 1


def test_a_silent_window_ends_an_alarm():
    """A key that comes back after a quiet hour is judged, and told, anew."""
    watched = shares()
    assert len(feed(watched, "s" * 10)) == 1
    assert len(feed(watched, "s" * 10, now=2 * WINDOW_S)) == 1


def test_a_limit_of_one_is_never_passed():
    """The way to switch it off."""
    assert feed(shares(limit=1.0), "s" * 100) == []


def test_keys_are_counted_apart():
    """Somebody else's cheap requests don't hide anybody, and nobody pays for another one's dear ones."""
    watched = shares()
    feed(watched, "." * 100, key="b")
    assert [one.key_id for one in feed(watched, "s" * 20, key="a")] == ["a"]
    assert feed(watched, "." * 20, key="b") == []


def test_memory_is_bounded():
    """A thousand keys through room for three; the ones that spoke last stay, each with at most `SLICES` counts."""
    watched = shares(keys_max=3)
    for number in range(1_000):
        watched.observe("steady", strong=True, now=float(number * SLICE_S))
        watched.observe(f"key_{number}", strong=False, now=float(number * SLICE_S))
    assert len(watched) == 3
    assert set(watched._accounts) == {"steady", "key_998", "key_999"}
    assert len(watched._accounts["steady"].slices) == SLICES  # never forgotten on the way
    assert all(len(one.slices) <= SLICES for one in watched._accounts.values())


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 400)), max_size=200))
def test_the_share_is_that_of_the_window(steps):
    """Against a list of everything: whatever alarms is over the limit in the same slices, and the share is the same."""
    watched, told, now = shares(requests_min=5), [], 0.0
    for strong, pause in steps:
        now += pause
        told.append((now, strong))
        alarm = watched.observe("k", strong=strong, now=now)
        inside = [one for at, one in told if at // SLICE_S > now // SLICE_S - SLICES]
        if alarm is not None:
            assert (alarm.requests, alarm.share) == (len(inside), sum(inside) / len(inside))
            assert alarm.share > 0.5


@pytest.mark.parametrize(
    ("cost", "costs", "strong"),
    [
        (10, [10], False),  # the only one: nothing was chosen
        (10, [10, 90], False),
        (90, [10, 90], True),  # of two, the dearer one
        (50, [10, 50, 90], False),
        (90, [10, 50, 90], True),
        (50, [10, 20, 50, 90], True),
        (10, [10, 10, 10], False),  # all cost the same
        (None, [10, 20, None], True),  # a price that nobody knows may be any
        (None, [None, None], False),
        (10, [10, None, None], False),
    ],
)
def test_which_choice_is_strong(cost, costs, strong):
    """Half of those able cost less."""
    assert is_strong(cost, costs) is strong


def watch(**changes):
    """A watch over three requests, and its clock."""
    clock = Clock()
    return StrongShareWatch(shares(requests_min=3, **changes), clock), clock


CATALOG = a_catalog(
    a_model("small", (1, 1), quality={"default": 0.9, "math": 0.3}),
    a_model("large", (9, 9), quality=0.95),
)


def test_decisions_are_counted_for_their_key(capsys):
    """Three hard requests of one key: one line, with the key's id and not a word of the request."""
    telemetry.configure("INFO")
    watched, _ = watch()
    for label in ("math", "factual_qa", "math", "math", "math"):
        watched.decided(decided(a_chat("a secret plan"), CATALOG, intent=an_intent(label), caller=KEY))
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"]) == ("strong_share_high", "warning")
    assert (told["key_id"], told["share"], told["requests"]) == ("key_a1", 0.667, 3)
    assert set(told) == {"event", "level", "timestamp", "key_id", "share", "requests"}


def test_a_named_model_is_not_counted(capsys):
    """Whoever names the dear model asks for it: the router chose nothing."""
    telemetry.configure("INFO")
    watched, _ = watch()
    for _ in range(10):
        watched.decided(decided(a_chat(model="large"), CATALOG, caller=KEY))
    assert len(watched.shares) == 0
    assert capsys.readouterr().err == ""


def test_the_window_follows_the_clock(capsys):
    """Two today and one next week are not three."""
    telemetry.configure("INFO")
    watched, clock = watch()
    hard = decided(a_chat(), CATALOG, intent=an_intent("math"), caller=KEY)
    watched.decided(hard)
    watched.decided(hard)
    clock.now += 10 * WINDOW_S
    watched.decided(hard)
    assert capsys.readouterr().err == ""
    watched.decided(hard)
    watched.decided(hard)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_over_http_the_third_dear_request_is_told(serving, capfd):
    """The real application: two cheap ones and two dear ones say nothing yet, one more does, once, without the prompt."""
    scene, _ = serving({"alpha": Script(), "beta": Script()}, strong_share_requests_min=5, strong_share_max=0.5)
    telemetry.configure("INFO")
    for policy in ("cheap", "cheap", "best", "best"):
        assert scene.chat("umbrella", coe={"policy": policy}).status_code == 200
    assert "strong_share_high" not in capfd.readouterr().err
    for _ in range(4):
        assert scene.chat("umbrella", coe={"policy": "best"}).status_code == 200
    written = capfd.readouterr().err
    assert "umbrella" not in written
    (line,) = [json.loads(one) for one in written.splitlines() if '"strong_share_high"' in one]
    assert (line["key_id"], line["share"], line["requests"]) == (None, 0.6, 5)


def test_a_request_that_was_not_written_down_is_not_counted(capsys):
    """The record failed, the caller got an error and nothing was bought."""

    class Full:
        async def append_open(self, _entry):
            raise LedgerUnavailable("the disk is full")

    watched, clock = watch()
    settler = Settler(Full(), clock, watched)
    work = Work(a_chat(), Arrival("r", KEY, 0.0), decided(a_chat(), CATALOG, caller=KEY), None)
    with pytest.raises(LedgerUnavailable):
        asyncio.run(settler.open(work, (work.decision.chosen,)))
    assert len(watched.shares) == 0
