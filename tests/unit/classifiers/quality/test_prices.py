"""Price files in every form that is documented, and costs made of them."""

import numpy as np
import pytest

from classifiers.quality import prices as p
from classifiers.quality.outcomes import Outcomes
from classifiers.rows import RowError


def _outcomes(costs, prompts=("abcdefgh", "八个汉字在这里啊"), tokens=None):
    shape = np.asarray(costs).shape
    empty = np.full(shape, np.nan)
    count = shape[0]
    return Outcomes(
        ids=tuple(str(n) for n in range(count)),
        prompts=tuple(prompts),
        languages=("en",) * count,
        categories=("",) * count,
        sources=("",) * count,
        models=("big", "small"),
        scores=np.ones(shape),
        costs=np.asarray(costs, dtype=float),
        input_tokens=empty if tokens is None else np.asarray(tokens, dtype=float),
        output_tokens=empty,
    )


def _read(tmp_path, text, name="p.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return p.read_prices(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "output_tokens: 50\nmodels:\n  big: {input: 30, output: 60}\n  small: [2, 2]\n"),
        ("p.yaml", "output_tokens: 50\nbig: [30, 60]\nsmall: 2\n"),
        ("p.json", '{"models": {"big": {"input": 30, "output": 60}, "small": 2}, "output_tokens": 50}'),
        ("p.json", '{"big": [30, 60], "small": [2, 2], "assumed_output_tokens": 50}'),
    ],
)
def test_every_form_says_the_same(tmp_path, name, text):
    """Mappings, pairs, one number; with `models:` and without."""
    found = _read(tmp_path, text, name)
    assert found == p.Prices({"big": (30.0, 60.0), "small": (2.0, 2.0)}, 50.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("big: {input: 1}", "big"),
        ("big: [1, 2, 3]", "big"),
        ("big: -1", "big"),
        ("big: true", "big"),
        ("big: .inf", "big"),
        ("- 1", "mapping"),
        ("big: null", "no prices"),
        ("models: {big: 1}\ndefault: 3", "default"),
        ("{{{", "neither JSON nor YAML"),
        ("output_tokens: x\nbig: 1", "output_tokens"),
    ],
)
def test_a_mistake_names_the_entry(tmp_path, text, words):
    """What can't be used is named."""
    with pytest.raises(RowError, match=words):
        _read(tmp_path, text)


def test_an_unknown_price_stays_unknown(tmp_path):
    """A model that the list lacks has no cost, not cost 0; `null` says so on purpose."""
    found = _read(tmp_path, "big: 10\nsmall: null\n")
    costs = p.priced(_outcomes([[np.nan, np.nan]], ["x"]), found).costs
    assert np.isnan(costs[0, 1])
    assert costs[0, 0] > 0


def test_costs_by_hand():
    """8 letters are 2 tokens, 8 Han characters 8; answers as assumed; USD per 1M tokens."""
    listed = p.listed_costs(_outcomes([[np.nan] * 2] * 2), p.Prices({"big": (30.0, 60.0), "small": (2.0, 2.0)}, 100.0))
    assert np.allclose(listed, [[(2 * 30 + 100 * 60) / 1e6, 102 * 2 / 1e6], [(8 * 30 + 6000) / 1e6, 108 * 2 / 1e6]])


def test_recorded_tokens_and_measured_costs_win():
    """A price fills gaps only, and the source's own token counts beat the rule."""
    rows = _outcomes([[0.5, np.nan]], ["x"], tokens=[[np.nan, 1_000_000]])
    costs = p.priced(rows, p.Prices({"big": (1.0, 1.0), "small": (3.0, 0.0)}, 10.0)).costs
    assert costs.tolist() == [[0.5, 3.0]]


def test_a_gap_in_a_dear_row_is_dear():
    """A missing cell costs what the model usually costs, times how dear the row is for the others."""
    filled = p.complete(_outcomes([[2.0, np.nan], [1.0, 0.1]]), np.array([1.0, 0.1]))
    assert np.allclose(filled, [[2.0, 0.2], [1.0, 0.1]])
