"""An attempt as a row: which values lines give, and which line wins."""

from __future__ import annotations

from service.domain.decision import EntryState
from service.ledger.lines import Line
from service.ledger.sinks import halves
from service.ledger.sinks.port import BASELINES


def test_money_instants_and_texts_are_told_apart():
    """By the name of the column; every baseline is money."""
    assert halves.kind_of("cost_pusd") is halves.Kind.MONEY
    assert {halves.kind_of(one.column) for one in BASELINES} == {halves.Kind.MONEY}
    assert halves.kind_of("input_tokens") is halves.kind_of("ended_ms") is halves.Kind.INTEGER
    assert halves.kind_of("ttft_ms") is halves.Kind.REAL
    assert halves.kind_of("tags") is halves.Kind.TEXT


def test_days_are_utc():
    """The last millisecond of a day belongs to it."""
    assert halves.day_of(1_794_959_999_999) == "2026-11-17"
    assert halves.day_of(1_794_960_000_000) == "2026-11-18"


def test_a_line_with_nothing_but_an_id_still_has_every_value():
    """Statements bind by name: a field that the line leaves out is bound as unknown."""
    opened = halves.open_values(Line("open", {"attempt_id": "a"}, "00000000"), 1)
    ended = halves.terminal_values(Line("terminal", {"attempt_id": "a"}, "00000000"))
    assert set(halves.OPEN_COLUMNS) <= opened.keys()
    assert set(halves.TERMINAL_COLUMNS) <= ended.keys()
    assert (opened["key_id"], ended["cost_pusd"], ended["input_tokens"]) == (None, None, 0)


def test_an_assumed_end_ranks_behind_a_known_one():
    """Whatever their times are."""
    known = {"attempt_id": "a", "state": EntryState.SETTLED.value, "at_ms": 9}
    assumed = {"attempt_id": "a", "state": EntryState.UNKNOWN.value, "at_ms": 1}
    ranks = [halves.terminal_values(Line("terminal", body, "ffffffff"))["terminal_rank"] for body in (known, assumed)]
    assert ranks == sorted(ranks)


def test_instants_outside_64_bits_are_unknown():
    """A decision record is free-form: what no integer column holds is left out."""
    values = halves.decision_values(Line("decision", {"id": "d", "created_ms": 2**64 - 1, "key_id": 7}, "0"))
    assert (values["at_ms"], values["key_id"]) == (None, None)
