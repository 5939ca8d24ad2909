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
