"""Every part that a request may meet, held together from start to stop.

Where on the path: `app.build` fills it, `api` finds it on the application, `close` ends it in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from classifiers import kernel
from service import __version__, telemetry
from service.asking import Asking
from service.config import Settings
from service.domain.money import usd_text
from service.errors import BudgetStoreUnavailable, CoeError, ConfigurationError, IndexUnavailable, RegistryError
from service.guard.admission import Admission
from service.guard.hearing import Hearing
from service.guard.keys import KeyStore
from service.guard.strong_share import StrongShares
from service.learned import read_learned
from service.ledger.decisions import decision
from service.ledger.indexer import Indexer, wait_until_indexed
from service.ledger.journal import Journal
from service.ledger.question import Question
from service.ledger.reports import CostReport, cost_report
from service.ledger.sinks.port import Sink, SinkDamaged, SinkFault, SinkMissing
from service.metrics import Gauge, Labelled, LoopWatch
from service.pipeline import Pipeline
from service.routing.explain import reasoned
from service.routing.health import State
from service.routing.replay import NotReplayable, differences, replay
from service.spending import Spending
from service.startup import find_local, open_ledger, read_registry, refuse_unusable
from service.upstream.transports import OpenTransport

INDEX_WAIT_S = 1.0
"""How long a decision that no one remembers is waited for: the index lags by a fifth of a second."""


COSTS_S = 2.0
"""How long the end waits for whoever reads the cost log."""

RECENT_S = 60.0
"""How long it is told that something failed which may fail again."""

GC_THRESHOLDS = (2_000, 20, 20)
"""Of the cyclic collector. The defaults look after every 700 objects: some three requests."""


class SystemClock:
    """The clocks of this machine."""

    def utc(self) -> datetime:
        """See `Clock.utc`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()


