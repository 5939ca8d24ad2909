"""`coe replay --verify`: take every recorded decision again and say which of them come out the same.

Where on the path: beside it. Reads the journal of a data directory, whether a router runs on it or not; nobody is
called and nothing is written.

Invariants
1. Every decision of the journal is in exactly one count: equal, changed, decided with other versions, or unreadable.
2. It ends with 0 only when nothing is changed and nothing is unreadable.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from service.cli.costs import parse_moment
from service.cli.exits import EX_DATAERR
from service.cli.policy_runs import with_all_keys
from service.cli.progress import bar
from service.cli.settings import DATA_DIR, PROVIDERS, exits, read_catalog, read_settings
from service.domain.catalog import Catalog
from service.errors import CoeError
from service.learned import read_lengths
from service.ledger.decisions import recorded
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import Problem
from service.routing.lengths import Lengths
from service.routing.replay import NotReplayable, differences, replay

SHOWN = 10
"""Decisions that are named; the counts are exact."""

PROGRESS_EVERY = 500
"""Decisions between two looks at the progress: about a quarter of a second."""


@dataclass(slots=True)
class Tally:
    """What became of the decisions: counts, and a line for the first that did not come out the same."""

    equal: int = 0
    changed: int = 0
    unreadable: int = 0
    others: Counter[str] = field(default_factory=Counter)
    other: int = 0
    told: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """Keep a line while there is room."""
        if len(self.told) < SHOWN:
            self.told.append(line)

    @property
    def whole(self) -> int:
        """Every decision that was looked at."""
        return self.equal + self.changed + self.unreadable + self.other


@click.command("replay")
@click.option(
    "--verify", "verifying", is_flag=True, help="Decide every recorded request again and compare bit for bit."
)
@click.option("--since", metavar="WHEN", help="From: 2026-11-01, 2026-11-01T08:00Z, or 30m, 24h, 7d, 4w ago. UTC.")
@DATA_DIR
@PROVIDERS
def command(*, verifying: bool, since: str | None, data_dir: Path, providers: Path | None) -> None:
    """Take recorded decisions again, with the registry as it is now."""
    if not verifying:
        raise click.UsageError("say what to do with the recorded decisions: --verify takes each again and compares")
    now = datetime.now(UTC)
    start = None if since is None else parse_moment(since, now, option="--since", is_end=False)
    settings = read_settings(providers=providers)
    with exits():
        catalog = read_catalog(settings, now)
        records = recorded(data_dir, None if start is None else int(start.timestamp() * 1000))
        tally = verify(_watched(records, data_dir), (catalog, with_all_keys(catalog)), read_lengths(data_dir))
    _say(tally, data_dir)
    if tally.changed or tally.unreadable:
        sys.exit(EX_DATAERR)


def verify(
    records: Iterable[Mapping[str, object] | Problem], catalogs: Sequence[Catalog], lengths: Lengths | None
) -> Tally:
    """Take each record again, with that of some registries that it was decided with; the first when it is none."""
    tally = Tally()
    by_offer = {catalog.offer: catalog for catalog in reversed(catalogs)}
    for told in records:
        if isinstance(told, Problem):
            tally.unreadable += 1
            tally.tell(f"unreadable: {told.segment} at byte {told.offset}: {told.what}")
            continue
        versions = told.get("versions")
        offer = versions.get("offer") if isinstance(versions, dict) else None
        _judge(told, by_offer.get(str(offer), catalogs[0]), lengths, tally)
    return tally


def _judge(told: Mapping[str, object], catalog: Catalog, lengths: Lengths | None, tally: Tally) -> None:
    name = str(told.get("id"))[:64]
    try:
        again = replay(told, catalog, lengths)
    except NotReplayable as problem:
        if problem.differing:
            tally.other += 1
            tally.others.update(problem.differing)
        else:
            tally.unreadable += 1
            tally.tell(f"unreadable: {name}: {problem}")
        return
    except CoeError as problem:
        tally.changed += 1
        tally.tell(f"changed: {name} is refused now: {problem.message}")
        return
    fields = differences(told, again)
    if not fields:
        tally.equal += 1
        return
    tally.changed += 1
    chosen = again.chosen.deployment.id
    what = (
        f"{told.get('chosen')} was chosen, {chosen} is" if told.get("chosen") != chosen else f"{chosen} is chosen still"
    )
    tally.tell(f"changed: {name}: {what}; what differs: {', '.join(fields)}")


def _watched(
    records: Iterable[Mapping[str, object] | Problem], data_dir: Path
) -> Iterable[Mapping[str, object] | Problem]:
    """The records, with the progress told: by count, since lines of other kinds lie between them."""
    total = sum(segment.path.stat().st_size for segment in list_segments(journal_dir(data_dir)))
    show, done = bar(), 0
    for number, told in enumerate(records, 1):
        done = number
        yield told
        if number % PROGRESS_EVERY == 0:
            show(min(number * BYTES_PER_DECISION, total), total, "Deciding again")
    if done >= PROGRESS_EVERY:
        show(total, total, "Deciding again")


BYTES_PER_DECISION = 6_000
"""Of journal, with the rows of its attempts: what the progress is reckoned by."""


def _say(tally: Tally, data_dir: Path) -> None:
    """The counts, then what did not come out the same."""
    if not tally.whole:
        click.echo(f"No decision is recorded in {data_dir}. Is --data-dir right?", err=True)
    click.echo(
        f"{tally.whole:,} decisions: {tally.equal:,} equal, {tally.changed:,} changed, "
        f"{tally.other:,} decided with other versions, {tally.unreadable:,} unreadable"
    )
    for name, count in tally.others.most_common():
        click.echo(f"  other {name}: {count:,}{_HINTS.get(name, '')}")
    for line in tally.told:
        click.echo(f"  {line}")


_HINTS = {
    "offer": " (the same file may offer other deployments: keys in the environment, model servers on this machine)",
    "record": " (written by an older router, too little to decide again)",
}
