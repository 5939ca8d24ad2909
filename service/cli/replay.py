"""`coe replay`: take every recorded decision again, to compare it bit for bit, or to see what another policy would do.

Where on the path: beside it. Reads the journal of a data directory, whether a router runs on it or not; nobody is
called and nothing is written.

Invariants
1. `--verify`: every decision of the journal is in exactly one count: equal, changed, decided with other versions, or
   unreadable.
2. It ends with 0 only when nothing is changed and nothing is unreadable; `--policy` ends with 0 only when every row of
   the ledger comes to what was booked, and every line can be read.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from service.catalog.overlay import is_overlay, overlaid
from service.catalog.problems import unknown
from service.cli.costs import parse_moment
from service.cli.exits import EX_DATAERR
from service.cli.policy_runs import with_all_keys
from service.cli.progress import bar
from service.cli.replay_policy import DAMAGED, UNREADABLE, Comparison, Retaker, compare
from service.cli.replay_tables import FORMATS
from service.cli.settings import DATA_DIR, PROVIDERS, exits, read_catalog, read_settings
from service.config import Settings, environ
from service.domain.catalog import Catalog
from service.errors import CoeError
from service.learned import read_lengths
from service.ledger.decisions import recorded
from service.ledger.feedback import scores
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import Problem
from service.ledger.traffic import Traffic
from service.routing.lengths import Lengths
from service.routing.replay import NotReplayable, differences, replay
from service.startup import registry_path
from service.upstream.quirks import QUIRKS

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
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    help="Decide by this file: a whole registry, or one with policies, routes and default_policy only.",
)
@click.option("--policy-name", metavar="NAME", help="The policy of requests that name none, instead of the file's.")
@click.option("--since", metavar="WHEN", help="From: 2026-11-01, 2026-11-01T08:00Z, or 30m, 24h, 7d, 4w ago. UTC.")
@click.option("--format", "shape", type=click.Choice(sorted(FORMATS)), default="table", show_default=True)
@DATA_DIR
@PROVIDERS
def command(
    *,
    verifying: bool,
    policy_file: Path | None,
    policy_name: str | None,
    since: str | None,
    shape: str,
    data_dir: Path,
    providers: Path | None,
) -> None:
    """Take recorded decisions again, with the registry as it is now, or by another policy."""
    another = policy_file is not None or policy_name is not None
    if verifying is another:
        raise click.UsageError(
            "say what to do with the recorded decisions: --verify takes each again and compares, "
            "--policy FILE or --policy-name NAME tells what another policy would have done; one of them"
        )
    now = datetime.now(UTC)
    start = None if since is None else parse_moment(since, now, option="--since", is_end=False)
    settings = read_settings(providers=providers)
    if another:
        with exits():
            found = _compared(settings, policy_file, policy_name, data_dir, start, now)
            click.echo(FORMATS[shape](found), nl=False)
        if not found.decisions:
            click.echo(_NOTHING.format(data_dir), err=True)
        if found.books.differing or UNREADABLE in found.left_out or DAMAGED in found.left_out:
            sys.exit(EX_DATAERR)
        return
    with exits():
        catalog = read_catalog(settings, now)
        records = recorded(data_dir, None if start is None else int(start.timestamp() * 1000))
        tally = verify(_watched(records, data_dir), (catalog, with_all_keys(catalog)), read_lengths(data_dir))
    _say(tally, data_dir)
    if tally.changed or tally.unreadable:
        sys.exit(EX_DATAERR)


def _compared(
    settings: Settings,
    policy_file: Path | None,
    policy_name: str | None,
    data_dir: Path,
    start: datetime | None,
    now: datetime,
) -> Comparison:
    """The traffic under the policy that was asked for; raises RegistryError, NotFound or OSError."""
    catalog = read_catalog(settings, now)
    other = catalog if policy_file is None else read_policy(settings, catalog, policy_file, now)
    if policy_name is not None:
        if policy_name not in other.policies:
            raise click.UsageError(f"--policy-name: {unknown('policy', policy_name, other.policies)}")
        other = replace(other, default_policy=policy_name)
    old, new = ((one, with_all_keys(one)) for one in (catalog, other))
    retaker = Retaker(old, new, read_lengths(data_dir), scores(data_dir))
    traffic = Traffic(data_dir, retaker.take, None if start is None else int(start.timestamp() * 1000))
    show = bar()
    return compare(traffic, lambda done, whole: show(done, whole, "Deciding again"))


def read_policy(settings: Settings, catalog: Catalog, file: Path, now: datetime) -> Catalog:
    """The registry that a file makes of this one: itself, when it is a whole one. Raises RegistryError."""
    if not is_overlay(file):
        return read_catalog(settings.model_copy(update={"providers": file}), now)
    return overlaid(catalog, registry_path(settings), file, environ(), now=now, known_quirks=QUIRKS)


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
        click.echo(_NOTHING.format(data_dir), err=True)
    click.echo(
        f"{tally.whole:,} decisions: {tally.equal:,} equal, {tally.changed:,} changed, "
        f"{tally.other:,} decided with other versions, {tally.unreadable:,} unreadable"
    )
    for name, count in tally.others.most_common():
        click.echo(f"  other {name}: {count:,}{_HINTS.get(name, '')}")
    for line in tally.told:
        click.echo(f"  {line}")


_NOTHING = "No decision is recorded in {}. Is --data-dir right?"

_HINTS = {
    "offer": " (the same file may offer other deployments: keys in the environment, model servers on this machine)",
    "record": " (written by an older router, too little to decide again)",
}
