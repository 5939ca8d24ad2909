"""`coe evaluate`: how good the intent classifier is (`--intents`), or what routing is worth (`--outcomes`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from classifiers import IntentClassifier
from classifiers.evaluate import confusion_cost, evaluate_intents
from classifiers.rows import RowError, read_rows
from service.cli.exits import EX_UNAVAILABLE, EX_USAGE
from service.cli.progress import bar
from service.cli.settings import exits, fail

_MEASURES = ("n", "accuracy", "macro_f1", "ece", "coverage", "accuracy_covered")
_SHARES = ("0.95", "0.98", "1.0")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--intents", type=_FILE, default=None, help="Labelled rows, .jsonl or .jsonl.gz: prompt, intent, language."
)
@click.option(
    "--outcomes", type=_FILE, default=None, help="TRAIN: rows of outcomes by model, .jsonl or .jsonl.gz. Or --intents."
)
@click.option("--test", type=_FILE, default=None, help="TEST: rows of outcomes to judge on. Default: a part of TRAIN.")
@click.option(
    "--prices", type=_FILE, default=None, help="USD per 1M tokens by model, JSON or YAML, where costs are missing."
)
@click.option(
    "--artefact",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="An intent artefact directory instead of the one that ships.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def evaluate(
    intents: Path | None,
    outcomes: Path | None,
    test: Path | None,
    prices: Path | None,
    artefact: Path | None,
    as_json: bool,  # noqa: FBT001 # click passes flags this way
) -> None:
    """Measure the intent classifier on labelled rows, or routing on rows of outcomes, beside its controls."""
    if (intents is None) == (outcomes is None):
        fail("give either --intents FILE or --outcomes TRAIN", EX_USAGE)
    if intents is not None and (test is not None or prices is not None):
        fail("--test and --prices go with --outcomes", EX_USAGE)
    with exits():
        classifier = IntentClassifier.load(artefact)
        try:
            report = _intents(classifier, intents) if intents else _outcomes(classifier, outcomes, test, prices)
        except RowError as problem:
            fail(str(problem), EX_USAGE)
        table = _intent_table if intents else _outcome_table
        click.echo(json.dumps(report, ensure_ascii=False) if as_json else "\n".join(table(report)))


def _intents(classifier: IntentClassifier, path: Path) -> dict[str, Any]:
    return evaluate_intents(classifier, read_rows(path), bar())


def _outcomes(
    classifier: IntentClassifier, train: Path | None, test: Path | None, prices: Path | None
) -> dict[str, Any]:
    """The report on outcomes; what had to be left out is said on stderr."""
    try:
        from classifiers.quality.evaluate import evaluate_prepared, prepare  # noqa: PLC0415 # scikit-learn is not there to serve
        from classifiers.quality.outcomes import read_outcomes  # noqa: PLC0415 # scikit-learn is not there to serve
        from classifiers.quality.prices import read_prices  # noqa: PLC0415 # scikit-learn is not there to serve
    except ImportError:
        fail("this needs scikit-learn: install the extra with `pip install 'coe-router[train]'`", EX_UNAVAILABLE)
    if train is None:
        fail("give --outcomes TRAIN", EX_USAGE)
    prepared = prepare(
        read_outcomes(train),
        read_outcomes(test) if test is not None else None,
        read_prices(prices) if prices is not None else None,
    )
    for note in prepared.notes:
        click.echo(f"coe: {note}", err=True)
    return evaluate_prepared(prepared, intents=classifier, progress=bar())[0]


def _intent_table(report: dict[str, Any]) -> list[str]:
    """The measures by language, what confusions cost, and the commonest confusions."""
    lines = [f"{'':<10}" + "".join(f"{name:>18}" for name in _MEASURES)]
    for part in ("overall", "en", "zh"):
        cells = (report[part][name] for name in _MEASURES)
        lines.append(f"{part:<10}" + "".join(f"{_cell(cell):>18}" for cell in cells))
    lines.append("")
    lines.extend(f"{name.replace('_', ' ')}: {_cell(share)}" for name, share in confusion_cost(report).items())
    labels, matrix = report["confusion"]["labels"], report["confusion"]["matrix"]
    wrong = sorted(
        (
            (count, labels[true], labels[predicted])
            for true, row in enumerate(matrix)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ),
        reverse=True,
    )
    lines.append("")
    lines.append("commonest confusions (true → predicted)")
    lines.extend(f"{count:>8,}  {true} → {predicted}" for count, true, predicted in wrong[:8])
    return lines


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _outcome_table(report: dict[str, Any]) -> list[str]:
    """What the models are worth by themselves, then the router beside its controls."""
    lines = [f"{report['n_train']:,} rows of TRAIN, {report['n_test']:,} of TEST, {len(report['models'])} models", ""]
    for name in ("best_single", "cheapest", "random", "oracle"):
        one = report[name]
        cost = "cost unknown" if one["cost"] is None else f"{one['cost']:.6f} USD a request"
        lines.append(f"{name.replace('_', ' '):<14}{one['score']:>8.3f}  {cost}  {one.get('model', '')}".rstrip())
    heads = ("aiq", "accuracy", *(f"saved@{share}" for share in _SHARES), "kept", "saved", "apgr", "auc", "ece")
    lines += ["", f"{'':<18}" + "".join(f"{head:>11}" for head in heads)]
    for name, found in (("router", report["router"]), *report["controls"].items()):
        cells = [found["aiq"], found["accuracy_max"], *(found["saved_at"][share] for share in _SHARES)]
        cells += [found["validated"]["quality_kept"], found["validated"]["saved"]]
        cells += [found["apgr"], found["auc"], found["ece"]]
        lines.append(f"{name:<18}" + "".join(f"{_cell(cell):>11}" for cell in cells))
    return [
        *lines,
        "",
        f"zero-router AIQ {_cell(report['zero_router_aiq'])}: single models mixed by lot.",
        "saved@s: cost saved against the best single model at the share s of its quality, read off TEST.",
        "kept, saved: the setting validated on TRAIN for 0.98 of that quality, applied once.",
    ]
