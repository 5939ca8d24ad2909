"""Outcome rows: every mistake is named by line and never by its text; splits depend on ids alone."""

import gzip
import hashlib
import json

import numpy as np
import pytest

from classifiers.quality import outcomes as o
from classifiers.rows import RowError

SECRET = "the moon base is under the old mill"


def _row(**changes):
    base = {"id": "a", "prompt": SECRET, "outcomes": {"m": {"score": 1.0, "cost_usd": 0.5}}}
    return {**base, **changes}


def _read(tmp_path, *rows, name="rows.jsonl"):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = tmp_path / name
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return o.read_outcomes(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_what_is_missing_is_nan(tmp_path, name):
    """Null, an absent model, absent costs and tokens: NaN, not 0; models come sorted."""
    found = _read(
        tmp_path,
        _row(outcomes={"b": {"score": 0.25}, "a": None}, language="zh", category="c", source="s"),
        _row(id="x", outcomes={"a": {"score": None, "cost_usd": 2, "input_tokens": 7}}, language=None, category=None),
        name=name,
    )
    assert found.models == ("a", "b")
    assert np.array_equal(found.scores, [[np.nan, 0.25], [np.nan, np.nan]], equal_nan=True)
    assert np.array_equal(found.costs, [[np.nan, np.nan], [2.0, np.nan]], equal_nan=True)
    assert found.input_tokens[1, 0] == 7.0
    assert (found.languages, found.categories, found.sources) == (("zh", "und"), ("c", ""), ("s", ""))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("not json", "not JSON"),
        ("[1]", "not an object"),
        ({"outcomes": {}}, "'prompt'"),
        ({"prompt": "x"}, "'outcomes'"),
        (_row(outcomes={"m": 1}), "'m'"),
        (_row(outcomes={"m": {"score": 1.5}}), "between 0 and 1"),
        (_row(outcomes={"m": {"score": True}}), "between 0 and 1"),
        (_row(outcomes={"m": {"score": "1"}}), "between 0 and 1"),
        (_row(outcomes={"m": {"score": 1, "cost_usd": -1}}), "'cost_usd'"),
        ('{"prompt": "x", "outcomes": {"m": {"score": NaN}}}', "between 0 and 1"),
        ('{"prompt": "x", "outcomes": {"m": {"score": 1, "cost_usd": Infinity}}}', "finite"),
        (_row(language=3), "'language'"),
        (_row(category=["x"]), "'category'"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_mistake_is_named_by_its_line(tmp_path, row, words):
    """`file:line` and what is wrong; the prompt is not repeated."""
    with pytest.raises(RowError) as problem:
        _read(tmp_path, _row(), row)
    assert "rows.jsonl:2" in str(problem.value)
    assert words in str(problem.value)
    assert SECRET not in str(problem.value)


@pytest.mark.parametrize(
    ("rows", "words"), [((), "no outcomes"), ((_row(outcomes={"m": {"score": None}}),), "every score is null")]
)
def test_a_file_that_says_nothing_is_refused(tmp_path, rows, words):
    """No rows, no scores."""
    with pytest.raises(RowError, match=words):
        _read(tmp_path, *rows)


def test_a_damaged_archive_is_named(tmp_path):
    """Not gzip at all."""
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(b"plain")
    with pytest.raises(RowError, match=r"bad\.jsonl\.gz: damaged"):
        o.read_outcomes(path)


def _many(tmp_path, count=200):
    return _read(tmp_path, *[_row(id=f"r{n}", prompt=f"p{n}") for n in range(count)])


def test_the_split_follows_the_id(tmp_path):
    """Digits 7-9 of MD5 are TEST, whatever the order of the rows."""
    rows = _many(tmp_path)
    train, test = o.split(rows)
    assert len(train) + len(test) == len(rows)
    assert all(int(hashlib.md5(i.encode(), usedforsecurity=False).hexdigest(), 16) % 10 >= 7 for i in test.ids)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    assert set(o.split(shuffled)[1].ids) == set(test.ids)


def test_the_train_part_of_a_split_is_split_again(tmp_path):
    """A file without digits 7-9 gives a test part all the same, by the next digit."""
    train, _ = o.split(_many(tmp_path))
    again, test = o.split(train)
    assert 0.15 < len(test) / len(train) < 0.45
    assert not set(again.ids) & set(test.ids)
    with pytest.raises(RowError, match="can't be split"):
        o.split(train.take(np.array([0])))


def test_folds_are_even_and_by_id(tmp_path):
    """Every fold holds a fifth; the fold of a row doesn't depend on where it stands."""
    rows = _many(tmp_path, 103)
    fold = o.folds(rows)
    assert np.bincount(fold).tolist() == [21, 21, 21, 20, 20]
    order = np.random.default_rng(1).permutation(103)
    assert np.array_equal(o.folds(rows.take(order)), fold[order])


def test_without_an_id_the_prompt_decides(tmp_path):
    """Rows without ids split the same way wherever they stand."""
    first = _read(tmp_path, _row(id=None, prompt="one"), _row(id="", prompt="two"))
    second = _read(tmp_path, _row(id=None, prompt="two"), _row(prompt="one", id=None))
    assert first.ids == (second.ids[1], second.ids[0])
    assert len(set(first.ids)) == 2


def test_prompts_of_test_leave_train(tmp_path):
    """A row learned by heart would flatter."""
    rows = _many(tmp_path, 30)
    kept, gone = o.without_prompts_of(rows, rows.take(np.array([3, 4])))
    assert gone == 2
    assert set(kept.prompts) == set(rows.prompts) - {"p3", "p4"}


def test_only_models_of_both_sides_are_judged(tmp_path):
    """A model without a score on one side is dropped, and rows without any score."""
    both = {"a": {"score": 1}, "b": {"score": 0}}
    train = _read(tmp_path, *[_row(id=f"t{n}", outcomes={**both, "c": {"score": 1}}) for n in range(25)])
    test = _read(tmp_path, _row(outcomes={**both, "d": {"score": 1}}), _row(outcomes={"d": {"score": 1}}))
    left, right = o.usable(train, test)
    assert left.models == right.models == ("a", "b")
    assert (len(left), len(right)) == (25, 1)


def test_too_little_is_said(tmp_path):
    """Too few rows, too few models: a message, not a crash later."""
    one = _many(tmp_path, 30)
    with pytest.raises(RowError, match="two or more"):
        o.usable(one, one)
    pair = {"a": {"score": 1}, "b": {"score": 0}}
    few = _read(tmp_path, *[_row(id=f"t{n}", outcomes=pair) for n in range(5)])
    with pytest.raises(RowError, match="TRAIN has 5 rows"):
        o.usable(few, few)
