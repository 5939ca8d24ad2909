"""`coe evaluate --intents FILE`: how good the intent classifier is on labelled rows, overall and per language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from classifiers import IntentClassifier
from classifiers.evaluate import confusion_cost, evaluate_intents
from classifiers.rows import RowError, read_rows
from service.cli.exits import EX_USAGE
from service.cli.progress import bar
from service.cli.settings import exits, fail

_MEASURES = ("n", "accuracy", "macro_f1", "ece", "coverage", "accuracy_covered")


@click.command()
@click.option(
    "--intents",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Labelled rows, .jsonl or .jsonl.gz: prompt, intent, language.",
)
@click.option(
    "--artefact",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="An artefact directory instead of the one that ships.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def evaluate(intents: Path, artefact: Path | None, as_json: bool) -> None:  # noqa: FBT001 # click passes flags this way
    """Measure accuracy, macro-F1, calibration error, coverage at the abstention threshold, and the confusions."""
    with exits():
        classifier = IntentClassifier.load(artefact)
        try:
            rows = read_rows(intents)
        except RowError as problem:
            fail(str(problem), EX_USAGE)
        report = evaluate_intents(classifier, rows, bar())
        click.echo(json.dumps(report, ensure_ascii=False) if as_json else "\n".join(_table(report)))


def _table(report: dict[str, Any]) -> list[str]:
    """The measures by language, what confusions cost, and the commonest confusions."""
    lines = [f"{'':<10}" + "".join(f"{name:>18}" for name in _MEASURES)]
    for part in ("overall", "en", "zh"):
        cells = (report[part][name] for name in _MEASURES)
        shown = ("-" if cell is None else f"{cell:,}" if isinstance(cell, int) else f"{cell:.3f}" for cell in cells)
        lines.append(f"{part:<10}" + "".join(f"{cell:>18}" for cell in shown))
    lines.append("")
    lines.extend(
        f"{name.replace('_', ' ')}: {'-' if share is None else f'{share:.3f}'}"
        for name, share in confusion_cost(report).items()
    )
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
