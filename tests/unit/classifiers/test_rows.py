"""Reading labelled rows: everything or a line number."""

import gzip
import json

import pytest

from classifiers.corpus import parse_row
from classifiers.rows import Row, RowError, file_sha256, read_rows

GOOD = {"id": "1", "source": "A/b", "language": "en", "prompt": "secret words", "intent": "coding", "map_conf": "high"}


def _file(tmp_path, *lines, name="rows.jsonl"):
    path = tmp_path / name
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def test_plain_and_gzipped_rows_read_alike(tmp_path):
    """Blank lines are fine; the group is the source before the slash; uncertain labels are marked."""
    lines = [GOOD, "", {**GOOD, "map_conf": "low"}]
    plain = read_rows(_file(tmp_path, *lines))
    assert plain == read_rows(_file(tmp_path, *lines, name="rows.jsonl.gz"))
    assert [row.confident for row in plain] == [True, False]
    assert plain[0].group == "A"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ({**GOOD, "intent": "poetry"}, "unknown intent 'poetry'"),
        ({**GOOD, "prompt": 5}, "'prompt' is missing or not a string"),
        ({"intent": "coding", "prompt": "x"}, "'language' is missing"),
    ],
)
def test_a_bad_row_stops_with_its_line(tmp_path, line, words):
    """file:line, what is wrong, and never the prompt itself."""
    with pytest.raises(RowError, match=words) as caught:
        read_rows(_file(tmp_path, GOOD, line))
    assert "rows.jsonl:2" in str(caught.value)
    assert "secret words" not in str(caught.value)


def test_an_empty_file_is_an_error(tmp_path):
    """Nothing to evaluate is not an evaluation."""
    with pytest.raises(RowError, match="no rows"):
        read_rows(_file(tmp_path, ""))


def test_limits_are_enforced(tmp_path, monkeypatch):
    """A named limit on rows and on bytes of a line."""
    monkeypatch.setattr("classifiers.rows.ROWS_MAX", 2)
    with pytest.raises(RowError, match="more than 2 rows"):
        read_rows(_file(tmp_path, GOOD, GOOD, GOOD))
    monkeypatch.setattr("classifiers.rows.LINE_BYTES_MAX", 10)
    with pytest.raises(RowError, match="over 10 bytes"):
        read_rows(_file(tmp_path, GOOD))


def test_the_hash_is_of_the_bytes(tmp_path):
    """What `sha256sum` says."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("damage", ["plain", "cut", "flipped"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    """Each of the three ways in which gzip says so; never an empty or a shorter set of rows."""
    path = _file(tmp_path, *[GOOD] * 50, name="rows.jsonl.gz")
    whole = bytearray(path.read_bytes())
    if damage == "flipped":
        whole[20] ^= 0xFF
    path.write_bytes({"plain": b"no gzip", "cut": whole[:-20], "flipped": whole}[damage])
    with pytest.raises(RowError, match=r"rows\.jsonl\.gz: damaged"):
        read_rows(path)


def test_a_corpus_row_keeps_what_it_knows():
    """World, earlier turns of the person, alternatives, difficulty; its steps teach and are not judged."""
    row = parse_row(
        {
            "id": "town-en-1",
            "source": "town-en",
            "language": "en",
            "turns": ["hi", "hello", "translate it, then mail it"],
            "intent": "compound",
            "also": ["tool_use"],
            "parts": [{"intent": "translation", "text": "translate it"}, {"intent": "tool_use", "text": "mail it"}],
            "difficulty": 2,
            "flags": ["tools"],
        },
        "here",
    )
    found = Row.of_corpus(row)
    assert (found.group, found.source, found.own, found.judged) == ("coe-town", "coe-town/en", True, True)
    assert found.turns == (("user", "hi"), ("user", "translate it, then mail it"))
    assert (found.also, found.difficulty, found.flags) == (("tool_use",), 2, ("tools",))
    steps = Row.steps_of(row)
    assert [(step.intent, step.prompt, step.judged, step.earlier) for step in steps] == [
        ("translation", "translate it", False, ()),
        ("tool_use", "mail it", False, ()),
    ]
    assert {step.group for step in steps} == {"coe-town"}
    with pytest.raises(ValueError, match="fits no intent"):
        _ = Row(id="n", source="s", language="en", prompt="??", intent=None).label
