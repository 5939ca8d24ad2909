"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. On stderr, so stdout stays data."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

WIDTH = 25
PLAIN_STEP_PERCENT = 25


def bar(stream_is_terminal: bool | None = None) -> Callable[[int, int, str], None]:  # noqa: FBT001 # asked of the stream
    """A callback (done, total, what) that tells how far `what` is."""
    terminal = sys.stderr.isatty() if stream_is_terminal is None else stream_is_terminal
    told: dict[str, int] = {}

    def progress(done: int, total: int, what: str) -> None:
        percent = 100 * done // max(total, 1)
        if percent < told.get(what, 0):
            return
        if terminal:
            shown = "#" * (percent * WIDTH // 100)
            click.echo(f"\r{what:<32} [{shown:<{WIDTH}}] {percent:3d} %", nl=done >= total, err=True)
            told[what] = percent + 1
        else:
            click.echo(f"{what}: {percent} %", err=True)
            told[what] = percent // PLAIN_STEP_PERCENT * PLAIN_STEP_PERCENT + PLAIN_STEP_PERCENT

    return progress
