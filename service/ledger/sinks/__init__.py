"""Indexes built from the journal: for questions, never for truth. One file for each, and one line in `SINKS`.

Where on the path: beside it. What a sink must do stands in `port`; a contract test runs over every entry of `SINKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from service.errors import ConfigurationError
from service.ledger.sinks.port import Sink
from service.ledger.sinks.sqlite import SqliteSink

SINKS: Mapping[str, Callable[[str], Sink]] = {
    "sqlite": SqliteSink,
}
"""Scheme of `COE_LEDGER_URL` -> what opens the location behind it."""

INDEX_FILE = "ledger.sqlite"
"""The default sink's file in the data directory."""


def open_sink(data_dir: Path, url: str | None = None) -> Sink:
    """The sink of a ledger URL such as `sqlite:///data/ledger.sqlite`; without one, SQLite in the data directory.

    Raises ConfigurationError for a URL no sink is known for. Opens nothing yet.
    """
    if url is None:
        return SqliteSink(str(data_dir / INDEX_FILE))
    scheme, separator, location = url.partition(":///")
    if not separator or scheme not in SINKS or not location:
        known = ", ".join(f"{name}:///..." for name in SINKS)
        # Only the scheme is named: a URL may hold a password.
        raise ConfigurationError(f"no ledger sink is known for scheme {scheme.partition(':')[0]!r}; use one of {known}")
    return SINKS[scheme](location)
