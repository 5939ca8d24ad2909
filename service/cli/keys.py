"""`coe keys`: make, limit, list and revoke the virtual keys of a router, running or not.

Where on the path: beside it. The command writes `<data_dir>/keys.jsonl`; a running router notices within a second.

Invariants
1. The secret goes to stdout once, in `create`; everything said about it goes to stderr, so that `$(coe keys create …)`
   is the secret alone. No other command can print one, because none is kept.
2. `list` makes neither a data directory nor a pepper. Where a key has a budget it brings the index of the ledger up to
   date; else it writes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Unpack

import click

from service.catalog.problems import unknown
from service.cli.limits import Said, changed, limit_options, limits_row
from service.cli.settings import DATA_DIR, PROVIDERS, exits, read_catalog, read_settings
from service.cli.spent import NOTHING, Spend, spend_cells, spend_row, spent_by_key
from service.config import environ
from service.domain.limits import NO_LIMITS
from service.errors import InvalidRequest, NotFound, RegistryError
from service.guard.keyfile import KeyRecord
from service.guard.keys import KEYS_FILE, KeyStore
from service.guard.pepper import load_pepper
from service.ledger.cells import width
from service.startup import registry_path

LIFETIME_DAYS_MAX = 36_500
"""A hundred years: a longer lifetime is a typing error."""

_LIFETIME = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[dh])")
_COLUMNS = ("ID", "NAME", "KEY", "TAGS", "MODELS", "POLICIES", "LIMITS", "CREATED", "EXPIRES", "STATUS")
_SPEND_COLUMNS = ("TODAY", "THIS MONTH")


def _store(data_dir: Path) -> KeyStore:
    # Not a click option: click takes an empty variable for an unset one, and an empty pepper must be refused.
    pepper = load_pepper(data_dir, environ().get("COE_KEY_PEPPER"))
    return KeyStore(data_dir / KEYS_FILE, pepper)


def _existing(data_dir: Path) -> KeyStore:
    """The store of a directory that has keys: in another one nothing is made."""
    if not (data_dir / KEYS_FILE).exists():
        raise NotFound(f"There are no keys in {data_dir}: is --data-dir the router's?")
    return _store(data_dir)


@click.group("keys")
def keys() -> None:
    """Make, limit, list and revoke the keys that clients use to call this router."""


@keys.command("create")
@click.option("--name", required=True, help="Who or what the key is for.")
@click.option("--tag", "tags", multiple=True, help="A label for routes and cost reports. Repeatable.")
@click.option("--model", "models", multiple=True, help="A registry model the key may use; none given: all. Repeatable.")
@click.option("--policy", "policies", multiple=True, help="A policy the key may choose; none given: all. Repeatable.")
@limit_options
@click.option("--soft", is_flag=True, help="Count and tell what goes over these limits, and refuse nothing.")
@click.option("--expires", help="30d, 12h, or the first day (YYYY-MM-DD, UTC) on which it no longer works.")
@click.option("--note", default="", help="A remark, kept with the key.")
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True)
@DATA_DIR
@PROVIDERS
def create(  # noqa: PLR0913 # click passes every option by name
    *,
    name: str,
    tags: tuple[str, ...],
    models: tuple[str, ...],
    policies: tuple[str, ...],
    expires: str | None,
    note: str,
    soft: bool,
    shape: str,
    data_dir: Path,
    providers: Path | None,
    **said: Unpack[Said],
) -> None:
    """Make a key and print its secret, once, on standard output."""
    with exits():
        expires_at = None if expires is None else parse_expiry(expires, datetime.now(UTC))
        limits = changed(NO_LIMITS, said, soft)
        new = _store(data_dir).create(
            name, tags=tags, models=models, policies=policies, expires_at=expires_at, note=note, limits=limits
        )
        if models or policies:
            _warn_of_unknown_names(models, policies, providers)
    if shape == "json":
        expiry = None if expires_at is None else _instant(int(expires_at.timestamp() * 1000))
        click.echo(
            json.dumps({"id": new.id, "name": name, "secret": new.secret, "hint": new.hint, "expires_at": expiry})
        )
        return
    click.echo(f"Key {new.id} ({name}) was created. Its secret is shown only now: store it safely.", err=True)
    click.echo(new.secret)


def _warn_of_unknown_names(models: Iterable[str], policies: Iterable[str], providers: Path | None) -> None:
    """Say on stderr which names the registry does not have: such a key is good, and opens nothing under them."""
    settings = read_settings(providers=providers)
    file = registry_path(settings)
    try:
        catalog = read_catalog(settings, datetime.now(UTC))
    except RegistryError as problem:
        click.echo(f"Warning: the names were not checked, {file} can't be read: {problem.problems[0]}", err=True)
        return
    wrong = [unknown("model", name, catalog.models) for name in models if name not in catalog.models]
    wrong += [unknown("policy", name, catalog.policies) for name in policies if name not in catalog.policies]
    for one in wrong:
        click.echo(f"Warning: {file}: {one} Until it is there, the key can't use it.", err=True)


@keys.command("limit")
@click.argument("key", metavar="ID_OR_NAME")
@limit_options
@click.option("--soft/--hard", default=None, help="Whether what goes over is only counted and told, or refused.")
@DATA_DIR
def limit(*, key: str, soft: bool | None, data_dir: Path, **said: Unpack[Said]) -> None:
    """Change what a key may spend and ask for; what is not said stays as it is."""
    with exits():
        if soft is None and not any(said.values()):
            raise InvalidRequest("Nothing to change: say a limit, --soft or --hard (see `coe keys limit --help`).")
        changed(NO_LIMITS, said, soft)  # what is no amount is said before anything is looked for
        record = _existing(data_dir).limit(key, lambda limits: changed(limits, said, soft))
    now = f"is limited to {record.limits.words()}" if record.limits.any else "has no limits"
    click.echo(f"{record.id} ({record.name}) {now}.")


@keys.command("list")
@click.option("--format", "shape", type=click.Choice(["table", "json"]), default="table", show_default=True)
@DATA_DIR
def show(*, shape: str, data_dir: Path) -> None:
    """List every key ever made: never its secret, only how it begins; with what it spent where it has a budget."""
    now = datetime.now(UTC)
    with exits():
        # Without a key file there is no need of a pepper, and `load_pepper` would make one (invariant 2).
        records = _store(data_dir).list() if (data_dir / KEYS_FILE).exists() else ()
        budgeted = any(record.limits.money for record in records)
        spent = spent_by_key(data_dir, now) if budgeted else {}
    now_ms = int(now.timestamp() * 1000)
    spends = [None if spent is None else spent.get(record.id, NOTHING) for record in records]
    each = list(zip(records, spends, strict=True))
    if shape == "json":
        click.echo(json.dumps([_row(record, now_ms, spend) for record, spend in each], ensure_ascii=False, indent=2))
    elif budgeted:
        cells = [(*_cells(record, now_ms), *spend_cells(record.limits, spend)) for record, spend in each]
        click.echo(_table((*_COLUMNS, *_SPEND_COLUMNS), cells))
    elif records:
        click.echo(_table(_COLUMNS, [_cells(record, now_ms) for record in records]))
    else:
        click.echo(f"No keys in {data_dir} yet: make one with `coe keys create --name NAME`.", err=True)


@keys.command("revoke")
@click.argument("key", metavar="ID_OR_NAME")
@DATA_DIR
def revoke(*, key: str, data_dir: Path) -> None:
    """Revoke a key by its id, or by its name when only one unrevoked key has it."""
    with exits():
        record = _existing(data_dir).revoke(key)
    click.echo(f"{record.id} ({record.name}) is revoked since {_instant(record.revoked_ms)}.")


def parse_expiry(text: str, now: datetime) -> datetime:
    """The instant `--expires` names: `30d` or `12h` from `now`, or the start of a day in UTC.

    Raises `InvalidRequest` when it is neither; whether it lies ahead is for `KeyStore.create` to say.
    """
    match = _LIFETIME.fullmatch(text)
    if match is not None:
        unit = timedelta(days=1) if match["unit"] == "d" else timedelta(hours=1)
        lifetime = int(match["count"]) * unit
        if lifetime <= timedelta(days=LIFETIME_DAYS_MAX):
            return now + lifetime
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise InvalidRequest(
            f"--expires takes a number of days or hours (30d, 12h; at most {LIFETIME_DAYS_MAX} days) or a day of the "
            "calendar (YYYY-MM-DD).",
            param="expires",
        ) from None


def _instant(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _row(record: KeyRecord, now_ms: int, spend: Spend | None) -> dict[str, object]:
    return {
        "id": record.id,
        "name": record.name,
        "hint": record.hint,
        "tags": list(record.tags),
        "models": list(record.models),
        "policies": list(record.policies),
        "limits": limits_row(record.limits),
        **spend_row(record.limits, spend),
        "created_at": _instant(record.created_ms),
        "expires_at": _instant(record.expires_ms),
        "revoked_at": _instant(record.revoked_ms),
        "status": record.status(now_ms),
        "note": record.note,
    }


def _cells(record: KeyRecord, now_ms: int) -> tuple[str, ...]:
    return (
        record.id,
        record.name,
        f"{record.hint}…",
        ",".join(record.tags) or "-",
        ",".join(record.models) or "all",
        ",".join(record.policies) or "all",
        record.limits.words() or "none",
        _instant(record.created_ms) or "-",
        _instant(record.expires_ms) or "never",
        record.status(now_ms),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = [columns, *rows]
    widths = [max(width(cell) for cell in column) for column in zip(*every, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in every
    )
