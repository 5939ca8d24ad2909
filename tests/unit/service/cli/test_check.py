"""`coe check`: the registry as start-up sees it."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml
from stage import coe, registry

from service.cli.exits import EX_CONFIG, EX_USAGE
from service.simulator import Script


@pytest.fixture
def file(vendors, tmp_path):
    """A registry of one vendor."""
    return registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))


def test_a_good_file_is_ok_with_its_report(file):
    """The file's name first, then what it amounts to."""
    done = coe("check", "--providers", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: ok\n")
    assert "alpha" in done.stdout or "1 provider" in done.stdout


def test_a_wrong_file_is_78_with_line_and_column(file):
    """Every problem on a line of its own, with a suggestion."""
    file.write_text(file.read_text(encoding="utf-8").replace("context_tokens", "contxt_tokens", 1), encoding="utf-8")
    done = coe("check", "--providers", str(file))
    assert done.returncode == EX_CONFIG
    assert f"{file}:14:5:" in done.stderr
    assert "context_tokens" in done.stderr
    assert done.stdout == ""


def test_a_missing_file_is_78(tmp_path):
    """And named, whether it came from the flag or from the environment."""
    for done in (coe("check", "--providers", "/none/x.yaml"), coe("check", COE_PROVIDERS="/none/x.yaml")):
        assert done.returncode == EX_CONFIG
        assert "/none/x.yaml" in done.stderr


def test_the_schema_is_one_that_editors_can_use(file):
    """It takes the good file and refuses an unknown field."""
    done = coe("check", "--schema")
    schema = json.loads(done.stdout)
    whole = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506 # BaseLoader builds only text
    assert whole["providers"]
    jsonschema.Draft202012Validator.check_schema(schema)
    found = list(jsonschema.Draft202012Validator(schema).iter_errors({"version": 1, "providrs": {}}))
    assert any("providrs" in one.message for one in found)


def test_an_unknown_flag_is_64():
    """Not click's 2."""
    done = coe("check", "--strict")
    assert done.returncode == EX_USAGE
    assert "--strict" in done.stderr


CASES = """\
at: 2026-11-21T12:00Z
cases:
  - {name: small talk, prompt: "Hey there, how are you?", expect: {intent: chitchat, must: [alpha-model]}}
  - {name: by name, prompt: "hi", model: alpha-model, expect: {reason_code: pinned, policy: pinned}}
"""


def test_policy_tests_beside_the_registry_run_unasked(file):
    """They say how many passed; a missing folder is none."""
    assert "policy tests" not in coe("check", "--providers", str(file)).stdout
    folder = file.parent / "policy-tests"
    folder.mkdir()
    (folder / "talk.yaml").write_text(CASES, encoding="utf-8")
    done = coe("check", "--providers", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"policy tests in {folder}: 2 of 2 passed\n")


def test_a_case_that_fails_is_78_with_what_was_chosen_and_why(file, tmp_path):
    """Where it stands, what was expected, what was found; never the prompt."""
    folder = tmp_path / "cases"
    folder.mkdir()
    (folder / "talk.yaml").write_text(CASES.replace("[alpha-model]", "[baseline-model]"), encoding="utf-8")
    done = coe("check", "--providers", str(file), "--policy-tests", str(folder))
    assert done.returncode == EX_CONFIG
    assert f"{folder / 'talk.yaml'}:3: small talk" in done.stderr
    assert "must be one of baseline-model" in done.stderr
    assert "found: alpha/alpha-model at" in done.stderr
    assert done.stderr.endswith(f"coe: policy tests in {folder}: 1 of 2 passed\n")
    assert "how are you" not in done.stderr


def test_a_wrong_file_of_cases_is_78_at_its_place(file, tmp_path):
    """Before anything is decided; a folder without files tests nothing and says so."""
    folder = tmp_path / "cases"
    folder.mkdir()
    empty = coe("check", "--providers", str(file), "--policy-tests", str(folder))
    assert (empty.returncode, "no *.yaml with cases" in empty.stderr) == (EX_CONFIG, True)
    (folder / "talk.yaml").write_text(CASES.replace("chitchat", "chitcat"), encoding="utf-8")
    done = coe("check", "--providers", str(file), "--policy-tests", str(folder))
    assert done.returncode == EX_CONFIG
    assert f"{folder / 'talk.yaml'}:3:76: unknown intent 'chitcat'; did you mean 'chitchat'?" in done.stderr
    assert coe("check", "--policy-tests", str(folder / "none")).returncode == EX_USAGE
