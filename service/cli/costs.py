"""`coe costs`: what was spent, by whom, on what, and what it saved.

Where on the path: beside it. Reads the ledger of a data directory, whether a router runs on it or not.

Invariants
1. The report is on stdout and nothing else is; everything said about it goes to stderr.
2. It covers every row that was in the journal when the command started, or says that it doesn't.
3. No ledger yet is no error: the report is empty and valid in its format.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypedDict, Unpack

import click

from service.cli import reconcile
from service.cli.exits import EX_CANTCREAT, EX_CONFIG, EX_TEMPFAIL
from service.cli.progress import bar
from service.cli.settings import DATA_DIR, PROVIDERS, exits, fail, ledger_sink, read_settings
from service.ledger.indexer import IndexBusy, Indexer, wait_until_indexed
from service.ledger.question import Question, Unclear, read_grouping, read_moment, read_question
from service.ledger.reconcile import GROUPING
from service.ledger.render import FORMATS
from service.ledger.reports import CostReport, cost_report
from service.ledger.savings import SAVINGS_FORMATS, savings_notes
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import GROUPINGS, Sink, SinkDamaged, SinkFault, SinkMissing
from service.startup import read_registry

WAIT_S = 3.0
"""How long a running router's indexer may take to catch up; it does so five times a second."""

PROGRESS_FROM_BYTES = 8 << 20
"""Less than this is indexed before a bar could be read."""

SHOWN_PROBLEMS = 5
"""Damaged places named on stderr; the count is exact."""


class Said(TypedDict):
    """What the options of `coe costs` said."""

    by: str | None
    since: str | None
    until: str | None
    shape: str
    savings: bool
    reconcile: Path | None
    tolerance: str | None
    provider: str | None
    currency: str | None
    data_dir: Path
    providers: Path | None


@click.command("costs")
@click.option("--by", metavar="A,B", help=f"Group by: {', '.join(GROUPINGS)}. [default: model]")
@click.option("--since", metavar="WHEN", help="From: 2026-11-01, 2026-11-01T08:00Z, or 30m, 24h, 7d, 4w ago. UTC.")
@click.option("--until", metavar="WHEN", help="Up to, in the same forms. A day counts whole, an instant doesn't.")
@click.option("--format", "shape", type=click.Choice(sorted(FORMATS)), default="table", show_default=True)
@click.option("--savings", is_flag=True, help="What was saved against each baseline, instead of what was spent.")
@click.option(
    "--reconcile", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Compare with an invoice, a CSV."
)
@click.option("--tolerance", metavar="USD", help="With --reconcile: what a day of a model may differ by. [0.01]")
@click.option("--provider", metavar="NAME", help="With --reconcile: whose invoice it is. [default: all providers']")
@click.option("--currency", metavar="CODE", help="With --reconcile: of amounts without a column for it. [default: USD]")
@DATA_DIR
@PROVIDERS
def costs(**said: Unpack[Said]) -> None:
    """Report costs and savings from the ledger."""
    if said["reconcile"] is not None:
        sys.exit(_reconcile(said["reconcile"], said))
    for option in ("tolerance", "provider", "currency", "providers"):
        if said[option] is not None:
            raise click.UsageError(f"--{option} is about an invoice; add --reconcile FILE")
    try:
        asked = read_question(said["by"], said["since"], said["until"], said["shape"], datetime.now(UTC))
    except Unclear as problem:
        raise _usage(problem) from problem
    if said["savings"] and asked.shape not in SAVINGS_FORMATS:
        raise click.UsageError("--savings is told as table, csv or json.")
    with exits():
        report = _report(said["data_dir"], replace(asked, savings=said["savings"]))
        click.echo((SAVINGS_FORMATS if said["savings"] else FORMATS)[asked.shape](report), nl=False)
        if asked.shape != "table":
            for note in (*(savings_notes(report) if said["savings"] else ()), *report.notes):
                click.echo(f"Note: {note}", err=True)


def _reconcile(invoice: Path, said: Said) -> int:
    """Compare with an invoice, over its days unless others are named; the exit code."""
    if said["by"] is not None or said["shape"] == "focus" or said["savings"]:
        raise click.UsageError(
            "--reconcile compares by day and model, as table, csv or json: leave out --by, --savings"
        )
    tolerance_pusd = reconcile.read_tolerance(said["tolerance"] or reconcile.TOLERANCE_USD)
    try:
        asked = read_question(None, said["since"], said["until"], said["shape"], datetime.now(UTC))
    except Unclear as problem:
        raise _usage(problem) from problem
    with exits():
        catalog = read_registry(read_settings(providers=said["providers"]), datetime.now(UTC))
        if said["provider"] is not None and said["provider"] not in catalog.providers:
            known = ", ".join(sorted(catalog.providers))
            raise click.UsageError(f"--provider: the registry has no {said['provider']!r}. Choose from {known}.")
        lines = reconcile.read_lines(invoice, catalog, said["currency"] or "USD")
        first, end = reconcile.span_of(lines)
        since, until = reconcile.whole_days(asked.since or first, asked.until or end)
        lines = [one for one in lines if since.strftime("%Y-%m-%d") <= one.day < until.strftime("%Y-%m-%d")]
        report = _report(said["data_dir"], Question(GROUPING, since, until, said["shape"]))
        code = reconcile.tell(
            reconcile.compare(report, lines, catalog, said["provider"], tolerance_pusd), said["shape"]
        )
        for note in report.notes:
            click.echo(f"Note: {note}", err=True)
    return code


