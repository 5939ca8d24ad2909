"""Ledger entries as line bodies: what is kept, clipped, flagged and refused."""

from __future__ import annotations

import pytest

from service.domain.decision import EntryState
from service.ledger.lines import decode, encode
from service.ledger.rows import (
    MAX_COUNT,
    MAX_PUSD,
    MAX_TAGS,
    MAX_TEXT_CHARS,
    check_decision,
    clipped,
    open_body,
    terminal_body,
)


def test_an_open_entry_is_stored_whole(opening):
    """Every field of the entry is in the line, so the index can show every column."""
    entry = opening(1, streaming=True, simulated=True, kind="judge", output_tokens_cap=64, last_user_tokens=9)
    body = decode(encode("open", open_body(entry))[:-1]).body
    assert body == entry._asdict() | {"tags": ["hr"]}


def test_a_terminal_entry_is_stored_whole(ending):
    """Every field of the entry is in the line, usage without its zeros."""
    entry = ending(
        1,
        usage_flags=("odd",),
        served_model="small-1-2026",
        upstream_status=200,
        upstream_id="x",
        overhead_ms=1.5,
        final=False,
        strongest_pusd=7,
        strongest_assumed_pusd=0,
        compared_by=1,
    )
    body = decode(encode("terminal", terminal_body(entry))[:-1]).body
    told = {name: value for name, value in entry._asdict().items() if value is not None}
    assert body == told | {"state": "settled", "usage_flags": ["odd"]}


def test_what_is_unknown_is_left_out(opening, ending):
    """No key, no price, no usage: the fields are absent, not zero."""
    assert (
        not {"key_id", "price_version", "reserved_pusd", "tags"}
        & open_body(opening(1, key_id=None, price_version=None, reserved_pusd=None, tags=())).keys()
    )
    body = terminal_body(ending(1, cost_pusd=None, usage={}, price={}, baseline_pusd=None, ttft_ms=None))
    assert not {"cost_pusd", "usage", "price", "baseline_pusd", "ttft_ms"} & body.keys()
    assert terminal_body(ending(1, cost_pusd=0))["cost_pusd"] == 0


@pytest.mark.parametrize("field", ["attempt_id", "request_id", "decision_id", "key_id"])
@pytest.mark.parametrize("value", ["", "x" * 129, "人"])
def test_our_own_ids_are_never_clipped(opening, field, value):
    """An id that can't be stored whole is refused: a clipped one would join two rows."""
    with pytest.raises(ValueError, match=field):
        open_body(opening(1, **{field: value}))


def test_foreign_text_is_bounded_and_storable(opening, ending):
    """Names that a caller or a vendor chose can neither grow a row nor break its encoding."""
    body = open_body(opening(1, requested_model="m" * 1_000_000, tags=("t" * 1_000,) * 1_000))
    assert len(str(body["requested_model"])) == MAX_TEXT_CHARS
    assert len(encode("open", body)) < 12_000
    assert len(body["tags"]) == MAX_TAGS
    served = terminal_body(ending(1, served_model="x\ud800y", upstream_id="人" * 1_000))
    assert served["served_model"] == "x?y"
    assert decode(encode("terminal", served)[:-1]).body["upstream_id"] == "人" * (MAX_TEXT_CHARS - 1) + "…"
    assert clipped(None) is None


@pytest.mark.parametrize("cost", [MAX_PUSD + 1, -MAX_PUSD - 1, 1.5, True])
def test_a_cost_that_does_not_fit_is_unknown_and_flagged(ending, cost):
    """It is never clamped: a clamped figure would look exact."""
    body = terminal_body(ending(1, cost_pusd=cost, baseline_pusd=cost))
    assert "cost_pusd" not in body
    assert "baseline_pusd" not in body
    assert body["usage_flags"] == ["cost_out_of_range", "baseline_out_of_range"]
    assert terminal_body(ending(1, cost_pusd=MAX_PUSD))["cost_pusd"] == MAX_PUSD


@pytest.mark.parametrize("count", [-1, MAX_COUNT + 1, 1.5, True, "7"])
def test_a_count_that_is_none_is_dropped_and_flagged(ending, count):
    """Absurd usage can't stop the row that says the attempt is over."""
    body = terminal_body(ending(1, usage={"input": count, "output": 3}, usage_flags=("f",) * 100))
    assert body["usage"] == {"output": 3}
    assert body["usage_flags"][0] == "input_out_of_range"


def test_only_ends_are_terminal(ending):
    """A row that says `open` is no end."""
    with pytest.raises(ValueError, match="can't have the state 'open'"):
        terminal_body(ending(1, state=EntryState.OPEN))


@pytest.mark.parametrize("at_ms", [-1, 253_402_300_800_000, 1.0])
def test_an_instant_is_one_that_calendars_know(opening, ending, at_ms):
    """A time beyond every calendar would stop whoever reads the row."""
    with pytest.raises(ValueError, match="Unix milliseconds"):
        open_body(opening(1, at_ms=at_ms))
    with pytest.raises(ValueError, match="Unix milliseconds"):
        terminal_body(ending(1, at_ms=at_ms))


@pytest.mark.parametrize("reserved", [MAX_PUSD + 1, 0.5])
def test_a_reservation_that_does_not_fit_is_refused(opening, reserved):
    """Before anything is spent, refusing is the honest answer."""
    with pytest.raises(ValueError, match="reservation"):
        open_body(opening(1, reserved_pusd=reserved))


def test_a_decision_needs_an_id():
    """A record nobody can ask for is refused."""
    check_decision({"id": "d1", "plan": "single"})
    for record in ({}, {"id": 7}, {"id": ""}):
        with pytest.raises(ValueError, match="id must be"):
            check_decision(record)
