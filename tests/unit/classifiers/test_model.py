"""The fit: deterministic, balanced, tied by cues."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from classifiers import model as m
from classifiers.cues import cue_buckets
from classifiers.features import ROWS
from classifiers.rows import Row
from classifiers.taxonomy import INDEX


def _rows(prompts, intent, source="A", language="en", **more):
    return [
        Row(id=str(n), source=source, language=language, prompt=text, intent=intent, **more)
        for n, text in enumerate(prompts)
    ]


TRANSLATE = _rows([f"translate the word {w} now" for w in ("cat", "dog", "sun", "sea")], "translation")
SOLVE = _rows([f"solve the sum {w} now" for w in ("one", "two", "six", "ten")], "math", "B")


def _fit(rows, cues):
    return m.fit(rows, m.cue_matrix(cues), m.Vectoriser(), seed=3)


def test_it_learns_and_repeats_itself():
    """Right on its own rows, and bit for bit the same the second time."""
    cues = {"translate": ["translate"], "mathematics": ["solve"]}
    first, second = _fit(TRANSLATE + SOLVE, cues), _fit(TRANSLATE + SOLVE, cues)
    assert first.weights.tobytes() == second.weights.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()
    logits = first.logits(TRANSLATE + SOLVE)
    assert logits.argmax(axis=1).tolist() == [INDEX["translation"]] * 4 + [INDEX["math"]] * 4


def test_a_model_is_the_mean_of_its_fits(monkeypatch):
    """Each trusts cues to another degree; a mean of linear models is one again."""
    cues = {"translate": ["translate", "翻译"]}
    whole = _fit(TRANSLATE + SOLVE, cues)
    row = cue_buckets("翻译")[0]
    alone = []
    for scales in m.CUE_SCALES:
        monkeypatch.setattr(m, "CUE_SCALES", (scales,))
        alone.append(_fit(TRANSLATE + SOLVE, cues).weights[row, INDEX["translation"]])
    assert alone == sorted(alone), "the longer the tied columns, the more the group says"
    assert alone[0] < whole.weights[row, INDEX["translation"]] < alone[-1]


def test_a_tied_cue_works_without_a_row():
    """No training row holds 翻译; the group carries it. Without the group it means nothing."""
    tied = _fit(TRANSLATE + SOLVE, {"translate": ["translate", "翻译"]})
    loose = _fit(TRANSLATE + SOLVE, {"translate": ["translate"]})
    row = cue_buckets("翻译")[0]
    assert tied.weights[row, INDEX["translation"]] > 0.1
    assert loose.weights[row, INDEX["translation"]] == 0.0


def test_an_absent_intent_is_never_predicted():
    """Its logit is finite and far below."""
    fitted = _fit(TRANSLATE + SOLVE, {})
    logits = fitted.logits(_rows(["write a poem"], "writing"))
    assert np.isfinite(logits).all()
    assert logits[0, INDEX["writing"]] < logits[0, INDEX["math"]] - 5


def test_one_intent_is_nothing_to_learn():
    """Said in words, not by a stack of another library."""
    with pytest.raises(ValueError, match="fewer than two intents"):
        _fit(TRANSLATE, {})


def test_sources_are_capped_by_the_seed_and_the_corpus_is_whole():
    """The same seed draws the same rows; own rows are all kept."""
    many = _rows([f"p{n}" for n in range(200)], "math")
    own = _rows([f"o{n}" for n in range(200)], "math", "coe-x/en", own=True)
    taken = m.capped(many + own, 1)
    assert sum(row.source == "A" for row in taken) == m.ROWS_PER_CELL
    assert sum(row.own for row in taken) == 200
    assert taken == m.capped(many + own, 1)
    assert taken != m.capped(many + own, 2)


def test_no_source_drowns_another():
    """Each pair of intent and language has one mass; own rows their multiple; a source's share grows by the root."""
    rows = (
        _rows(["x"] * 36, "math")
        + _rows(["y"] * 4, "math", "B")
        + _rows(["z"], "logic", "B")
        + _rows(["w"] * 2, "math", "coe-x/en", own=True)
    )
    weights = m.sample_weights(rows)
    assert weights.mean() == pytest.approx(1.0)
    math, logic, own = weights[:40].sum(), weights[40], weights[41:].sum()
    assert math == pytest.approx(logic)
    assert own == pytest.approx(m.CORPUS_MASS * math)
    assert weights[:36].sum() / weights[36:40].sum() == pytest.approx(3.0)


