"""A private PostgreSQL on a free port: started, killed, stopped and started again by tests, a database for each."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from stage import free_port

START_S = 20.0

_NAMES = itertools.count(1)


def postgres_dir() -> Path | None:
    """Where initdb and postgres are on this machine: Debian keeps them out of the path."""
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return there[-1].parent if there else None


def need_postgres() -> Path:
    """Where the programs are, or a skip; with CI set their absence is a failure."""
    found = postgres_dir()
    if found is None:
        assert not os.environ.get("CI"), "install postgresql"
        pytest.skip("PostgreSQL is not on this machine")
    return found


def _owner() -> tuple[int, int] | None:
    """Who runs it: PostgreSQL refuses root. `None`: we ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    pytest.skip("PostgreSQL refuses root, and there is no other user here")


class PostgresServer:
    """One server with its data in a directory of its own, outside those that only root may enter."""

    def __init__(self, **options: str) -> None:
        """`options` are PostgreSQL's own; by default nothing is forced to disk."""
        self._options = {"fsync": "off", "max_connections": "40", **options}
        self._bin = need_postgres()
        self._owner = _owner()
        self.home = Path(tempfile.mkdtemp(prefix="coe-postgres-"))
        if self._owner is not None:
            os.chown(self.home, *self._owner)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        command = ["initdb", "-D", str(self.home / "data"), "-U", "tester", "--auth=trust", "-E", "UTF8", "--no-locale"]
        self._run([*command, "--no-sync"], check=True)
        self.start()

    def url(self, database: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://tester:geheim@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, on the same port as before; returns when it answers."""
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options |= {"logging_collector": "off", **self._options}
        command = [str(self._bin / "postgres"), "-D", str(self.home / "data")]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        log = (self.home / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._as_owner())
        log.close()
        due = time.monotonic() + START_S
        ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while self._run(ready).returncode:
            waiting = self._process.poll() is None and time.monotonic() < due
            assert waiting, (self.home / "log").read_text()[-2_000:]
            time.sleep(0.05)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ledger_{next(_NAMES)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def ask(self, statement: str, database: str = "postgres") -> None:
        """One statement, as the superuser."""
        command = ["psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        self._run([*command, "-U", "tester", "-d", database, "-c", statement], check=True)

    def kill(self) -> None:
        """As a crash would: the server and every process of its connections, which are in groups of their own."""
        assert self._process is not None
        pid = self._process.pid
        mine = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        self._process.kill()
        for one in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """In an orderly way, without waiting for who is connected."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)

    def close(self) -> None:
        """Stop it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _as_owner(self) -> dict[str, object]:
        if self._owner is None:
            return {"cwd": str(self.home)}
        uid, gid = self._owner
        return {"user": uid, "group": gid, "extra_groups": [], "cwd": str(self.home)}

    def _run(self, command: list[str], *, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        name, *arguments = command
        whole = [str(self._bin / name), *arguments]
        return subprocess.run(whole, capture_output=True, check=check, **self._as_owner())
