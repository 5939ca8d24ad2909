"""A private ClickHouse on free ports: started, killed, stopped and started again by tests, a database for each."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import pytest
from stage import free_port

START_S = 60.0

_NAMES = itertools.count(1)

_CONFIG = """<yandex>
  <logger><level>warning</level><log>{home}/log</log><errorlog>{home}/errors</errorlog></logger>
  <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><interserver_http_port>{inter}</interserver_http_port>
  <interserver_http_host>127.0.0.1</interserver_http_host><listen_host>127.0.0.1</listen_host>
  <path>{home}/data/</path><tmp_path>{home}/tmp/</tmp_path><user_files_path>{home}/files/</user_files_path>
  <format_schema_path>{home}/schemas/</format_schema_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size><timezone>UTC</timezone>
</yandex>
"""

_USERS = """<yandex>
  <profiles><default><max_memory_usage>4000000000</max_memory_usage></default></profiles>
  <users>
    <default>
      <password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
    </default>
    <tester>
      <password>geheim</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
    </tester>
  </users>
  <quotas><default></default></quotas>
</yandex>
"""


def clickhouse_program() -> Path | None:
    """The server's program: Debian keeps it where only root looks."""
    found = shutil.which("clickhouse-server") or shutil.which("clickhouse-server", path="/usr/sbin:/usr/bin")
    return None if found is None else Path(found)


def need_clickhouse() -> Path:
    """Where the program is, or a skip: not every distribution has a package of it."""
    found = clickhouse_program()
    if found is None:
        pytest.skip("ClickHouse is not on this machine")
    return found


class ClickHouseServer:
    """One server with its data in a directory of its own, as a user who may do nothing else."""

    def __init__(self) -> None:
        self._program = need_clickhouse()
        self.home = Path(tempfile.mkdtemp(prefix="coe-clickhouse-"))
        self.port = free_port()
        ports = {"http": self.port, "tcp": free_port(), "inter": free_port()}
        (self.home / "config.xml").write_text(_CONFIG.format(home=self.home, **ports))
        (self.home / "users.xml").write_text(_USERS)
        self._owner: dict[str, object] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (self.home, *self.home.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: str = "default") -> str:
        """Where a database is."""
        return f"clickhouse://tester:geheim@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, on the same ports as before; returns when it answers."""
        command = [str(self._program), f"--config-file={self.home}/config.xml"]
        with (self.home / "out").open("ab") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home, **self._owner
            )
        due = time.monotonic() + START_S
        while not self._answers():
            waiting = self._process.poll() is None and time.monotonic() < due
            assert waiting, (self.home / "out").read_text()[-2_000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/ping", timeout=2.0).text.startswith("Ok")
        except httpx.HTTPError:
            return False

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ledger_{next(_NAMES)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def ask(self, statement: str, database: str = "default") -> str:
        """One statement, and its answer as text."""
        where = f"http://127.0.0.1:{self.port}/"
        answer = httpx.post(
            where, params={"database": database}, content=statement.encode(), auth=("tester", "geheim"), timeout=120.0
        )
        assert answer.status_code == 200, answer.text
        return answer.text

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Stop it and leave nothing behind."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
