"""The card of a quality artefact: what it is, what it was made of, how good it is beside controls, where it fails.

Where on the path: beside it; `train` writes what `render` returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from classifiers.anchors import BUCKETS
from classifiers.quality.anchors import ANCHORS
from classifiers.quality.scorer import PRIOR_LABELS

LOCATIONS_SHOWN: Final = 40
"""Categories and models listed by name; the rest is summed up."""

COLUMNS: Final = ("aiq", "accuracy_max", "accuracy_at_best_single_cost", "auc", "brier", "ece")
SAVED: Final = ("0.95", "0.98", "1.0")

_ABOUT: Final = """\
A quality model: p(acceptable | request, model) for {models} models, from the text of the last user turn, its language
and its intent posterior. {buckets:,} of {all_buckets:,} hashed features are known to it; each is a row of 64 int8. It
holds no prompt of its training data. Registry priors, where given, count as {prior:g} labels.
"""

_HOW: Final = """\
Views (mean of logits, weights by likelihood on unseen predictions; the first is for what a view says of all models
alike, the second for what it says of one against another): {weights}. Topics come from {topics}. Slopes per model by
Platt's method. On ground that looks unknown the best single model is left only for an advantage that is clearer than
usual, or not at all; {shut:.0%} of the training rows deserve less than full trust by that. Margin for leaving it on
known ground: {margin}.
"""

_MEASURED: Final = """\
Measured on {test:,} of the rows that a fit on the other {train:,} never saw (split by MD5 of the id, or the given test
file), with the run-time form; the shipped weights are then fitted on all rows. The validated setting was picked on
predictions by folds inside the training part. Controls expect one price per model; the category table is told the true
category, which no router in service knows.
"""

_ANCHORS: Final = """\
Each model in turn was taken out, and placed again by its outcomes on {count} anchor prompts; the figures are for that
model's column on the measured part. AUC tells good from bad answers, log loss also minds the level.
"""

_TRIED: Final = """\
Tried while the method was built, on training parts of five public sets: one plateau, differences of less than half a
point are noise. Test parts of those sets were looked at along the way, and the pull of the blend and the gates were set
after such looks, so figures on those sets are a little kind; only sets nobody has seen settle it.
helped: topics from category names (most of all; ridge scores sharpened by a temperature beat logistic regression),
expected cost by topic and size instead of one price, mean of logits of unlike views, separate weights for what a view
says of all models and of one against another, stronger smoothing of linear scores than leave-one-out error asks for, a
margin for leaving the best single model, a detector of unknown ground from nine signs instead of one. A detector that
only raises this margin does less harm on left-out categories, and costs less on known ground, than one that damps all
that was learned; and damping the 4 % of rows with the least known words had cost a quarter of a point of AIQ (now 1 %).
Thresholds picked with 1.5 standard errors to spare keep their target more often than with one.
made no difference: weight of tables' shrinkage, number of clusters, dimensions, renormalised rows, latent factors with
a penalty each, k nearest neighbours beside clusters, dense length and punctuation columns, shrinking the differences
between models further. Reading more of the text does next to nothing: features of their own over the first and last
1,500 characters instead of the 500 and 200 that the intent classifier reads (words, pairs, stems, endings, single Han
characters and pairs, openings and endings of texts and last lines, the last paragraph by itself, n-grams of 2 to 5
characters) moved AIQ by 0.0006 on training parts and 0.0025 on test parts, the mean of four sets; with 500 characters
at either end by as much. Logistic regression per model on whole texts (word 1-2-grams, character 2-5-grams, three
penalties) is below the blend on every training part, and added to it changes nothing.
left out category by category: on every other row of a set of fourteen, one category of those with 50 rows or more
(questions from all subjects) loses 2.4 points at the best single model's own cost, one loses half a point, the others
nothing; on four other sets (seven categories of the largest) none loses more than a tenth of a point. That costs half
a point of accuracy on known ground.
hurt: gates on one sign alone, a strong pull of the blend to equal shares on large sets, damping a tenth of known
ground. Features without character n-grams cost a little (up to half a point of AIQ).
what limits it: inside a category the text says next to nothing about which of two good models will fail (correlation
below .1 on multiple choice questions). On one set a table of true categories filled from the test part itself saves
48 % at 98 % of the quality; 65 % would need what prompts don't show. Cost saved at 98 % is a noisy figure: on 650 rows
its standard error is 13 points, that of AIQ 1.2.
"""

_HOLES: Final = """\
- It knows the models and the kinds of prompts in its outcomes, and scores as the source gave them: what a benchmark
  calls correct is not what every person calls good.
