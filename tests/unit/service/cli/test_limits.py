"""Limits as options say them: read exactly or refused."""

from __future__ import annotations

import pytest

from service.cli.limits import changed, limits_row
from service.domain.limits import NO_LIMITS, PUSD_MAX, Limits
from service.errors import InvalidRequest

NOTHING = dict.fromkeys(("usd_per_day", "usd_per_month", "requests_per_minute", "tokens_per_minute", "concurrency"))


def said(**options):
    """What click hands over."""
    return {**NOTHING, **options}


@pytest.mark.parametrize(
    ("text", "pusd"),
    [
        ("0", 0),
        ("5", 5 * 10**12),
        ("0.1", 10**11),
        ("0.3", 3 * 10**11),
        ("0.000000000001", 1),
        ("1234567.123456789012", 1_234_567_123_456_789_012),
        ("3999999.999999999999", PUSD_MAX - 1),
        ("4000000", PUSD_MAX),
        ("007.50", 75 * 10**11),
    ],
)
def test_an_amount_is_read_to_its_last_digit(text, pusd):
    """What a float would make of some of these is another number."""
    assert changed(NO_LIMITS, said(usd_per_day=text), None) == Limits(day_pusd=pusd)
    assert changed(NO_LIMITS, said(usd_per_month=text), None) == Limits(month_pusd=pusd)


@pytest.mark.parametrize(
    "text",
    ["", " 5", "-5", "+5", "5.", ".5", "1e3", "1_000", "1,5", "$5", "5 USD", "0.0000000000001", "4000000.000000000001",
     "9" * 400, "NaN", "inf", "None", "NONE", "٣", "5\n"],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text):
    """With the option, and what it takes."""
    with pytest.raises(
        InvalidRequest, match=r"--usd-per-day takes an amount in USD of at most 4000000 .* such as"
    ) as caught:
        changed(NO_LIMITS, said(usd_per_day=text), None)
    assert caught.value.param == "usd_per_day"


@pytest.mark.parametrize(
    ("option", "most"), [("requests_per_minute", 10**9), ("tokens_per_minute", 10**9), ("concurrency", 100_000)]
)
def test_counts_are_whole_numbers_within_bounds(option, most):
    """From 0, which nothing fits under, to what a counter holds."""
    assert changed(NO_LIMITS, said(**{option: str(most)}), None) == Limits(**{option: most})
    assert changed(NO_LIMITS, said(**{option: "0"}), None) == Limits(**{option: 0})
    for wrong in ("", "1.5", "-1", str(most + 1), "1e3", "many", "²"):
        with pytest.raises(
            InvalidRequest, match=f"--{option.replace('_', '-')} takes a whole number from 0 to {most};"
        ):
            changed(NO_LIMITS, said(**{option: wrong}), None)


def test_what_is_not_said_stays_as_it_is():
    """`none` takes one limit away and no other; soft and hard are a choice of their own."""
    old = Limits(1, 2, 3, 4, 5, soft=True)
    assert changed(old, said(), None) == old
    assert changed(old, said(usd_per_day="none", concurrency="9"), None) == Limits(None, 2, 3, 4, 9, soft=True)
    assert changed(old, said(), soft=False) == Limits(1, 2, 3, 4, 5)
    assert changed(Limits(day_pusd=1), said(), soft=True) == Limits(day_pusd=1, soft=True)


def test_a_row_tells_every_limit_exactly():
    """Amounts as decimals in text, since a JSON number would be read as a float."""
    assert limits_row(Limits(month_pusd=PUSD_MAX - 1, concurrency=0, soft=True)) == {
        "usd_per_day": None,
        "usd_per_month": "3999999.999999999999",
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrency": 0,
        "soft": True,
    }
