"""`coe check`: the same code as start-up, on the same file, without serving. Exit 78 when the file is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from service.catalog.check import check as check_catalog
from service.catalog.report import render
from service.catalog.schema import json_schema
from service.cli.settings import PROVIDERS, exits, read_catalog, read_settings
from service.startup import registry_path


@click.command()
@PROVIDERS
@click.option("--schema", is_flag=True, help="Print the JSON schema of the registry file, for editors.")
def check(providers: Path | None, schema: bool) -> None:  # noqa: FBT001 # click passes flags this way
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
