"""Lines of the cost log: everything a row says, exact, short and without a word of a prompt."""

from __future__ import annotations

import json
from decimal import Decimal

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.access import Caller
from service.domain.decision import EntryState
from service.domain.money import BUCKETS
from service.ledger.cost_lines import ATTEMPT, REQUEST, RequestEnd, RequestSum, attempt_line, request_line
from service.ledger.rows import MAX_TEXT_CHARS

END = RequestEnd(1_795_000_000_123, 200, None, 1_234.5, 2.25)


def test_an_attempt_has_every_field(opening, ending):
    """In the order of the table; money as exact text, every bucket a number."""
    price = {"version": "v", "currency": "CNY", "usd_per_unit": "0.1406", "service_tier": "flex"}
    row = ending(1, cost_pusd=123_456_789_012_345_678, price=price, usage={"input": 7, "reasoning": 3, "requests": 1})
    line = attempt_line(opening(1, tags=("a", "b"), at_ms=1_795_000_000_001), row)
    assert list(line) == list(ATTEMPT)
    assert Decimal(line["cost_usd"]) * 10**12 == 123_456_789_012_345_678
    assert (line["input_tokens"], line["reasoning_tokens"], line["output_tokens"]) == (7, 3, 0)
    assert {f"{bucket}_tokens" for bucket in BUCKETS if bucket != "requests"} <= set(line)
    assert (line["currency"], line["usd_per_unit"], line["service_tier"]) == ("CNY", "0.1406", "flex")
    assert (line["tags"], line["opened_at"]) == (["a", "b"], "2026-11-18T11:06:40.001Z")
    assert json.loads(json.dumps(line)) == line


def test_what_is_not_known_is_null(opening, ending):
    """Never 0."""
    line = attempt_line(opening(1, key_id=None), ending(1, cost_pusd=None, ttft_ms=None, baseline_pusd=None))
    assert [line[name] for name in ("cost_usd", "ttft_ms", "baseline_cost_usd", "key_id")] == [None] * 4


def test_texts_of_others_are_clipped(opening, ending):
    """A vendor's id can't make a line grow."""
    line = attempt_line(opening(1, tags=("t" * 9_999,)), ending(1, upstream_id="x" * 9_999, served_model="m" * 9_999))
    assert max(len(str(value)) for value in line.values()) <= MAX_TEXT_CHARS + 4


def test_a_refused_attempt_costs_nothing(opening, ending):
    """And says how it ended."""
    line = attempt_line(opening(1), ending(1, state=EntryState.REFUSED, cost_pusd=0, ended="http_500", usage={}))
    assert (line["state"], line["cost_usd"], line["ended"]) == ("refused", "0", "http_500")


def test_a_request_has_every_field():
    """What it came to, of all attempts; the tags of key and request."""
    decision = decided(a_chat("a secret wish", coe={"tags": ["z"]}), a_catalog(a_model("m")))
    caller = Caller("key_1", "k", frozenset({"y"}))
    line = request_line(decision, decision.chosen, (caller, ("z",)), RequestSum("req_1", 2, 1_000_001, 7.5), END)
    assert list(line) == list(REQUEST)
    assert (line["at"], line["cost_usd"], line["tags"]) == ("2026-11-18T11:06:40.123Z", "0.000001000001", ["y", "z"])
    assert (line["model"], line["attempts"], line["status"], line["ttft_ms"]) == ("m", 2, 200, 7.5)
    assert "secret" not in json.dumps(line)
    unknown = request_line(decision, decision.chosen, (caller, ()), RequestSum("req_1", 1, None, None), END)
    assert unknown["cost_usd"] is None
