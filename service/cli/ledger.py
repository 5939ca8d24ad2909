"""`coe ledger`: whether the ledger holds (`verify`), its index built anew (`rebuild`), its journal cut short (`prune`).

Where on the path: beside it. `verify` changes nothing but what indexing adds; it and `prune` may run beside a router;
`rebuild` needs the index for itself.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from service.cli.costs import catch_up, refuse_index
from service.cli.exits import EX_DATAERR, EX_TEMPFAIL
from service.cli.progress import bar
from service.cli.settings import DATA_DIR, exits, fail, ledger_sink
from service.ledger.indexer import IndexBusy, Indexer
from service.ledger.pruning import NotSound
from service.ledger.pruning import prune as take_out
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import SinkFault, SinkMissing
from service.ledger.verifying import verify as check

PROGRESS_FROM_BYTES = 8 << 20
"""Less than this is done before a bar could be read."""


@click.group()
def ledger() -> None:
    """Check the ledger, or build its index anew."""


@ledger.command()
@DATA_DIR
def verify(*, data_dir: Path) -> None:
    """Check every line of the journal, both ends of every attempt, the index and its sums."""
    with exits():
        sink, size = ledger_sink(data_dir), _size(data_dir)
        if not size:
            click.echo(f"No ledger in {data_dir} yet: it begins with the first request. Is --data-dir right?", err=True)
            return
        catch_up(data_dir, sink)
        show = bar()
        try:
            found = check(data_dir, sink, show if size >= PROGRESS_FROM_BYTES else None)
        except SinkMissing:
            fail("The ledger was never indexed and can't be now. Run this as the router's user.", EX_TEMPFAIL)
        except SinkFault as problem:
            refuse_index(problem)
        for line in found.lines:
            click.echo(line)
        for note in found.notes:
            click.echo(f"Note: {note}", err=True)
        for fault in found.faults:
            click.echo(f"Fault: {fault}", err=True)
        if found.fault_count:
            fail(f"the ledger does not hold: {found.fault_count} faults", EX_DATAERR)
        click.echo("The ledger holds.")


@ledger.command()
@click.option(
    "--keep-days",
    type=click.IntRange(1, 36_500),
    required=True,
    help="Keep segments that were written to within so many days.",
)
@DATA_DIR
def prune(*, data_dir: Path, keep_days: int) -> None:
    """Remove old segments of the journal that the index has whole. Reports stay as they are."""
    with exits():
        sink = ledger_sink(data_dir)
        if not _size(data_dir):
            click.echo(f"No ledger in {data_dir} yet: it begins with the first request. Is --data-dir right?", err=True)
            return
        catch_up(data_dir, sink)
        before_s = time.time() - keep_days * 86_400
        segments = size = 0
        try:
            for one in take_out(data_dir, sink, before_s):
                segments, size = segments + 1, size + one.size_bytes
        except NotSound as problem:
            fail(f"{problem}. Removed before: {segments} segments.", EX_DATAERR)
        except SinkMissing:
            fail("The ledger was never indexed and can't be now. Run this as the router's user.", EX_TEMPFAIL)
        except SinkFault as problem:
            refuse_index(problem)
        click.echo(f"Removed {segments} segments, {size:,} bytes. Reports still have what was in them.")


@ledger.command()
@click.option("--without-pruned", is_flag=True, help="Give up what only the index has, since the journal was pruned.")
@DATA_DIR
def rebuild(*, data_dir: Path, without_pruned: bool) -> None:
    """Empty the index and build it from the journal, while no router runs."""
    with exits():
        sink, size = ledger_sink(data_dir), _size(data_dir)
        if not size:
            click.echo(f"No ledger in {data_dir} yet: it begins with the first request. Is --data-dir right?", err=True)
            return
        show = bar()

        def progress(done: int, total: int) -> None:
            if total >= PROGRESS_FROM_BYTES:
                show(done, total, "Indexing the journal")

        try:
            with Indexer(data_dir, sink, without_pruned=without_pruned) as indexer:
                done = indexer.rebuild(progress)
            attempts = sum(one.attempts for one in sink.sums((), None, None))
        except IndexBusy:
            fail("another process fills the index: stop the router first", EX_TEMPFAIL)
        except SinkFault as problem:
            refuse_index(problem)
        click.echo(f"Indexed {done:,} bytes: {attempts:,} attempts.")


def _size(data_dir: Path) -> int:
    return sum(segment.path.stat().st_size for segment in list_segments(journal_dir(data_dir)))
