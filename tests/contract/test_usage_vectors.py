"""Golden vectors: what every vendor's usage means and costs, to the pico-dollar; and every vendor has one."""

from __future__ import annotations

import pytest
from vectors import FIXTURES, OF_USAGE, played, registry, vectors

from service.ledger.reproduced import difference

VECTORS = vectors()


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{one.provider}, {one.name}, {one.way}" for one in VECTORS])
def test_what_it_means_and_costs(vector):
    """Buckets, flags, whose number it is, and the cost; and the row comes to the same when it is computed again."""
    opened, ended = played(vector)
    usage = {bucket: count for bucket, count in ended["usage"].items() if bucket != "requests"}
    assert usage == vector.said["buckets"]
    assert ended.get("usage_flags", []) == vector.said.get("flags", [])
    assert ended["usage_source"] == vector.said.get("source", "provider")
    assert ended.get("cost_pusd") == vector.said["pusd"]
    assert difference(opened, ended) is None


def test_every_provider_has_a_vector():
    """All of providers.yaml, switched on or not; those whose usage is odd have several."""
    told = {}
    for one in VECTORS:
        told.setdefault(one.provider, set()).add(one.name)
    shipped = registry().providers
    assert told.keys() == shipped.keys()
    odd = {name for name, provider in shipped.items() if OF_USAGE & provider.quirks.keys()}
    assert {"deepseek", "moonshot", "baidu", "anthropic", "google", "xai", "openrouter"} == odd
    assert all(len(told[name]) > 1 for name in odd)


def test_there_are_enough_of_them():
    """Distinct ones, and those that show the mistakes others made with real money."""
    distinct = {(one.name, one.provider) for one in VECTORS}
    assert len(distinct) >= 60
    assert sum("stream" in one.way or one.way != "whole" for one in VECTORS) >= 60
    mistakes = " ".join({one.said.get("mistake", "") for one in VECTORS})
    for word in ("0.7642", "51 USD for 8", "batch", "flex", "negative", "read as free", "without a price at zero",
                 "billed twice", "yuan", "at dispatch"):  # fmt: skip
        assert word in mistakes, word


def test_every_cost_is_worked_out_in_its_file():
    """A figure without its sum above it can't be checked by anybody."""
    for path in FIXTURES.glob("*.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("  pusd:"):
                assert lines[number - 1].startswith("  # "), f"{path.name}:{number + 1}"
