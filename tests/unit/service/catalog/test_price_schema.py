"""The shapes of prices: what is required, what is refused, what stays exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from service.catalog.price_schema import PriceEntry, SelfHostedEntry, TierEntry, WindowEntry

DAY = {"from": "2026-07-24"}


def price(**fields):
    """A price entry from plain values as the reader gives them."""
    return PriceEntry.model_validate({**DAY, **fields})


def test_rates_stay_exact():
    """A decimal comes out as the integer of pico-units, never through a float."""
    entry = price(input=Decimal("0.1"), output=Decimal("0.000001"))
    assert Decimal(str(entry.input)) in (Decimal("0.1"), Decimal(100_000))
    assert price(input=None).input is None


@pytest.mark.parametrize(
    "fields",
    [{"input": "0.15"}, {"input": Decimal(-1)}, {"input": True}, {"inputs": Decimal(1)}, {"currency": "yuan"}],
    ids=["text", "negative", "boolean", "unknown field", "currency"],
)
def test_what_is_no_price(fields):
    """Refused, not converted."""
    with pytest.raises(ValidationError):
        price(**fields)


@pytest.mark.parametrize("shape", [PriceEntry, TierEntry, WindowEntry, SelfHostedEntry])
def test_every_field_is_described(shape):
    """Editors show these texts."""
    assert all(field.description for field in shape.model_fields.values())


def test_a_tier_needs_its_bound_and_both_rates():
    """A tier without a price would be free."""
    TierEntry.model_validate({"above_input_tokens": 1, "input": Decimal(1), "output": Decimal(2)})
    for missing in ("above_input_tokens", "input", "output"):
        whole = {"above_input_tokens": 1, "input": Decimal(1), "output": Decimal(2)}
        del whole[missing]
        with pytest.raises(ValidationError):
            TierEntry.model_validate(whole)
