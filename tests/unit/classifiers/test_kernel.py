"""The compiled kernel: the same bits as NumPy, or it is not used; and no way to read or write where it must not."""

import os
import shlex
import shutil
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from references import assert_let_go

from classifiers import IntentClassifier, kernel, scanning
from classifiers.alphabet import FOLD_TABLE, KIND_TABLE
from classifiers.corpus import read_corpus
from classifiers.features import extract
from classifiers.language import LANGUAGES
from classifiers.turns import HEAD_CHARS, TAIL_CHARS, select

CORPUS = Path(__file__).parents[3] / "classifiers" / "corpus"
CC = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
buildable = shutil.which(CC[0]) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
built = pytest.mark.skipif(
    kernel.STATE == kernel.NOT_BUILT and not buildable, reason="no C compiler here: NumPy reads, nothing to test"
)
MARKS = 'ab É"“「」:： \n\t.?`(){}=+/\\9７中文字かな한я😀\ud800\0\u3000'
# fmt: off
SHAPES = (
    "B. ", "xB. ", "B) ", "B", "C. ", "xC. ", "C) ", "C", "Ann: ", "小王：", "\n", "\n\t", "\n    ", "\n   ", "\n- ",
    "\n• ", "\n-", "\n2. ", "\n2、", "\n2", "\n\n", "_", "__", ":/", "://", "www.", "/", "()", "(", "=>", "=", "</",
    "<", "\\[", "\\", "$\\", "\\begin", "```", "`", "{", ";", "?", "？", "!", '"', " ", "    ", "\x1c", "7", "word ",
    "Word ", "中文", "，", "a longer line that is no name at all",
)
# fmt: on
TEXTS = st.one_of(
    st.lists(st.sampled_from(SHAPES), max_size=60).map(lambda parts: "".join(parts)[: HEAD_CHARS + TAIL_CHARS + 1]),
    st.text(max_size=HEAD_CHARS + TAIL_CHARS + 1),
    st.text(alphabet=MARKS, max_size=HEAD_CHARS + TAIL_CHARS + 1),
    st.lists(
        st.sampled_from(["please send ", "中文", "秋かな", "résumé", "\n", ": ", '"', "word", " "]), max_size=90
    ).map(lambda parts: "".join(parts)[: HEAD_CHARS + TAIL_CHARS + 1]),
)


@built
def test_it_runs_where_it_can_be_built():
    """Where a compiler is, installing has built it, and it agrees with NumPy on all specimens."""
    assert kernel.STATE == kernel.COMPILED


@built
@limits(max_examples=600, deadline=None)
@given(TEXTS)
@example("a " * 350 + "a")
@example('"a" ' * 17 + "end of it")
@example("x" * 239 + ": yes and more")
@example("x" * 240 + "\n" + "y " * 100)
@example("word " * 24 + "translate " + "word " * 36)
@example("word " * 36 + "translate " + "word " * 24)
@example("意" * 48 + "发给" + "意" * 100)
@example("注" + "意" * 99 + "发给" + "意" * 47)
@example("explain it 今天天气很好")
@example("Which?\nA. one\nB. two\nC. three")
@example("xB. one B) two C) three")
@example("B. one and xC. two")
@example(f"{'x' * 23}: a\n{'x' * 24}：b\n{'x' * 24}: c\nd: e")
@example("no\nyes: it\nno\nno\nno\nno\nno\nyes: it\nyes: it")
@example(f"{'x' * 24}：a\n" * 3 + "b")
@example(" " * 8 + "lower")
@example("中文字中文字中文字中文字中の")
@example("`a` and `b` but ` no fence")
@example("one:\n\ttwo")
@example("Ann: yes\nBo：no\n" + "x" * 22 + ": no\nDan: yes\nEve: no")
@example("\n" * 3 + "first\n2、second\n- third\n    fourth\n\n")
@example("say `a` or ```b``` with f() => </b> \\frac {x}; __ https://e.org " + " " * 9)
@example(" " * 9 + "lower？" + " " * 7)
@example("東京のテスト plain text")
@example("a\n\u3000")
@example("")
@example("x" * (HEAD_CHARS + TAIL_CHARS + 1))
@example("中" * (HEAD_CHARS + TAIL_CHARS + 1))
@example("a中" * 350)
@example('"' * 700)
@example("a " * 350)
@example("\n" * 700)
def test_it_reads_what_numpy_reads(text):
    """Counts, rows and weights of any text, to the last bit."""
    one, other = kernel.compiled_scan(text), scanning.scan(text)
    assert (one.features, one.anchors, one.english, one.foreign) == (
        other.features,
        other.anchors,
        other.english,
        other.foreign,
    )
    assert (one.opens_in_english, one.actions, one.line_breaks) == (
        other.opens_in_english,
        other.actions,
        other.line_breaks,
    )
    assert list(one.counts) == list(other.counts)
    assert (one.language, list(one.flags)) == (other.language, list(other.flags))
    end = one.features + one.anchors
    assert one.buckets[:end].tolist() == other.buckets[:end].tolist()
    assert one.values[: one.features].tobytes() == other.values[: one.features].tobytes()
    assert kernel.agrees(kernel.compiled_scan, text)