@dataclass(slots=True)
class House:
    """Every part that a request may meet, and how they end.

    `start_problem` is why `open` failed. `reading_large` is held by whoever reads a large body.
    """

    settings: Settings
    keys: KeyStore
    pipeline: Pipeline
    journal: Journal
    indexer: Indexer
    transport: OpenTransport
    clock: SystemClock
    shares: StrongShares
    spending: Spending
    simulated: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _indexing: threading.Thread | None = None
    _loop_watch: LoopWatch | None = None
    reading_large: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: Asking = field(default_factory=Asking)
    hearing: Hearing = field(default_factory=Hearing)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _registry_refused: str = ""
    start_problem: ConfigurationError | None = None
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        """The queue at the door is of the process, too."""
        self.admission = Admission(
            self.settings.in_flight_max, time.monotonic, lambda call: asyncio.get_running_loop().call_soon(call)
        )

    async def open(self) -> None:
        """Start the journal (which closes what a crash left open) and the thread that fills the index."""
        try:
            await self.journal.start()
        except ConfigurationError as problem:
            self.start_problem = problem
            raise
        recovered = self.journal.recovered
        if recovered.attempts_closed:
            telemetry.logger().warning(
                telemetry.RECOVERED, attempts=recovered.attempts_closed, segments=recovered.segments_swept
            )
        self._loop_watch = LoopWatch(self.pipeline.settler.counters)
        self._loop_watch.start()
        self._indexing = threading.Thread(target=self.indexer.run, args=(self._stop,), name="indexer", daemon=True)
        self._indexing.start()
        await self.spending.open(self.journal.writer.name, self._counted_tags, limited=self._limited())
        telemetry.logger().info(
            telemetry.STARTED,
            version=__version__,
            registry=self.pipeline.catalog.version,
            offer=self.pipeline.catalog.offer,
            simulated=self.simulated,
            kernel=kernel.STATE,
        )
        # What was built by now stays until the end: the collector need not walk over it again and again. What a request
        # leaves behind is freed by its count, so looking for rings seldom is enough.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    async def close(self) -> None:
        """Settle what runs, then close the parts in reverse."""
        if self._loop_watch is not None:
            self._loop_watch.stop()
        await self.pipeline.settler.settled()
        await self.spending.close()  # before the journal says that nothing of this process is open
        await self.pipeline.cache.close()
        await self.journal.close()
        self._stop.set()
        if self._indexing is not None:
            await asyncio.to_thread(self._indexing.join, 5.0)
        await self.transport.aclose()
        await asyncio.to_thread(telemetry.COSTS.drain, COSTS_S)
        telemetry.logger().info(telemetry.STOPPED)

    async def metrics(self) -> str:
        """What GET /metrics tells."""
        troubles, budgets = self.troubles(), await self._budget_gauges()
        journal, counters = self.journal.status(), self.pipeline.settler.counters
        health = self.pipeline.attempting.health
        resting = health.told(self.clock.monotonic())
        gauges: dict[str, Gauge] = {
            **budgets,
            telemetry.RESTING: {one: 1.0 if rest.state is State.OPEN else 0.5 for one, rest in resting.items()},
            telemetry.RESTS: health.rests,
            **self.admission.figures(),
            **self.shares.figures(),
            telemetry.TASKS: len(asyncio.all_tasks()),
            telemetry.OPEN_ATTEMPTS: journal.open_attempts,
            telemetry.JOURNAL_WRITABLE: int(journal.writable),
            telemetry.JOURNAL_SPILLED: journal.spilled_rows,
            telemetry.JOURNAL_SYNCS_FAILED: journal.failed_syncs,
            telemetry.PART_DEGRADED: {part: float(part in troubles) for part in telemetry.PARTS},
            telemetry.READINGS_FAILED: counters.readings_failed,
            telemetry.LOG_DROPPED: telemetry.LOG.dropped,
            telemetry.COSTS_DROPPED: telemetry.COSTS.dropped,
            telemetry.CLOCK_JUMPS: counters.clock_jumps,
            **self.pipeline.cache.figures(),
        }
        return counters.text(gauges)

    async def _budget_gauges(self) -> dict[str, Gauge]:
        """The budgets of the registry: their limits, and what is used of them unless nobody knows."""
        limiter, names = self.pipeline.limiter, ("budget", "window")
        limits: dict[tuple[str, ...], str] = {
            (one.name, window): usd_text(pusd)
            for one in limiter.budgets
            for window, pusd in (("day", one.limits.day_pusd), ("month", one.limits.month_pusd))
            if pusd is not None
        }
        used: dict[tuple[str, ...], str] = {}
        if limits:
            with contextlib.suppress(BudgetStoreUnavailable):
                found = await limiter.standing_of_all(self.clock.utc(), {})
                used = {(one.budget or "", one.measure): usd_text(one.used) for one in found if one.window}
        return {telemetry.BUDGET_LIMIT: Labelled(names, limits), telemetry.BUDGET_USED: Labelled(names, used)}

    def troubles(self) -> dict[str, str]:
        """The parts of the router that are not in order, and why: for anybody, so without places and texts."""
        found: dict[str, str] = {}
        journal = self.journal.status()
        if not journal.writable:
            found[telemetry.PART_LEDGER] = journal.reason or "not writable"
        if self.indexer.problem:
            found[telemetry.PART_INDEX] = "it can't be filled at the moment; the log says why"
        if self._registry_refused:
            found[telemetry.PART_REGISTRY] = self._registry_refused
        if not self.keys.is_trusted():
            found[telemetry.PART_KEYS] = "the key file can't be trusted; `coe keys list` says why"
        counters = self.pipeline.settler.counters
        if self.clock.monotonic() - counters.reading_failed_at < RECENT_S:
            found[telemetry.PART_CLASSIFIER] = "it failed at a request within the last minute; the log says where"
        if telemetry.LOG.drops(RECENT_S):
            found[telemetry.PART_LOG] = "lines were dropped within the last minute"
        if (uncounted := self.spending.trouble(limited=self._limited())) is not None:
            found[telemetry.PART_BUDGETS] = uncounted
        if self.pipeline.catalog.cache is not None and self.pipeline.cache.problem:
            found[telemetry.PART_CACHE] = "its store can't be asked at the moment; the log says why"
        return found

    def stored_decision(self, decision_id: str) -> dict[str, object] | None:
        """A decision from the index, with its attempts; for a thread, since it reads a database.

        Another worker may have taken it a moment ago: what the index does not have yet, or has only begun, is waited
        for, briefly. Raises IndexUnavailable when that does not show whether there is such a decision.
        """
        sink = open_ledger(self.settings)
        try:
            found = self._indexed_decision(sink, decision_id)
            if found is None or any(one.get("state") == "open" for one in _attempts_of(found)):
                complete = wait_until_indexed(self.settings.data_dir, sink, INDEX_WAIT_S)
                found = self._indexed_decision(sink, decision_id)
                if found is None and not complete:
                    raise IndexUnavailable("The ledger's index is behind, so nobody knows yet. Ask again in a moment.")
        except SinkFault as fault:
            if isinstance(fault, SinkDamaged):
                self.indexer.suspect(fault)
            raise IndexUnavailable("The ledger's index can't be asked at the moment. Ask again later.") from fault
        return found

    def costs(self, asked: Question) -> tuple[CostReport, bool]:
        """A cost report from the index, and whether it has all that was in the journal; for a thread.

        Raises IndexUnavailable.
        """
        sink = open_ledger(self.settings)
        try:
            complete = wait_until_indexed(self.settings.data_dir, sink, INDEX_WAIT_S)
            return cost_report(sink, asked.by, asked.since, asked.until, savings=asked.savings), complete
        except SinkMissing:
            return CostReport(asked.by, (), None, (), asked.since, asked.until), True
        except SinkFault as fault:
            if isinstance(fault, SinkDamaged):
                self.indexer.suspect(fault)
            raise IndexUnavailable("The ledger's index can't be asked at the moment. Ask again later.") from fault

    def reasoned(self, told: Mapping[str, object]) -> dict[str, object]:
        """A recorded decision with its reasons, and what would have to change: both from the decision, taken again.

        When it was decided with other versions than those of now, nothing more can be said than what was written.
        """
        try:
            again = replay(told, self.pipeline.catalog, self.pipeline.learned.lengths)
        except (NotReplayable, CoeError):
            return {**told, "what_if": None}
        return {**told, "what_if": None} if differences(told, again) else {**told, **reasoned(again)}

    def _limited(self) -> bool:
        """Whether there is any budget or limit."""
        with contextlib.suppress(ConfigurationError):
            return bool(self.pipeline.limiter.budgets) or self.keys.limited()
        return False  # without keys that can be trusted nobody is let in

    def _counted_tags(self) -> set[str]:
        """The tags whose spend is counted: of keys, and of budgets."""
        tags = {one.tag for one in self.pipeline.limiter.budgets if one.tag is not None}
        with contextlib.suppress(ConfigurationError):
            tags.update(tag for key in self.keys.list() for tag in key.tags)
        return tags

    def _indexed_decision(self, sink: Sink, decision_id: str) -> dict[str, object] | None:
        with contextlib.suppress(SinkMissing):
            return decision(sink, decision_id)
        return None

    async def reload(self) -> None:
        """Read registry and what was learned again and swap them whole; what is wrong leaves the old ones serving.

        One reload at a time; the file is read in a thread, since a large one takes longer than requests may wait.
        """
        log = telemetry.logger()
        if self.simulated:
            log.error(telemetry.REGISTRY_REFUSED, problems=["the router simulates its vendors: restart it instead"])
            return
        async with self._reloading:
            now = self.clock.utc()
            told: list[str] | None = None
            try:
                catalog = await asyncio.to_thread(read_registry, self.settings, now)
                catalog = await find_local(catalog, self.settings, self.settings.port)
                refuse_unusable(catalog, now)
                learned = await asyncio.to_thread(read_learned, self.settings, catalog)
                # Worked out once for a registry, in tens of milliseconds: not while the first request waits.
                offer = await asyncio.to_thread(lambda: catalog.offer)
            except Exception as problem:  # noqa: BLE001 # whatever is wrong with it: the one before goes on
                told = _told(problem)  # not the error itself: it holds this frame
            if told is not None:
                log.error(telemetry.REGISTRY_REFUSED, problems=told)
                count = "1 problem" if len(told) == 1 else f"{len(told)} problems"
                self._registry_refused = f"the file of {now:%Y-%m-%d %H:%M:%S}Z has {count}; the log names them"
                self.pipeline.given_up = (telemetry.PART_REGISTRY,)
                return
            self._registry_refused, self.pipeline.given_up = "", ()
            self.pipeline.catalog, self.pipeline.learned = catalog, learned
            limiter = self.pipeline.limiter
            counted = limiter.budget_tags
            limiter.budgets = catalog.budgets
            self.spending.recount(limiter.budget_tags - counted)
            self.pipeline.cache.fit(catalog.cache)
            # Whoever mended a key or a name reloads, and wants it used.
            self.pipeline.attempting.forget()
            log.info(telemetry.REGISTRY_RELOADED, version=catalog.version, offer=offer, **learned.versions())


def _told(refusal: Exception) -> list[str]:
    """What the log tells of a registry that was refused; of a fault of ours the place, not the text."""
    if isinstance(refusal, RegistryError):
        return list(refusal.problems)
    if isinstance(refusal, ConfigurationError):
        return [str(refusal)]
    return [f"a fault of the router: {type(refusal).__name__} at {telemetry.place_of(refusal)}"]


def _attempts_of(record: Mapping[str, object]) -> list[dict[str, object]]:
    attempts = record.get("attempts")
    return attempts if isinstance(attempts, list) else []
