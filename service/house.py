"""Every part that a request may meet, held together from start to stop.

Where on the path: `app.build` fills it, `api` finds it on the application, `close` ends it in reverse.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service import telemetry
from service.config import Settings
from service.errors import RegistryError
from service.guard.keys import KeyStore
from service.ledger.indexer import Indexer
from service.ledger.journal import Journal
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import SinkMissing
from service.pipeline import Pipeline
from service.startup import read_registry
from service.upstream.transport_httpx import HttpxTransport


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
    """Every part that a request may meet, and how they end."""

    settings: Settings
    keys: KeyStore
    pipeline: Pipeline
    journal: Journal
    indexer: Indexer
    transport: HttpxTransport
    clock: SystemClock
    simulated: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _indexing: threading.Thread | None = None

    async def open(self) -> None:
        """Start the journal (which closes what a crash left open) and the thread that fills the index."""
        await self.journal.start()
        recovered = self.journal.recovered
        if recovered.closed_unknown:
            telemetry.logger().warning(
                telemetry.RECOVERED, attempts=recovered.closed_unknown, segments=recovered.writers_swept
            )
        self._indexing = threading.Thread(target=self.indexer.run, args=(self._stop,), name="indexer", daemon=True)
        self._indexing.start()

    async def close(self) -> None:
        """Settle what runs, then close the parts in reverse."""
        await self.pipeline.settler.settled()
        await self.journal.close()
        self._stop.set()
        if self._indexing is not None:
            await asyncio.to_thread(self._indexing.join, 5.0)
        await self.transport.aclose()
        telemetry.logger().info(telemetry.STOPPED)

    def stored_decision(self, decision_id: str) -> dict[str, object] | None:
        """A decision from the index, with its attempts; for a thread, since it reads a database."""
        sink = open_sink(self.settings.data_dir)
        try:
            found = sink.decision(decision_id)
            return None if found is None else {**found, "attempts": sink.attempts(decision_id)}
        except SinkMissing:
            return None

    def ledger_problem(self) -> str | None:
        """Why no attempt could be written down now, or `None`."""
        status = self.journal.status()
        return None if status.writable else status.reason or "not writable"

    def reload(self) -> None:
        """Build the registry again and swap it whole; a file that is wrong leaves the old one serving."""
        if self.simulated:
            return
        try:
            catalog = read_registry(self.settings, self.clock.utc())
        except RegistryError as problem:
            telemetry.logger().error(telemetry.REGISTRY_REFUSED, problems=list(problem.problems))
            return
        self.pipeline.catalog = catalog
        telemetry.logger().info(telemetry.REGISTRY_RELOADED, version=catalog.version)
