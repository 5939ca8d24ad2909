"""Problems: their order, their number, their words."""

from __future__ import annotations

import pytest

from service.catalog.problems import MAX_PROBLEMS, Problems, nearest, shown, unknown
from service.errors import RegistryError


def lines_of(problems: Problems) -> tuple[str, ...]:
    """What `fail` raises."""
    with pytest.raises(RegistryError) as caught:
        problems.fail()
    return caught.value.problems


def test_problems_come_in_the_order_of_the_file() -> None:
    """By line, then by column, as numbers and not as text; the same problem is told once."""
    problems = Problems("p.yaml")
    assert not problems
    for line, column in ((10, 1), (2, 30), (2, 4), (9, 1), (9, 1)):
        problems.add(line, column, "x")
    assert problems
    assert lines_of(problems) == ("p.yaml:2:4: x", "p.yaml:2:30: x", "p.yaml:9:1: x", "p.yaml:10:1: x")


def test_the_number_of_lines_is_bounded() -> None:
    """A file that is wrong everywhere doesn't flood the terminal, and says how much more there is."""
    problems = Problems("p.yaml")
    for line in range(MAX_PROBLEMS + 5):
        problems.add(line + 1, 1, "x")
    lines = lines_of(problems)
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == "p.yaml: and 5 more problems; mend these first and run again"


def test_shown_is_short_and_on_one_line() -> None:
    """A value can't break out of its line or fill the screen."""
    assert shown("a\nb\x1b[31m") == "the text 'a\\nb\\x1b[31m'"
    assert len(shown("x" * 10_000)) < 100
    assert shown(True) == "true"
    assert shown(None) == "nothing"
    assert shown({"a": 1}) == "a mapping"
    assert shown([1]) == "a list"
    assert shown(12) == "12"


def test_unknown_offers_the_nearest_word() -> None:
    """Near: one suggestion, whatever the case; far: the list; none: says so."""
    words = ["openai_chat", "gemini"]
    assert unknown("protocol", "openai_chatt", words) == "unknown protocol 'openai_chatt'; did you mean 'openai_chat'?"
    assert unknown("protocol", "GEMINI", words) == "unknown protocol 'GEMINI'; did you mean 'gemini'?"
    assert unknown("protocol", "zzz", words) == "unknown protocol 'zzz'; use one of: gemini, openai_chat"
    assert unknown("model", "zzz", []) == "unknown model 'zzz'; the file defines none"
    assert unknown("model", "zzz", [f"m{n}" for n in range(50)]).endswith(", …")


def test_nearest_is_bounded() -> None:
    """A word of a megabyte is not compared with anything."""
    assert nearest("x" * 1_000_000, ["x" * 1_000_000]) is None
