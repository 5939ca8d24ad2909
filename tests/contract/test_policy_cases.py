"""The cases of tests/policies against the shipped registry and the shipped classifier, as `coe check` runs them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from scenery import NOW

from classifiers import IntentClassifier
from service.catalog.load import load
from service.cli.policy_cases import read_folder
from service.cli.policy_runs import Verdict, run
from service.domain.catalog import Catalog
from service.domain.decision import INTENTS
from service.startup import only_spoken
from service.upstream.quirks import QUIRKS

ROOT = Path(__file__).resolve().parents[2]
FILES = read_folder(ROOT / "tests" / "policies")
NAMES = [f"{file.file.stem}: {case.entry.name}" for file in FILES for case in file.cases]


@cache
def shipped() -> Catalog:
    """The registry of this repository, without a single key."""
    return only_spoken(load(ROOT / "providers.yaml", {}, now=NOW, known_quirks=QUIRKS))


@cache
def verdicts() -> dict[str, Verdict]:
    """Every verdict by the name of its case."""
    return dict(zip(NAMES, run(FILES, shipped(), IntentClassifier.load()), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_must_become_of_a_request(name):
    """Each case by itself, with what was decided instead and why."""
    verdict = verdicts()[name]
    assert verdict.passed, verdict.told()


def test_the_cases_cover_what_there_is():
    """Every policy that ships, every objective, every intent, both languages, refusals and abstention."""
    said = [(case.entry.expect, decision_names(case)) for file in FILES for case in file.cases]
    intents = {one for expect, _ in said for one in expect.intent or ()}
    assert {*INTENTS, "unsure", "unclassified"} <= intents
    assert {"en", "zh"} <= {expect.language for expect, _ in said}
    assert {name for _, names in said for name in names} >= {"cheap", "best", "value", "private"}
    codes = {one for expect, _ in said for one in expect.reason_code or ()}
    assert codes == {
        "pinned", "cheapest_capable", "best_within_cost", "best_value", "floor_unreachable", "only_candidate"
    }  # fmt: skip
    assert any(expect.error for expect, _ in said)


def decision_names(case):
    """The policies that a case names."""
    model = case.entry.model or ""
    return {case.entry.policy, model.removeprefix("auto:")}
