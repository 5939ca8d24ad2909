"""What an operator should know about a registry that loads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from service.catalog.check import Counts, Finding, check
from service.domain.catalog import Catalog

LoadText = Callable[..., Catalog]

KEYS = {"DEEPSEEK_API_KEY": "a", "BAILIAN_KEY_A": "b"}


def day(text: str) -> datetime:
    """Noon UTC of a day."""
    return datetime.fromisoformat(text).replace(hour=12, tzinfo=UTC)


def test_counts_and_inactive_providers(load_text: LoadText, example: str, now: datetime) -> None:
    """Without keys only the local engine is left; with them everything but the disabled model."""
    bare = check(load_text(example), now=now)
    assert bare.counts == Counts(3, 1, 3, 1, 4, 1)
    assert bare.usable
    assert bare.inactive_providers == (
        Finding("deepseek", "set DEEPSEEK_API_KEY to use it", active=False),
        Finding("bailian", "set BAILIAN_KEY_A or BAILIAN_KEY_B to use it", active=False),
    )
    full = check(load_text(example, KEYS), now=now)
    assert full.counts == Counts(3, 3, 3, 2, 4, 3)
    assert full.inactive_providers == ()


def test_budgets_are_told(load_text: LoadText, now: datetime) -> None:
    """Whom each is about, and what it holds them to."""
    text = "version: 1\nbudgets: [{name: all, usd_per_day: 0.5}, {name: hr, tag: eu/hr, concurrency: 2, soft: true}]\n"
    assert check(load_text(text), now=now).budgets == (
        Finding("all", "0.5 USD/day; every request"),
        Finding("hr", "2 at once, soft; tag eu/hr"),
    )


def test_nothing_usable(load_text: LoadText, now: datetime) -> None:
    """An empty registry, and one whose only provider lacks its key, are not usable."""
    assert not check(load_text("version: 1\n"), now=now).usable
    text = "version: 1\nproviders: {p: {base_url: 'https://p.example.com', api_key: '${env:A}'}}\n"
    text += "models: {m: {deployments: [{provider: p, name: m}]}}\n"
    assert not check(load_text(text), now=now).usable
    assert check(load_text(text, {"A": "k"}), now=now).usable


def test_models_out_of_reach(load_text: LoadText, example: str, now: datetime) -> None:
    """Those that wait for a key, and those that the file itself keeps out of reach."""
    report = check(load_text(example + "\n"), now=now)
    assert report.waiting == (
        Finding(
            "deepseek-flash",
            "deepseek: set DEEPSEEK_API_KEY to use it; bailian: set BAILIAN_KEY_A or BAILIAN_KEY_B to use it",
            active=False,
        ),
    )
    assert report.unreachable == (Finding("secret-lab", "no public API", active=False),)
    text = example.replace("models:\n  deepseek-flash:", "models:\n  nowhere: {}\n  deepseek-flash:")
    assert (
        Finding("nowhere", "no deployment; add one", active=False) in check(load_text(text, KEYS), now=now).unreachable
    )


def test_unpriced(load_text: LoadText, now: datetime) -> None:
    """Every way of having no price says which; a switched-off deployment isn't listed, one without a key is."""
    text = """\
version: 1
providers:
  p: {base_url: http://127.0.0.1:1}
  q: {base_url: https://q.example.com, api_key: "${env:Q}"}
models:
  none: {deployments: [{provider: p, name: m}, {provider: q, name: m, prices: null}]}
  future: {deployments: [{provider: p, name: m, prices: [{from: 2027-01-01, input: 1, output: 1}]}]}
  ended: {deployments: [{provider: p, name: m, prices: [{from: 2026-01-01, until: 2026-02-01, input: 1, output: 1}]}]}
  unknown: {deployments: [{provider: p, name: m, prices: [{from: 2026-01-01}]}]}
  off: {deployments: [{provider: p, name: m, enabled: false, disabled_reason: broken}]}
  gone: {retires: 2026-01-01, deployments: [{provider: p, name: m}]}
  free: {deployments: [{provider: p, name: m, prices: [{from: 2026-01-01, input: 0, output: 0}]}]}
"""
    tail = "; not eligible under a budget"
    assert check(load_text(text), now=now).unpriced == (
        Finding("p/none", "no price in the file" + tail),
        Finding("q/none", "no price in the file" + tail, active=False),
        Finding("p/future", "its first price begins on 2027-01-01" + tail),
        Finding("p/ended", "its last price ended on 2026-02-01" + tail),
        Finding("p/unknown", "its price from 2026-01-01 is unknown (null)" + tail),
    )