- Difficulty inside a category is hardly visible in the text; most of what is known is which model does well on what.
- Fewer than a hundred test rows per category: their order among near-equal models is a guess.
"""


def _number(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> list[str]:
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines.extend(f"| {name} | " + " | ".join(_number(cell) for cell in cells) + " |" for name, cells in rows)
    return [*lines, ""]


def measured(report: Mapping[str, Any]) -> list[str]:
    """Router and controls in one table, and the reference points."""
    rows: list[tuple[str, Sequence[object]]] = []
    for name, found in (("router", report["router"]), *report["controls"].items()):
        saved = [found["saved_at"][share] for share in SAVED]
        kept = [found["validated"]["quality_kept"], found["validated"]["saved"]]
        rows.append((name, [found["aiq"], found["accuracy_max"], *saved, *kept, found["auc"], found["brier"]]))
    columns = ("AIQ", "accuracy max", *(f"saved at {share}" for share in SAVED), "kept", "saved", "AUC", "Brier")
    best, oracle = report["best_single"], report["oracle"]
    return [
        *_table("", columns, rows),
        f"Best single model: {best['model']}, {_number(best['score'])}; oracle {_number(oracle['score'])};",
        f"single models mixed by lot: AIQ {_number(report['zero_router_aiq'])};",
        f"ECE of the router: {_number(report['router']['ece'])}.",
        "",
    ]


def _counts(title: str, counts: Mapping[str, int]) -> list[str]:
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = shown[LOCATIONS_SHOWN:]
    rows: list[tuple[str, Sequence[object]]] = [(name or "(none)", [count]) for name, count in shown[:LOCATIONS_SHOWN]]
    if rest:
        rows.append((f"({len(rest)} more)", [sum(count for _, count in rest)]))
    return _table(title, ["rows"], rows)


def render(identity: str, manifest: Mapping[str, Any], report: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The card as Markdown. `report` is that of `evaluate_outcomes`; `figures` hold what `train` measured besides."""
    data, fitted, versions = manifest["data"], manifest["fitted"], manifest["versions"]
    weights = ", ".join(
        f"{name} {share['common']:.2f} and {share['apart']:.2f}" for name, share in fitted["weights"].items()
    )
    margin = "never left" if fitted["margin"] > 1e3 else f"{fitted['margin']:g} logits"
    about = _ABOUT.format(
        models=len(manifest["models"]), buckets=figures["buckets"], all_buckets=BUCKETS, prior=PRIOR_LABELS
    )
    anchored: list[tuple[str, Sequence[object]]] = [
        (name, [row[key] for key in ("auc_anchors", "auc_full", "loss_anchors", "loss_full")])
        for name, row in figures["anchors"].items()
    ]
    lines = [
        *[f"# {identity}", "", about],
        *["## Made of", "", f"{data['file']} (SHA-256 `{data['sha256'][:16]}…`), {data['rows']:,} rows.", ""],
        *[f"Sources: {'; '.join(data['sources']) or 'not recorded'}.", ""],
        *_counts("language", data["languages"]),
        *_counts("category", data["categories"]),
        *_counts("model (outcomes)", data["outcomes"]),
        *["## How", ""],
        _HOW.format(weights=weights, topics=fitted["topics"], shut=fitted["shut"], margin=margin),
        *["## How good", "", _MEASURED.format(test=report["n_test"], train=report["n_train"])],
        *measured(report),
    ]
    if anchored:
        columns = ["AUC, anchors", "AUC, all outcomes", "log loss, anchors", "log loss, all outcomes"]
        lines += [
            "## A model added by anchors",
            "",
            _ANCHORS.format(count=ANCHORS),
            *_table("model", columns, anchored),
        ]
    lines += [
        *["## How fast", ""],
        f"`qualities` for one prompt on one thread, features already there: p50 {figures['p50_us']:.0f} µs,",
        f"p99 {figures['p99_us']:.0f} µs of CPU time, on the machine that trained it and that others were using.",
        *["", "## What was tried", "", _TRIED],
        *["## Known holes", "", _HOLES],
        *["## Make it again", ""],
        f"`coe train --outcomes` with the same file, seed {manifest['seed']}, numpy {versions['numpy']},",
        f"scipy {versions['scipy']}, scikit-learn {versions['scikit-learn']}.",
        "",
    ]
    return "\n".join(lines)
