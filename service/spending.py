"""The counters of budgets from start to stop, and what was spent before this process: from the ledger to the counters.

Where on the path: beside it. `house` opens and closes it; until all is counted nothing passes that is under a hard
budget.

A process tells the store what it has spent itself. What processes spent that are no more is told by whoever holds their
journals now: the same figures from each, so that nothing is counted twice, however many tell them, and however often.
It is told at the start, and of every process that ends later: a store that lost everything knows it from nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from service import telemetry
from service.config import Settings
from service.domain.limits import day_of, month_of
from service.domain.ports import Clock
from service.errors import ConfigurationError
from service.guard.counters import LocalCounters, SharedCounters, StoreLost
from service.guard.counting import Counter, Ended, Share
from service.guard.limits import Limiter
from service.guard.redis_link import SETTING, RedisLink
from service.guard.scopes import spend_counters
from service.ledger.indexer import wait_until_indexed
from service.ledger.segments import journal_dir, swept_writers
from service.ledger.sinks.port import Sink, SinkFault, SinkMissing, Spent
from service.redis_client import check_url

INDEX_S: Final = 30.0
"""How long the index may take to catch up with what was written before this start."""

SLICE_S: Final = 0.5
"""How often it is asked meanwhile whether this process stops: a thread that waits would hold its end up."""

START_S: Final = 5.0
"""How long a start waits until budgets can be checked. Without them it refuses what they stand over."""

AGAIN_S: Final = 1.0

WATCH_S: Final = 5.0
"""How often it is looked whether another process of this data directory has ended: a worker that was renewed, say."""

APART: Final = "limits are set, and several workers can't count together: set COE_REDIS_URL, or run one worker"


def refuse_apart(settings: Settings, *, limited: bool) -> None:
    """Raise ConfigurationError when limits exist that each of several workers would count for itself."""
    if settings.redis_url is not None:
        check_url(settings.redis_url.get_secret_value(), SETTING)
    elif limited and settings.workers > 1:
        raise ConfigurationError(
            f"Budgets or limits are set, and {settings.workers} workers would each count them for itself. Set "
            "COE_REDIS_URL so that they count together, run one worker, or take the limits away."
        )


class NotCounted(Exception):
    """What was spent can't be told at the moment; the message says why."""


def open_counters(settings: Settings) -> LocalCounters | SharedCounters:
    """The counters of a process; raises ConfigurationError for a URL that can't be used. Nothing is connected yet."""
    if settings.redis_url is not None:
        return SharedCounters(RedisLink(settings.redis_url.get_secret_value(), settings.redis_prefix))
    return LocalCounters.from_now()


