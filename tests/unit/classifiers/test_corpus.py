"""The corpus keeps its format, repeats nothing, and is as large and as mixed as it has to be."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from classifiers import corpus
from classifiers.corpus import NEAR_MAX, CorpusError, complaints, grams, near_duplicates, parse_row, read_corpus
from classifiers.taxonomy import INTENTS

FOLDER = Path(corpus.__file__).with_name("corpus")
ROWS_MIN = 6_000
CELL_MIN = 150
SECOND_READING = Path(corpus.__file__).with_name("corpus") / "second_reading.json"

ROW = {
    "id": "x-1",
    "source": "x-en",
    "language": "en",
    "turns": ["translate this, then mail it"],
    "intent": "compound",
    "parts": [{"intent": "translation", "text": "translate this"}, {"intent": "tool_use", "text": "mail it"}],
    "difficulty": 2,
    "flags": ["tools"],
}


@pytest.fixture(scope="module")
def rows():
    return read_corpus(FOLDER)


def test_the_corpus_is_large_and_even(rows):
    """Rows in all, half of them Chinese, and enough of every intent in each language."""
    assert len(rows) >= ROWS_MIN
    cells = Counter((row.intent, row.language) for row in rows)
    assert min(cells[intent, language] for intent in INTENTS for language in corpus.LANGUAGES) >= CELL_MIN
    chinese = sum(row.language == "zh" for row in rows)
    assert 0.45 <= chinese / len(rows) <= 0.55


def test_the_corpus_is_mixed(rows):
    """Conversations, typos, wrapping, mixed languages, tables, personal data, hard and easy, fitting nothing."""
    flags = Counter(flag for row in rows for flag in row.flags)
    assert set(flags) == set(corpus.FLAGS)
    assert sum(len(row.turns) > 1 for row in rows) >= 0.05 * len(rows)
    assert flags["typos"] >= 0.03 * len(rows)
    assert flags["harness"] >= 0.03 * len(rows)
    assert sum(row.intent is None for row in rows) >= 200
    assert {row.difficulty for row in rows} == set(corpus.DIFFICULTIES)
    assert sum(bool(row.also) for row in rows) >= 0.05 * len(rows)


def test_nothing_is_said_twice(rows):
    """No id twice, no two rows with most of their 5-grams in common."""
    assert complaints(rows) == []


def test_openings_vary(rows):
    """No template: no opening of a few characters is on more than one row in fifty of its file."""
    for source in {row.source for row in rows}:
        prompts = [row.prompt for row in rows if row.source == source]
        size = 3 if source.endswith("zh") else 12
        most, count = Counter(prompt[:size].lower() for prompt in prompts).most_common(1)[0]
        assert count <= max(12, 0.025 * len(prompts)), most


def test_a_second_reading_is_on_record(rows):
    """A random tenth was read again by somebody who did not see the labels; the agreement is what the record says."""
    record = json.loads(SECOND_READING.read_text(encoding="utf-8"))
    by_id = {row.id: row for row in rows}
    assert len(record["answers"]) >= 0.095 * len(rows)
    same = [by_id[name].intent == answer for name, answer in record["answers"].items()]
    accepted = [
        answer in by_id[name].accepted or by_id[name].intent == answer for name, answer in record["answers"].items()
    ]
    assert sum(same) / len(same) == pytest.approx(record["agreement"], abs=5e-4)
    assert sum(accepted) / len(accepted) == pytest.approx(record["accepted"], abs=5e-4)
    assert record["agreement"] >= 0.75


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": 1}, "unknown fields extra"),
        ({"id": ""}, "'id'"),
        ({"language": "fr"}, "language must be one of en, zh"),
        ({"intent": "poetry"}, "unknown intent"),
        ({"turns": []}, "0 turns"),
        ({"turns": ["a", "b"]}, "2 turns"),
        ({"turns": ["a", " ", "c"]}, "empty"),
        ({"turns": "a"}, "must be a list of texts"),
        ({"difficulty": 6}, "difficulty"),
        ({"difficulty": True}, "difficulty"),
        ({"flags": ["loud"]}, "unknown name in 'flags'"),
        ({"flags": ["tools", "tools"]}, "twice"),
        ({"also": ["compound"]}, "repeats the intent"),
        ({"also": "math"}, "list of names"),
        ({"parts": []}, "two parts or more"),
        ({"parts": [{"intent": "translation", "text": "translate that"}] * 2}, "verbatim"),
        ({"parts": [{"intent": "compound", "text": "mail it"}] * 2}, "other than compound"),
        ({"intent": "translation"}, "no other row has any"),
    ],
)
def test_a_bad_row_is_told_with_its_place(change, words):
    """What is wrong, where, and never the prompt."""
    with pytest.raises(CorpusError, match=words) as caught:
        parse_row(ROW | change, "x-en.jsonl:7")
    assert str(caught.value).startswith("x-en.jsonl:7: ")
    assert "mail it" not in str(caught.value)


def test_a_good_row_is_read():
    """Positive control for the test above."""
    row = parse_row(ROW, "x")
    assert row.prompt == "translate this, then mail it"
    assert [part.intent for part in row.parts] == ["translation", "tool_use"]
    assert row.accepted == {"compound"}


def test_who_said_what():
    """The person's turns are every other one, ending with the last."""
    row = parse_row(ROW | {"turns": ["a", "b", "c"], "intent": None, "parts": []}, "x")
    assert row.said == ("a", "c")
    assert row.accepted == frozenset()


def test_broken_files_are_told(tmp_path):
    """Not JSON, no rows."""
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + "\n{oops\n")
    with pytest.raises(CorpusError, match=r"a\.jsonl:2: not JSON"):
        read_corpus(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(CorpusError, match="no rows"):
        read_corpus(tmp_path)


def test_near_duplicates_are_found_exactly(rows):
    """The quick search finds what comparing every pair finds, at a limit where there is something to find."""
    texts = [row.prompt for row in rows[:400]]
    limit = 0.15
    slow = [
        (a, b)
        for a, b in combinations(range(len(texts)), 2)
        if len(grams(texts[a]) & grams(texts[b])) / len(grams(texts[a]) | grams(texts[b])) > limit
    ]
    assert slow, "nothing to find: lower the limit"
    assert sorted((a, b) for a, b, _ in near_duplicates(texts, limit)) == sorted(slow)


def test_a_template_filled_in_twice_is_refused():
    """Positive control for the check over the corpus."""
    one = parse_row(
        ROW
        | {
            "turns": ["please translate the following sentence into French: the cat is asleep"],
            "intent": "translation",
            "parts": [],
        },
        "x",
    )
    two = parse_row(
        ROW
        | {
            "id": "x-2",
            "turns": ["please translate the following sentence into French: the dog is asleep"],
            "intent": "translation",
            "parts": [],
        },
        "x",
    )
    assert "x-2 repeats x-1" in complaints([one, two])[0]
    assert complaints([one, one])[0].startswith("id x-1 is used 2 times")
    assert NEAR_MAX == 0.6
