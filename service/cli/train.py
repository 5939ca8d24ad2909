"""`coe train`: the intent classifier from labelled rows, one deterministic command.

Needs scikit-learn, which serving does not: the extra `train`.
"""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.exits import EX_UNAVAILABLE, EX_USAGE
from service.cli.progress import bar
from service.cli.settings import exits, fail

SEED = 7

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--data", type=_FILE, required=True, help="Labelled rows, .jsonl or .jsonl.gz.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The directory of the artefact.")
@click.option("--corpus", type=_FILE, default=None, help="Own prompts instead of the ones that ship.")
@click.option("--probe", type=_FILE, default=None, help="Rows that are judged and never trained on.")
@click.option("--seed", type=int, default=SEED, show_default=True, help="The same seed and rows give the same bytes.")
def train(data: Path, out: Path, corpus: Path | None, probe: Path | None, seed: int) -> None:
    """Train the intent classifier and write weights, manifest and card."""
    try:
        from classifiers.train import train as run  # noqa: PLC0415 # scikit-learn is not there to serve
    except ImportError:
        fail("training needs scikit-learn: install the extra with `pip install 'coe-router[train]'`", EX_UNAVAILABLE)
    with exits():
        try:
            trained = run(data, out, seed=seed, progress=bar(), corpus=corpus, probe=probe)
        except ValueError as problem:
            fail(str(problem), EX_USAGE)
        click.echo(f"{trained.id} written to {click.format_filename(out)}; its card is CARD.md there")
