"""Scriptable vendors on loopback sockets: the practice range that speaks, and breaks, the real chat wire.

Where on the path: `--simulate` puts it where the vendors would be; tests and benches call it as their upstream.

    async with SimulatedVendors({"deepseek": Script(usage=UsageShape.DEEPSEEK)}) as simulator:
        ... POST simulator.base_url("deepseek") + "/chat/completions" ...
        assert simulator.log[0].billed.input == 12

Routes under a vendor's base URL: POST /chat/completions (unary and SSE), GET /models, GET /models/{id}.

Invariants
1. It listens on loopback only.
2. A script is taken for each chat request that is well-formed, has a good key and names a served model, in order of
   arrival; other requests take none.
3. `stop` leaves no task, no socket and no open log entry behind; a client that vanishes ends its own task.
4. Whoever has read a complete answer finds its log entry final.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from service.simulator.connection import ClientLeft, Connection
from service.simulator.http1 import BadHttp, HttpRequest, read_request
from service.simulator.performing import perform
from service.simulator.play import Ending
from service.simulator.replies import rejection, reply_to, vendor_in
from service.simulator.request_log import Outcome, RequestLog, SeenRequest
from service.simulator.script import Fault, Script, VendorScript
from service.simulator.vendors import Vendor, as_vendor_script, vendors_from

CONNECTIONS_MAX = 4_096
"""Open connections over all vendors; one more is reset."""

BACKLOG = 1_024
"""Connections the kernel may hold for us: benches open hundreds at once."""

KEEP_ALIVE_S = 75.0
"""An idle connection is closed after this."""

REQUEST_S = 30.0
"""From the first byte of a request to its last."""

FLUSH_S = 5.0
"""How long a closing connection may take to hand over its last bytes."""

NOTHING = HttpRequest(method="", path="", headers={}, body=b"", keep_alive=False)
"""What the log shows for bytes that were no request."""


class SimulatedVendors:
    """A set of vendors, each on its own port (`port=None`) or all behind one (`port` given, 0 for any free one).

    `scripts` maps names to a `VendorScript`, or to one `Script` for every request; a list of names: healthy vendors.
    Vendors that refuse or reset connections need ports of their own. With `keep_bodies` off the log has no bodies.
    """

    def __init__(
        self,
        scripts: Mapping[str, VendorScript | Script] | Iterable[str],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        keep_bodies: bool = True,
    ) -> None:
        """Check everything; open nothing. Raises ValueError."""
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"simulated vendors listen on loopback only, got {host}; use 127.0.0.1 or ::1")
        self._host = host
        self._port = port
        self._vendors = vendors_from(scripts)
        self._log = RequestLog(keep_bodies=keep_bodies)
        self._servers: dict[str, asyncio.Server] = {}
        self._closed_ports: dict[str, socket.socket] = {}
        self._ports: dict[str, int] = {}
        self._connections: dict[Connection, tuple[str, asyncio.Task[None]]] = {}
        self._numbers = itertools.count(1)
        self.accepted = 0
        for vendor in self._vendors.values():
            self._check_port(vendor)

    async def __aenter__(self) -> Self:
        """Open all ports."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        await self.stop()

    async def start(self) -> None:
        """Open all ports. Raises OSError when the wanted one is taken."""
        try:
            if self._port is not None:
                await self._listen("", self._port)
                return
            for vendor in self._vendors.values():
                if vendor.script.default.fault is Fault.REFUSE:
                    self._bind_closed(vendor.name, 0)
                else:
                    await self._listen(vendor.name, 0)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every port and connection and wait until they are gone."""
        for server in self._servers.values():
            server.close()
        await self._drop(list(self._connections))
        for server in self._servers.values():
            await server.wait_closed()
        for closed in self._closed_ports.values():
            closed.close()
        self._servers.clear()
        self._closed_ports.clear()

    @property
    def vendors(self) -> tuple[str, ...]:
        """The names of all vendors, in the order given."""
        return tuple(self._vendors)

    def base_url(self, vendor: str) -> str:
        """What a client takes for this vendor's base URL, with `/v1`. Raises KeyError for an unknown vendor."""
        if vendor not in self._vendors:
            raise KeyError(f"no simulated vendor {vendor!r}; there are {', '.join(self._vendors)}")
        host = f"[{self._host}]" if ":" in self._host else self._host
        if self._port is None:
            return f"http://{host}:{self._ports[vendor]}/v1"
        return f"http://{host}:{self._ports['']}/{vendor}/v1"

    @property
    def log(self) -> list[SeenRequest]:
        """Every request seen, oldest first: a copy."""
        return self._log.entries()

    @property
    def log_dropped(self) -> int:
        """Requests that no longer fit into the log."""
        return self._log.dropped

    @property
    def connections(self) -> int:
        """Connections open now. `accepted` counts all that ever were."""
        return len(self._connections)

    def take_ended(self) -> list[SeenRequest]:
        """Every request that has ended since this was asked last, oldest first: they leave the log."""
        return self._log.take_ended()

    def clear_log(self) -> None:
        """Forget all requests seen so far."""
        self._log.clear()

    def push(self, vendor: str, *scripts: Script) -> None:
        """Queue scripts for the vendor's next requests."""
        self._vendors[vendor].push(scripts)
        self._check_port(self._vendors[vendor])

    def set_script(self, vendor: str, script: VendorScript | Script) -> None:
        """Give a vendor another script from now on. To close or open its port use `refuse` and `accept`."""
        full = as_vendor_script(script)
        if full.default.fault is Fault.REFUSE:
            raise ValueError("a running vendor stops listening by `await refuse(vendor)`, not by a script")
        self._vendors[vendor].replace(full)
        self._check_port(self._vendors[vendor])

    async def refuse(self, vendor: str) -> None:
        """Stop listening and reset the vendor's connections, as if its process had died; the port stays reserved."""
        server = self._servers.pop(vendor, None)
        if server is None:
            raise ValueError(f"{vendor} has no open port of its own; start the simulator with port=None")
        server.close()
        await self._drop([connection for connection, (owner, _) in self._connections.items() if owner == vendor])
        await server.wait_closed()
        self._bind_closed(vendor, self._ports[vendor])

    async def accept(self, vendor: str) -> None:
        """Listen again on the same port after `refuse`."""
        closed = self._closed_ports.pop(vendor, None)
        if closed is None:
            raise ValueError(f"{vendor} is not refusing connections")
        closed.close()
        await self._listen(vendor, self._ports[vendor])

    def _check_port(self, vendor: Vendor) -> None:
        if self._port is not None and vendor.needs_own_port():
            raise ValueError(f"{vendor.name} refuses or resets connections, so it needs its own port: give no `port`")

    async def _listen(self, vendor: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(lambda connection: self._opened(connection, vendor)), self._host, port, backlog=BACKLOG
        )
        self._servers[vendor] = server
        self._ports[vendor] = server.sockets[0].getsockname()[1]

    def _bind_closed(self, vendor: str, port: int) -> None:
        """Hold a port without listening: connecting to it is refused, and nobody else can take it meanwhile."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        closed = socket.socket(family, socket.SOCK_STREAM)
        closed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        closed.bind((self._host, port))
        self._closed_ports[vendor] = closed
        self._ports[vendor] = closed.getsockname()[1]

    def _opened(self, connection: Connection, vendor: str) -> None:
        self.accepted += 1
        if len(self._connections) >= CONNECTIONS_MAX:
            connection.reset()
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection, vendor))
        self._connections[connection] = (vendor, task)

    async def _drop(self, connections: list[Connection]) -> None:
        """Cancel what serves these connections, reset them and wait until they are closed."""
        tasks = [self._connections[connection][1] for connection in connections]
        for task, connection in zip(tasks, connections, strict=True):
            task.cancel()
            connection.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            await connection.closed.wait()

    async def _serve(self, connection: Connection, vendor: str) -> None:
        try:
            if vendor and self._vendors[vendor].resets_now():
                self._log_reset(vendor)
                connection.reset()
            else:
                await self._talk(connection, vendor)
        except ClientLeft:
            connection.close()
        finally:
            await self._finish(connection)

    async def _finish(self, connection: Connection) -> None:
        """Let the last bytes go, but not for ever."""
        try:
            async with asyncio.timeout(FLUSH_S):
                await connection.closed.wait()
        except TimeoutError:
            connection.reset()
        finally:
            self._connections.pop(connection, None)

    def _log_reset(self, vendor: str) -> None:
        number = next(self._numbers)
        seen = self._log.open(vendor=vendor, method="", path="", headers={}, body=b"", connection=number)
        self._log.update(seen.number, fault=Fault.RESET_ON_ACCEPT)
        self._log.end(seen.number, Outcome.FAILED)

    async def _talk(self, connection: Connection, vendor: str) -> None:
        """One request after the other, until either side has enough."""
        number = next(self._numbers)
        ending = Ending.KEEP
        while ending is Ending.KEEP:
            request = await self._read(connection)
            if request is None:
                break
            if isinstance(request, BadHttp):
                await self._answer(connection, vendor, NOTHING, number, refused=request)
                await connection.say_goodbye()
                return
            ending = await self._answer(connection, vendor, request, number)
            if ending is Ending.STALE:
                await connection.wait_for_data()
                ending = Ending.RESET
            if ending is Ending.KEEP and not request.keep_alive:
                break
        if ending is Ending.RESET:
            connection.reset()
        else:
            connection.close()

    async def _read(self, connection: Connection) -> HttpRequest | BadHttp | None:
        """The next request, what is wrong with it, or `None` when none came in time. Raises ClientLeft."""
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await connection.wait_for_data()
            async with asyncio.timeout(REQUEST_S):
                return await read_request(connection)
        except BadHttp as error:
            return error
        except TimeoutError:
            return None

    async def _answer(
        self, connection: Connection, vendor: str, request: HttpRequest, number: int, refused: BadHttp | None = None
    ) -> Ending:
        seen = self._log.open(
            vendor=vendor or vendor_in(request.path),
            method=request.method,
            path=request.path,
            headers=request.headers,
            body=request.body,
            connection=number,
        )
        if refused is None:
            answer = reply_to(request, self._vendors, vendor, seen.number)
        else:
            answer = rejection(str(refused), status=refused.status)
        return await perform(connection, answer, self._log, seen.number)
