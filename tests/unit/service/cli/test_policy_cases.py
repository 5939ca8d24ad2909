"""Files of cases: what is read, and that every mistake is told at its place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from service.cli.policy_cases import read_cases, read_folder
from service.domain.access import ANONYMOUS
from service.errors import RegistryError

GOOD = """\
at: 2026-11-21T12:00Z
cases:
  - name: small talk
    prompt: "my secret prompt"
    policy: cheap
    expect: {must: openai, reason_code: cheapest_capable}
  - name: a long one
    turns: ["first", "answer", "second"]
    repeat: 3
    at: 2026-11-23T02:00+08:00
    coe: {max_cost_usd: 0.5, deny: ["region:cn"]}
    key: {tags: [hr], models: [m], policies: [cheap]}
    expect: {error: no_capable_model}
"""


def written(folder, text):
    """A file with this text."""
    path = folder / "cases.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def wrong(folder, text):
    """The problems of a file, without its name."""
    path = written(folder, text)
    with pytest.raises(RegistryError) as caught:
        read_cases(path)
    return [line.removeprefix(f"{path}:") for line in caught.value.problems]


def test_a_good_file(tmp_path):
    """Cases with their lines, instants and callers; one name or a list of them."""
    file = read_cases(written(tmp_path, GOOD))
    first, second = file.cases
    assert (first.line, first.entry.expect.must, first.caller) == (3, ["openai"], ANONYMOUS)
    assert first.at == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert (second.at, second.entry.repeat) == (datetime(2026, 11, 22, 18, tzinfo=UTC), 3)
    assert (second.caller.tags, second.caller.models, second.caller.policies) == ({"hr"}, {"m"}, {"cheap"})
    assert file.registry is None


def test_a_registry_is_found_from_the_file(tmp_path):
    """A path is relative to the file of cases, wherever the command runs."""
    text = "registry: other/small.yaml\n" + GOOD
    assert read_cases(written(tmp_path, text)).registry == tmp_path / "other" / "small.yaml"


def test_a_folder_is_read_by_name(tmp_path):
    """Only *.yaml, in alphabetical order, without its folders."""
    for name in ("b.yaml", "a.yaml", "c.txt"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    (tmp_path / "d").mkdir()
    assert [one.file.name for one in read_folder(tmp_path)] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("must: openai", "mist: openai", "6:14: unknown field 'mist'; did you mean 'must'?"),
        ("cheapest_capable", "cheapest_capabel", "6:41: unknown reason code 'cheapest_capabel'; did you mean"),
        ("{must: openai, reason_code: cheapest_capable}", "{}", "6:5: expects nothing, so it would always pass"),
        ('    prompt: "my secret prompt"\n', "", "3:5: a case has exactly one of prompt, turns and body"),
        ('["first", "answer", "second"]', '["first", "answer"]', "8:5: the last turn is the person's"),
        ("2026-11-21T12:00Z", "2026-11-21T12:00", "1:5: expected an instant with its zone"),
        ("at: 2026-11-21T12:00Z\n", "", "1:1: the field 'at' is missing"),
        ("name: a long one", "name: small talk", "7:11: a second case of this name, first on line 3"),
        ("repeat: 3", "repeat: 0", "9:13: must be between 1 and 1000000"),
        ("{error: no_capable_model}", "{error: x, must: [m]}", "13:21: a refused request has nothing else to expect"),
        ("policy: cheap\n", 'policy: cheap\n    coe: {policy: "best"}\n', "5:5: the policy twice"),
        ("{must: openai,", "{intent: code,", "6:22: unknown intent 'code'; did you mean 'coding'?"),
        ("{must: openai,", "{rejected: {p/m: costs},", "6:30: unknown kind of reason 'costs'; did you mean 'cost'?"),
        ('"my secret prompt"', "12", "4:13: expected a text; put quotes around"),
    ],
)
def test_each_mistake_is_told_at_its_place(tmp_path, old, new, problem):
    """File, line, column, and what to do; the prompt is never in it."""
    assert GOOD.count(old) == 1
    found = wrong(tmp_path, GOOD.replace(old, new))
    assert any(line.startswith(problem) for line in found), found
    assert "secret" not in "".join(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("at: 2026-11-21T12:00Z\ncases: []\n", "expected a list with at least one case"),
        ("- 1\n", "expected a mapping with at and cases"),
        ("at: 2026-11-21T12:00Z\ncases:\n  - 7\n", "expected a mapping"),
        ("", "the file is empty"),
    ],
)
def test_a_file_without_cases_is_a_mistake(tmp_path, text, problem):
    """It would pass for ever."""
    assert any(problem in line for line in wrong(tmp_path, text))


def test_a_body_says_its_own_model_and_limits(tmp_path):
    """Two places for one thing would hide one of them."""
    text = "at: 2026-11-21T12:00Z\ncases:\n  - {name: x, body: {messages: []}, model: auto, expect: {error: x}}\n"
    assert any("a body has its own model" in line for line in wrong(tmp_path, text))