def test_prompts_that_are_dressed_up_count_half():
    """Beside others of as large a world."""
    rows = _rows(["x"] * 4, "math", "coe-x/en", own=True) + _rows(["y"] * 4, "math", f"{m.DRESSED_UP}/en", own=True)
    weights = m.sample_weights(rows)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[4:].sum() / weights[:4].sum() == pytest.approx(m.DRESSED_UP_SHARE)


def test_a_full_fit_warns_of_nothing(recwarn):
    """A solver that stops early is silent; anything else would show."""
    warnings.simplefilter("always")
    _fit(TRANSLATE + SOLVE, {})
    assert not [w for w in recwarn.list if issubclass(w.category, UserWarning)]


def test_the_cue_file_is_well_formed(tmp_path):
    """Every cue of the shipped file has a row; a file of another shape is refused."""
    matrix = m.cue_matrix(m.load_cues())
    assert matrix.shape == (ROWS, 2 * len(m.load_cues()))
    assert isinstance(matrix, sp.csr_matrix)
    for text in ("- a\n", "greeting: hi\n", "yes_words: [yes]\n"):
        path = tmp_path / "cues.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match="cue, cue"):
            m.load_cues(path)


def test_no_cue_is_listed_twice_in_a_group():
    """A repeated cue would count double."""
    for group, members in m.load_cues().items():
        assert len({member.lower() for member in members}) == len(members), group


def test_vectors_are_computed_once():
    """A fold must not pay for the rows of another one again, and a remembered row is the same row."""
    vectoriser = m.Vectoriser()
    first = vectoriser.matrix(SOLVE[:1])
    assert (first != vectoriser.matrix(SOLVE[:1])).nnz == 0
    assert len(vectoriser._known) == 1


def test_earlier_turns_count_as_the_scorer_counts_them():
    """A row with a past is the weighted sum of its turns, of unit length over all."""
    after = _rows(["now in French"], "translation", earlier=("write a poem about the sea",))
    mixed = m.Vectoriser().matrix(after)
    alone = m.Vectoriser().matrix(_rows(["now in French"], "translation"))
    assert mixed.nnz > alone.nnz
    assert abs(mixed).sum() != abs(alone).sum()


def test_a_thinned_row_keeps_its_length_on_average():
    """Half of the features are missing, the rest is raised."""
    plain = m.Vectoriser().matrix(TRANSLATE * 40)
    thin = m.thinned(plain, np.random.default_rng(1))
    assert 0.4 < thin.nnz / plain.nnz < 0.6
    assert sp.linalg.norm(thin) == pytest.approx(sp.linalg.norm(plain), rel=0.1)
    assert (m.thinned(plain, np.random.default_rng(1)) != thin).nnz == 0


def test_heads_learn_how_hard_and_which_flags():
    """From own rows alone; without any, the flags are never raised."""
    hard = _rows([f"prove the theorem {w}" for w in "abcdefgh"], "math", own=True, difficulty=5, flags=("math",))
    easy = _rows([f"say hello to {w}" for w in "abcdefgh"], "chitchat", own=True, difficulty=1)
    vectoriser, ties = m.Vectoriser(), m.cue_matrix({})
    weights, bias = m.fit_heads(hard + easy, ties, vectoriser)
    said = vectoriser.matrix(hard[:1] + easy[:1]) @ weights + bias
    assert said[0, 0] > said[1, 0] + 1.5
    assert said[0, 2] > 0 > said[1, 2]
    assert (said[:, 1] < 0).all(), "no row wants code"
    nothing, silent = m.fit_heads(TRANSLATE, ties, vectoriser)
    assert not nothing.any()
    assert (silent[1:] < 0).all()


def test_a_head_learns_what_fits_nothing():
    """Rows without an intent teach it, and only it."""
    wishes = _rows([f"prove the theorem {w}" for w in "abcdefgh"], "math", own=True, difficulty=4)
    scraps = _rows([f"qwe asd {w}" for w in "abcdefgh"], None, own=True, difficulty=1)
    vectoriser = m.Vectoriser()
    weights, bias = m.fit_heads(wishes + scraps, m.cue_matrix({}), vectoriser)
    said = vectoriser.matrix(wishes[:1] + scraps[:1]) @ weights + bias
    assert said[0, -1] < 0 < said[1, -1]


def test_a_group_in_two_files_is_refused(tmp_path, monkeypatch):
    """The second one would silently replace the first."""
    for name in ("cues.yaml", "lexicon.yaml"):
        (tmp_path / name).write_text("greeting: [hi]\n")
    monkeypatch.setattr(m, "__file__", str(tmp_path / "model.py"))
    with pytest.raises(ValueError, match="another file"):
        m.load_cues()
