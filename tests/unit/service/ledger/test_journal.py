"""The journal as the pipeline sees it."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from service.domain.decision import EntryState
from service.errors import LedgerUnavailable
from service.ledger.journal import Journal
from service.ledger.writer import GATHER_S, EntryOrderError

MODES = sorted(GATHER_S)


async def started(tmp_path, **options) -> Journal:
    journal = Journal(tmp_path, **options)
    await journal.start()
    return journal


@pytest.mark.parametrize("sync", MODES)
async def test_concurrent_attempts_get_one_open_and_one_end_each(tmp_path, opening, ending, contents, sync):
    """A thousand rows from fifty tasks over many segments: none missing, none double, in every mode."""
    journal = await started(tmp_path, sync=sync, max_segment_bytes=20_000)

    async def attempts(task: int) -> None:
        for number in range(10):
            journal.hold_decision({"id": f"d{task}-{number}"})
            await journal.append_open(opening(f"{task}-{number}"))
            await asyncio.sleep(0)
            await journal.append_terminal(ending(f"{task}-{number}"))

    await asyncio.gather(*(attempts(task) for task in range(50)))
    await journal.close()
    seen = contents(tmp_path)
    assert (seen.faults(), len(seen.opens), len(seen.decisions), seen.damaged) == ([], 500, 500, 0)


@pytest.mark.parametrize("sync", MODES)
async def test_an_open_row_is_written_when_the_coroutine_returns(tmp_path, opening, contents, sync):
    """The promise the pipeline builds on: after the await the row survives a crash of ours."""
    journal = await started(tmp_path, sync=sync)
    await journal.append_open(opening(1))
    assert contents(tmp_path).opens["a1"] == 1
    await journal.close()


async def test_always_waits_for_the_disk_and_group_does_not(tmp_path, opening, monkeypatch):
    """While the disk is busy, `always` holds the caller back; `group` lets it go on."""
    gate = threading.Event()
    real = os.fdatasync
    for sync in ("always", "group"):
        gate.clear()
        journal = await started(tmp_path / sync, sync=sync)
        with monkeypatch.context() as slow:
            slow.setattr(os, "fdatasync", lambda fd: gate.wait(10) and real(fd))
            row = asyncio.create_task(journal.append_open(opening(1)))
            await asyncio.sleep(0.05)
            assert row.done() is (sync == "group")
            gate.set()
            await row
            await journal.close()


async def test_always_shares_a_sync_among_those_who_wait(tmp_path, opening, monkeypatch):
    """Everybody who wrote while a sync was under way is served by the next one."""
    journal = await started(tmp_path, sync="always")
    calls = []
    gate = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append(fd), gate.wait(10), real(fd)))
    rows = [asyncio.create_task(journal.append_open(opening(number))) for number in range(100)]
    while journal.status().open_attempts < 100:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*rows)
    assert 1 <= len(calls) <= 2
    await journal.close()


async def test_a_caller_cancelled_while_it_waits_leaves_no_open_attempt(tmp_path, opening, contents, monkeypatch):
    """The row is written, the caller is gone and will never end it: the journal does, as not sent and free."""
    journal = await started(tmp_path, sync="always")
    gate = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: gate.wait(10) and real(fd))
    row = asyncio.create_task(journal.append_open(opening(1)))
    await asyncio.sleep(0.02)
    row.cancel()
    with pytest.raises(asyncio.CancelledError):
        await row
    gate.set()
    await journal.close()
    seen = contents(tmp_path)
    assert seen.faults() == []
    end = seen.ends["a1"]
    assert (end["state"], end["ended"], end["cost_pusd"]) == ("refused", "not_sent", 0)


async def test_always_refuses_what_could_not_be_synced(tmp_path, opening, ending, contents, monkeypatch):
    """The caller must not send; the row that is written anyway is ended at once."""
    journal = await started(tmp_path, sync="always")

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(LedgerUnavailable):
            await journal.append_open(opening(1))
    await journal.append_open(opening(2))
    await journal.append_terminal(ending(2))
    await journal.close()
    seen = contents(tmp_path)
    assert seen.faults() == []
    assert seen.ends["a1"]["state"] == EntryState.REFUSED
    assert seen.ends["a2"]["state"] == EntryState.SETTLED


async def test_order_is_held_among_tasks(tmp_path, opening, ending, contents):
    """Two tasks that end the same attempt: one of them is told so."""
    journal = await started(tmp_path)
    await journal.append_open(opening(1))
    results = await asyncio.gather(
        journal.append_terminal(ending(1)), journal.append_terminal(ending(1)), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), EntryOrderError]
    await journal.close()
    assert contents(tmp_path).faults() == []


async def test_before_start_and_after_close_nothing_is_accepted(tmp_path, opening):
    """A row is refused, not lost, when there is no journal."""
    journal = Journal(tmp_path)
    with pytest.raises(LedgerUnavailable):
        await journal.append_open(opening(1))
    await journal.start()
    await journal.close()
    with pytest.raises(LedgerUnavailable):
        await journal.append_open(opening(1))


async def test_a_restart_closes_what_was_open_and_reports_it(tmp_path, opening, contents):
    """Closed with a running attempt: the next start books it at its reservation."""
    journal = await started(tmp_path)
    await journal.append_open(opening(1))
    await journal.close()
    again = await started(tmp_path, now_ms=lambda: 1_795_000_009_000)
    assert (again.recovered.attempts_closed, again.recovered.segments_swept) == (1, 1)
    await again.close()
    seen = contents(tmp_path)
    assert seen.faults() == []
    assert seen.ends["a1"] == {
        "attempt_id": "a1",
        "state": "unknown",
        "at_ms": 1_795_000_009_000,
        "ended": "crash",
        "usage_source": "unknown",
        "cost_pusd": 9_000_000,
        "price": {"version": "acme/small@2026-01-01"},
        "final": True,
    }


async def test_two_journals_on_one_directory_leave_each_other_alone(tmp_path, opening, ending, contents):
    """Several workers share a data directory: a start sweeps the dead, never the living."""
    first = await started(tmp_path, max_segment_bytes=2_000)
    for number in range(5):
        await first.append_open(opening(f"x{number}"))
    second = await started(tmp_path)
    assert (second.recovered.writers_live, second.recovered.attempts_closed) == (1, 0)
    for number in range(5):
        await first.append_terminal(ending(f"x{number}"))
    await second.close()
    await first.close()
    assert contents(tmp_path).faults() == []


@pytest.mark.parametrize(("sync", "at_once"), [("group", True), ("interval", True), ("always", False)])
async def test_only_a_row_that_waits_for_no_disk_is_written_at_once(tmp_path, opening, ending, sync, at_once):
    """In mode `always` nothing is written without its sync."""
    journal = Journal(tmp_path, sync=sync)
    await journal.start()
    await journal.append_open(opening(1))
    assert journal.terminal_at_once(ending(1)) is at_once
    assert journal.status().open_attempts == (0 if at_once else 1)
    if not at_once:
        await journal.append_terminal(ending(1))
    await journal.close()
