"""The server of one process: signals, reload, and an end that settles everything.

Where on the path: `cli.serve` calls `run` with the application and the bound socket, in a worker and without workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from functools import partial
from types import TracebackType

import uvicorn
from fastapi import FastAPI

from service import telemetry
from service.api.accepting import Accepting
from service.api.door import CONNECTIONS_MAX, Door
from service.api.errors import log_unexpected
from service.errors import ConfigurationError
from service.house import House

BACKLOG = 2_048

SWITCH_S = 0.000_5
"""How long another thread may keep the interpreter from the event loop. The ledger's threads work in the background, so
they give way: Python's 5 ms would stand in every answer that meets them."""

READY_POLL_S = 0.02

DESCRIPTORS = 4 * CONNECTIONS_MAX
"""Callers, vendors, files. The usual soft limit of 1,024 would end the router long before its own limit says 503."""


M_TRIM_THRESHOLD = -1
"""Of <malloc.h>."""

SLACK_BYTES = 1 << 20
"""How much free memory the C library keeps at the end of a heap: peaks come and go by less between two requests."""


def run(app: FastAPI, listener: socket.socket, life: int | None = None, ready: int | None = None) -> None:
    """Serve until told to stop; SIGHUP reads the registry again. Raises what kept the router from starting.

    `life` is the read end of a pipe: when its other end closes, the parent is gone and so are we. `ready` is the write
    end of another: a byte in it says that we answer.
    """
    house: House = app.state.house
    config = uvicorn.Config(
        app,
        http=partial(Door, admission=house.admission, accepting=Accepting(listener)),  # type: ignore[arg-type] # called as the class is
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks whom a proxy in front speaks for
        timeout_graceful_shutdown=house.settings.drain_s,
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.get_running_loop().create_task(house.reload())
        reloads.add(task)  # the loop itself keeps tasks only weakly
        task.add_done_callback(reloaded)

    def reloaded(task: asyncio.Task[None]) -> None:
        reloads.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log_unexpected(problem, None)  # else the loop would tell it with its text, which may be of the registry

    async def serving() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, reload)
        loop.add_signal_handler(signal.SIGUSR2, alone)
        waiting = loop.create_task(when_it_answers(server, ready, early))
        if life is not None:
            loop.add_reader(life, orphaned, loop, life, server)
        await server.serve(sockets=[listener])
        waiting.cancel()

    make_room()
    give_back()
    sys.setswitchinterval(SWITCH_S)
    sys.excepthook, threading.excepthook = crashed, lost
    # Before the server looks for them these are noted. It raises the one that stopped it once more when it is done; by
    # then there is nothing left to stop.
    early: list[int] = []
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda number, _: early.append(number))
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner, contextlib.suppress(SystemExit):
        runner.run(serving())  # a start-up that failed ends in SystemExit with a code of the server's own
    if not server.started:
        raise house.start_problem or ConfigurationError("the router could not start; the lines above say why")


async def when_it_answers(server: uvicorn.Server, ready: int | None, early: list[int]) -> None:
    """Say so, and stop it again when it was told to before it could hear."""
    while not server.started:  # noqa: ASYNC110 # the server has no event for it
        await asyncio.sleep(READY_POLL_S)
    if early:
        server.handle_exit(early[0], None)
    if ready is not None:
        os.write(ready, b"1")
        os.close(ready)


def alone() -> None:
    """SIGUSR2 at a process that is not several: to end by it, as is the system's habit, would lose what runs."""
    reason = "one process can't be renewed without a gap: --workers 2"
    telemetry.logger().warning(telemetry.RENEWAL_FAILED, reason=reason)


def orphaned(loop: asyncio.AbstractEventLoop, life: int, server: uvicorn.Server) -> None:
    """The parent is gone: stop as on SIGTERM, once. A closed pipe stays readable for ever, so it is let go first."""
    loop.remove_reader(life)
    server.handle_exit(signal.SIGTERM, None)


def make_room() -> None:
    """Raise this process's limit of open files to what `CONNECTIONS_MAX` needs, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_back() -> None:
    """Have the C library return what is free at the end of a heap beyond `SLACK_BYTES`.

    Left alone it keeps twice the size of the largest block that was ever freed, up to 64 MiB: what a peak took, or a
    few large bodies, would be ours for good. C libraries without that habit have no `mallopt` either.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, SLACK_BYTES)


def crashed(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    """What ends the process: its type and place. A traceback would show its text, which may hold a key or a prompt."""
    if isinstance(problem, Exception):
        log_unexpected(problem, "-")
    else:
        sys.__excepthook__(kind, problem, trace)


def lost(ended: threading.ExceptHookArgs) -> None:
    """What ends a thread, as `crashed`."""
    if isinstance(ended.exc_value, Exception):
        log_unexpected(ended.exc_value, "-")