@built
def test_it_judges_what_numpy_judges(monkeypatch):
    """Posterior, flags, language and features of real prompts, with several turns: but for the last bits of sums."""
    rows = list(read_corpus(CORPUS))[::60]
    classifier = IntentClassifier.load()
    turns = [[("user", one.prompt), ("assistant", "yes"), ("user", two.prompt)] for one, two in pairwise(rows)]
    compiled = [classifier.read(one) for one in turns]
    monkeypatch.setattr(kernel, "_built", None)
    monkeypatch.setattr(kernel, "compiled_scan", None)
    classifier = IntentClassifier.load()
    for (said, features), one in zip(compiled, turns, strict=True):
        again, same = classifier.read(one)
        assert (said.label, said.language, said.flags, said.doubt) == (
            again.label,
            again.language,
            again.flags,
            again.doubt,
        )
        assert said.posterior == pytest.approx(again.posterior, rel=1e-4, abs=1e-6)
        assert said.difficulty == pytest.approx(again.difficulty, rel=1e-4)
        assert features.buckets.tolist() == same.buckets.tolist()
        assert features.values.tobytes() == same.values.tobytes()


@built
@pytest.mark.parametrize("text", ["Translate this into French: good evening", "把这段话翻译成英文", "...", "a"])
def test_it_weighs_what_numpy_weighs(text, monkeypatch):
    """Sums and squares, with rows that are known and rows that are not: but for the last bits, where NumPy fuses."""
    features = extract(text)
    generator = np.random.default_rng(3)
    places = generator.integers(0, 3, 2**21).astype(np.int32)
    rows = generator.normal(size=(3, 47)).astype(np.float32)
    rows[0] = 0.0
    told = features.buckets, features.values, places, rows
    asked = []
    real = kernel._built
    monkeypatch.setattr(kernel, "_built", SimpleNamespace(weigh=lambda *one: asked.append(one) or real.weigh(*one)))
    sums, (known_sums, *squares) = kernel.weigh(*told), kernel.weigh_known(*told)
    assert len(asked) == 2, "the kernel was asked"
    monkeypatch.setattr(kernel, "_built", None)
    again, (known_again, *same) = kernel.weigh(*told), kernel.weigh_known(*told)
    assert sums == known_sums == pytest.approx(again, rel=1e-5, abs=1e-6)
    assert known_sums == pytest.approx(known_again, rel=1e-5, abs=1e-6)
    assert squares == same


@built
def test_one_that_reads_otherwise_is_not_used(monkeypatch):
    """Built from other sources, it would give other answers with nobody noticing."""
    real = kernel._built

    def other(**told):
        return real.Reader(**{**told, "figures": {**told["figures"], "stem": 6}})

    def refused(**_):
        raise ValueError("the figure old_figure is missing")

    told = {name: getattr(real, name) for name in ("TEXT_MAX", "COLUMNS_MAX", "WIDTH")} | {"SOURCES": kernel.sources()}
    for changed in (
        {"Reader": other},
        {"Reader": refused},
        {"SOURCES": "of yesterday"},
        {"TEXT_MAX": 600},
        {"COLUMNS_MAX": 64},
        {"WIDTH": 32},
        {"Reader": None},
    ):
        module = SimpleNamespace(**{"Reader": real.Reader, **told, **changed})
        monkeypatch.setitem(sys.modules, "classifiers.other", module)
        assert kernel.choose("classifiers.other") == (None, None, kernel.OUTDATED)
    monkeypatch.setitem(sys.modules, "classifiers.same", SimpleNamespace(Reader=real.Reader, **told))
    assert kernel.choose("classifiers.same")[2] == kernel.COMPILED


