"""The card shows what it is given: every figure in its place, unknown ones as a dash."""

import pytest

from classifiers.quality import card


def _measures(value):
    saved = {"0.95": value, "0.98": value, "1.0": value}
    validated = {"target": 0.98, "quality_kept": value, "saved": value}
    names = ("aiq", "accuracy_max", "accuracy_at_best_single_cost", "apgr", "cpt50", "cpt80", "auc", "brier", "ece")
    return {**dict.fromkeys(names, value), "saved_at": saved, "validated": validated}


@pytest.fixture
def parts():
    """A manifest, a report and figures, with numbers that can be found again."""
    manifest = {
        "models": ["a", "b"],
        "seed": 7,
        "versions": {"numpy": "1.2", "scipy": "3.4", "scikit-learn": "5.6"},
        "data": {
            "file": "rows.jsonl",
            "sha256": "f" * 64,
            "rows": 1_234,
            "sources": ["somewhere (MIT)"],
            "languages": {"en": 1_200, "zh": 34},
            "categories": {f"c{n:02d}": 100 - n for n in range(60)},
            "outcomes": {"a": 1_234, "b": 1_000},
        },
        "fitted": {
            "weights": {"topics": {"common": 0.61, "apart": 0.5}, "linear": {"common": 0.39, "apart": 0.25}},
            "topics": "the rows' categories",
            "shut": 0.021,
            "margin": 0.3,
        },
    }
    report = {
        "n_train": 900,
        "n_test": 334,
        "best_single": {"model": "a", "score": 0.777, "cost": None},
        "oracle": {"score": 0.888, "cost": None},
        "zero_router_aiq": None,
        "router": _measures(0.654),
        "controls": {"length": _measures(None)},
    }
    anchors = {"b": {"auc_anchors": 0.711, "auc_full": 0.722, "loss_anchors": 0.5, "loss_full": 0.4}}
    return manifest, report, {"buckets": 9_876, "p50_us": 31.0, "p99_us": 77.0, "anchors": anchors}


def test_every_figure_has_its_place(parts):
    """Figures of router and controls, sources, counts, anchors, speed, versions."""
    text = card.render("q@abc", *parts)
    for words in (
        "# q@abc",
        "0.654",
        "0.777",
        "0.888",
        "somewhere (MIT)",
        "1,234",
        "9,876",
        "topics 0.61 and 0.50",
        "0.711",
        "31 µs",
        "3.4",
        "2%",
        "0.3 logits",
    ):
        assert words in text, words


def test_unknown_figures_are_dashes(parts):
    """Never None, never nan."""
    text = card.render("q@abc", *parts)
    assert "None" not in text
    assert "| length | – |" in text


def test_long_lists_are_summed_up(parts):
    """Sixty categories: forty by name, the rest in one line with its rows."""
    text = card.render("q@abc", *parts)
    assert "c39" in text
    assert "c40" not in text
    assert f"(20 more) | {sum(100 - n for n in range(40, 60))} |" in text


def test_a_router_that_never_leaves(parts):
    """The largest margin is said in words; without models to take out there is no section on anchors."""
    manifest, report, figures = parts
    manifest["fitted"]["margin"] = 1e6
    text = card.render("q@abc", manifest, report, {**figures, "anchors": {}})
    assert "never left" in text
    assert "anchor prompts" not in text
