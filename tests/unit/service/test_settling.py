"""The books of one request: what is opened ends once, whatever is cancelled, and the drain waits for it."""

from __future__ import annotations

import asyncio
import json

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, decided

from service import telemetry
from service.domain.access import Caller
from service.domain.money import Usage
from service.errors import InvalidRequest, LedgerUnavailable, NotSent, Replied
from service.ledger.writer import EntryOrderError
from service.settling import Arrival, Settler, Work, milliseconds, told_as


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now = 0.0

    def utc(self):
        return NOW

    def monotonic(self):
        self.now += 0.01
        return self.now


class Ledger:
    """Keeps rows; `gate` holds terminal rows back, `problem` is raised by all."""

    def __init__(self, problem=None):
        self.opened, self.ended, self.problem = [], [], problem
        self.gate = asyncio.Event()
        self.gate.set()

    def hold_decision(self, _record):
        if self.problem:
            raise self.problem
        return b""

    def no_attempt(self):
        pass

    async def append_open(self, entry):
        if self.problem:
            raise self.problem
        self.opened.append(entry)

    async def append_terminal(self, entry):
        await self.gate.wait()
        if self.problem:
            raise self.problem
        self.ended.append(entry)

    def terminal_at_once(self, _entry):
        return False


class AtOnce(Ledger):
    """A ledger that waits for no disk."""

    def terminal_at_once(self, entry):
        if self.problem:
            raise self.problem
        self.ended.append(entry)
        return True


def a_work(**body):
    """A request that was decided."""
    caller = Caller("key_1", "k", tags=frozenset({"team"}))
    chat = a_chat(**body)
    return Work(chat, Arrival("req_1", caller, 0.0), decided(chat, a_catalog(a_model("m"))), None)


async def opened(ledger, **body):
    """(settler, work, attempt) with one open attempt."""
    settler, work = Settler(ledger, Clock()), a_work(**body)
    return settler, work, await settler.open(work, (work.decision.chosen,))


async def test_the_open_row_says_what_is_intended():
    """Ids, number, tags of the key and of the request, the reservation."""
    ledger = Ledger()
    _, work, attempt = await opened(ledger, coe={"tags": ["report"]})
    (row,) = ledger.opened
    assert (row.attempt_id, row.request_id, row.attempt_number, row.key_id) == (
        attempt.entry.attempt_id,
        "req_1",
        1,
        "key_1",
    )
    assert row.tags == ("report", "team")
    assert row.reserved_pusd == work.decision.chosen.reserved_pusd
    assert (work.attempts[0].shown()["state"], work.last) == ("open", work.decision.chosen)


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (LedgerUnavailable("full"), LedgerUnavailable),
        (ValueError("a row of 2 MB"), InvalidRequest),
    ],
)
async def test_what_can_not_be_opened_leaves_nothing(problem, error):
    """The error goes to the caller, and nobody waits for an attempt that never was."""
    settler, work = Settler(Ledger(problem), Clock()), a_work()
    with pytest.raises(error):
        settler.decided({"id": "dec_1"})
    with pytest.raises(error):
        await settler.open(work, (work.decision.chosen,))
    assert work.attempts == []
    await asyncio.wait_for(settler.settled(), 1)


async def test_a_settled_attempt_is_written_and_told():
    """Vendor's numbers: settled, with the exact cost, once."""
    ledger = Ledger()
    settler, work, attempt = await opened(ledger)
    attempt.tally.usage = Usage(input=1_000, output=100)
    row = await settler.settle(work, attempt, "complete")
    assert ledger.ended == [row]
    assert row.cost_pusd == (1_000 * 1 + 100 * 2) * 10**6
    assert work.attempts[0].shown()["cost_usd"] == "0.0012"
    assert work.spent_pusd() == row.cost_pusd


@pytest.mark.parametrize(
    ("problem", "state", "free"),
    [
        (NotSent("x", cause="connect_refused"), "refused", True),
        (Replied("x", cause="http_500", upstream_status=500), "refused", True),
    ],
)
async def test_a_failure_that_is_not_billed_costs_nothing(problem, state, free, capsys):
    """And is logged by its cause, without a message."""
    telemetry.configure("INFO")
    ledger = Ledger()
    settler, work, attempt = await opened(ledger)
    await settler.fail(work, attempt, problem)
    assert (ledger.ended[0].state.value, ledger.ended[0].cost_pusd == 0) == (state, free)
    assert work.failures == [(attempt.candidate, problem)]
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["cause"]) == (telemetry.ATTEMPT_FAILED, problem.cause)


async def test_cancelling_the_request_does_not_cancel_its_row():
    """The row is written in a task of its own."""
    ledger = Ledger()
    settler, work, attempt = await opened(ledger)
    ledger.gate.clear()
    settling = asyncio.create_task(settler.settle(work, attempt, "complete"))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    ledger.gate.set()
    await settler.settled()
    assert len(ledger.ended) == 1