@built
def test_a_damaged_module_is_not_called_missing(monkeypatch, tmp_path):
    """What can't be loaded although it is there has to be built again, not built at last."""
    (tmp_path / f"damaged_kernel{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(b"no such thing")
    monkeypatch.syspath_prepend(tmp_path)
    assert kernel.choose("damaged_kernel") == (None, None, kernel.OUTDATED)


def test_without_it_numpy_reads(monkeypatch):
    """What can't be imported was not built: no error, and the state says so."""
    assert kernel.choose("classifiers.nothing_of_this_name") == (None, None, kernel.NOT_BUILT)
    monkeypatch.setattr(kernel, "compiled_scan", None)
    monkeypatch.setattr(kernel, "_built", None)
    assert (
        IntentClassifier.load().predict([("user", "Translate this into French: good evening")]).label == "translation"
    )


@pytest.fixture
def reader():
    """A reader with the real tables."""
    return _reader()


def _reader(**changed):
    told = {
        "kinds": KIND_TABLE,
        "folds": FOLD_TABLE,
        "hints": kernel.HINTS,
        "edge": kernel.folding.BY_DISTANCE,
        "figures": kernel._figures(),
        "seeds": (1, 2, 3, 4),
        "weights": (0.4, 0.5, 2.0**20),
        "shares": (0.1, 0.6, 0.8),
        "flags": kernel.structure.FLAGS,
        "languages": LANGUAGES,
    }
    return kernel._built.Reader(**{**told, **changed})


def _arrays(room):
    return np.full(room, -7, dtype=np.int64), np.full(room, -7.0, dtype=np.float32)


def _locked(array):
    array.flags.writeable = False
    return array


@built
def test_it_writes_only_where_there_is_room(reader):
    """Arrays that are too short are refused, and nothing behind their end is touched."""
    text = select("what a long text, 中文 " * 40)
    needed = sum(reader.scan(text, *_arrays(4_000))[:2])
    buckets, values = _arrays(needed)
    assert sum(reader.scan(text, buckets, values)[:2]) == needed
    for room in (0, 1, needed - 1):
        buckets, values = _arrays(needed + 8)
        with pytest.raises(ValueError, match="fit"):
            reader.scan(text, buckets[:room], values)
        with pytest.raises(ValueError, match="fit"):
            reader.scan(text, buckets, values[:room])
        assert (buckets[room:] == -7).all()
        assert (values[room:] == -7.0).all()


@built
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("x" * (HEAD_CHARS + TAIL_CHARS + 2), *_arrays(9_000)), ValueError),
        ((b"bytes", *_arrays(10)), TypeError),
        (("text",), TypeError),
        (("text", np.zeros(10), np.zeros(10)), TypeError),
        (("text", *(one[::2] for one in _arrays(50))), (ValueError, BufferError)),
        (("text", np.zeros(50, np.int64), _locked(np.zeros(50, np.float32))), (ValueError, BufferError)),
        (("text", _locked(np.zeros(50, np.int64)), np.zeros(50, np.float32)), (ValueError, BufferError)),
    ],
)
def test_what_it_can_not_read_is_refused(reader, arguments, error):
    """Too long, not a text, arrays of another kind, with gaps, or read-only."""
    with pytest.raises(error):
        reader.scan(*arguments)


