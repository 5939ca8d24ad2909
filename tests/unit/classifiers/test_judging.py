"""One text judged: by the compiled kernel as with NumPy, in any thread, and never outside of a table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from references import assert_let_go

from classifiers import judging, kernel
from classifiers.corpus import read_corpus
from classifiers.judging import ALONE, DOUBTS, FOLLOW_UP, NO_WORDS, SURE, CompiledJudge, Judgement, NumpyJudge
from classifiers.language import LANGUAGES
from classifiers.scorer import IntentClassifier
from classifiers.structure import FLAGS, ROW
from classifiers.turns import HEAD_CHARS, TAIL_CHARS, select

TABLE = IntentClassifier.load()._table
BY_NUMPY = NumpyJudge(TABLE)
CORPUS = Path(__file__).parents[3] / "classifiers" / "corpus"
CONTEXTS = st.sampled_from([(), (ROW["earlier turns"],), (ROW["asked by an app"], ROW["earlier turns"])])
TEXTS = st.one_of(
    st.text(max_size=HEAD_CHARS + TAIL_CHARS + 1),
    st.lists(
        st.sampled_from(
            ["please send ", "Prove that ", "翻译", "秋かな", "résumé", "\n", ": ", "A. ", "word", "?", "```"]
        ),
        max_size=60,
    ).map(lambda parts: select("".join(parts))),
)
compiled = pytest.mark.skipif(kernel.STATE != kernel.COMPILED, reason="no compiled kernel here: NumPy judges, alone")


def _compiled(**changed):
    """A judge from C, with something else than the kernel's own `Judge` in between."""
    built = kernel.compiled("Judge")
    return CompiledJudge(TABLE, lambda **told: built(**{**told, **changed}))


def _around(judge, earlier):
    if not earlier:
        return ALONE, ()
    norm = (1.0 + 0.25 * len(earlier)) ** 0.5
    return tuple(one / norm for one in (1.0, *[0.5] * len(earlier))), tuple(judge.hear(one, ()) for one in earlier)


@compiled
@limits(max_examples=300, deadline=None)
@given(TEXTS, CONTEXTS, st.lists(TEXTS, max_size=2))
@example("continue", (), [])
@example("go on", (), ["Write a poem"])
@example("?!", (), [])
@example("", (), ["", ""])
@example("```x```", (), [])
def test_it_judges_what_numpy_judges(text, context, earlier):
    """All but the last bits of sums, which NumPy may fuse elsewhere."""
    by_c = _compiled()
    one = by_c.judge(text, context, *_around(by_c, earlier))
    other = BY_NUMPY.judge(text, context, *_around(BY_NUMPY, earlier))
    assert (one.best, one.doubt, one.language, one.digits, one.named) == (
        other.best,
        other.doubt,
        other.language,
        other.digits,
        other.named,
    )
    assert one.posterior == pytest.approx(other.posterior, rel=1e-4, abs=1e-7)
    assert one.level == pytest.approx(other.level, rel=1e-4, abs=1e-5)
    assert (one.features, other.features.text) == (None, text)


@compiled
def test_threads_may_share_one():
    """What is worked on belongs to the call: many at once judge as one after the other."""
    by_c = _compiled()
    texts = [select(row.prompt) for row in list(read_corpus(CORPUS))[::40]]
    alone = [by_c.judge(text, (), ALONE, ()) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: by_c.judge(text, (), ALONE, ()), texts, chunksize=3)) == alone


@pytest.mark.parametrize("judge", [BY_NUMPY, *([_compiled()] if kernel.STATE == kernel.COMPILED else [])])
def test_a_judgement_is_one(judge):
    """Shares that sum to one, a doubt that has a name; a mere follow-up only where no turn stands before it."""
    judged = judge.judge("Translate this into French: good evening", (), ALONE, ())
    assert isinstance(judged, Judgement)
    assert sum(judged.posterior) == pytest.approx(1.0)
    assert judged.posterior[judged.best] == max(judged.posterior)
    assert judged.doubt == SURE
    assert judge.judge("?!", (), ALONE, ()).doubt == NO_WORDS
    assert judge.judge("continue", (), ALONE, ()).doubt == FOLLOW_UP
    assert judge.judge("continue", (), *_around(judge, ["Write a poem"])).doubt in {SURE, *DOUBTS} - {FOLLOW_UP}


