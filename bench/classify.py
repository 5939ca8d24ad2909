"""What a decision has to know of a text: intent, and how well each of a hundred models would do. Time per text.

A quality model of a hundred models is fitted on planted outcomes over the project's own corpus; then both are asked
about prompts of 20 to 10,000,000 characters, plain and dressed up, English and Chinese. Prints one table in
microseconds and the ratio to a plain prompt of 2,000 characters; asserts nothing. One thread, ends by itself.

    .venv/bin/python bench/classify.py
"""

from __future__ import annotations

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from classifiers import IntentClassifier
from classifiers.corpus import read_corpus
from classifiers.quality.fit import fit
from classifiers.quality.outcomes import read_outcomes
from classifiers.quality.reading import read_prompts
from classifiers.quality.scorer import QualityModel
from classifiers.taxonomy import INTENTS

MODELS = 100
LABELLED = 1_500
ROUNDS = 1_500
WARM_UP = 100
HUGE = 10_000_000

ENGLISH = (
    "Please have a look at the notes below (they are from Tuesday, sorry for the mess!) and tell me what we agreed on; "
    "I can't make sense of half of it. Anna wants 3 more people, Raj says no, and nobody wrote down the date. "
)
CHINESE = (
    "请帮我看一下下面的会议记录（周二的，写得有点乱，抱歉），告诉我最后大家同意了什么。小安想再要3个人，小陈说不行，"
    "而且没有人写下日期，我自己看了两遍也没弄明白。"
)
CODE = (
    "Why does this fail with a KeyError?\n\n"
    "def total(rows):\n    out = {}\n    for row in rows:\n        out[row['k']] += 1\n    return out\n"
)
DRESSED = "You are a world-class expert. This is extremely hard, think step by step.\n\n" + ENGLISH


def planted() -> QualityModel:
    """A hundred models that differ by intent and strength, learned from drawn outcomes."""
    generator = np.random.default_rng(7)
    prompts = [row for row in read_corpus(ROOT / "classifiers" / "corpus") if row.intent is not None]
    taken = generator.choice(len(prompts), LABELLED, replace=False)
    strength = generator.normal(0.5, 1.0, MODELS)
    tastes = generator.normal(0.0, 0.8, (MODELS, len(INTENTS)))
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as sink:
            for place in taken.tolist():
                row = prompts[place]
                skill = strength + tastes[:, INTENTS.index(str(row.intent))] - 0.5 * (row.difficulty - 2)
                scores = generator.random(MODELS) < 1.0 / (1.0 + np.exp(-skill))
                outcomes = {f"model-{n}": {"score": float(score)} for n, score in enumerate(scores)}
                record = {"id": row.id, "source": "planted", "category": row.intent, "language": row.language}
                sink.write(json.dumps({**record, "prompt": row.prompt, "outcomes": outcomes}) + "\n")
        rows = read_outcomes(path)
    return fit(rows, read_prompts(rows.prompts)).model


def measured(classifier: IntentClassifier, quality: QualityModel, text: str) -> tuple[float, float, float]:
    """Microseconds: (p50 of the intent alone, p50 and p99 of intent and qualities)."""
    turns = [("user", text)]
    alone, both = [], []
    for turn in range(WARM_UP + ROUNDS):
        begin = time.perf_counter_ns()
        judged, features = classifier.read(turns)
        middle = time.perf_counter_ns()
        if features is not None:
            quality.qualities(features, list(judged.posterior.values()), judged.language)
        end = time.perf_counter_ns()
        if turn >= WARM_UP:
            alone.append((middle - begin) / 1_000)
            both.append((end - begin) / 1_000)
    return float(np.median(alone)), *np.percentile(both, [50, 99]).tolist()


def cut(unit: str, characters: int) -> str:
    """A text of this length."""
    return (unit * (characters // len(unit) + 1))[:characters]


def main() -> None:
    """Fit, measure, print."""
    classifier, quality = IntentClassifier.load(), planted()
    cases = {
        "en, 2,000": cut(ENGLISH, 2_000),
        "zh, 2,000": cut(CHINESE, 2_000),
        "code, 2,000": cut(CODE, 2_000),
        "en, 200": cut(ENGLISH, 200),
        "zh, 200": cut(CHINESE, 200),
        "en, 20": cut(ENGLISH, 20),
        "dressed, 2,000": cut(DRESSED, 2_000),
        "en, 10,000,000": cut(ENGLISH, HUGE),
        "zh, 10,000,000": cut(CHINESE, HUGE),
        "no blanks, 10,000,000": "x" * HUGE,
    }
    print(f"{classifier.id}, {len(quality.models)} models; microseconds of wall time on one thread")
    print(f"{'prompt':24}{'intent p50':>12}{'all p50':>10}{'all p99':>10}{'ratio':>8}")
    first = 0.0
    for name, text in cases.items():
        alone, middle, high = measured(classifier, quality, text)
        first = first or middle
        print(f"{name:24}{alone:12.0f}{middle:10.0f}{high:10.0f}{middle / first:8.2f}")


if __name__ == "__main__":
    main()
