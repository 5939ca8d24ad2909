"""Asking a ClickHouse server over HTTP: statements out, rows in, its errors as those of every sink.

Where on the path: below `sinks.clickhouse`. Knows no table.

Invariants
1. Neither the URL nor a value is in any message: of the server's own words only the number of the error is told.
2. Every answer has a limit in bytes and in seconds, and one that broke off is an error, never a short answer.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import orjson

from service.errors import ConfigurationError
from service.ledger.sinks.port import SinkDamaged, SinkFault, SinkMissing

ANSWER_MAX_BYTES: Final = 512 * 1024 * 1024
"""A million lengths of answers take 60 MiB, a report of 170,000 groups 80."""

ANSWER_S: Final = 120
"""A report of ten million attempts takes some seconds on two cores."""

CONNECT_S: Final = 5
ERROR_MAX_BYTES: Final = 64 * 1024
INSERT_MAX_BYTES: Final = 8 * 1024 * 1024
"""Rows of one INSERT: more would be cut in pieces by the server itself."""

_DAMAGE: Final = frozenset({39, 40, 228, 246, 271})
"""Sizes that can't be, checksums that don't fit, sizes that differ, corrupt data, what can't be decompressed."""

_MISSING: Final = frozenset({16, 47, 60, 81})
"""No such column (of an older layout), table or database."""

_REASONS: Final[Mapping[int, str]] = {
    60: "no such table",
    81: "no such database: create it",
    159: "it took too long",
    164: "the user may only read",
    192: "no such user",
    193: "wrong password",
    241: "out of memory",
    243: "out of disk",
    252: "too many parts: it merges more slowly than it is filled",
    497: "the user may not do that",
    516: "wrong user or password",
}
_CODE: Final = re.compile(rb"Code: (\d{1,4})[.,]")

_WRITE_URL: Final = (
    "write clickhouse://user:password@host:8123/database, clickhouses:// for TLS; % is %25, @ is %40, and "
    "?secure=1, ?verify=0 and ?ca=/path/to/ca.pem are all that may follow"
)


class Unknown(SinkMissing):
    """A table or a database is not there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is and who asks; `str` and `repr` tell nothing of it."""

    origin: str
    auth: tuple[str, str]
    database: str
    verify: ssl.SSLContext | bool

    def __repr__(self) -> str:
        return "Place(...)"


def place_of(url: str) -> Place:
    """The place of a ledger URL; raises ConfigurationError, which tells nothing of it."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        secure = parts.scheme == "clickhouses" or options.pop("secure", "0") == "1"
        verify, authority = options.pop("verify", "1") == "1", options.pop("ca", None)
        port = parts.port or (8443 if secure else 8123)
        host = parts.hostname
        database = unquote(parts.path.removeprefix("/")) or "default"
        if not host or options or parts.fragment or "/" in database or "\x00" in database:
            raise ValueError
        named = f"[{host}]" if ":" in host else host
        origin = str(httpx.URL(f"{'https' if secure else 'http'}://{named}:{port}/"))
        context: ssl.SSLContext | bool = False
        if secure and verify:
            context = ssl.create_default_context(cafile=authority)
        return Place(origin, (unquote(parts.username or "default"), unquote(parts.password or "")), database, context)
    except (ValueError, httpx.InvalidURL):
        raise ConfigurationError(f"the ClickHouse URL can't be read; {_WRITE_URL}") from None
    except OSError as error:
        raise ConfigurationError(f"the file of `ca` in the ClickHouse URL can't be read: {error.strerror}") from None


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\x00", "\\0")
    return f"'{escaped}'"


def listed(texts: Iterable[str]) -> str:
    """Texts as the list behind IN."""
    return f"({', '.join(map(quoted, texts))})"


class Client:
    """A few connections to one server; safe from any thread."""

    def __init__(self, place: Place) -> None:
        """Nothing is connected yet."""
        self._place = place
        timeout = httpx.Timeout(ANSWER_S + CONNECT_S, connect=CONNECT_S)
        self._http = httpx.Client(verify=place.verify, auth=place.auth, timeout=timeout, trust_env=False)
        self._more: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every connection."""
        self._http.close()

    def settle_inserts(self) -> None:
        """Have inserts answered when they are stored, on servers that may answer before; raises as `rows`."""
        ((version,),) = self.rows("SELECT version()")
        # Older ones refuse a setting they don't know.
        self._more = {"async_insert": "0"} if int(str(version).partition(".")[0]) > _LAST_WITHOUT_ASYNC else {}

    def rows(self, query: str, within_s: float = ANSWER_S) -> list[list[Any]]:
        """The rows of a SELECT; raises SinkFault, SinkDamaged, and Unknown for what isn't there."""
        asked = {"output_format_json_quote_64bit_integers": "0", "max_execution_time": str(max(1, int(within_s)))}
        answer = self._send(f"{query} FORMAT JSONCompact".encode(), asked, within_s)
        try:
            found: list[list[Any]] = orjson.loads(answer)["data"]
        except (ValueError, KeyError, TypeError) as error:
            # Where an error comes up late, an old server writes it behind the rows.
            raise _fault(answer[-ERROR_MAX_BYTES:], 200) from error
        return found

    def run(self, statement: str) -> None:
        """A statement without an answer; raises as `rows`."""
        self._send(statement.encode(), {}, ANSWER_S)

    def insert(self, table: str, rows: Sequence[bytes]) -> None:
        """Add rows of JSON to a table, in as few pieces as `INSERT_MAX_BYTES` allows; raises as `rows`."""
        head = f"INSERT INTO {table} FORMAT JSONEachRow\n".encode()
        pending: list[bytes] = []
        size = 0
        for row in rows:
            if pending and size + len(row) > INSERT_MAX_BYTES:
                self._send(head + b"\n".join(pending), self._more, ANSWER_S)
                pending, size = [], 0
            pending.append(row)
            size += len(row)
        if pending:
            self._send(head + b"\n".join(pending), self._more, ANSWER_S)

    def _send(self, body: bytes, settings: Mapping[str, str], within_s: float) -> bytes:
        due = time.monotonic() + within_s + CONNECT_S
        given = {"database": self._place.database, "wait_end_of_query": "1", "max_query_size": "16777216", **settings}
        try:
            with self._http.stream("POST", self._place.origin, params=given, content=body) as response:
                parts: list[bytes] = []
                size = 0
                for part in response.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > ANSWER_MAX_BYTES:
                        raise SinkFault(f"ClickHouse: an answer of more than {ANSWER_MAX_BYTES:,} bytes; ask for less")
                    if time.monotonic() > due:
                        raise SinkFault(f"ClickHouse: no whole answer within {within_s:.0f} s")
        except httpx.HTTPError as error:
            # Its own words may hold the address.
            raise SinkFault(f"ClickHouse can't be reached, or broke off: {type(error).__name__}") from None
        answer = b"".join(parts)
        if response.status_code != httpx.codes.OK:
            raise _fault(answer[:ERROR_MAX_BYTES], response.status_code)
        return answer


_LAST_WITHOUT_ASYNC: Final = 21


def _fault(answer: bytes, status: int) -> SinkFault | SinkMissing:
    """What a sink raises for an error of the server."""
    found = _CODE.search(answer)
    if found is None:
        return SinkFault(f"ClickHouse: an answer that can't be read, status {status}")
    code = int(found[1])
    told = f"ClickHouse: error {code}" + (f" ({_REASONS[code]})" if code in _REASONS else "")
    if code in _DAMAGE:
        return SinkDamaged(told)
    return Unknown(told) if code in _MISSING else SinkFault(told)
