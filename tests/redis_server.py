"""A private Redis on a free port: started, paused, killed, emptied and started again by tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from stage import free_port

START_S = 10.0


def redis_program() -> str | None:
    """Where redis-server (or valkey-server) is on this machine."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


def need_redis() -> str:
    """The program, or a skip; with CI set its absence is a failure."""
    program = redis_program()
    if program is None:
        assert not os.environ.get("CI"), "install redis-server"
        pytest.skip("redis-server is not on this machine")
    return program


class RedisServer:
    """One server. `saves`: what it holds survives its end, as with a file of commands that is synced each time.

    `options` go on its command line.
    """

    def __init__(
        self, home: Path, *, saves: bool = False, replica_of: int | None = None, options: Sequence[str] = ()
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._saves = saves
        self._replica_of = replica_of
        self._options = tuple(options)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, on the same port as before; returns when it answers."""
        command = [need_redis(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._home)]
        command += ["--save", "", "--appendonly", "yes" if self._saves else "no", "--appendfsync", "always"]
        command += ["--repl-diskless-sync-delay", "0"]
        if self._replica_of is not None:
            command += ["--replicaof", "127.0.0.1", str(self._replica_of)]
        command += self._options
        with (self._home / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        due = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                if self.command("PING") == b"+PONG\r\n":
                    return
            assert time.monotonic() < due, "redis-server does not start"
            time.sleep(0.02)

    def command(self, *words: str) -> bytes:
        """The raw reply to one command, up to 64 KiB."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            said = b"".join(f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words)
            wire.sendall(f"*{len(words)}\r\n".encode() + said)
            return wire.recv(65_536)

    def cut_off(self) -> None:
        """End a copy's following, once it has caught up: from here on it knows what it knows."""
        due = time.monotonic() + START_S
        while b"master_link_status:up" not in self.command("INFO", "replication"):
            assert time.monotonic() < due, "the copy does not follow"
            time.sleep(0.02)
        self.command("REPLICAOF", "NO", "ONE")
        self._replica_of = None

    def take_over(self, port: int) -> None:
        """Be found where another one was that is gone: an address that moves."""
        assert self.command("CONFIG", "SET", "port", str(port)) == b"+OK\r\n"
        self.port = port

    def pause(self) -> None:
        """Stop it from doing anything; its port still takes connections."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """End it and start it again: empty, unless it saves."""
        self.kill()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
