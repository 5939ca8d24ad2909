"""The books of one request: what is opened ends once, whatever is cancelled, and the drain waits for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, decided

from service import settling, telemetry
from service.domain.access import Caller
from service.domain.limits import Budget, Limits
from service.domain.money import Usage
from service.errors import BudgetExhausted, InvalidRequest, LedgerUnavailable, NotSent, RateLimited, Replied
from service.guard.counters import LocalCounters
from service.guard.leases import Hold
from service.guard.limits import Limiter
from service.ledger.writer import EntryOrderError
from service.settling import Settler
from service.work import Arrival, Work


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
    ("problem", "code"),
    [
        (None, None),
        (BudgetExhausted("full"), "insufficient_quota"),
        (RateLimited("full", code="concurrency_limit_exceeded"), "concurrency_limit_exceeded"),
        (LedgerUnavailable("full"), "ledger_unavailable"),
        (Replied("x", cause="bad", upstream_status=400, code="what hello said", passthrough=True), None),
    ],
)
def test_the_log_says_whose_request_it_was_and_why_it_was_refused(problem, code, capsys):
    """By id and code: no name of a key, and no word of a vendor, who may quote the prompt."""
    telemetry.configure("INFO")
    Settler(Ledger(), Clock()).tell(a_work(), 429, problem)
    line = json.loads(capsys.readouterr().err)
    assert (line["key_id"], line["code"]) == ("key_1", code)
    told = {one.strip() for one in telemetry.EVENTS[telemetry.REQUEST].partition("fields: ")[2].split(",")}
    assert set(line) == told | {"event", "level", "timestamp"}


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


# under budgets and limits


DAY = f"{NOW:%Y-%m-%d}"


def budgeted(ledger, limits, *, clock=None, budgets=(), **body):
    """(settler, work) of a request whose key has these limits."""
    clock = clock or Clock()
    limiter = Limiter(LocalCounters(lambda: int(clock.utc().timestamp() * 1000)), budgets)
    work = a_work(**body)
    caller = replace(work.arrival.caller, limits=limits)
    work.arrival.caller, work.lease = caller, limiter.lease(caller, work.chat.steering.tags)
    return Settler(ledger, clock, limiter=limiter), work


def has(settler, scope="k:key_1", window=DAY):
    """(settled, held) of a counter of money."""
    own = settler._limiter.counters.holdings._own.get(f"m:{scope}:{window}")
    return (0, 0) if own is None else (own.settled, own.held)


def running(settler):
    """How many slots are held."""
    own = settler._limiter.counters.holdings._own.get("c:k:key_1")
    return 0 if own is None else own.held


def reserving(work, *amounts):
    """The choice with each of these reservations; each has a cap of its own."""
    return tuple(
        replace(work.decision.chosen, reserved_pusd=amount, output_tokens_cap=place)
        for place, amount in enumerate(amounts)
    )


async def test_an_attempt_is_made_with_the_reservation_that_was_taken():
    """Its row says it, and its cap is what is sent."""
    ledger = Ledger()
    settler, work = budgeted(ledger, Limits(day_pusd=100))
    attempt = await settler.open(work, reserving(work, 101, 70, 20))
    assert (attempt.candidate.reserved_pusd, attempt.candidate.output_tokens_cap) == (70, 1)
    assert (ledger.opened[0].reserved_pusd, work.last, has(settler)) == (70, attempt.candidate, (0, 70))


@pytest.mark.parametrize(("limits", "error"), [({"day_pusd": 10}, BudgetExhausted), ({"concurrency": 0}, RateLimited)])
async def test_who_is_refused_has_no_row(limits, error):
    """Nothing is held, and the drain waits for nobody."""
    ledger = Ledger()
    settler, work = budgeted(ledger, Limits(**limits))
    with pytest.raises(error):
        await settler.open(work, reserving(work, 11))
    assert (ledger.opened, work.attempts, work.last, has(settler)) == ([], [], None, (0, 0))
    await asyncio.wait_for(settler.settled(), 1)


async def test_what_is_refused_and_what_goes_over_is_counted(capsys):
    """A refusal by its code; what is over soft limits once a request, whatever becomes of its attempts, and in the log."""
    telemetry.configure("INFO")
    settler, work = budgeted(Ledger(), Limits(day_pusd=10))
    with pytest.raises(BudgetExhausted):
        await settler.open(work, reserving(work, 11))
    settler.tell(work, 429)
    assert list(settler.counters._series(telemetry.BUDGET_REFUSALS, {})) == [
        'coe_budget_refusals_total{code="insufficient_quota"} 1'
    ]
    assert settler.counters.soft_exceeded == 0
    capsys.readouterr()
    soft = Budget("warning", Limits(month_pusd=10, soft=True), "team")
    settler, work = budgeted(Ledger(), Limits(), budgets=(soft,))
    for _ in range(2):
        attempt = await settler.open(work, reserving(work, 11))
        await settler.fail(work, attempt, NotSent("x", cause="connect_refused"))
    assert settler.counters.soft_exceeded == 0
    settler.tell(work, 502)
    assert settler.counters.soft_exceeded == 1
    assert list(settler.counters._series(telemetry.BUDGET_REFUSALS, {})) == []
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (told,) = [line for line in lines if line["event"] == telemetry.BUDGET_EXCEEDED]
    assert (told["key_id"], told["budget"], told["kind"], told["level"]) == ("key_1", "warning", "month", "warning")


@pytest.mark.parametrize("problem", [LedgerUnavailable("full"), ValueError("a row of 2 MB"), asyncio.CancelledError()])
async def test_what_can_not_be_opened_holds_nothing(problem):
    """Its money goes back at once, its slot with the end of the request; nothing is settled."""
    settler, work = budgeted(Ledger(problem), Limits(day_pusd=100, concurrency=1))
    with pytest.raises((LedgerUnavailable, InvalidRequest, asyncio.CancelledError)):
        await settler.open(work, reserving(work, 70))
    assert (has(settler), running(settler)) == ((0, 0), 1)
    settler.tell(work, 503)
    assert running(settler) == 0


async def test_a_fault_before_the_row_holds_nothing(monkeypatch):
    """Of ours: whoever made it, the budget is not the poorer for it."""
    settler, work = budgeted(Ledger(), Limits(day_pusd=100))
    monkeypatch.setattr(settling, "opening", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await settler.open(work, reserving(work, 70))
    assert has(settler) == (0, 0)


async def test_what_it_cost_is_settled_and_the_rest_goes_back():
    """Before the row is on its way: a crash between the two charges rather too much than too little."""
    ledger = Ledger()
    settler, work = budgeted(ledger, Limits(day_pusd=10**12), budgets=(Budget("all", Limits(month_pusd=10**12)),))
    attempt = await settler.open(work, reserving(work, 10**11))
    attempt.tally.usage = Usage(input=1_000, output=100)
    ledger.gate.clear()
    writing = asyncio.create_task(settler.settle(work, attempt, "complete"))
    await asyncio.sleep(0)
    cost = (1_000 * 1 + 100 * 2) * 10**6
    assert [has(settler), has(settler, "a", DAY[:7]), has(settler, "t:team")] == [(cost, 0)] * 3
    ledger.gate.set()
    assert (await writing).cost_pusd == cost


async def test_tokens_are_input_and_output_together():
    """And a failure that is not billed has used none."""
    settler, work = budgeted(Ledger(), Limits(tokens_per_minute=100_000))
    first = await settler.open(work, reserving(work, 1))
    held = Hold.of(first.candidate)
    assert (
        held.tokens == first.candidate.input_tokens + first.candidate.output_tokens + first.candidate.reasoning_tokens
    )
    await settler.fail(work, first, NotSent("x", cause="connect_refused"))
    second = await settler.open(work, reserving(work, 1))
    second.tally.usage = Usage(input=1_000, cache_read=200, output=100, reasoning=50)
    await settler.settle(work, second, "complete")
    own = settler._limiter.counters.holdings._own["r:k:key_1:t"]
    assert own.held == 1_350 - held.tokens, "what is still to be told of the guess"


async def test_a_failed_attempt_gives_back_what_it_held_and_the_next_reserves_its_own():
    """The slot stays with the request until it has ended."""
    settler, work = budgeted(Ledger(), Limits(day_pusd=100, concurrency=1))
    first = await settler.open(work, reserving(work, 60))
    await settler.fail(work, first, Replied("x", cause="http_500", upstream_status=500))
    assert has(settler) == (0, 0)
    second = await settler.open(work, reserving(work, 90))
    assert (has(settler), running(settler), second.entry.attempt_number) == ((0, 90), 1, 2)
    await settler.settle(work, second, "complete", billed=False)
    settler.tell(work, 200)
    settler.tell(work, 200)
    assert (has(settler), running(settler)) == ((0, 0), 0)


@pytest.mark.parametrize("sent", [True, False])
async def test_a_cancelled_attempt_is_settled_and_gives_back_the_rest(sent):
    """By whether anything left this machine; also where nobody waits for it."""
    settler, work = budgeted(Ledger(), Limits(day_pusd=10**12))
    attempt = await settler.open(work, reserving(work, 10**11))
    attempt.tally.sent = sent
    settler.settle_later(work, attempt, "client_left")
    await settler.settled()
    spent, held = has(settler)
    assert (spent > 0, held) == (sent, 0)
    assert spent == (work.attempts[0].row.cost_pusd or 0)


async def test_an_attempt_over_midnight_is_of_the_day_in_which_it_was_opened():
    """As the ledger has it."""

    class Night(Clock):
        at = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC)

        def utc(self):
            return self.at

    clock = Night()
    settler, work = budgeted(Ledger(), Limits(day_pusd=10**12), clock=clock)
    attempt = await settler.open(work, reserving(work, 10**11))
    clock.at += timedelta(seconds=5)
    attempt.tally.usage = Usage(input=1_000)
    row = await settler.settle(work, attempt, "complete")
    assert row.at_ms > attempt.entry.at_ms
    assert has(settler, window="2026-11-30") == (row.cost_pusd, 0)
    assert has(settler, window="2026-12-01") == (0, 0)


async def test_without_a_lease_the_spend_counts_all_the_same():
    """Of the key and its tags: for a budget that comes later, or a replica that has one."""
    settler, work, attempt = await opened(Ledger(), coe={"tags": ["loose"]})
    attempt.tally.usage = Usage(input=1_000)
    row = await settler.settle(work, attempt, "complete")
    assert [has(settler, one) for one in ("a", "t:team", "k:key_1")] == [(row.cost_pusd, 0)] * 3
    assert has(settler, "t:loose") == (0, 0)


async def test_a_cost_that_nobody_knows_is_no_spend():
    """It is marked in the ledger; a hard budget lets nobody without a price in."""
    settler, work = budgeted(Ledger(), Limits(day_pusd=100, soft=True))
    (option,) = reserving(work, None)
    attempt = await settler.open(work, (replace(option, quote=None),))
    attempt.tally.usage = Usage(input=1_000)
    row = await settler.settle(work, attempt, "complete")
    assert (row.cost_pusd, has(settler)) == (None, (0, 0))
