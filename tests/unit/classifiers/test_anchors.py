"""How a text opens and ends: the rows and the places they stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import anchors as a
from classifiers.cues import cue_buckets, opening_buckets
from classifiers.features import extract
from classifiers.folding import Folded


def _rows(text):
    folded = Folded(text)
    return a.anchor_rows(folded, folded.spans(folded.starts, folded.ends))


def _quoted(text):
    return [text[begin:end] for begin, end in a.anchor_spans(Folded(text))]


@given(st.text(alphabet="ab c\n.,中文かな1é", max_size=120))
def test_rows_and_places_tell_of_the_same(text):
    """As many of one as of the other, never more than there is room for, and every place lies in the text."""
    rows, places = _rows(text), a.anchor_spans(Folded(text))
    assert len(rows) == len(places) <= a.ANCHORS_MAX
    assert all(0 <= begin < end <= len(text) for begin, end in places)
    assert all(0 <= row < a.BUCKETS for row in rows)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Translate this, please", ["Translate", "Translate this", "Translate this, please", "please", "this, please"]),
        ("hello", ["hello", "hello"]),
        ("翻译一下这句", ["翻", "翻译", "翻译一", "翻译一下", "句", "这句", "下这句", "一下这句"]),
        ("用Python写", ["用", "写"]),
        ("Please 翻译", ["Please", "译", "翻译"]),
        ("翻译 hello there", ["翻", "翻译", "there", "hello there"]),
        (
            "One story.\nShorten it",
            ["One", "One story", "One story.\nShorten", "Shorten", "Shorten it", "it", "Shorten it"],
        ),
        ("?!", []),
    ],
)
def test_openings_and_endings(text, quoted):
    """One to three words, or one to four Han characters, of the text and of its last line; the last two words."""
    assert _quoted(text) == quoted


def test_an_opening_is_not_the_word_itself():
    """`translate` at the start has a row beside that of the word anywhere, and the end of a text one more."""
    assert opening_buckets("translate") != cue_buckets("translate")
    assert opening_buckets("translate")[0] == _rows("Translate it")[0]
    assert _rows("well translate")[-2:][0] != _rows("translate well")[0]


def test_the_same_ending_has_the_same_row():
    """Wherever it ends, and in whatever case."""
    assert _rows("a long story, thanks a lot")[-2:] == _rows("thanks A LOT")[-2:]
    assert _rows("请把它写完")[-1] == _rows("你现在把它写完")[-1]


def test_explanations_quote_openings():
    """`extract` appends them in the same order."""
    found = extract("Translate this", spans=True)
    hashed = len(found.buckets) - len(found.flags)
    assert len(found.starts) == hashed
    assert found.buckets[hashed - len(_rows("Translate this")) : hashed].tolist() == _rows("Translate this")
