"""`coe train`: the intent classifier (`--data`), a quality model (`--outcomes`), how long answers are (`--lengths`).

One deterministic command each. The first two need scikit-learn, which serving does not: the extra `train`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from classifiers.rows import RowError
from service.cli.costs import parse_moment
from service.cli.exits import EX_UNAVAILABLE, EX_USAGE
from service.cli.lengths import learn_lengths
from service.cli.progress import bar
from service.cli.settings import DATA_DIR, PROVIDERS, exits, fail, read_catalog, read_settings

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
@click.option(
    "--lengths", is_flag=True, help="Learn how long answers are from the ledger, and from --outcomes where given."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="The directory of the artefact. With --lengths: the file, default lengths.json in the data directory.",
)
@click.option(
    "--corpus", type=_FOLDER, default=None, help="A folder of own prompts instead of the ones that ship. With --data."
)
@click.option("--probe", type=_FILE, default=None, help="Rows that are judged and never trained on. With --data.")
@click.option(
    "--test", type=_FILE, default=None, help="Outcomes that are judged and never trained on. With --outcomes."
)
@click.option("--prices", type=_FILE, default=None, help="USD per 1M tokens by model, JSON or YAML. With --outcomes.")
@click.option("--seed", type=int, default=SEED, show_default=True, help="The same seed and rows give the same bytes.")
@click.option(
    "--since", metavar="WHEN", help="Answers from: 2026-11-01, 2026-11-01T08:00Z, or 24h, 30d ago. With --lengths."
)
@DATA_DIR
@PROVIDERS
def train(  # noqa: PLR0913 # click passes every option by name
    *,
    data: Path | None,
    outcomes: Path | None,
    lengths: bool,
    out: Path | None,
    corpus: Path | None,
    probe: Path | None,
    test: Path | None,
    prices: Path | None,
    seed: int,
    since: str | None,
    data_dir: Path,
    providers: Path | None,
) -> None:
    """Train the intent classifier, a quality model, or the table of answer lengths."""
    if lengths:
        if any(one is not None for one in (data, corpus, probe, test, prices)):
            fail("--lengths goes with --outcomes, --since, --out, --data-dir and --providers only", EX_USAGE)
        _lengths(out, outcomes, since, data_dir, providers)
        return
    if since is not None:
        fail("--since goes with --lengths", EX_USAGE)
    if out is None:
        fail("give --out DIR, where the artefact is to be written", EX_USAGE)
    if (data is None) == (outcomes is None):
        fail("give either --data FILE or --outcomes FILE, or --lengths", EX_USAGE)
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


def _lengths(
    out: Path | None, outcomes: Path | None, since: str | None, data_dir: Path, providers: Path | None
) -> None:
    now = datetime.now(UTC)
    start = None if since is None else parse_moment(since, now, option="--since", is_end=False)
    settings = read_settings(providers=providers)
    with exits():
        catalog = read_catalog(settings, now)
        try:
            told = learn_lengths(catalog, data_dir, out, outcomes, start)
        except RowError as problem:
            fail(str(problem), EX_USAGE)
    click.echo(told)


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