@compiled
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("x" * (HEAD_CHARS + TAIL_CHARS + 2), (), ALONE, ()), ValueError),
        ((b"bytes", (), ALONE, ()), TypeError),
        (("text", (), ALONE), TypeError),
        (("text", [], ALONE, ()), TypeError),
        (("text", (len(FLAGS),), ALONE, ()), ValueError),
        (("text", (-1,), ALONE, ()), ValueError),
        (("text", ("one",), ALONE, ()), TypeError),
        (("text", (), (), ()), ValueError),
        (("text", (), ("much",), ()), TypeError),
        (("text", (), [1.0], ()), TypeError),
        (("text", (), (0.9, 0.1), (b"not what hear gave",)), TypeError),
        (("text", (), (0.9, 0.1), ("text",)), TypeError),
        (("text", (), (0.1,) * 10, (b"",) * 9), ValueError),
    ],
)
def test_what_it_can_not_judge_is_refused(arguments, error):
    """Too long, not a text, flags and turns that are none."""
    with pytest.raises(error):
        _compiled()._judge(*arguments)
    with pytest.raises(TypeError):
        _compiled().hear("text")


def _widened(array, rows):
    return np.concatenate((array, array[:rows]))


@compiled
@pytest.mark.parametrize(
    "changed",
    [
        {"reader": object()},
        {"places": TABLE.places[:-1]},
        {"places": TABLE.places.astype(np.int64)},
        {"places": np.full_like(TABLE.places, -1)},
        {"places": np.full_like(TABLE.places, len(TABLE.weights))},
        {"weights": np.ones((len(TABLE.weights), kernel.WIDTH + 1), np.float32)},
        {"weights": TABLE.weights[:1]},
        {"bias": TABLE.bias[:-1]},
        {"shapes": TABLE.shapes[:-1]},
        {"shapes": np.ascontiguousarray(TABLE.shapes[:, :-1])},
        {"cooling": TABLE.cooling[:-1]},
        {"thresholds": _widened(TABLE.thresholds, 1)},
        {"anchors": judging.ANCHOR_VALUES[:-1]},
        {"counts": (kernel.WIDTH + 1, 3, 19, 20)},
        {"counts": (15, 9, 19, 20)},
        {"counts": (0, 3, 19, 20)},
        {"counts": (15, -1, 19, 20)},
        {"counts": (15, 3, kernel.WIDTH, 20)},
        {"counts": (15, 3, 19, kernel.WIDTH)},
        {"counts": (15, 3, -1, 20)},
        {"doubts": DOUBTS},
    ],
)
def test_tables_that_do_not_fit_are_refused(changed):
    """What is looked up is never looked up outside of a table."""
    with pytest.raises((ValueError, TypeError)):
        _compiled(**changed)


@compiled
def test_nothing_is_held_longer_than_it_is_used():
    """Tables, texts and turns have as many owners after many calls, good and bad, as before."""
    text, doubts, reader = "what a text, 中文", (SURE, *DOUBTS), kernel.reader()
    turn = _compiled().hear("an earlier turn", ())
    held = (text, doubts, reader, turn, TABLE.places, TABLE.weights, LANGUAGES, *LANGUAGES, *doubts)

    def go():
        judge = _compiled(doubts=doubts, reader=reader)
        judge.judge(text, (), (0.8, 0.2), (turn,))
        judge.hear(text, ())
        for wrong in (
            lambda: judge._judge(text, (99,), (0.8, 0.2), (turn,)),
            lambda: judge._judge(text, (), (0.8, 0.2), (text,)),
            lambda: _compiled(doubts=doubts, reader=reader, bias=TABLE.bias[:3]),
            lambda: _compiled(doubts=doubts[1:], reader=reader),
        ):
            with pytest.raises((ValueError, TypeError)):
                wrong()

    assert_let_go(go, held)
