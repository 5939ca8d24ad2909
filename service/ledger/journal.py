"""The journal as the pipeline sees it: coroutines that return once a row is as durable as the sync mode promises.

Where on the path: `pipeline` awaits `append_open` before the first upstream byte and `append_terminal` before the
caller's answer completes. `app` starts it first and closes it last.

Invariants
1. When `append_open` returns, the row is with the kernel (`group`, `interval`) or on disk (`always`).
2. When `append_open` raises, also by cancellation, nothing may have been sent, and no attempt stays open: a row that
   was written already gets its terminal row `refused` at once.
3. `start` leaves no attempt of a dead process open (recovery), so every attempt has one terminal row sooner or later.

The write itself runs in the event loop: handing 600 bytes to the page cache takes about 10 us, less than a thread hop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from service import telemetry
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.errors import LedgerUnavailable
from service.ledger.recovery import RecoveryReport, recover
from service.ledger.spill import SPILL_BYTES
from service.ledger.syncing import Done
from service.ledger.writer import MAX_SEGMENT_BYTES, REFUSAL, DataDirUnwritable, JournalStatus, JournalWriter, SyncMode

NOT_SENT = "not_sent"
"""Why an attempt ended that was written down but never began: its caller left, or the disk failed, in that moment."""

_log = telemetry.logger()


class Journal:
    """One process's journal. Use it from one event loop; make a new one to start again."""

    def __init__(
        self,
        data_dir: Path,
        *,
        sync: SyncMode = "group",
        now_ms: Callable[[], int] | None = None,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        spill_bytes: int = SPILL_BYTES,
    ) -> None:
        """See `JournalWriter`; raises ConfigurationError for an unknown sync mode."""
        self.writer = JournalWriter(
            data_dir, sync=sync, now_ms=now_ms, max_segment_bytes=max_segment_bytes, spill_bytes=spill_bytes
        )
        self.recovered = RecoveryReport()

    async def start(self) -> None:
        """Begin a segment and close the attempts of dead processes; raises DataDirUnwritable."""
        self.recovered = await asyncio.to_thread(self._start)

    def _start(self) -> RecoveryReport:
        self.writer.start()
        try:
            report = recover(self.writer)
        except (OSError, LedgerUnavailable) as error:
            self.writer.close()
            cause = error if isinstance(error, OSError) else error.__cause__
            raise DataDirUnwritable(
                f"attempts that a crashed process left open can't be closed in {self.writer.directory} "
                f"({getattr(cause, 'strerror', None) or error}); make room, repair the disk or its files' rights, and "
                "start again: nothing was lost"
            ) from error
        except BaseException:
            self.writer.close()
            raise
        if report.problems:
            _log.warning(telemetry.JOURNAL_TROUBLE, step="recover", error="; ".join(report.problems))
        return report

    async def append_open(self, entry: OpenEntry) -> None:
        """Write the intent to spend; raises LedgerUnavailable (send nothing), EntryOrderError or ValueError."""
        if self.writer.sync != "always":
            self.writer.write_open(entry)
            return
        synced, done = _outcome()
        self.writer.write_open(entry, done)
        try:
            await synced
        except BaseException:
            self._withdraw(entry)
            raise

    async def append_terminal(self, entry: TerminalEntry) -> None:
        """Write how an attempt ended, exactly once; raises LedgerUnavailable, EntryOrderError or ValueError.

        In mode `always` a failed sync raises although the row is written: it is not certain to survive a power cut.
        Don't append it again.
        """
        if self.terminal_at_once(entry):
            return
        synced, done = _outcome()
        self.writer.write_terminal(entry, done)
        await synced

    def terminal_at_once(self, entry: TerminalEntry) -> bool:
        """The same without a coroutine in modes that wait for nothing; false, and nothing written, in mode `always`."""
        if self.writer.sync == "always":
            return False
        self.writer.write_terminal(entry)
        return True

    def hold_decision(self, record: Mapping[str, object]) -> bytes:
        """Take a decision record (JSON values, with an `id`) and return its line; raises LedgerUnavailable, ValueError.

        It goes to the kernel with the next open row, and never waits for a sync: that row does.
        """
        return self.writer.hold_decision(record)

    def no_attempt(self) -> None:
        """Write a decision that no open row followed, for whatever reason; raises LedgerUnavailable."""
        self.writer.write_held()

    async def append_feedback(self, body: Mapping[str, object]) -> None:
        """Write what a caller says of an answer; raises LedgerUnavailable or ValueError."""
        if self.writer.sync != "always":
            self.writer.write_feedback(body)
            return
        synced, done = _outcome()
        self.writer.write_feedback(body, done)
        await synced

    async def close(self) -> None:
        """Sync and release everything; rows are refused from now on."""
        await asyncio.to_thread(self.writer.close)

    def status(self) -> JournalStatus:
        """For readiness: whether rows are accepted (tried, when the last one was not), and what waits."""
        self.writer.probe()
        return self.writer.status()

    def _withdraw(self, entry: OpenEntry) -> None:
        end = TerminalEntry(
            attempt_id=entry.attempt_id,
            state=EntryState.REFUSED,
            at_ms=self.writer.now_ms(),
            ended=NOT_SENT,
            cost_pusd=0,
            final=False,
        )
        try:
            self.writer.write_terminal(end)
        except LedgerUnavailable:
            # What made the caller stop matters more to it; recovery closes the attempt at the next start.
            _log.error(telemetry.JOURNAL_TROUBLE, step="withdraw", attempt_id=entry.attempt_id)


def _outcome() -> tuple[asyncio.Future[None], Done]:
    """A future for the outcome of a sync, and the callback that settles it from the sync thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle(error: OSError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            refusal = LedgerUnavailable(REFUSAL)
            refusal.__cause__ = error
            future.set_exception(refusal)

    def done(error: OSError | None) -> None:
        # A loop that was closed in the meantime has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, error)

    return future, done
