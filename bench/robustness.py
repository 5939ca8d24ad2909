"""How far a dressed-up prompt can push a choice: every attack of tests/attacks.py on a thousand of our own prompts.

Each attacked text is read by the shipped classifier and decided with the token counts of the untouched prompt, over the
shipped registry with a key for every provider. So a dearer choice is the classifier's doing alone. A choice is priced
at 1,000 input and 500 output tokens and the hidden tokens of its model.

    .venv/bin/python bench/robustness.py [--prompts 1000] [--write]

Prints the table; `--write` also puts it into docs/robustness.md. Asserts nothing. Some seven minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from attacks import MORE_WORK, Turns, Variant, WhiteBox, edges, fixed_families  # the attacks live with the tests
from scenery import a_chat

from classifiers import IntentClassifier
from classifiers.corpus import read_corpus
from classifiers.rows import Row
from classifiers.taxonomy import EVERYDAY
from service.catalog.load import load
from service.domain.access import ANONYMOUS
from service.domain.catalog import Catalog
from service.domain.decision import Candidate, Decision, Intent
from service.domain.features import RequestFeatures, features_of
from service.domain.imagined import imagined
from service.errors import NoCandidate
from service.reading import read_intent
from service.routing.router import decide
from service.routing.weighing import Circumstances
from service.upstream.quirks import QUIRKS

SEED = 7
PROCESSES = 2
POLICIES = ("balanced", "cheap")
REFERENCE_INPUT, REFERENCE_OUTPUT = 1_000, 500
A_TIER = 1.5
"""A choice that costs half as much again is one of another class; below that it is the neighbour."""

SEARCHED_EVERY = 5
"""The attack that is searched for each prompt alone runs on every fifth prompt, and so do the limits."""

TRAINING = 50
"""Prompts on which a line for all of them is searched; none of them is attacked."""

LIMITS = {"max_cost_usd": 0.002, "deny": {"regions": ["us"]}}
LIMIT_PUSD = 2 * 10**9

AROUND = Circumstances("dec_bench", datetime(2026, 11, 21, 12, tzinfo=UTC), ANONYMOUS)
PAGE = ROOT / "docs" / "robustness.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True, slots=True)
class Bought:
    """What one attacked prompt got under one policy: how many times the clean price, and whether by abstention."""

    before: int
    after: int
    abstained: bool

    @property
    def dearer(self) -> bool:
        """At all."""
        return self.after > self.before

    @property
    def upgraded(self) -> bool:
        """By a class."""
        return self.after > A_TIER * self.before


@cache
def registry() -> Catalog:
    """The shipped registry with a key for every provider."""
    file = ROOT / "providers.yaml"
    names = re.findall(r"\$\{env:([A-Z0-9_]+)", file.read_text(encoding="utf-8"))
    keys = dict.fromkeys(names, "k" * 40)
    return load(file, keys, now=AROUND.at, known_quirks=QUIRKS)


@cache
def classifier() -> IntentClassifier:
    """The shipped one."""
    return IntentClassifier.load()


@cache
def corpus() -> tuple[Row, ...]:
    """The project's own rows."""
    return tuple(Row.of_corpus(row) for row in read_corpus(ROOT / "classifiers" / "corpus"))