@pytest.mark.parametrize(
    ("today", "retiring", "retired"),
    [
        ("2026-12-30", [], []),
        ("2026-12-31", ["retires on 2027-03-01, in 60 days"], []),
        ("2027-02-28", ["retires on 2027-03-01, in 1 days"], []),
        ("2027-03-01", [], ["retired on 2027-03-01; remove it or name its successor"]),
    ],
)
def test_retirements(load_text: LoadText, example: str, today: str, retiring: list[str], retired: list[str]) -> None:
    """Sixty days of warning; the date itself is the first day without the model, and it is no longer active then."""
    report = check(load_text(example, KEYS), now=day(today))
    assert [finding.detail for finding in report.retiring] == retiring
    assert [finding.detail for finding in report.retired] == retired
    assert report.counts.models_active == (1 if retired else 2)


@pytest.mark.parametrize(
    ("today", "words"),
    [("2026-10-31", None), ("2026-11-01", "ends on 2026-12-31"), ("2027-01-01", "ended on 2026-12-31")],
)
def test_calendars_that_end(load_text: LoadText, example: str, today: str, words: str | None) -> None:
    """Sixty days of warning for a calendar that a price uses; one that nothing uses is not mentioned."""
    report = check(load_text(example), now=day(today))
    assert [finding.subject for finding in report.calendars] == ([] if words is None else ["cn-holidays"])
    assert words is None or report.calendars[0].detail.startswith(words)
    assert check(load_text(example.replace(", except: cn-holidays", "")), now=day(today)).calendars == ()


def test_old_exchange_rates(load_text: LoadText, example: str) -> None:
    """A month-old rate is told; yesterday's is not."""
    assert check(load_text(example), now=day("2026-11-21")).exchange_rates == ()
    (finding,) = check(load_text(example), now=day("2026-12-21")).exchange_rates
    assert finding == Finding("CNY", "0.1406 USD, read on 2026-11-20: 31 days old")


def test_the_baseline(load_text: LoadText, example: str, now: datetime) -> None:
    """A priced baseline is fine without a key; none, an unpriced and an empty one are told."""
    assert check(load_text(example), now=now).baseline is None
    line = "baseline: deepseek-flash\n"
    assert check(load_text(example.replace(line, "")), now=now).baseline == Finding(
        "baseline", "none; savings are not counted"
    )
    unpriced = check(load_text(example.replace(line, "baseline: secret-lab\n")), now=now).baseline
    assert unpriced == Finding(
        "secret-lab", "the baseline has no price (no price in the file); savings are not counted"
    )


def test_policies_that_nothing_can_meet(load_text: LoadText, example: str, now: datetime) -> None:
    """Not allowed, not good enough, not priced; each with its own words; the default one counts as active."""
    text = example.replace(
        "policies:\n", "policies:\n  strict: {min_quality: 0.95}\n  only: {allow: {tags: [nobody]}}\n"
    )
    text = text.replace("careful: {objective: max_quality,", "careful: {objective: max_quality, min_quality: 0.89,")
    found = check(load_text(text, KEYS), now=now).policies
    assert found == (
        Finding("strict", "min_quality is 0.95, and the best prior is 0.9 (qwen-onprem)", active=False),
        Finding("only", "no active deployment is allowed by it", active=False),
    )
    unpriced = text.replace("self_hosted:", "prices: null\n        #").replace("          {gpus", "        # {gpus")
    found = check(load_text(unpriced), now=now).policies
    assert Finding("careful", "it limits cost, and no deployment that it allows has a price", active=False) in found
    held = "every request is under a hard budget, and no deployment that it allows has a price"
    assert Finding("private", held, active=False) in found
    for none in ("usd_per_month: 5000, soft: true", "usd_per_month: 5000, tag: x", "concurrency: 5000"):
        found = check(load_text(unpriced.replace("usd_per_month: 5000", none)), now=now).policies
        assert not [one for one in found if "budget" in one.detail]
    assert check(load_text("version: 1\n"), now=now).policies[0] == Finding("balanced", "no active deployment")


def test_now_must_be_aware(load_text: LoadText) -> None:
    """Today depends on the zone."""
    with pytest.raises(ValueError, match="aware"):
        check(load_text("version: 1\n"), now=datetime.fromisoformat("2026-11-21"))


def test_a_policy_may_name_a_deployment(load_text: LoadText, example: str, now: datetime) -> None:
    """`provider/model` is a name as good as the model's."""
    text = example.replace("policies:\n", "policies:\n  one: {allow: {models: [local/qwen-onprem]}}\n")
    assert "one" not in {finding.subject for finding in check(load_text(text, KEYS), now=now).policies}


def test_a_floor_of_an_intent_that_nothing_can_meet(load_text: LoadText, example: str, now: datetime) -> None:
    """Named with its intent and the best there is."""
    text = example.replace("policies:\n", "policies:\n  sharp: {min_quality_for: {chitchat: 0.5, coding: 0.95}}\n")
    assert Finding(
        "sharp", "min_quality_for coding is 0.95, and the best prior is 0.9 (qwen-onprem)", active=False
    ) in (check(load_text(text, KEYS), now=now).policies)
