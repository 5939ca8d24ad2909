"""The card of an artefact: what it is, what it was made of, how good it is, where it fails. Text from figures, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from classifiers.calibration import ACCURACY_WANTED
from classifiers.features import BUCKETS, HEAD_CHARS, TAIL_CHARS
from classifiers.timing import Timing

SOURCES: Final = (
    ("T0-P3", "Apache-2.0 templates; the licences of the wrapped data sets vary"),
    ("clinc-oos", "CC BY 3.0"),
    ("MMLU", "MIT"),
    ("AGIEval", "MIT / Apache-2.0 (without LogiQA)"),
    ("TaskBench", "MIT"),
    ("LawBench", "Apache-2.0"),
    ("GSM8K", "MIT"),
    ("MBPP", "CC BY 4.0 upstream"),
    ("ALMA-WMT", "MIT; prompt wrappers are made up"),
    ("BELLE", "Apache-2.0 seed tasks"),
    ("self-instruct", "Apache-2.0 seed tasks"),
)

_COLUMNS: Final = ("n", "accuracy", "macro_f1", "ece", "coverage", "accuracy_covered")


def _number(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def _table(reports: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    lines = ["| rows | " + " | ".join(_COLUMNS) + " |", "|---|" + "--:|" * len(_COLUMNS)]
    for title, report in reports:
        for part in ("overall", "en", "zh"):
            cells = " | ".join(_number(report[part][column]) for column in _COLUMNS)
            lines.append(f"| {title}, {part} | {cells} |")
    return lines


def _sources(counts: Mapping[str, int], corpus: Mapping[str, int]) -> list[str]:
    lines = ["| source | licence | en | zh |", "|---|---|--:|--:|"]
    licences = dict(SOURCES)
    for group in sorted({key.rsplit(" ", 1)[0] for key in counts}):
        licence = licences.get(group, "not recorded")
        lines.append(f"| {group} | {licence} | {counts.get(f'{group} en', 0)} | {counts.get(f'{group} zh', 0)} |")
    for group in sorted({key.rsplit(" ", 1)[0] for key in corpus}):
        lines.append(
            f"| {group} (this project's own corpus) | as the project | {corpus.get(f'{group} en', 0)} "
            f"| {corpus.get(f'{group} zh', 0)} |"
        )
    return lines


def _timings(timings: Sequence[Timing]) -> list[str]:
    lines = ["| prompt | p50 µs | p99 µs |", "|---|--:|--:|"]
    lines += [f"| {t.language}, {t.characters:,} characters | {t.p50_us:.0f} | {t.p99_us:.0f} |" for t in timings]
    return lines


def _groups(table: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = ("n", "accuracy", "macro_f1", "known_n", "known_accuracy")
    lines = ["| source left out | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {row['group']} | " + " | ".join(_number(row[column]) for column in columns) + " |" for row in table]
    return lines


def _measured(figures: Mapping[str, Any]) -> list[str]:
    main = [("source left out, all rows", figures["left_out"])]
    main.append(("source left out, intent and language still in training", figures["left_out_known"]))
    main.append(("own corpus, fold left out", figures["corpus"]))
    if "probe" in figures:
        main.append(("own probe, small", figures["probe"]))
    controls = [
        ("majority, sources left out", figures["majority"]),
        ("keywords, sources left out", figures["keywords"]),
    ]
    controls.append(("keywords, own corpus", figures["corpus_keywords"]))
    if "probe_keywords" in figures:
        controls.append(("keywords, own probe", figures["probe_keywords"]))
    cost = figures["left_out_cost"]
    return [
        "## How good",
        "",
        "A fold leaves out a whole source group (the part of the source's name before the slash, so all of AGIEval is one",
        "group) and trains on the other groups and the project's corpus. Some groups hold nearly all public rows of an",
        "intent in a language; the second block leaves such rows out when the corpus doesn't hold the pair either. Where",
        "the corpus holds every pair, both blocks are the same. Temperatures and thresholds are those fitted without the",
        "judged group.",
        "",
        *_table(main),
        "",
        "Controls: always the most frequent intent; the intent with the most cue words.",
        "",
        *_table(controls),
        "",
        f"Cost of confusions with sources left out: {_number(cost['strong_to_cheap'])} of the strong-tier prompts would go to a "
        f"cheap tier, {_number(cost['cheap_to_strong'])} of the cheap ones to a strong tier.",
        "",
        *_groups(figures["groups"]),
        "",
        f"Random 80/20 split of all rows: accuracy {_number(figures['random']['accuracy'])}. **This number flatters**: test rows "
        "come from the templates of the training rows. Don't quote it.",
        "",
    ]


def render(identity: str, manifest: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    data = manifest["data"]
    temperatures, thresholds = manifest["temperatures"], manifest["thresholds"]
    versions = manifest["versions"]
    lines = [
        f"# {identity}",
        "",
        "A linear intent classifier for English and Chinese: 15 intents, calibrated, with abstention. It reads at most",
        f"{HEAD_CHARS:,} characters from the start and {TAIL_CHARS:,} from the end of the last user turn, and less of the two before it.",
        f"{BUCKETS:,} hashed features (words, word pairs, character n-grams, openings and endings) plus structural flags;",
        "weights are float16. It holds no sentence of its training data.",
        "",
        "## Made of",
        "",
        *_sources(data["counts"]["source_language"], data["corpus_counts"]["source_language"]),
        "",
        "Rows with an uncertain label mapping are dropped before the counts. At most "
        f"{manifest['solver']['rows_per_cell']} rows of one (source, language, intent) are used; "
        f"{manifest['solver']['rows']} rows in all. Every (intent, language) pair has the same mass, shared among its sources; "
        f"the project's own corpus has {manifest['solver']['corpus_mass']:g} times that per pair. Groups of cue words "
        "(`cues.yaml`) share a weight across both languages.",
        "",
        *_measured(figures),
        "## Calibration and abstention",
        "",
        "| language | temperature | threshold |",
        "|---|--:|--:|",
        *[f"| {language} | {temperatures[language]:.3f} | {thresholds[language]:.2f} |" for language in temperatures],
        "",
        f"The threshold is the lowest confidence at which covered rows reach an accuracy of {ACCURACY_WANTED:.2f} on predictions",
        "for left-out sources and folds: half of the mass is the own corpus, half the public groups, equally. Other languages",
        "were not measured; they take the more careful numbers.",
        "",
        "## How fast",
        "",
        "`predict` on one thread, on the machine that trained it; shared, so take the ratios rather than the figures.",
        "",
        *_timings(figures["timings"]),
        "",
        "## Known holes",
        "",
        "- Public rows: no Chinese small talk or tool use, next to no Chinese writing, coding, advice or logic, no roleplay;",
        "  compound means several tool calls there. The project's own corpus is the only source for these, and it is small.",
        "- Corpus, cue words and probe come from the same authors. Figures on them are kinder than strangers' prompts will be;",
        "  figures on left-out exam sources are harsher.",
        "- Languages other than English and Chinese are recognised, not understood: expect abstention.",
        "- The intent alone is no safe cost gate. Combine it with abstention, structure and escalation.",
        "- `tool_use` is better read from the request's `tools` field when there is one.",
        "",
        "## Make it again",
        "",
        f"`coe train` with the same row file (SHA-256 `{data['sha256'][:16]}…`), the corpus of this commit (`{data['corpus_sha256'][:16]}…`)",
        f"and seed {manifest['seed']}; numpy {versions['numpy']}, scipy {versions['scipy']}, scikit-learn {versions['scikit-learn']}. "
        "The same versions give the same bytes of `weights.npz`.",
        "",
    ]
    return "\n".join(lines)