async def test_the_drain_waits_for_attempts_that_nobody_settles_yet():
    """A server that stops cancels requests without waiting: their rows come a moment later."""
    ledger = Ledger()
    settler, work, attempt = await opened(ledger)
    draining = asyncio.create_task(settler.settled())
    await asyncio.sleep(0.05)
    assert not draining.done()
    settler.settle_later(work, attempt, "client_left")
    await asyncio.wait_for(draining, 1)
    assert len(ledger.ended) == 1


async def test_the_drain_ends_when_its_time_is_over(capsys):
    """What is open then is named in the log; recovery closes it."""
    telemetry.configure("INFO")
    settler, _, attempt = await opened(Ledger())
    await settler.settled(within_s=0.05)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["attempt_id"]) == (telemetry.SETTLE_FAILED, attempt.entry.attempt_id)


@pytest.mark.parametrize("problem", [LedgerUnavailable("full"), ValueError("long"), EntryOrderError("twice")])
async def test_a_row_that_can_not_be_written_is_logged_not_raised(problem, capsys):
    """The caller keeps the answer that was paid for."""
    telemetry.configure("INFO")
    ledger = Ledger()
    settler, work, attempt = await opened(ledger)
    ledger.problem = problem
    await settler.settle(work, attempt, "complete")
    assert json.loads(capsys.readouterr().err)["event"] == telemetry.SETTLE_FAILED
    await asyncio.wait_for(settler.settled(), 1)


async def test_an_attempt_that_was_not_sent_is_settled_for_nothing():
    """`settle_later` goes by whether anything left this machine."""
    for sent, state in ((False, "refused"), (True, "estimated")):
        ledger = Ledger()
        settler, work, attempt = await opened(ledger)
        attempt.tally.sent = sent
        await settler.settle_later(work, attempt, "client_left")
        assert ledger.ended[0].state.value == state


def test_overhead_is_our_time_only():
    """Waiting on vendors does not count, and after a stream's first content it stands still."""
    work = a_work()
    work.waited_s = 2.0
    assert work.overhead_ms(2.5) == 500.0
    assert work.overhead_ms(1.0) == 0.0
    work.committed_ms = 7.0
    assert work.overhead_ms(99.0) == 7.0
    assert milliseconds(0.0012345678) == 1.235


async def test_how_much_time_an_attempt_has_left():
    """Of its provider's total, from its start; below zero when it is over."""
    settler, _, attempt = await opened(Ledger())
    total = attempt.candidate.deployment.provider.timeouts.total_s
    assert total - 1 < settler.left_s(attempt) < total
    attempt.tally.started -= total
    assert settler.left_s(attempt) < 0


@pytest.mark.parametrize(("gone", "status"), [(False, 502), (True, 499)])
def test_a_caller_that_left_is_told_as_499_whatever_came_of_it(gone, status, capsys):
    """One line without a word of the prompt."""
    telemetry.configure("INFO")
    work = a_work()
    work.arrival.gone = gone
    Settler(Ledger(), Clock()).tell(work, 502)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["status"], line["attempts"]) == (telemetry.REQUEST, status, 0)
    assert "hello" not in json.dumps(line)


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ("complete", 200),
        ("client_left", 499),
        ("caller_stalled", 499),
        ("router_stopping", 503),
        ("internal_error", 500),
        ("timeout_idle", 502),
    ],
)
def test_every_ending_has_its_status_in_the_log(ended, status):
    """As docs/logs.md says."""
    assert told_as(ended) == status


def test_an_unknown_cost_makes_the_sum_unknown():
    """Rather than too low."""
    work = a_work()
    work.costs = [5, None]
    assert work.spent_pusd() is None
    work.costs = [5, 0]
    assert work.spent_pusd() == 5


async def test_without_a_wait_there_is_no_task(monkeypatch):
    """Where the journal takes the row at once, nothing is left to cancel, and the attempt is closed."""
    settler, work, attempt = await opened(AtOnce())
    monkeypatch.setattr(settler, "_run", None)
    row = await settler.settle(work, attempt, "complete")
    assert settler._ledger.ended == [row]
    assert settler._open == set()


@pytest.mark.parametrize("problem", [LedgerUnavailable("full"), EntryOrderError("twice"), ValueError("odd")])
async def test_a_row_that_is_refused_at_once_is_logged(problem, capfd):
    """As one that is refused later: the caller keeps the answer, and the drain does not wait for it."""
    telemetry.configure("INFO")
    settler, work, attempt = await opened(AtOnce())
    settler._ledger.problem = problem
    await settler.settle(work, attempt, "complete")
    assert settler._open == set()
    assert f'"attempt_id":"{attempt.entry.attempt_id}"' in capfd.readouterr().err


async def test_what_is_counted_is_what_was_written():
    """The status that the caller got, the time to the first content and not the whole one."""
    settler, work, attempt = await opened(AtOnce())
    attempt.tally.first_content = attempt.tally.started + 0.07
    settler._clock.now += 30.0
    await settler.settle(work, attempt, "complete")
    settler.tell(work, 502)
    told = [*settler.counters._series(telemetry.REQUESTS, {}), *settler.counters._series(telemetry.FIRST_CONTENT, {})]
    assert 'coe_requests_total{status="502"} 1' in told
    assert 'coe_first_content_seconds_bucket{le="0.1"} 1' in told
