"""`coe train --lengths`: how long the answers of each model are, from the ledger and from files of outcomes.

Where on the path: beside it. Reads the ledger of a data directory, whether a router runs on it or not, and writes
`lengths.json` there; a router reads it at start and on SIGHUP.

Invariants
1. Only counts are read and written: no prompt leaves a file of outcomes.
2. What was left out is counted and told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from classifiers import IntentClassifier
from classifiers.quality.outcomes import read_outcomes
from service.cli.costs import catch_up, refuse_index
from service.cli.exits import EX_UNAVAILABLE
from service.cli.progress import bar
from service.cli.settings import fail, ledger_sink
from service.domain.catalog import Catalog
from service.domain.chat import count_characters, estimate_tokens
from service.domain.features import DEFAULT_EFFORT
from service.domain.lengths import AnswerLength
from service.learned import LENGTHS_FILE, registry_names, write_lengths
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import SinkFault, SinkMissing
from service.routing.learning import learn

REASONS = {
    "unknown_model": "of models that the registry does not have",
    "unknown_intent": "about nobody knows what",
    "cut": "cut at their cap",
    "empty": "without text",
}
"""Why answers are left out, as it is told."""

PROGRESS_EVERY = 500


def learn_lengths(
    catalog: Catalog, data_dir: Path, out: Path | None, outcomes: Path | None, since: datetime | None
) -> str:
    """Learn from the ledger and from outcomes, and write the table; what to tell of it.

    Ends the program when there is nothing to learn from. Raises RowError for outcomes that can't be read, OSError.
    """
    answers = from_ledger(data_dir, since)
    ledgered = len(answers)
    if outcomes is not None:
        answers.extend(from_outcomes(outcomes, catalog))
    learned = learn(answers, catalog.models)
    left_out = ", ".join(f"{count:,} {REASONS[name]}" for name, count in learned.left_out.items())
    if not learned.answers:
        fail(
            f"nothing to learn from in {data_dir}" + (f" (left out: {left_out})" if left_out else "") + "; serve whole "
            "answers first, or give --outcomes FILE with output tokens",
            EX_UNAVAILABLE,
        )
    path = out or data_dir / LENGTHS_FILE
    write_lengths(
        path,
        learned.lengths,
        {
            "answers": learned.answers,
            "ledger": ledgered,
            "outcomes": len(answers) - ledgered,
            "since": None if since is None else since.isoformat(),
            "left_out": dict(learned.left_out),
        },
    )
    told = f"{learned.lengths.version} from {learned.answers:,} answers written to {click.format_filename(path)}"
    return told + (f"; left out: {left_out}" if left_out else "") + ". A running router reads it on SIGHUP."


def from_ledger(data_dir: Path, since: datetime | None) -> list[AnswerLength]:
    """The answers of a data directory's ledger; none without a ledger."""
    sink = ledger_sink(data_dir)
    if not list_segments(journal_dir(data_dir)):
        return []
    catch_up(data_dir, sink)
    try:
        return sink.answers(None if since is None else round(since.timestamp() * 1000), None)
    except SinkMissing:
        return []
    except SinkFault as problem:
        refuse_index(problem)


def from_outcomes(path: Path, catalog: Catalog) -> Iterator[AnswerLength]:
    """The answers in a file of outcomes that have output tokens; what a row is about, the classifier says.

    Rows count the output that is billed, hidden tokens with it. Models keep their names where the registry does not
    know them. Raises RowError.
    """
    rows = read_outcomes(path)
    classifier, progress = IntentClassifier.load(), bar()
    names = registry_names(rows.models, catalog)
    for place, prompt in enumerate(rows.prompts):
        counted = [(column, tokens) for column, tokens in enumerate(rows.output_tokens[place].tolist()) if tokens > 0]
        if counted:
            read = classifier.predict([("user", prompt)])
            intent = "unsure" if read.abstained else read.label
            last = estimate_tokens(*count_characters(prompt))
            for column, tokens in counted:
                model = rows.models[column]
                yield AnswerLength(names.get(model, model), intent, DEFAULT_EFFORT, round(tokens), None, last)
        if (place + 1) % PROGRESS_EVERY == 0 or place + 1 == len(rows):
            progress(place + 1, len(rows), "reading outcomes")
