"""docs/usage.md is complete: providers, flags and sources of the code are compared with the page both ways."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from vectors import vectors

from service.domain.money import BUCKETS, UsageSource
from service.upstream.usage_fields import FLAGS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
CODE = "".join(
    (ROOT / "service" / place).read_text(encoding="utf-8")
    for place in ("upstream/usage.py", "upstream/tally.py", "domain/money.py", "ledger/rows.py")
)


def rows(head):
    """The rows of the table whose head begins so."""
    table = PAGE.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]]


def test_every_provider_is_told():
    """All of providers.yaml, each once."""
    told = [name for row in rows("provider") for name in row[0].split(", ")]
    shipped = yaml.safe_load((ROOT / "providers.yaml").read_text(encoding="utf-8"))["providers"]
    assert len(told) == len(set(told))
    assert set(told) == {str(name) for name in shipped}


def test_every_flag_is_told_in_the_words_of_the_code():
    """The table is the code's own."""
    assert {row[0]: row[1] for row in rows("flag")} == dict(FLAGS)


def test_every_flag_is_given_by_some_code():
    """None is there for nobody, none is given without a row: by name, or by the pattern that it is made with."""
    for flag in FLAGS:
        name = flag.replace("<number>", "}").replace("<name>", "")
        assert re.search(rf'"[^"]*{re.escape(name)}[^"]*"', CODE), flag
    shapes = [re.escape(flag).replace("<number>", r"\w+").replace("<name>", r"[\w.]+") for flag in FLAGS]
    given = {flag for one in vectors() for flag in one.said.get("flags", [])}
    assert given
    assert [flag for flag in given if not any(re.fullmatch(shape, flag) for shape in shapes)] == []


def test_sources_and_buckets():
    """Every bucket has its word, every source but the one that nobody gives yet has its row."""
    assert {row[0] for row in rows("`usage_source`")} == set(UsageSource) - {UsageSource.COUNTED}
    assert all(f"`{bucket}`" in PAGE for bucket in BUCKETS)