def prompts(count: int, training: int = 0) -> tuple[list[Row], list[Row]]:
    """(attacked, training): everyday prompts, half of them Chinese, the same on every run over the same corpus.

    Those for training come first, so that they are the same, and never attacked, whatever the count.
    """
    taken: list[Row] = []
    kept: list[Row] = []
    for language in ("en", "zh"):
        generator = random.Random(SEED)
        pool = [row for row in corpus() if row.language == language and row.intent in EVERYDAY]
        generator.shuffle(pool)
        kept += pool[: training // 2]
        taken += pool[training // 2 : (training + count) // 2]
    return taken, kept


def price(candidate: Candidate) -> int:
    """Pico-USD at the reference counts: what a class of model costs, whatever the request."""
    hidden = registry().models[candidate.deployment.model].reasoning_tokens.get("default", 0)
    known = candidate.quote
    cost = None if known is None else imagined(known, REFERENCE_INPUT, REFERENCE_OUTPUT, hidden)
    if cost is None:
        raise ValueError(f"{candidate.deployment.id} has no price: give the registry one")
    return cost


class Victim:
    """One prompt, its clean choice, and what it gets when it is attacked."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.features = {policy: self._features({"policy": policy}) for policy in POLICIES}
        self.limited = self._features(LIMITS)
        self.intent = self._read(row.turns)
        self._known: dict[tuple[object, ...], dict[str, int]] = {}
        self.clean = {
            policy: price(self._decide(features, row.turns).chosen) for policy, features in self.features.items()
        }

    def attacked(self, turns: Turns) -> dict[str, Bought]:
        """What these turns get, by policy."""
        intent = self._read(turns)
        # Most attacked texts are read like the untouched one: the same reading is decided once.
        reading = (intent.label, intent.abstained, intent.language, intent.parts, intent.difficulty, intent.flags)
        key = (*reading, *intent.posterior.values())
        if key not in self._known:
            self._known[key] = {
                policy: price(decide(features, intent, registry(), AROUND).chosen)
                for policy, features in self.features.items()
            }
        return {policy: Bought(self.clean[policy], got, intent.abstained) for policy, got in self._known[key].items()}

    def breaches(self, turns: Turns) -> int:
        """How many ranked candidates break the limits of the request."""
        try:
            decision = self._decide(self.limited, turns)
        except NoCandidate:
            return 0
        return sum(
            one.reserved_pusd is None or one.reserved_pusd > LIMIT_PUSD or one.deployment.provider.region == "us"
            for one in decision.ranked
        )

    def _decide(self, features: RequestFeatures, turns: Turns) -> Decision:
        return decide(features, self._read(turns), registry(), AROUND)

    def _read(self, turns: Turns) -> Intent:
        messages = [{"role": role, "content": text} for role, text in turns]
        return read_intent(classifier(), a_chat(messages=messages), explained=False)

    def _features(self, steering: dict[str, object]) -> RequestFeatures:
        messages = [{"role": role, "content": text} for role, text in self.row.turns]
        return features_of(a_chat(messages=messages, coe=steering))


Outcomes = dict[str, list[list[dict[str, Bought]]]]
"""Family -> per prompt (of those it ran on) -> per variant -> policy."""


@cache
def white_box() -> WhiteBox:
    """What the attacker knows."""
    return WhiteBox(classifier(), corpus())


def searched(task: tuple[str, bool]) -> str:
    """The line that a search over the training prompts finds, for one language and one end."""
    language, behind = task
    turns = [row.turns for row in prompts(0, TRAINING)[1]]
    return white_box().searched(turns, language, behind=behind)


def families(lines: Sequence[str]) -> dict[str, tuple[Variant, ...]]:
    """All that is tried on every prompt, by name."""
    return {
        **white_box().families(),
        **fixed_families(),
        "searched over many prompts": edges(lines),
        "no attack: more work asked": MORE_WORK,
    }


def measure(share: tuple[int, Sequence[Row], Sequence[str]]) -> tuple[Outcomes, int, int]:
    """(outcomes, limits checked, limits broken) of some prompts; the first one's number and the lines come along."""
    first, rows, lines = share
    tried = families(lines)
    found: Outcomes = {name: [] for name in (*tried, "searched per prompt")}
    checked = broken = 0
    for number, row in enumerate(rows, first):
        victim = Victim(row)
        sampled = number % SEARCHED_EVERY == 0
        for name, variants in tried.items():
            attacked = [variant(row.turns) for variant in variants]
            found[name].append([victim.attacked(turns) for turns in attacked])
            if sampled:
                checked += len(attacked)
                broken += sum(victim.breaches(turns) for turns in attacked)
        if sampled:
            found["searched per prompt"].append([_best_own(victim)])
    return found, checked, broken


def _best_own(victim: Victim) -> dict[str, Bought]:
    """The dearest thing that up to ten tokens of its own buy a prompt, by policy."""
    best = {policy: Bought(price, price, abstained=False) for policy, price in victim.clean.items()}
    for turns in white_box().own(victim.row.turns, victim.intent.label, victim.row.language):
        got = victim.attacked(turns)
        best = {policy: max(best[policy], got[policy], key=lambda one: one.after) for policy in best}
        if all(one.upgraded for one in best.values()):
            break
    return best


def table(found: Outcomes) -> list[str]:
    """The measured table in Markdown: of each family its strongest variant, and the mean of all."""
    lines = [
        "| attack | variants | balanced: strongest | mean | dearer at all | unsure | price | cheap: strongest | mean |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, victims in found.items():
        columns = list(zip(*victims, strict=True))
        cells = [name, str(len(columns))]
        for policy in POLICIES:
            every = [[one[policy] for one in column] for column in columns]
            shares = [sum(one.upgraded for one in column) / len(column) for column in every]
            worst = every[shares.index(max(shares))]
            cells += [f"{max(shares):.1%}", f"{sum(shares) / len(shares):.1%}"]
            if policy == "balanced":
                cells.append(f"{sum(one.dearer for one in worst) / len(worst):.1%}")
                cells.append(f"{sum(one.upgraded and one.abstained for one in worst) / len(worst):.1%}")
                cells.append(f"x {sum(one.after for one in worst) / sum(one.before for one in worst):.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1_000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    found: Outcomes = {}
    checked = broken = 0
    with ProcessPoolExecutor(PROCESSES) as pool:
        lines = list(pool.map(searched, [(language, behind) for language in ("en", "zh") for behind in (False, True)]))
        rows = prompts(asked.prompts, TRAINING)[0]
        size = max(1, len(rows) // (4 * PROCESSES))
        shares = [(first, rows[first : first + size], lines) for first in range(0, len(rows), size)]
        for outcomes, more, out in pool.map(measure, shares):
            checked, broken = checked + more, broken + out
            for name, victims in outcomes.items():
                found.setdefault(name, []).extend(victims)
    measured = (
        f"{len(rows)} prompts, half of them Chinese, seed {SEED}; classifier `{classifier().id}`. "
        f"Limits checked on {checked:,} attacked prompts: {broken} broken."
    )
    quoted = ", ".join(f"`{line}`" for line in lines)
    told = [measured, "", *table(found), "", f"The lines that were searched over {TRAINING} other prompts: {quoted}."]
    print("\n".join(told))
    if asked.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(told) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