def _report(data_dir: Path, asked: Question) -> CostReport:
    """The report over an index that is as new as can be had; an empty one when there is no ledger yet."""
    sink = ledger_sink(data_dir)
    if list_segments(journal_dir(data_dir)):
        catch_up(data_dir, sink)
    try:
        report = cost_report(sink, asked.by, asked.since, asked.until, savings=asked.savings)
        _tell_problems(sink)
    except SinkMissing:
        click.echo(
            f"No ledger in {data_dir} yet: it begins with the first request. Are --data-dir and COE_LEDGER_URL right?",
            err=True,
        )
        return CostReport(asked.by, (), None, ())
    except SinkFault as problem:
        refuse_index(problem)
    return report


def parse_grouping(by: str) -> tuple[str, ...]:
    """The groupings of `--by`; raises a usage error that names the known ones."""
    try:
        return read_grouping(by)
    except Unclear as problem:
        raise _usage(problem) from problem


def parse_moment(text: str, now: datetime, *, option: str, is_end: bool) -> datetime:
    """The instant a user means, as `read_moment`; raises a usage error that names the option."""
    try:
        return read_moment(option, text, now, is_end=is_end)
    except Unclear as problem:
        raise click.UsageError(f"{option}: {problem}") from problem


def _usage(problem: Unclear) -> click.UsageError:
    return click.UsageError(f"--{problem.param}: {problem}")


def catch_up(data_dir: Path, sink: Sink) -> None:
    """As `update`; ends with what to do when the index can't be had at all."""
    try:
        update(data_dir, sink)
    except OSError as problem:
        what = f"The index in {data_dir} can't be written ({problem.strerror}). Run this as the router's user."
        fail(what, EX_CANTCREAT)
    except SinkFault as problem:
        refuse_index(problem)


def update(data_dir: Path, sink: Sink) -> None:
    """Bring the index of a data directory up to date, or wait for the router that does; says so when neither works.

    Raises OSError when nothing is indexed and nothing can be, SinkFault when the index can't be used.
    """
    try:
        with Indexer(data_dir, sink, _tell_discard) as indexer:
            _index(indexer)
    except IndexBusy:
        if not wait_until_indexed(data_dir, sink, WAIT_S):
            click.echo("Note: another process is still indexing; the newest rows may be missing.", err=True)
    except OSError as problem:
        # A reader without the right to write may still see what is indexed.
        if not _indexed(sink):
            raise
        click.echo(f"Note: the index can't be updated ({problem.strerror}); the newest rows may be missing.", err=True)
    finally:
        sink.close()


def _tell_discard(error: str, moved_to: str) -> None:
    click.echo(f"Note: the index was damaged ({error}); it lies in {moved_to} now and is built again.", err=True)


def refuse_index(problem: SinkFault) -> NoReturn:
    """End with what to do about an index that can't be used."""
    if isinstance(problem, SinkDamaged):
        what = f"The ledger index can't be read ({problem}). Move it away: it is built again from the journal."
        fail(what, EX_CONFIG)
    fail(f"The ledger index can't be used ({problem}). Try again shortly.", EX_TEMPFAIL)


def _index(indexer: Indexer) -> None:
    """Index; much work shows how far it is."""
    show = bar()

    def progress(done: int, total: int) -> None:
        if total >= PROGRESS_FROM_BYTES:
            show(done, total, "Indexing the journal")

    indexer.catch_up(progress)


def _indexed(sink: Sink) -> bool:
    try:
        return bool(sink.checkpoints())
    except (SinkMissing, SinkFault):
        return False


def _tell_problems(sink: Sink) -> None:
    problems = sink.problems()
    if not problems:
        return
    click.echo(f"Warning: {len(problems)} damaged places in the journal; what stood there is missing here.", err=True)
    for problem in problems[:SHOWN_PROBLEMS]:
        where = f"{problem.segment} at byte {problem.offset}: " if problem.segment else ""
        click.echo(f"  {where}{problem.what}", err=True)
