"""`coe check`: the same code as start-up, on the same file, without serving; then the policy tests.

Exit 78 when the file is wrong, when a file of cases is, or when a case fails.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from classifiers import IntentClassifier
from service.catalog.check import check as check_catalog
from service.catalog.report import render
from service.catalog.schema import json_schema
from service.cli.exits import EX_CONFIG
from service.cli.policy_cases import read_folder
from service.cli.policy_runs import run
from service.cli.settings import PROVIDERS, exits, fail, read_catalog, read_settings
from service.config import Settings
from service.startup import read_registry, registry_path

POLICY_TESTS = "policy-tests"
"""The folder beside the registry file whose cases are run unasked."""


@click.command()
@PROVIDERS
@click.option("--schema", is_flag=True, help="Print the JSON schema of the registry file, for editors.")
@click.option(
    "--policy-tests",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Run the cases of this folder's *.yaml too. Default: policy-tests beside the registry file, when it is there.",
)
def check(providers: Path | None, schema: bool, policy_tests: Path | None) -> None:  # noqa: FBT001 # click passes flags this way
    """Check the registry: errors with file:line:column; then what is inactive, unpriced, retired, out of reach."""
    if schema:
        click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    settings = read_settings(providers=providers)
    now = datetime.now(UTC)
    with exits():
        catalog = read_catalog(settings, now)
        click.echo(f"{click.format_filename(registry_path(settings))}: ok")
        click.echo(render(check_catalog(catalog, now=now)))
        beside = registry_path(settings).parent / POLICY_TESTS
        if policy_tests is not None or beside.is_dir():
            _check_policies(settings, policy_tests or beside, now)


def _check_policies(settings: Settings, folder: Path, now: datetime) -> None:
    """Run the cases of a folder; what was found is told for each that fails, and the command ends with 78.

    The registry is taken without what happens to run on loopback: a case says the same on every machine.
    """
    files = read_folder(folder)
    if not files:
        fail(f"{click.format_filename(folder)}: no *.yaml with cases; add one, or leave --policy-tests out", EX_CONFIG)
    verdicts = list(run(files, read_registry(settings, now), IntentClassifier.load()))
    failed = [one for one in verdicts if not one.passed]
    for one in failed:
        click.echo(one.told(), err=True)
    told = f"policy tests in {click.format_filename(folder)}: {len(verdicts) - len(failed)} of {len(verdicts)} passed"
    if failed:
        fail(told, EX_CONFIG)
    click.echo(told)
