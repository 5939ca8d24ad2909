"""`coe`: the command line. One file a command; `main` turns every way to fail into a clear line and an exit code."""

from __future__ import annotations

import sys

import click

from service import __version__
from service.cli import settings
from service.cli.check import check
from service.cli.costs import costs
from service.cli.economics import economics
from service.cli.evaluate import evaluate
from service.cli.exits import EX_USAGE
from service.cli.keys import keys
from service.cli.ledger import ledger
from service.cli.replay import command as replay
from service.cli.route import route
from service.cli.serve import serve
from service.cli.train import train

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="coe")
def cli() -> None:
    """One OpenAI-compatible entrance to many models: the cheapest capable one answers, every cent is written down."""


for command in (serve, check, route, costs, ledger, replay, keys, economics, train, evaluate):
    cli.add_command(command)


def main() -> None:
    """The console script: usage errors exit with 64, as sysexits has it, not with click's 2."""
    try:
        with settings.exits():
            code = cli.main(standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        sys.exit(EX_USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("coe: interrupted", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
