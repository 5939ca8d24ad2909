"""Hard budgets on several replicas, and a store that is lost (I4, I13); the great numbers are in `make chaos`."""

from __future__ import annotations

import pytest
from lost_store import LOST, MARKED, Lost
from overspend import Replicas

SEED = 20261122


def test_no_budget_is_overspent_whatever_happens_to_replicas_and_store(tmp_path):
    with Replicas(tmp_path / "replicas", 2, count=2) as replicas:
        seen = replicas.play(SEED, rounds=2, asked_per_round=160)
    assert not seen.wrong, seen
    assert (seen.rounds, seen.overspent) == (2, 0), seen
    assert seen.kinds["200"] > 60 < seen.kinds["429 insufficient_quota"], seen


def test_no_budget_is_overspent_when_a_copy_takes_over_that_lags(tmp_path):
    with Replicas(tmp_path / "replicas", 2, count=2) as replicas:
        seen = replicas.play(SEED, troubles=("failover",), rounds=2, asked_per_round=160)
    assert not seen.wrong, seen
    assert (seen.rounds, seen.overspent, seen.troubles["failover"]) == (2, 0, 2), seen


def test_whoever_only_looks_before_and_adds_behind_overspends(tmp_path):
    """The control: the same fight with nothing reserved."""
    with Replicas(tmp_path / "replicas", 1, count=2, naive=True) as replicas:
        seen = replicas.play(SEED, troubles=(), rounds=1, asked_per_round=200)
    assert seen.overspent == 1, seen


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    with Lost(tmp_path_factory.mktemp("lost")) as stage:
        yield stage


@pytest.mark.parametrize("trouble", ["killed", "paused"])
def test_a_store_that_is_gone_refuses_hard_budgets_marks_soft_ones_and_touches_nobody_else(lost, trouble):
    seen = lost.play(trouble)
    assert not seen.wrong, seen
    assert seen.readiness == "budgets degraded", seen
    assert seen.kinds("hard")[LOST] > 5 < seen.kinds("soft")[MARKED], seen
    assert set(seen.kinds("free")) == {"200"}, seen


@pytest.mark.parametrize("trouble", ["slow", "its scripts forgotten"])
def test_a_store_that_answers_late_or_anew_is_waited_for(lost, trouble):
    seen = lost.play(trouble)
    assert not seen.wrong, seen
    assert seen.readiness == "ready", seen
    assert set(seen.kinds("hard")) == {"200"}, seen


def test_a_store_that_forgot_everything_is_told_it_again(lost):
    before = lost.store.command("HGET", _pot(), "u")
    seen = lost.play("emptied")
    assert not seen.wrong, seen
    assert seen.kinds("hard")[LOST] > 0, seen
    assert int(_digits(lost.store.command("HGET", _pot(), "u"))) > int(_digits(before))


def _pot() -> str:
    from datetime import UTC, datetime

    return f"{{coe}}:m:t:hard:{datetime.now(UTC):%Y-%m-%d}"


def _digits(reply: bytes) -> bytes:
    return reply.split(b"\r\n")[1]
