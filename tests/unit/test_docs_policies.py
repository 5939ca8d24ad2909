"""docs/policies.md is complete: objectives, fields, reasons and cases of the code are compared with the page both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from service.catalog.schema import PolicyEntry
from service.catalog.words import OBJECTIVES
from service.cli.policy_cases import CaseEntry, ExpectEntry, HeadEntry, read_cases
from service.routing.capable import REJECTIONS
from service.routing.policies import POLICIES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
POLICIES_SHIPPED = yaml.load((ROOT / "providers.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)["policies"]  # noqa: S506 # BaseLoader builds only text


def told(head):
    """The first column of the table whose head begins so, without back-ticks."""
    table = PAGE.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return [row.split("|")[1].strip(" `") for row in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("objective", POLICIES),
        ("policy", POLICIES_SHIPPED),
        ("field", PolicyEntry.model_fields),
        ("kind", REJECTIONS),
        ("field of a case", CaseEntry.model_fields),
        ("field of `expect`", ExpectEntry.model_fields),
    ],
)
def test_a_table_names_what_there_is(head, names):
    """Everything, nothing else, each once."""
    assert told(head) == list(dict.fromkeys(told(head)))
    assert set(told(head)) == set(names)
    assert OBJECTIVES.keys() == POLICIES.keys()


def test_reasons_stand_in_the_order_in_which_they_are_looked_for():
    """The page says that the first is told."""
    assert told("kind") == list(REJECTIONS)


def test_the_head_of_a_file_is_told():
    """`at` and `registry`, in a sentence."""
    (sentence,) = re.findall(r"A file has [^.]*\.", PAGE)
    assert set(re.findall(r"`(\w+)`", sentence)) == {*HeadEntry.model_fields, "cases"}


def test_the_example_is_a_file_that_loads(tmp_path):
    """What a reader copies works."""
    (example,) = re.findall(r"```yaml\n(at: .*?)```", PAGE, re.DOTALL)
    path = tmp_path / "example.yaml"
    path.write_text(example, encoding="utf-8")
    assert len(read_cases(path).cases) == 2
