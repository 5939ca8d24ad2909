"""The simulator in a thread of its own, for callers without an event loop or with another one.

Where on the path: the command line's `--simulate`, benches and blocking tests.

Invariants
1. `start` returns when every port is open, or raises what went wrong.
2. `stop` returns when the thread has ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from service.simulator.request_log import SeenRequest
from service.simulator.script import Script, VendorScript
from service.simulator.server import SimulatedVendors

CALL_S = 10.0
"""Start, stop and calls into the thread take milliseconds; past this the thread is stuck, and that is said."""


class SimulatorThread:
    """`SimulatedVendors` with blocking methods; arguments are the same."""

    def __init__(
        self,
        scripts: Mapping[str, VendorScript | Script] | Iterable[str],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        keep_bodies: bool = True,
    ) -> None:
        """Check everything; start nothing. Raises ValueError."""
        self._vendors = SimulatedVendors(scripts, host=host, port=port, keep_bodies=keep_bodies)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._failures: list[OSError] = []

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start the thread and wait until the ports are open. Raises OSError when they can't be."""
        self._ready.clear()
        self._failures.clear()
        self._thread = threading.Thread(target=self._run, name="simulated-vendors", daemon=True)
        self._thread.start()
        if not self._ready.wait(CALL_S):
            raise TimeoutError(f"the simulator did not start within {CALL_S} s")
        if self._failures:
            self._thread.join(CALL_S)
            raise self._failures[0]

    def stop(self) -> None:
        """Close everything and wait for the thread. Does nothing when it is not running."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None or loop is None or stopping is None:
            return
        if not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)
        thread.join(CALL_S)
        if thread.is_alive():
            raise TimeoutError(f"the simulator did not stop within {CALL_S} s")
        self._thread = self._loop = self._stopping = None

    def base_url(self, vendor: str) -> str:
        """As `SimulatedVendors.base_url`."""
        return self._vendors.base_url(vendor)

    @property
    def vendors(self) -> tuple[str, ...]:
        """As `SimulatedVendors.vendors`."""
        return self._vendors.vendors

    @property
    def log(self) -> list[SeenRequest]:
        """As `SimulatedVendors.log`."""
        return self._vendors.log

    @property
    def accepted(self) -> int:
        """As `SimulatedVendors.accepted`."""
        return self._vendors.accepted

    @property
    def log_dropped(self) -> int:
        """As `SimulatedVendors.log_dropped`."""
        return self._vendors.log_dropped

    def take_ended(self) -> list[SeenRequest]:
        """As `SimulatedVendors.take_ended`."""
        return self._vendors.take_ended()

    def clear_log(self) -> None:
        """As `SimulatedVendors.clear_log`."""
        self._vendors.clear_log()

    def push(self, vendor: str, *scripts: Script) -> None:
        """As `SimulatedVendors.push`."""

        async def push() -> None:
            self._vendors.push(vendor, *scripts)

        self._call(push())

    def set_script(self, vendor: str, script: VendorScript | Script) -> None:
        """As `SimulatedVendors.set_script`."""

        async def change() -> None:
            self._vendors.set_script(vendor, script)

        self._call(change())

    def refuse(self, vendor: str) -> None:
        """As `SimulatedVendors.refuse`."""
        self._call(self._vendors.refuse(vendor))

    def accept(self, vendor: str) -> None:
        """As `SimulatedVendors.accept`."""
        self._call(self._vendors.accept(vendor))

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the simulator is not running; call start() first")
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_S)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            await self._vendors.start()
        except OSError as error:
            self._failures.append(error)
            self._ready.set()
            return
        self._ready.set()
        await self._stopping.wait()
        await self._vendors.stop()
