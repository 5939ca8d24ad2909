"""Settings for a command, and the house's configuration errors as exit codes."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click
from pydantic import ValidationError

from service.cli.exits import EX_CANTCREAT, EX_CONFIG, EX_TEMPFAIL
from service.config import Settings, environ, unknown_settings, variable
from service.errors import CoeError, ConfigurationError, RouterError
from service.ledger.writer import DataDirUnwritable
from service.startup import InstanceRunning


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


@contextmanager
def exits() -> Iterator[None]:
    """Turn the house's errors into one clear message and a sysexits code."""
    try:
        yield
    except InstanceRunning as problem:
        fail(str(problem), EX_TEMPFAIL)
    except DataDirUnwritable as problem:
        fail(str(problem), EX_CANTCREAT)
    except ConfigurationError as problem:
        fail(str(problem), EX_CONFIG)
    except RouterError as problem:
        fail(problem.message, EX_TEMPFAIL)
    except CoeError as problem:
        fail(problem.message, EX_CONFIG)
    except PermissionError as problem:
        fail(f"{problem.filename or 'a file'} can't be written: {problem.strerror}", EX_CANTCREAT)
    except OSError as problem:
        fail(f"{problem.filename or 'the system'}: {problem.strerror}", EX_CANTCREAT)


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
