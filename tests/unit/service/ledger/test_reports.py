"""What it cost and what it saved: small books that are added up by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from service.domain.decision import EntryState
from service.ledger.indexer import Indexer
from service.ledger.reports import CostReport, cost_report, costs
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import SinkMissing
from service.ledger.writer import JournalWriter

USD = 10**12


@pytest.fixture
def book(tmp_path, opening, ending):
    """Write attempts as (open changes, terminal changes or None) and get the sink that holds them."""

    def write(*attempts):
        writer = JournalWriter(tmp_path)
        writer.start()
        for number, (opened, ended) in enumerate(attempts):
            writer.write_open(opening(number, **opened))
            if ended is not None:
                writer.write_terminal(ending(number, **ended))
        writer.close()
        sink = open_sink(tmp_path)
        with Indexer(tmp_path, sink) as indexer:
            indexer.catch_up()
        return sink

    return write


def figures(report: CostReport, *names: str) -> dict[object, tuple[object, ...]]:
    return {tuple(row.keys.values()): tuple(getattr(row, name) for name in names) for row in report.rows}


def test_a_request_with_a_fallback_counts_once_and_costs_all_it_took(book):
    """Two attempts on two models, the first billed for nothing useful: one request, both costs, one baseline."""
    sink = book(
        (
            {"decision_id": "d", "model": "small"},
            {"state": EntryState.ESTIMATED, "cost_pusd": 2 * USD, "usage_source": "estimated", "final": False},
        ),
        (
            {"decision_id": "d", "model": "large", "attempt_number": 2},
            {"cost_pusd": 3 * USD, "baseline_pusd": 4 * USD},
        ),
    )
    report = cost_report(sink)
    assert figures(report, "requests", "attempts", "cost_pusd", "baseline_pusd", "saved_pusd") == {
        ("large",): (1, 1, 3 * USD, 4 * USD, 1 * USD),
        ("small",): (1, 1, 2 * USD, 0, -2 * USD),
    }
    assert report.total is not None
    assert (report.total.requests, report.total.attempts) == (1, 2)
    assert report.total.saved_pusd == -1 * USD, "savings are net of failed attempts and never clipped"
    assert report.total.estimated_share == 0.5


def test_a_baseline_counts_once_even_when_two_attempts_call_themselves_final(book):
    """A hedge or a defect can't make the savings look twice as large."""
    final = {"cost_pusd": 1 * USD, "baseline_pusd": 10 * USD, "final": True}
    report = cost_report(book(({"decision_id": "d"}, final), ({"decision_id": "d", "attempt_number": 2}, final)))
    assert report.total is not None
    assert (report.total.baseline_pusd, report.total.saved_pusd) == (10 * USD, 8 * USD)


def test_without_a_baseline_nothing_is_saved_and_nothing_is_lost(book):
    """Unknown is shown as unknown, not as zero and not as minus the cost."""
    (row,) = costs(book(({}, {"baseline_pusd": None, "baseline_model": None})))
    assert (row.baseline_pusd, row.saved_pusd) == (None, None)
    assert (row.as_dict()["baseline_cost_usd"], row.as_dict()["saved_usd"]) == (None, None)


def test_only_requests_with_a_baseline_are_compared(book):
    """A month in which the baseline was set half-way: the first half is no loss."""
    (row,) = costs(
        book(
            ({}, {"cost_pusd": 50 * USD, "baseline_pusd": None}),
            ({}, {"cost_pusd": 1 * USD, "baseline_pusd": 5 * USD}),
        )
    )
    assert (row.cost_pusd, row.baseline_pusd, row.saved_pusd) == (51 * USD, 5 * USD, 4 * USD)


def test_an_unpriced_request_saves_nothing(book):
    """A cost that nobody knows isn't zero: its baseline can't be counted as saved."""
    report = cost_report(
        book(
            ({}, {"cost_pusd": None, "baseline_pusd": 100 * USD}),
            ({}, {"cost_pusd": 1 * USD, "baseline_pusd": 5 * USD}),
        )
    )
    assert report.total is not None
    assert (report.total.saved_pusd, report.total.unpriced_attempts) == (4 * USD, 1)
    assert any("no known price" in note for note in report.notes)


def test_a_crash_counts_against_the_savings(book):
    """Charged at its reservation, and it bought nothing."""
    crash = {
        "state": EntryState.UNKNOWN,
        "ended": "crash",
        "cost_pusd": 3 * USD,
        "usage_source": "unknown",
        "usage": {},
    }
    report = cost_report(
        book(({}, {**crash, "baseline_pusd": None}), ({}, {"cost_pusd": 1 * USD, "baseline_pusd": 5 * USD}))
    )
    assert report.total is not None
    assert (report.total.cost_pusd, report.total.saved_pusd) == (4 * USD, 1 * USD)


def test_the_estimated_share_is_of_what_may_be_billed(book):
    """Refused and running attempts have no usage that could be estimated."""
    refused = {
        "state": EntryState.REFUSED,
        "usage": {},
        "usage_source": "unknown",
        "cost_pusd": 0,
        "baseline_pusd": None,
    }
    report = cost_report(
        book(
            ({}, {}),
            ({}, {}),
            ({}, {"usage_source": "counted"}),
            ({}, {"state": EntryState.UNKNOWN, "usage_source": "unknown"}),
            ({}, refused),
            ({}, None),
        )
    )
    assert report.total is not None
    assert report.total.estimated_share == 0.5
    assert (report.total.attempts, report.total.open_attempts, report.total.unpriced_attempts) == (6, 1, 0)


