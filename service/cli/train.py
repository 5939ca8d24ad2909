"""`coe train`: the intent classifier from labelled rows (`--data`), or a quality model from outcomes (`--outcomes`).

One deterministic command each. Needs scikit-learn, which serving does not: the extra `train`.
"""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.exits import EX_UNAVAILABLE, EX_USAGE
from service.cli.progress import bar
from service.cli.settings import exits, fail

SEED = 7

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option(
    "--data", type=_FILE, default=None, help="Labelled rows, .jsonl or .jsonl.gz: trains the intent classifier."
)
@click.option(
    "--outcomes", type=_FILE, default=None, help="Rows of outcomes by model: trains a quality model. Or --data."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The directory of the artefact.")
@click.option(
    "--corpus", type=_FOLDER, default=None, help="A folder of own prompts instead of the ones that ship. With --data."
)
@click.option("--probe", type=_FILE, default=None, help="Rows that are judged and never trained on. With --data.")
@click.option(
    "--test", type=_FILE, default=None, help="Outcomes that are judged and never trained on. With --outcomes."
)
@click.option("--prices", type=_FILE, default=None, help="USD per 1M tokens by model, JSON or YAML. With --outcomes.")
@click.option("--seed", type=int, default=SEED, show_default=True, help="The same seed and rows give the same bytes.")
def train(
    data: Path | None,
    outcomes: Path | None,
    out: Path,
    corpus: Path | None,
    probe: Path | None,
    test: Path | None,
    prices: Path | None,
    seed: int,
) -> None:
    """Train the intent classifier, or a quality model, and write weights, manifest and card."""
    if (data is None) == (outcomes is None):
        fail("give either --data FILE or --outcomes FILE", EX_USAGE)
    if data is not None and (test is not None or prices is not None):
        fail("--test and --prices go with --outcomes", EX_USAGE)
    if outcomes is not None and (corpus is not None or probe is not None):
        fail("--corpus and --probe go with --data", EX_USAGE)
    try:
        with exits():
            try:
                made = (
                    _intents(data, out, corpus, probe, seed)
                    if data is not None
                    else _quality(outcomes, out, test, prices, seed)
                )
            except ValueError as problem:
                fail(str(problem), EX_USAGE)
    except ImportError:
        fail("training needs scikit-learn: install the extra with `pip install 'coe-router[train]'`", EX_UNAVAILABLE)
    click.echo(f"{made} written to {click.format_filename(out)}; its card is CARD.md there")


def _intents(data: Path, out: Path, corpus: Path | None, probe: Path | None, seed: int) -> str:
    from classifiers.train import train as run  # noqa: PLC0415 # scikit-learn is not there to serve

    return run(data, out, seed=seed, progress=bar(), corpus=corpus, probe=probe).id


def _quality(outcomes: Path | None, out: Path, test: Path | None, prices: Path | None, seed: int) -> str:
    from classifiers import IntentClassifier  # noqa: PLC0415 # scikit-learn is not there to serve
    from classifiers.quality.prices import read_prices  # noqa: PLC0415 # scikit-learn is not there to serve
    from classifiers.quality.train import train_quality  # noqa: PLC0415 # scikit-learn is not there to serve

    if outcomes is None:
        fail("give --outcomes FILE", EX_USAGE)
    return train_quality(
        outcomes,
        out,
        test=test,
        prices=read_prices(prices) if prices is not None else None,
        intents=IntentClassifier.load(),
        seed=seed,
        progress=bar(),
    ).id
