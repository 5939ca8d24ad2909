"""The sparse vector: bounded, stable, and tied to its cues."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import features as f
from classifiers import scanning, turns

HEAD, TAIL = turns.HEAD_CHARS, turns.TAIL_CHARS


def test_extract_refuses_what_was_not_selected():
    """The bound can't be forgotten by a caller."""
    with pytest.raises(ValueError, match="select"):
        f.extract("x" * (HEAD + TAIL + 2))


@given(st.text(max_size=400))
def test_any_text_has_a_vector(text):
    """Rows exist, values are finite and positive, no text is refused."""
    found = f.extract(text, spans=True)
    assert len(found.buckets) == len(found.values)
    assert (found.buckets >= 0).all()
    assert (found.buckets < f.ROWS).all()
    assert np.isfinite(found.values).all()
    assert len(found.starts) == len(found.ends) == len(found.buckets) - len(found.flags)
    assert (found.ends <= len(text) + 1).all()


def test_of_long_chinese_texts_only_the_ends_are_read_in_all_sizes():
    """Pairs are taken everywhere; a single character or three in the middle add nothing, near either end they do."""
    text = "春夏秋冬" * 40
    found = f.extract(text, spans=True)
    for size in f.CJK_SIZES:
        starts = {int(s) for s, e in zip(found.starts, found.ends, strict=False) if e - s == size}
        places = range(len(text) - size + 1)
        near = {*places[: f.CJK_NEAR], *places[-f.CJK_NEAR :]}
        assert starts == (set(places) if size == f.CJK_EVERYWHERE else near)


def test_kana_is_read_like_han():
    """In pairs, also across the two."""
    text = "秋かなもすこしある"
    found = f.extract(text, spans=True)
    pairs = {int(s) for s, e in zip(found.starts, found.ends, strict=False) if e - s == 2}
    assert pairs == set(range(len(text) - 1))


@given(st.text(alphabet="abc xyz,.中文字", min_size=1, max_size=700))
def test_blocks_have_their_length(text):
    """A long text is not louder than a short one: the hashed part is bounded by the block scales."""
    found = f.extract(text)
    hashed = found.values[: len(found.values) - len(found.flags)]
    limit = sum(scale**2 for scale in (*f.SCALE_HASHED, f.SCALE_ANCHORS))
    assert float(hashed @ hashed) <= limit + 1e-3


def test_vectors_are_the_same_in_another_process():
    """No hash seed, no interning, no import order gets in."""
    code = (
        "from classifiers.features import extract;"
        "x = extract('Translate 你好世界 please: naïve café 12 😀');"
        "print(x.buckets.tolist(), [round(float(v), 4) for v in x.values])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


def test_case_width_and_blanks_do_not_matter():
    """The same request typed differently has the same hashed features."""
    one, other = f.extract(turns.select("Translate  THIS text")), f.extract("translate this TEXT")
    hashed = len(one.buckets) - len(one.flags)
    assert one.buckets[:hashed].tolist() == other.buckets[: len(other.buckets) - len(other.flags)].tolist()


def test_the_fingerprint_moves_with_the_tuning(monkeypatch):
    """An artefact of other features can't be loaded by mistake."""
    before = f.fingerprint()
    assert before == f.fingerprint()
    monkeypatch.setattr(scanning, "STEM_CHARS", 6)
    assert f.fingerprint() != before
    monkeypatch.undo()
    monkeypatch.setattr(scanning, "CJK_NEAR", f.CJK_NEAR + 1)
    assert f.fingerprint() != before


def test_spans_point_into_the_text():
    """Explanations quote what was read."""
    text = "Translate this, 你好吗"
    found = f.extract(text, spans=True)
    quoted = {text[max(a, 0) : b] for a, b in zip(found.starts.tolist(), found.ends.tolist(), strict=True)}
    assert {"Translate", "this", "Translate this", "你好", "好吗", "你好吗"} <= quoted