def test_tokens_are_added_up_by_bucket(book):
    """Disjoint buckets, each under its own name."""
    sink = book(
        ({}, {"usage": {"input": 10, "cache_read": 1, "cache_write_5m": 2, "cache_write_1h": 3, "output": 4}}),
        ({}, {"usage": {"input": 5, "reasoning": 6, "audio_in": 7, "audio_out": 8, "image": 9, "requests": 1}}),
    )
    (row,) = costs(sink)
    assert row.tokens == {
        "input_tokens": 15,
        "cache_read_tokens": 1,
        "cache_write_5m_tokens": 2,
        "cache_write_1h_tokens": 3,
        "output_tokens": 4,
        "reasoning_tokens": 6,
        "audio_in_tokens": 7,
        "audio_out_tokens": 8,
        "image_tokens": 9,
    }


def test_money_is_shown_to_the_last_pico_dollar(book):
    """As decimal strings that add up exactly; a float would have lost the end."""
    sink = book(
        ({"model": "a"}, {"cost_pusd": 9_000_000 * USD + 1, "baseline_pusd": 1}),
        ({"model": "b"}, {"cost_pusd": 9_000_000 * USD + 2, "baseline_pusd": 1}),
    )
    shown = [row.as_dict() for row in costs(sink)]
    assert [row["cost_usd"] for row in shown] == ["9000000.000000000002", "9000000.000000000001"]
    assert sum(Decimal(str(row["cost_usd"])) for row in shown) == Decimal("18000000.000000000003")
    assert shown[0]["saved_usd"] == "-9000000.000000000001"


def test_groups_are_what_was_written(book):
    """Every grouping by itself and some together, with absent values as such."""
    sink = book(
        ({"tags": ("hr", "legal"), "key_id": "k1", "language": "zh", "policy": "cheap"}, {}),
        ({"tags": (), "key_id": None, "provider": "other", "intent": "math", "requested_model": "auto:best"}, {}),
    )

    def groups(*by):
        return {tuple(row.keys.values()): row.requests for row in costs(sink, by)}

    assert groups("tag") == {("hr",): 1, ("legal",): 1, (None,): 1}
    assert groups("key", "intent") == {("k1", "coding"): 1, (None, "math"): 1}
    assert groups("provider", "language", "policy") == {("acme", "zh", "cheap"): 1, ("other", "en", "balanced"): 1}
    assert groups("requested") == {("auto",): 1, ("auto:best",): 1}
    assert groups("plan") == {(None,): 2}
    assert groups("model", "model") == {("small",): 2}
    assert groups() == {(): 2}
    assert any("several tags" in note for note in cost_report(sink, ("tag",)).notes)


def test_simulated_attempts_are_marked(book):
    """They look like money, so every report that holds one says that it is none."""
    sink = book(({"simulated": True}, {}), ({}, {}))
    report = cost_report(sink, ("simulated",))
    assert figures(report, "requests", "simulated_attempts") == {(True,): (1, 1), (False,): (1, 0)}
    assert report.notes[0].startswith("1 of 2 attempts are simulated")
    since = datetime(2027, 1, 1, tzinfo=UTC)
    assert cost_report(sink, since=since) == CostReport(("model",), (), None, (), since)


def test_days_come_in_order_and_other_groups_by_cost(book):
    """A report by day is read as a calendar, any other from the dearest down."""
    day = 86_400_000
    sink = book(
        ({"at_ms": 5 * day, "model": "cheap"}, {"cost_pusd": 1}),
        ({"at_ms": 3 * day, "model": "dear"}, {"cost_pusd": 9}),
        ({"at_ms": 4 * day - 1, "model": "dear"}, {"cost_pusd": 2}),
    )
    assert list(figures(cost_report(sink, ("day",)))) == [("1970-01-04",), ("1970-01-06",)]
    assert list(figures(cost_report(sink, ("model",)))) == [("dear",), ("cheap",)]
    bounds = {"since": datetime(1970, 1, 4, tzinfo=UTC), "until": datetime(1970, 1, 5, tzinfo=UTC)}
    assert figures(cost_report(sink, ("model",), **bounds), "attempts") == {("dear",): (2,)}


def test_a_baseline_is_found_beyond_the_bounds(book):
    """The failed attempt before midnight belongs to a request that was answered after it: it is compared."""
    sink = book(
        ({"decision_id": "d", "at_ms": 1_000}, {"cost_pusd": 2, "final": False, "baseline_pusd": None}),
        ({"decision_id": "d", "at_ms": 2_000, "attempt_number": 2}, {"cost_pusd": 3, "baseline_pusd": 9}),
        ({"at_ms": 1_000}, {"cost_pusd": 1, "baseline_pusd": 1}),
    )
    report = cost_report(sink, until=datetime.fromtimestamp(1.5, UTC))
    assert report.total is not None
    assert (report.total.cost_pusd, report.total.baseline_pusd, report.total.saved_pusd) == (3, 1, -2)


def test_what_cannot_be_asked_is_refused(tmp_path, book):
    """An unknown grouping, an instant of nowhere, a ledger that isn't there."""
    with pytest.raises(SinkMissing):
        costs(open_sink(tmp_path))
    sink = book(({}, {}))
    with pytest.raises(ValueError, match="choose from model"):
        costs(sink, ("colour",))
    with pytest.raises(ValueError, match="time zone"):
        costs(sink, since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_request_id_that_callers_share_mixes_no_books(book):
    """The request id is the caller's to choose: five requests that send the same one are still five."""
    final = {"cost_pusd": 3, "baseline_pusd": 9, "final": True}
    report = cost_report(
        book(*(({"request_id": "same", "key_id": f"k{number}"}, final) for number in range(5))), ("key",)
    )
    assert [(row.requests, row.saved_pusd) for row in report.rows] == [(1, 6)] * 5
