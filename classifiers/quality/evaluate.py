"""`coe evaluate --outcomes`: fit the quality model on TRAIN, judge its run-time form on TEST, beside the controls.

Where on the path: beside it; the command line prints what `evaluate_outcomes` returns, `train` writes it into the card.

Invariants:
1. What is judged is `QualityModel.qualities`, prompt by prompt, as it would answer in service; nothing richer.
2. TEST is used for judging only. Validation is by folds inside TRAIN: every TRAIN row is predicted by fits that did not
   see it, and the "validated" setting is picked on those predictions.
3. Same files, same versions: the same report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from classifiers.quality import judge
from classifiers.quality.controls import Stage, judge_controls
from classifiers.quality.costs import Costs, fit_costs
from classifiers.quality.fit import SEED, Fitted, fit, qualities, topic_shares_of
from classifiers.quality.judge import Ground, Predicted, Setting, Single
from classifiers.quality.metrics import Floats, mean_known
from classifiers.quality.outcomes import Outcomes, split, usable, without_prompts_of
from classifiers.quality.prices import Prices, complete, priced
from classifiers.quality.reading import Intents, Progress, Reading, read_prompts

Report = dict[str, object]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Both parts with the same models, priced, and what had to be said about them."""

    train: Outcomes
    test: Outcomes
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Router:
    """A fitted router: `costs` is `None` where costs are unknown, `setting` what validation picked."""

    fitted: Fitted
    costs: Costs | None
    setting: Setting

    def predict(self, reading: Reading, prompts: tuple[str, ...]) -> Predicted:
        """What the run-time form believes of some prompts."""
        quality = qualities(self.fitted.model, reading)
        if self.costs is None:
            return Predicted(quality, np.full_like(quality, np.nan))
        return Predicted(quality, self.costs.expected(topic_shares_of(self.fitted.model, reading), prompts))


def prepare(train: Outcomes, test: Outcomes | None, prices: Prices | None) -> Prepared:
    """Split when there is no TEST, price, drop what can't be judged. Raises `RowError` when too little is left."""
    notes: list[str] = []
    if test is None:
        train, test = split(train)
    train, shared = without_prompts_of(train, test)
    if shared:
        notes.append(f"{shared} rows of TRAIN left out: TEST holds the same prompts")
    train, test = usable(priced(train, prices), priced(test, prices))
    paid = [
        name
        for name, values in zip(train.models, np.concatenate([train.costs, test.costs]).T, strict=True)
        if not np.isnan(values).all()
    ]
    if paid and len(paid) < len(train.models):
        missing = [name for name in train.models if name not in paid]
        notes.append(f"left out, because their cost is unknown: {', '.join(missing)}; --prices may name it")
        train, test = usable(train.with_models(paid), test.with_models(paid))
    if not paid:
        notes.append("no costs in the rows and no --prices: only quality is judged")
    return Prepared(train, test, tuple(notes))


def stage_of(prepared: Prepared) -> Stage:
    """The grounds of both parts; gaps in costs are filled from TRAIN's means."""
    train, test = prepared.train, prepared.test
    typical = mean_known(train.costs)
    # A model that has costs in TEST only: its mean there is a price, not an outcome.
    typical = np.where(np.isnan(typical), mean_known(test.costs), typical)
    filled = complete(train, typical)
    scores = mean_known(train.scores)
    return Stage(
        train=replace(train, costs=filled),
        test=test,
        train_ground=judge.ground(train, filled, filled, scores),
        test_ground=judge.ground(test, complete(test, typical), filled, scores),
    )


def fit_router(stage: Stage, reading: Reading, *, seed: int = SEED, progress: Progress | None = None) -> Router:
    """Fit qualities and costs on TRAIN, and pick the validated setting on unseen predictions for TRAIN."""
    fitted = fit(stage.train, reading, seed=seed, progress=progress)
    costs = None
    expected: Floats = np.full_like(fitted.unseen, np.nan)
    if stage.train_ground.is_priced:
        costs = fit_costs(stage.train.costs, fitted.topic_shares, stage.train.prompts)
        expected = costs.expected(fitted.topic_shares, stage.train.prompts)
    return Router(fitted, costs, judge.validate(stage.train_ground, Predicted(fitted.unseen, expected)))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _single(one: Single) -> dict[str, object]:
    return {"model": one.model, "score": one.score, "cost": _number(one.cost)}


def report_of(stage: Stage, predicted: Predicted, setting: Setting, progress: Progress | None = None) -> Report:
    """The report of `coe evaluate --outcomes --json`."""
    where: Ground = stage.test_ground
    by_lot, best = judge.random_choice(where), judge.oracle(where)
    return {
        "n_train": len(stage.train),
        "n_test": len(stage.test),
        "models": list(where.models),
        "best_single": _single(where.best_single()),
        "cheapest": _single(where.cheapest()),
        "random": {"score": by_lot[0], "cost": _number(by_lot[1])},
        "oracle": {"score": best[0], "cost": _number(best[1])},
        "zero_router_aiq": judge.zero_router_aiq(where),
        "router": judge.measures(where, predicted, setting),
        "controls": judge_controls(stage, progress),
    }


def evaluate_prepared(
    prepared: Prepared, *, intents: Intents | None = None, seed: int = SEED, progress: Progress | None = None
) -> tuple[Report, Router]:
    """The report on prepared parts, and the router that it judged."""
    stage = stage_of(prepared)
    reading = read_prompts(stage.train.prompts, intents, progress, "reading TRAIN")
    router = fit_router(stage, reading, seed=seed, progress=progress)
    asked = read_prompts(stage.test.prompts, intents, progress, "reading TEST")
    return report_of(stage, router.predict(asked, stage.test.prompts), router.setting, progress), router


def evaluate_outcomes(
    train: Outcomes,
    test: Outcomes | None = None,
    prices: Prices | None = None,
    *,
    intents: Intents | None = None,
    progress: Progress | None = None,
) -> Report:
    """Fit on TRAIN, judge on TEST (or split TRAIN by id), beside the controls.

    `intents` is the intent classifier whose posterior is one of the views; without it that view says nothing. Raises
    `RowError` when the rows don't suffice.
    """
    return evaluate_prepared(prepare(train, test, prices), intents=intents, progress=progress)[0]
