"""YAML to plain Python with places: what is read, what is refused, and where each thing stands."""

from __future__ import annotations

from decimal import Decimal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from service.catalog import positions
from service.catalog.positions import MAX_ALIASES, MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, Document, read
from service.catalog.problems import Problems
from service.errors import RegistryError


@pytest.fixture(params=["c", "python"], autouse=True)
def scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with both of PyYAML's scanners: an installation may have either."""
    if request.param == "c":
        assert hasattr(yaml, "CSafeLoader"), "this PyYAML was built without libyaml"
    monkeypatch.setattr(positions, "_LOADER", yaml.CSafeLoader if request.param == "c" else yaml.SafeLoader)


def document(text: str | bytes) -> Document:
    """A document that must read without a problem."""
    problems = Problems("f")
    found = read(text if isinstance(text, bytes) else text.encode(), problems)
    assert found is not None
    assert not problems
    return found


def refusal(text: str | bytes) -> list[str]:
    """The problems of a text, at least one."""
    problems = Problems("f")
    read(text if isinstance(text, bytes) else text.encode(), problems)
    with pytest.raises(RegistryError) as caught:
        problems.fail()
    assert caught.value.problems
    return list(caught.value.problems)


def test_decimals_keep_their_digits() -> None:
    """Invariant 2: a price is the decimal that was written, not the nearest binary float."""
    value = document("{a: 0.15, b: 0.1000, c: 12, d: -3.5, e: .5}").value
    assert value == {"a": Decimal("0.15"), "b": Decimal("0.1000"), "c": 12, "d": Decimal("-3.5"), "e": Decimal("0.5")}
    assert isinstance(value, dict)
    assert not any(isinstance(part, float) for part in value.values())
    assert str(value["b"]) == "0.1000"


@pytest.mark.parametrize(
    "word", ["no", "yes", "on", "off", "1e-6", "1_000", "0x10", "010", "01:30", "2026-11-21", "=", "nan"]
)
def test_words_of_old_yaml_stay_words(word: str) -> None:
    """Invariant 4: what YAML 1.1 would turn into a bool, number or date is the text that was written."""
    assert document(f"a: {word}").value == {"a": word}


@pytest.mark.parametrize(("word", "value"), [("~", None), ("null", None), ("", None), ("true", True), ("False", False)])
def test_plain_constants(word: str, value: object) -> None:
    """The constants of YAML 1.2 are constants, and only without quotes."""
    assert document(f"a: {word}").value == {"a": value}
    assert document(f'a: "{word}"').value == {"a": word}


def test_not_finite_numbers_stay_visible() -> None:
    """`.inf` and `.nan` reach the schema as what they are, so that it can refuse them by name."""
    value = document("{a: .inf, b: -.Inf, c: .nan}").value
    assert isinstance(value, dict)
    assert str(value["a"]) == "Infinity"
    assert str(value["b"]) == "-Infinity"
    assert str(value["c"]) == "NaN"


def test_places_of_values_and_keys() -> None:
    """Scalars stand where they begin, mappings and lists under a key stand at the key, items at themselves."""
    found = document("a:\n  b: 1\n  c:\n    - x\n    - {d: 2, e: é, f: 3}\n")
    assert found.position(("a",)) == (1, 1)
    assert found.position(("a", "b")) == (2, 6)
    assert found.position(("a", "b"), of_key=True) == (2, 3)
    assert found.position(("a", "c")) == (3, 3)
    assert found.position(("a", "c", 0)) == (4, 7)
    assert found.position(("a", "c", 1)) == (5, 7)
    assert found.position(("a", "c", 1, "d")) == (5, 11)
    assert found.position(("a", "c", 1, "f")) == (5, 23)


def test_a_missing_part_stands_at_its_nearest_ancestor() -> None:
    """A field that isn't there is shown where it would be expected."""
    found = document("a:\n  b: {c: 1}\n")
    assert found.position(("a", "b", "nothing")) == (2, 3)
    assert found.position(("nothing", "at", "all")) == (1, 1)


