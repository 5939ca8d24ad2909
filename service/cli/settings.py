"""What every command shares: its settings and options, and every way to fail as one clear line and a sysexits code.

Where on the path: the command line only. A command does its work inside `exits()`; `cli.main` stands around all of
them with the same, as the last net.

Invariant: what a user, a file or a system can cause ends in one message on stderr. Only a defect shows a traceback.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import click
from pydantic import ValidationError

from classifiers import ArtefactError
from service.cli.exits import EX_CANTCREAT, EX_CONFIG, EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE
from service.config import Settings, environ, unknown_settings, variable
from service.domain.catalog import Catalog
from service.errors import CallerError, ConfigurationError, NoCandidate, RouterError
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import Sink
from service.ledger.writer import DataDirUnwritable
from service.startup import InstanceRunning, find_local, read_registry

CODES: Mapping[type[Exception], int] = {
    InstanceRunning: EX_TEMPFAIL,
    DataDirUnwritable: EX_CANTCREAT,
    ArtefactError: EX_CONFIG,
    ConfigurationError: EX_CONFIG,
    NoCandidate: EX_UNAVAILABLE,
    CallerError: EX_USAGE,
    RouterError: EX_TEMPFAIL,
}
"""The exit code of each error of the house; the first class that fits counts."""


def read_settings(**given: object) -> Settings:
    """Settings from the environment, with what the command line said on top; exits with 78 when they make no sense."""
    for name in unknown_settings(environ()):
        near = difflib.get_close_matches(name, [variable(one) for one in Settings.model_fields], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        click.echo(f"coe: {name} is not a setting of this version and changes nothing{hint}", err=True)
    said = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**said)  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as problem:
        lines = [f"{_place(one['loc'])}: {one['msg']}" for one in problem.errors(include_input=False)]
        fail("the settings make no sense:\n" + "\n".join(lines), EX_CONFIG)


def _place(location: tuple[int | str, ...]) -> str:
    """The variable that a problem is about; which of a flag and its variable was wrong, only the caller knows."""
    return variable(str(location[0])) if location else "COE_*"


def read_catalog(settings: Settings, now: datetime) -> Catalog:
    """The registry as `coe serve` would serve it: with what is found on loopback, unless COE_LOCAL_ENGINES says no."""
    return asyncio.run(find_local(read_registry(settings, now), settings, settings.port))


def ledger_sink(data_dir: Path) -> Sink:
    """The index that COE_LEDGER_URL says, of this data directory; raises ConfigurationError for one that is no URL."""
    return open_sink(data_dir, environ().get(variable("ledger_url")) or None)


@contextmanager
def exits() -> Iterator[None]:
    """Turn every foreseeable failure into one clear message and a sysexits code."""
    try:
        yield
    except tuple(CODES) as problem:
        unwritable = isinstance(problem, RouterError) and problem.code == "keys_unwritable"
        code = next(code for kind, code in CODES.items() if isinstance(problem, kind))
        fail(str(problem), EX_CANTCREAT if unwritable else code)
    except UnicodeEncodeError as problem:
        if problem.encoding.startswith("utf"):
            fail("an argument or a file name is not UTF-8; give it in UTF-8", EX_USAGE)
        fail(f"the text can't be written as {problem.encoding}; set PYTHONIOENCODING=utf-8", EX_CONFIG)
    except UnicodeDecodeError as problem:
        fail(f"the input is not {problem.encoding} (byte {problem.start}); give it in UTF-8", EX_USAGE)
    except BrokenPipeError:
        raise  # the reader of our output has seen enough (`| head`); click ends quietly
    except OSError as problem:
        where, why = problem.filename or "a file", problem.strerror or str(problem) or type(problem).__name__
        fail(f"{where} can't be read or written: {why}; check the path, its owner and the free space", EX_CANTCREAT)


def fail(message: str, code: int) -> NoReturn:
    """Say what was wrong on stderr and end."""
    click.echo(f"coe: {message}", err=True)
    sys.exit(code)


PROVIDERS = click.option(
    "--providers",
    type=click.Path(path_type=Path),
    default=None,
    help="The registry file. Default: COE_PROVIDERS, ./providers.yaml, or the one that ships with the package.",
)

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar=variable("data_dir"),
    default=Path("data"),
    show_default=True,
    help="Where the router keeps its files (COE_DATA_DIR).",
)
