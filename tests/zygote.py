"""Routers that start in a fraction of a second: forked from a process that has imported everything already.

For runs that start hundreds of them. A forked router is a process like any other: it runs `coe serve` from its first
line, with an environment, a port and a log of its own, and signals end it.

As a program (`python tests/zygote.py`) it is the process that forks, and its lines are JSON: `{"start": [...], "env":
{...}, "log": path}` answers a process id, `{"poll": pid}` its exit code or null.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

STOP_S = 45.0


class Forked:
    """A process of the zygote's."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; `None` while it runs."""
        if self._code is None:
            self._code = self._zygote.ask({"poll": self.pid})
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has one; raises TimeoutExpired."""
        due = time.monotonic() + (STOP_S if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > due:
                raise subprocess.TimeoutExpired("coe serve", timeout or STOP_S)
            time.sleep(0.005)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """Starts routers. Enter it; leaving it kills whatever still runs."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment({}),
        )
        self._started: list[Forked] = []
        self.ask({"poll": 0})  # everything is imported when this is answered
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._started:
            if one.poll() is None:
                os.kill(one.pid, signal.SIGKILL)
                one.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(STOP_S)

    def ask(self, what: Mapping[str, Any]) -> Any:
        """One line there, one line back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def begun(self, data_dir: Path, providers: Path, env: Mapping[str, str]) -> Any:
        """A router that was started, and may not be ready: a `stage.RunningRouter`."""
        from stage import RunningRouter, free_port

        port = free_port()
        data_dir.mkdir(parents=True, exist_ok=True)
        given = {"COE_DATA_DIR": str(data_dir), "COE_PORT": str(port), "COE_PROVIDERS": str(providers), **env}
        log = data_dir / "router.log"
        pid = self.ask({"start": ["serve"], "env": given, "log": str(log)})
        forked = Forked(self, pid)
        self._started.append(forked)
        return RunningRouter(forked, port, data_dir, log, given)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    from stage import clean_environment

    return clean_environment(OPENBLAS_NUM_THREADS="1", **more)


def main() -> None:
    """See the module."""
    from service.cli import main as coe

    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            pid = os.fork()
            if pid == 0:
                _become(coe, asked)
            answer: int | None = pid
        else:
            answer = _polled(asked["poll"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _polled(pid: int) -> int | None:
    if not pid:
        return None
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _become(coe: Any, asked: Mapping[str, Any]) -> None:
    """Be a router until its end; never return."""
    code = 70  # a fault of ours, unless it says otherwise
    try:
        os.environ.update(asked["env"])
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        os.close(log)
        os.close(nothing)
        sys.argv = ["coe", *asked["start"]]
        coe()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