def test_aliases_share_a_value() -> None:
    """An alias is the anchored value; problems inside it point at the anchor."""
    found = document("a: &x {p: 1}\nb: *x\n")
    assert found.value == {"a": {"p": 1}, "b": {"p": 1}}
    assert found.position(("b",)) == (2, 1)
    assert found.position(("b", "p")) == (1, 11)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f:1:1: the file is empty; it needs at least version, providers and models"),
        ("# nothing\n", "f:1:1: the file is empty; it needs at least version, providers and models"),
        (b"a: 1\nb: \xff\xfe\n", "f:2:4: not UTF-8 text; save the file as UTF-8"),
        (b"a: 1\nb: x\x00y\n", "f:2:5: the character U+0000 is not text; is this a binary file? remove it"),
        ("a: x\u2028y\n", "f:1:5: the character U+2028 is not text; is this a binary file? remove it"),
        ("a:\n\tb: 1\n", "f:2:1: a tab in the indentation; YAML wants spaces"),
        ("a:\n  \tb: 1\n", "f:2:3: a tab in the indentation; YAML wants spaces"),
        ("a: 1\nb: 2\na: 3\n", "f:3:1: duplicate key 'a', first on line 1; remove one of them"),
        ("a: {b: 1, b: 2}\n", "f:1:11: duplicate key 'b', first on line 1; remove one of them"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document starts here; keep one document in the file"),
        ("a: !!python/object:os.system {}\n", "f:1:4: YAML tags (!name) are not supported; remove the tag"),
        ("a: !!str 5\n", "f:1:4: YAML tags (!name) are not supported; remove the tag"),
        ("a: *b\n", "f:1:4: the alias *b has no anchor &b before it"),
        ("a: &a [*a]\n", "f:1:8: the alias *a stands inside its own anchor; it would never end"),
        ("{[1]: 2}\n", "f:1:2: a mapping or list can't be a key; use a word"),
        ("a: &b x\n*b : 1\n", "f:2:1: an alias can't be a key; use a word"),
        ('"": 2\n', "f:1:1: an empty key; give it a name"),
        (
            "a: &a {x: 1}\nb: {<<: *a}\n",
            "f:2:5: merge keys (<<) are not supported; write the fields out or use an alias for a whole value",
        ),
        (
            "a: " + "1" * 5000,
            "f:1:4: a number longer than 40 characters; put quotes around it if it is text",
        ),
    ],
)
def test_refused_with_a_place(text: str | bytes, problem: str) -> None:
    """Everything that can't be read says where and what to do."""
    assert refusal(text) == [problem]


@pytest.mark.parametrize("text", ["a: [1, 2\n", "a: 'x\n", "a: b: c\n", "{", "- a\nb: 1\n", "a: @x\n", "%"])
def test_broken_yaml_is_one_problem_with_a_place(text: str) -> None:
    """A syntax error is reported once, with line and column, whichever scanner found it."""
    (problem,) = refusal(text)
    assert problem.split(": ", 2)[1].startswith("not valid YAML")
    line, column = problem.removeprefix("f:").split(":")[:2]
    assert int(line) >= 1
    assert int(column) >= 1


def test_a_reference_without_quotes_in_a_list_gets_a_hint() -> None:
    """`${` can't stand bare inside brackets: the commonest way to stumble over YAML in this file."""
    (problem,) = refusal("p:\n  api_key: [${env:A}, ${env:B}]\n")
    assert problem.startswith("f:2:")
    assert problem.endswith('; inside [ ] and { } write "${env:NAME}" with quotes')


def test_two_duplicate_keys_are_two_problems() -> None:
    """A duplicate doesn't stop the reading: the next problem is seen too."""
    assert len(refusal("a: 1\na: 2\nb: 1\nb: 2\n")) == 2


def test_depth_is_bounded_without_recursion() -> None:
    """2,000 and 100,000 levels give the same short answer as one level too many, and the bound itself passes."""
    for depth in (MAX_DEPTH + 1, 2_000, 100_000):
        (problem,) = refusal("[" * depth + "]" * depth)
        assert (
            problem
            == f"f:1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels; no field of this file goes that deep"
        )
    document("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)


def test_depth_counts_through_aliases() -> None:
    """Depth can't be smuggled in piece by piece."""
    half = MAX_DEPTH // 2
    text = "a: &a " + "[" * half + "]" * half + "\nb: " + "[" * half + "*a" + "]" * half + "\n"
    (problem,) = refusal(text)
    assert "with this alias written out" in problem
    assert problem.startswith("f:2:")


def test_alias_bomb() -> None:
    """Nine levels of nine aliases would be 400 million values; it is refused at the line where the count runs over."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (problem,) = refusal("\n".join(lines))
    assert f"more than {MAX_NODES} values" in problem
    assert problem.startswith("f:6:")


def test_alias_count_is_bounded() -> None:
    """Many small aliases are refused as well."""
    uses = ", ".join(["*a"] * (MAX_ALIASES + 1))
    (problem,) = refusal(f"a: &a 1\nb: [{uses}]\n")
    assert f"more than {MAX_ALIASES} aliases" in problem


def test_size_is_bounded() -> None:
    """One byte more than the limit is refused before it is parsed."""
    (problem,) = refusal(b"#" * (MAX_FILE_BYTES + 1))
    assert problem == f"f:1:1: the file is larger than {MAX_FILE_BYTES} bytes; is this the right file?"


def test_byte_order_mark_and_line_ends() -> None:
    """Files from Windows read the same."""
    found = document(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n")
    assert found.value == {"a": 1, "b": {"c": 2}}
    assert found.position(("b", "c")) == (3, 6)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="ab:-[]{}&*!|>'\"#%@\t\n 1.\\,?~<", max_size=120).map(str.encode)
    )
)
def test_any_bytes_give_a_document_or_problems(data: bytes) -> None:
    """No input escapes as an exception, and none is both silent and unread."""
    for loader in (yaml.CSafeLoader, yaml.SafeLoader):
        problems = Problems("f")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(positions, "_LOADER", loader)
            found = read(data, problems)
        assert (found is not None) or bool(problems)
