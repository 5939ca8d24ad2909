"""Metrics against hand-made answers, and folds that really leave a source out."""

import json

import numpy as np
import pytest

from classifiers import evaluate as e
from classifiers.rows import Row
from classifiers.scorer import Prediction
from classifiers.taxonomy import INDEX, INTENTS


def _row(intent, source="A/x", language="en", prompt="p"):
    return Row(id="1", source=source, language=language, prompt=prompt, intent=intent)


class Told:
    """Says what the prompt tells it: `intent confidence abstained`."""

    def predict(self, turns):
        label, confidence, abstained = turns[0][1].split()
        posterior = dict.fromkeys(INTENTS, 0.0)
        return Prediction(label, float(confidence), posterior, "en", abstained == "yes", (), "told")


ROWS = [
    _row("math", prompt="math 0.9 no"),
    _row("math", prompt="logic 0.6 no"),
    _row("logic", prompt="logic 0.8 no"),
    _row("coding", prompt="logic 0.4 yes", language="zh"),
]


def test_the_report_has_the_published_shape():
    """Exactly these keys, and JSON can carry it."""
    report = e.evaluate_intents(Told(), ROWS)
    assert list(report) == ["overall", "en", "zh", "confusion"]
    for part in ("overall", "en", "zh"):
        assert list(report[part]) == ["n", "accuracy", "macro_f1", "ece", "coverage", "accuracy_covered"]
    assert list(report["confusion"]) == ["labels", "matrix"]
    assert json.loads(json.dumps(report)) == report


def test_the_numbers_are_right():
    """By hand: two of four right; F1 of math 2/3, logic 1/2, coding 0; bins of one fifteenth."""
    report = e.evaluate_intents(Told(), ROWS)
    overall = report["overall"]
    assert overall["n"] == 4
    assert overall["accuracy"] == 0.5
    assert overall["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert overall["coverage"] == 0.75
    assert overall["accuracy_covered"] == pytest.approx(2 / 3)
    assert overall["ece"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.4) / 4)
    assert report["en"]["n"] == 3
    assert report["zh"] == {
        "n": 1,
        "accuracy": 0.0,
        "macro_f1": 0.0,
        "ece": pytest.approx(0.4),
        "coverage": 0.0,
        "accuracy_covered": None,
    }
    matrix = np.array(report["confusion"]["matrix"])
    assert matrix.sum() == 4
    assert matrix[INDEX["math"], INDEX["logic"]] == 1
    assert matrix[INDEX["coding"], INDEX["logic"]] == 1


def test_shares_over_no_rows_are_none():
    """A language without rows is not perfect and not hopeless."""
    report = e.evaluate_intents(Told(), ROWS[:1])
    assert report["zh"] == {
        "n": 0,
        "accuracy": None,
        "macro_f1": None,
        "ece": None,
        "coverage": None,
        "accuracy_covered": None,
    }


def test_progress_is_told_to_the_end():
    """The last call says that all are done."""
    calls = []
    e.evaluate_intents(Told(), ROWS, lambda *call: calls.append(call))
    assert calls == [(4, 4, "classifying")]


def test_calibration_error_of_a_calibrated_and_of_a_boasting_model():
    """0 when a bin's accuracy is its confidence; the gap when it isn't; confidence 1 stays in the last bin."""
    correct = np.array([True, True, True, False])
    assert e.calibration_error(correct, np.full(4, 0.75)) == pytest.approx(0.0)
    assert e.calibration_error(correct, np.full(4, 1.0)) == pytest.approx(0.25)
    assert e.calibration_error(np.array([], dtype=bool), np.array([])) is None


def test_confusion_cost_counts_tiers():
    """Strong prompts in a cheap tier, cheap ones in a strong tier."""
    rows = [
        _row("coding", prompt="chitchat 0.9 no"),
        _row("math", prompt="logic 0.9 no"),
        _row("chitchat", prompt="coding 0.9 no"),
    ]
    assert e.confusion_cost(e.evaluate_intents(Told(), rows)) == {"strong_to_cheap": 0.5, "cheap_to_strong": 1.0}
    assert e.confusion_cost(e.evaluate_intents(Told(), rows[:2]))["cheap_to_strong"] is None
    with pytest.raises(TypeError, match="evaluate_intents"):
        e.confusion_cost({"confusion": 3})


class Spy:
    """Remembers the rows it was fitted on and answers with their number."""

    def __init__(self):
        self.fits = []

    def __call__(self, rows):
        self.fits.append(rows)
        return self

    def logits(self, prompts):
        return np.full((len(prompts), len(INTENTS)), float(len(self.fits[-1])))


def test_a_left_out_source_is_nowhere_in_training():
    """All sub-sources of a group go together."""
    rows = [_row("math", "A/x"), _row("logic", "A/y"), _row("math", "B"), _row("coding", "C", "zh")]
    spy = Spy()
    left_out = e.leave_source_out(rows, spy)
    assert [sorted({row.source for row in fit}) for fit in spy.fits] == [
        ["B", "C"],
        ["A/x", "A/y", "C"],
        ["A/x", "A/y", "B"],
    ]
    assert [row.source for row in left_out.rows] == ["A/x", "A/y", "B", "C"]
    assert left_out.logits[:, 0].tolist() == [2.0, 2.0, 3.0, 3.0]
    assert left_out.known.tolist() == [True, False, True, False]
    assert left_out.groups.tolist() == ["A", "A", "B", "C"]


def test_many_groups_are_left_out_two_at_a_time(monkeypatch):
    """One public group and one own world each, as long as there are both; neither teaches about the other."""
    monkeypatch.setattr(e, "GROUPS_ALONE_MAX", 4)
    public = [_row("math", name) for name in ("A", "B", "C")]
    own = [
        Row(id=name, source=f"{name}/en", language="en", prompt=name, intent="math", own=True) for name in ("x", "y")
    ]
    spy = Spy()
    left_out = e.leave_source_out([*public, *own], spy)
    assert [sorted({row.group for row in fit}) for fit in spy.fits] == [
        ["B", "C", "y"],
        ["A", "C", "x"],
        ["A", "B", "x", "y"],
    ]
    assert sorted(row.group for row in left_out.rows) == ["A", "B", "C", "x", "y"]


def test_one_group_cannot_be_left_out():
    """There would be nothing to train on."""
    with pytest.raises(ValueError, match="two source groups"):
        e.leave_source_out([_row("math")], Spy())


def test_rows_that_only_teach_are_never_judged():
    """They are in the training of other groups and nowhere else."""
    teaching = Row(id="t", source="B", language="en", prompt="t", intent="math", judged=False)
    spy = Spy()
    left_out = e.leave_source_out([_row("math", "A"), _row("logic", "B"), teaching], spy)
    assert teaching not in left_out.rows
    assert any(teaching in fit for fit in spy.fits)
    assert [teaching in fit for fit in spy.fits] == [True, False], "a group's own steps must not teach about it"


def test_rows_that_fit_nothing_are_judged_apart():
    """They have no right intent; abstaining is right."""
    nothing = [Row(id="n", source="A", language="en", prompt=f"math 0.9 {word}", intent=None) for word in ("no", "yes")]
    report = e.evaluate_intents(Told(), [*ROWS, *nothing])
    assert report["overall"]["n"] == len(ROWS)
    assert report["unfit"] == {"n": 2, "abstained": 0.5}
