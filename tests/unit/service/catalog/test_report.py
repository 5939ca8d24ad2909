"""The check report as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from service.catalog.check import CheckReport, Counts, Finding, check
from service.catalog.report import WIDTH, render
from service.domain.catalog import Catalog

LoadText = Callable[..., Catalog]


def test_the_example(load_text: LoadText, example: str, now: datetime) -> None:
    """Counts first, then each list that holds something, one finding a line."""
    catalog = load_text(example)
    assert render(check(catalog, now=now)).splitlines() == [
        f"registry {catalog.version}",
        "active now: 1 of 3 providers, 1 of 3 models, 1 of 4 deployments",
        "budgets (2)",
        "  whole-router: 5000 USD/month; every request",
        "  interns: 20.5 USD/day, 60 requests/minute, 200000 tokens/minute, 8 at once, soft; tag interns",
        "calendars that end (1)",
        (
            "  cn-holidays: ends on 2026-12-31; after it no day is excepted and windows apply on holidays too: "
            "write calendars.cn-holidays with the new days"
        ),
        "inactive providers (2)",
        "  deepseek: set DEEPSEEK_API_KEY to use it",
        "  bailian: set BAILIAN_KEY_A or BAILIAN_KEY_B to use it",
        "models that can't be reached (1)",
        "  secret-lab: no public API",
        "models that wait for a key (1)",
        "  deepseek-flash",
        "notes (1)",
        (
            "  deepseek/deepseek-flash from 2026-07-24: a tier states no cache_read; "
            "cached input counts at the tier's input price"
        ),
    ]


def test_nothing_is_left_out() -> None:
    """Every list of the report shows, under a heading with its length."""
    one = {
        name: (Finding(f"subject-{name}", f"detail-{name}"),)
        for name in (
            "inactive_providers",
            "unpriced",
            "retired",
            "retiring",
            "unreachable",
            "calendars",
            "exchange_rates",
            "policies",
            "budgets",
        )
    }
    report = CheckReport("v", Counts(), baseline=Finding("b", "subject-baseline"), notes=("subject-notes",), **one)
    text = render(report)
    for name in (*one, "baseline", "notes"):
        assert text.count(f"subject-{name}") == 1, name
    assert text.count("(1)\n") == len(one) + 2
    assert "nothing can be called" in text


def test_long_lists_of_names_are_wrapped() -> None:
    """A hundred models that wait for a key are a paragraph, not a hundred lines."""
    waiting = tuple(Finding(f"model-number-{number}", "x") for number in range(100))
    lines = render(CheckReport("v", Counts(), waiting=waiting)).splitlines()
    assert len(lines) < 30
    assert max(len(line) for line in lines[3:]) <= WIDTH
    assert sum(line.count("model-number-") for line in lines) == 100
