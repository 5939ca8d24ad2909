"""Indexes built from the journal: for questions, never for truth. One file for each, and one line in `SINKS`.

Where on the path: beside it. What a sink must do stands in `port`; a contract test runs over every entry of `SINKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from service.errors import ConfigurationError
from service.ledger.sinks.port import Sink
from service.ledger.sinks.sqlite import SqliteSink


def _sqlite(url: str, _: Path) -> Sink:
    location = url.partition(":///")[2]
    if not location:
        raise ConfigurationError("the ledger URL names no file; write sqlite:///relative/path or sqlite:////absolute")
    return SqliteSink(location)


def _postgresql(url: str, data_dir: Path) -> Sink:
    from service.ledger.sinks.postgres import PostgresSink  # noqa: PLC0415 # only who uses it loads the driver

    return PostgresSink(url, data_dir)


def _clickhouse(url: str, data_dir: Path) -> Sink:
    from service.ledger.sinks.clickhouse import ClickHouseSink  # noqa: PLC0415 # as above

    return ClickHouseSink(url, data_dir)


SINKS: Mapping[str, Callable[[str, Path], Sink]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "clickhouse": _clickhouse,
    "clickhouses": _clickhouse,
}
"""Scheme of `COE_LEDGER_URL` -> what opens it for a data directory; raises ConfigurationError for a malformed one."""

EXAMPLES: Mapping[str, str] = {
    "sqlite": "sqlite:///path/to/ledger.sqlite",
    "postgresql": "postgresql://user:password@host:5432/database",
    "clickhouse": "clickhouse://user:password@host:8123/database",
}

INDEX_FILE = "ledger.sqlite"
"""The default sink's file in the data directory."""


def open_sink(data_dir: Path, url: str | None = None) -> Sink:
    """The sink of a ledger URL; without one, SQLite in the data directory.

    Raises ConfigurationError for a URL no sink is known for. Opens nothing yet.
    """
    if url is None:
        return SqliteSink(str(data_dir / INDEX_FILE))
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SINKS or not rest:
        # Only the scheme is named: a URL may hold a password.
        known = ", ".join(EXAMPLES.values())
        raise ConfigurationError(f"no ledger sink is known for scheme {scheme.partition(':')[0]!r}; use one of {known}")
    return SINKS[scheme](url, data_dir)