@built
@pytest.mark.parametrize(
    "changed",
    [
        {"kinds": KIND_TABLE[:-1]},
        {"kinds": np.full(65_536, 31, np.uint8)},
        {"folds": FOLD_TABLE[:100]},
        {"hints": kernel.HINTS[:-1]},
        {"edge": np.ones(700, np.float32)},
        {"edge": np.ones(800, np.float64)},
        {"figures": {}},
        {"figures": {**kernel._figures(), "bucket_bits": 40}},
        {"figures": {**kernel._figures(), "kinds": 64}},
        {"figures": {**kernel._figures(), "sizes": 5}},
        {"figures": {**kernel._figures(), "anchor_words": 17}},
        {"figures": {**kernel._figures(), "anchor_cjk": 17}},
        {"figures": {**kernel._figures(), "latin": 19}},
        {"figures": {**kernel._figures(), "slash": 19}},
        {"flags": kernel.structure.FLAGS[::-1]},
        {"flags": kernel.structure.FLAGS[:-1]},
        {"flags": list(kernel.structure.FLAGS)},
        {"languages": LANGUAGES[:-1]},
        {"figures": {**kernel._figures(), "action_mask": 32}},
        {"figures": {**kernel._figures(), "han": 19}},
        {"figures": {**kernel._figures(), "kana": 19}},
        {"figures": {**kernel._figures(), "quotation": 19}},
        {"figures": {**kernel._figures(), "instruction_max": 65_537}},
        {"figures": {**kernel._figures(), "at_ends": -1}},
        {"figures": {**kernel._figures(), "stem": "five"}},
        {"seeds": (1, 2, 3)},
    ],
)
def test_tables_that_do_not_fit_are_refused(changed):
    """What is looked up is never looked up outside of a table."""
    with pytest.raises((ValueError, TypeError)):
        _reader(**changed)


@built
@pytest.mark.parametrize(
    ("buckets", "places", "error"),
    [([4], [1] * 4, IndexError), ([-1], [1] * 4, IndexError), ([0], [2] * 4, IndexError), ([0], [-1] * 4, IndexError)],
)
def test_it_looks_up_only_what_is_there(buckets, places, error):
    """A bucket without a place, a place without a row."""
    rows = np.ones((2, 3), dtype=np.float32)
    told = np.array(buckets, np.int64), np.ones(len(buckets), np.float32), np.array(places, np.int32), rows
    with pytest.raises(error):
        kernel._built.weigh(*told)


@built
def test_it_weighs_only_what_fits():
    """As many values as buckets, no more columns than there is space for, two dimensions of rows."""
    one, two = np.zeros(1, np.int64), np.zeros(2, np.float32)
    places, rows = np.zeros(4, np.int32), np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="as many values"):
        kernel._built.weigh(one, two, places, rows)
    with pytest.raises(ValueError, match="512 columns"):
        kernel._built.weigh(one, two[:1], places, np.ones((2, 513), np.float32))
    with pytest.raises(TypeError, match="rows"):
        kernel._built.weigh(one, two[:1], places, rows[0])
    with pytest.raises(TypeError):
        kernel._built.weigh(one)


@built
def test_nothing_is_held_longer_than_it_is_used(reader):
    """Arrays, tables and texts have as many owners after a thousand calls, good and bad, as before."""
    text, tables = "what a text, 中文", {"kinds": KIND_TABLE.copy(), "hints": kernel.HINTS.copy()}
    buckets, values = _arrays(400)
    slots, rows, two = np.array([0, 1, 1], np.int32), np.ones((2, 5), np.float32), np.array([1, 2])
    held = (text, *tables.values(), LANGUAGES, buckets, values, slots, rows, two)

    def go():
        _reader(**tables)
        reader.scan(text, buckets, values)
        kernel._built.weigh(two, values[:2], slots, rows)
        for wrong in (
            lambda: _reader(**tables, figures={}),
            lambda: reader.scan(text, buckets[:1], values),
            lambda: reader.scan(text, buckets, rows),
            lambda: kernel._built.weigh(two, values[:3], slots, rows),
            lambda: kernel._built.weigh(two, values[:2], slots, slots),
        ):
            with pytest.raises((ValueError, TypeError)):
                wrong()

    assert_let_go(go, held)


def test_a_scan_without_words_holds_nothing():
    """Both say so of blanks and marks alone."""
    found = (kernel.compiled_scan or scanning.scan)("?! ")
    assert (found.features, found.anchors, found.english) == (0, 0, 0)
