"""The shapes of single values: what they take, what they refuse, and that nothing is converted."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from pydantic_core import PydanticCustomError

from service.catalog.fields import ENV_REFERENCE, Day, Number, OneOf, OneOrMany, Shape, Text, Whole

PRICE = Number(Decimal(0), Decimal(1_000), decimals=6)
SHARE = Number(Decimal(0), Decimal(1), above=True)


def refusal(shape: Shape, value: object) -> str:
    """The message with which a shape refuses a value."""
    with pytest.raises(PydanticCustomError) as caught:
        shape.check(value)
    return str(caught.value)


@pytest.mark.parametrize("value", [Decimal("0.15"), Decimal(0), 12, Decimal("0.000001"), Decimal("1.50000000")])
def test_numbers_pass_exactly(value: int | Decimal) -> None:
    """A number comes out as the same decimal; zeros at the end are no decimals."""
    assert PRICE.check(value) == value
    assert isinstance(PRICE.check(value), Decimal)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1e-6", "without quotes or exponent; got the text '1e-6'"),
        ("0.15", "without quotes or exponent; got the text '0.15'"),
        (True, "got true"),
        (None, "got nothing"),
        (0.15, "got 0.15"),
        (Decimal("NaN"), "expected a finite number, got NaN"),
        (Decimal("Infinity"), "expected a finite number, got Infinity"),
        (Decimal("-0.01"), "must be at least 0, got -0.01"),
        (Decimal("1000.000001"), "must be at most 1000"),
        (Decimal("0.0000001"), "has more than 6 decimals"),
    ],
)
def test_numbers_that_are_refused(value: object, message: str) -> None:
    """Quoted, boolean, float, not finite, out of bounds, too fine: each has its reason."""
    assert message in refusal(PRICE, value)


def test_an_exclusive_minimum() -> None:
    """Zero is no share when zero is excluded."""
    assert "must be above 0, got 0" in refusal(SHARE, 0)
    assert SHARE.check(1) == 1


@pytest.mark.parametrize("value", [True, "5", Decimal("5.0"), None, 0, 11])
def test_whole_numbers_that_are_refused(value: object) -> None:
    """A whole number is digits, within its bounds."""
    assert refusal(Whole(1, 10), value)
    assert Whole(1, 10).check(10) == 10


def test_days() -> None:
    """A day is one spelling of a day that exists."""
    assert Day().check("2026-11-21") == date(2026, 11, 21)
    assert refusal(Day(), "2026-02-30") == "no such day: 2026-02-30"
    for far in ("0001-01-01", "1999-12-31", "2200-01-01", "9999-12-31"):
        assert "between 2000-01-01 and 2199-12-31" in refusal(Day(), far)
    for value in ("2026-1-2", "20260102", 2026, None, "2026-01-02T00:00"):
        assert "YYYY-MM-DD" in refusal(Day(), value)


def test_text_never_repeats_a_secret() -> None:
    """Whatever is wrong with a secret, its value isn't in the message."""
    shape = Text("a reference", ENV_REFERENCE.pattern.removesuffix(r"\Z"), "write ${env:NAME}", secret=True)
    assert shape.check("${env:OPENAI_API_KEY}")
    for value in ("sk-canary", "${env:A:-sk-canary}", "x${env:A}", "${env:A}\n", 5_551_234):
        message = refusal(shape, value)
        assert "canary" not in message
        assert "5551234" not in message


def test_text_shapes() -> None:
    """Empty, too long, of another type, against its pattern."""
    assert "empty" in refusal(Text(), "  ")
    assert "characters" in refusal(Text(), "x" * 2_001)
    assert refusal(Text("a name"), 4).endswith("got 4; put quotes around it")
    assert "small letters" in refusal(Text("a name", "[a-z]+", "small letters"), "aB")
    assert Text("a name", "[a-z]+").check("ab") == "ab"


def test_one_of_suggests() -> None:
    """A word outside the vocabulary gets the nearest inside."""
    shape = OneOf("objective", {"min_cost": "", "max_quality": ""})
    assert shape.check("min_cost") == "min_cost"
    assert refusal(shape, "min-cost") == "unknown objective 'min-cost'; did you mean 'min_cost'?"
    assert "one of min_cost, max_quality" in refusal(shape, 3)


def test_one_or_many() -> None:
    """A single text is a list of one; anything else that is no list is refused."""
    assert OneOrMany().wrap("a") == ["a"]
    assert OneOrMany().wrap(["a", "b"]) == ["a", "b"]
    with pytest.raises(PydanticCustomError):
        OneOrMany().wrap(None)