class Spending:
    """The counters of one process from start to stop."""

    def __init__(
        self, limiter: Limiter, data_dir: Path, clock: Clock, sink: Sink, *, alone: bool, simulated: bool = False
    ) -> None:
        """Nothing is counted yet. `alone`: no other process serves the same callers, as far as this one knows.

        `simulated`: it simulates its vendors, so that what was spent at such ones counts, too.
        """
        limiter.uncounted = "it was not counted yet"
        self._limiter = limiter
        self._data_dir = data_dir
        self._alone = alone
        self._simulated = simulated
        self._clock = clock
        self._sink = sink
        self._counting: asyncio.Task[None] | None = None
        self._counted = asyncio.Event()
        self._again = asyncio.Event()
        self._stop = threading.Event()
        self._problem = ""

    async def open(self, member: str, tags: Callable[[], Collection[str]], *, limited: bool) -> None:
        """Begin to count as `member`, and wait a little for it where `limited`: limits exist.

        `tags` gives those whose spend is counted.
        """
        counters = self._limiter.counters
        if isinstance(counters, SharedCounters):
            counters.start(member)
        elif not self._alone:
            self._limiter.uncounted = APART
            if limited:
                telemetry.logger().warning(telemetry.SPEND_UNCOUNTED, error=APART)
            return
        self._counting = asyncio.get_running_loop().create_task(self._count(tags))
        if limited:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._counted.wait(), START_S)
            if isinstance(counters, SharedCounters):
                await counters.is_ready(START_S)

    async def close(self) -> None:
        """Tell the store what is left to tell, and let go of it."""
        self._stop.set()
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait((self._counting,))
        counters = self._limiter.counters
        if isinstance(counters, SharedCounters):
            await counters.close()

    def recount(self, tags: Collection[str]) -> None:
        """Budgets name tags that were not counted: tell what processes spent with them that are no more.

        Until it is told, hard budgets of these tags refuse.
        """
        if tags and self._counting is not None:
            self._limiter.recounting |= frozenset(tags)
            self._again.set()

    def trouble(self, *, limited: bool) -> str | None:
        """Why budgets can't be checked at the moment, for anybody; `None` while they can, or nobody has any."""
        if self._limiter.counters.problem:
            return "their store can't be asked at the moment; the log says why"
        if limited and self._limiter.uncounted:
            return self._limiter.uncounted
        if self._limiter.recounting:
            return "what was spent before with the tag of a new budget is not counted yet"
        return None

    async def _count(self, tags: Callable[[], Collection[str]]) -> None:
        """Tell the counters what was spent before, until it is told; then what others spent, whenever one has ended.

        Somebody has to: a store that loses everything is told of them by us alone.
        """
        counters, told = self._limiter.counters, set[str]()
        while True:
            recounted = self._limiter.recounting
            if self._again.is_set():
                self._again.clear()
                told.clear()
            try:
                at = self._clock.utc()
                where = (self._data_dir, self._sink, at, tags(), told, self._stop)
                members = await asyncio.to_thread(spent_before, *where, simulated=self._simulated)
                await counters.end(members)
            except (NotCounted, StoreLost) as problem:
                why = str(problem)
            except Exception as fault:  # noqa: BLE001 # a fault of ours: it is told, and it may pass
                why = f"a fault of the router: {type(fault).__name__} at {telemetry.place_of(fault)}"
            else:
                why = ""
            if why:
                if self._problem != why:
                    telemetry.logger().warning(telemetry.SPEND_UNCOUNTED, error=why)
                self._problem = why
                if self._limiter.uncounted:  # once it was counted, the store has it
                    self._limiter.uncounted = why
                await asyncio.sleep(AGAIN_S)
                continue
            self._limiter.uncounted = self._problem = ""
            self._limiter.recounting -= recounted
            self._counted.set()
            told.update(one.member for one in members)
            # Alone, all others have ended before the start: what is told of them changes only with the budgets.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), WATCH_S if isinstance(counters, SharedCounters) else None)


def spent_before(
    data_dir: Path,
    sink: Sink,
    at: datetime,
    tags: Collection[str],
    told: Collection[str] = (),
    stop: threading.Event | None = None,
    *,
    simulated: bool = False,
) -> list[Ended]:
    """What each process of this data directory that is no more has spent in the month of `at`, by counter.

    `tags` are those that are counted, `told` the processes that were told of before. What was spent at simulated
    vendors is left out unless `simulated`. For a thread: it waits for the index, until `stop`, and reads a month of it.
    Raises NotCounted.
    """
    month = month_of(day_of(at))
    since = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    try:
        dead = swept_writers(journal_dir(data_dir), since.timestamp()).difference(told)
        if not dead:
            return []  # as nearly always: the index need not be asked
        due = time.monotonic() + INDEX_S
        while not wait_until_indexed(data_dir, sink, min(INDEX_S, SLICE_S)):
            if time.monotonic() >= due or (stop is not None and stop.is_set()):
                raise NotCounted("the ledger's index is behind")
        rows: list[Spent] = []
        with contextlib.suppress(SinkMissing):
            rows = sink.spent(int(since.timestamp() * 1000))
    except (SinkFault, OSError) as problem:
        raise NotCounted(f"the ledger's index can't be asked: {type(problem).__name__}") from problem
    counted = (row for row in rows if row.writer in dead and (simulated or not row.simulated))
    return ended_members(counted, dead, tags)


def ended_members(rows: Iterable[Spent], dead: Iterable[str], tags: Collection[str]) -> list[Ended]:
    """The same rows by member and counter; a dead one without a row is told of, too: it may have held something."""
    found: dict[str, dict[Counter, int]] = {member: {} for member in sorted(dead)}
    for row in rows:
        counted = [tag for tag in row.tags if tag in tags]
        sums = found[row.writer]
        for counter in spend_counters(row.key_id, counted, row.day):
            sums[counter] = sums.get(counter, 0) + row.pusd
    return [
        Ended(member, [Share(counter, pusd, 0) for counter, pusd in sums.items()], last=True)
        for member, sums in found.items()
    ]
