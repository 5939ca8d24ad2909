"""What an answered request would have cost elsewhere: the counted prompt, the expected answer, and the bounds."""

from __future__ import annotations

from dataclasses import replace

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.money import PICO
from service.routing.repriced import expected_bill


def chosen(listed=(1, 2), **more):
    """The choice of a decision where there is one model."""
    return decided(a_chat("hello"), a_catalog(a_model("m", listed, **more))).chosen


def test_what_is_expected():
    """At the vendor's count it is the decision's own figure when that count is the router's own."""
    one = chosen()
    bill = expected_bill(one, 1, one.input_tokens)
    assert bill is not None
    assert bill.pusd == one.expected_cost_pusd
    assert expected_bill(one, 1, None) == bill
    longer = expected_bill(one, 1, one.input_tokens + 1_000)
    assert longer is not None
    assert longer.pusd - bill.pusd == 1_000 * PICO // 10**6
    assert longer.low_pusd == (one.input_tokens + 1_000) * PICO // 10**6


def test_the_bounds_hold_it():
    """No answer at all, and nine tenths of all answers; a prompt that is not warm."""
    one = replace(chosen(), wanted_tokens=2_000, cached_tokens=3, reasoning_tokens=40)
    bill = expected_bill(one, 2, 1_000)
    assert bill is not None
    assert bill.low_pusd <= bill.pusd <= bill.high_pusd
    assert bill.high_pusd == (1_000 * 1 + 4_000 * 2) * PICO // 10**6


def test_a_count_that_is_smaller_than_what_was_warm():
    """The parts never exceed the whole."""
    one = replace(chosen(), cached_tokens=5_000, cache_write_tokens=5_000)
    bill = expected_bill(one, 1, 10)
    assert bill is not None
    assert bill.pusd >= 0


def test_an_unknown_price():
    """Nobody knows."""
    assert expected_bill(chosen(None), 1, 10) is None
