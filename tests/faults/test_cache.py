"""Nothing crosses tenants through the cache (I15); the great number is in `make chaos`."""

from __future__ import annotations

import pytest
from crossings import TENANTS, Crossings

SEED = 20261123


@pytest.mark.parametrize("redis", [False, True], ids=["memory", "redis"])
def test_nobody_gets_an_answer_of_another_tenant(tmp_path, redis):
    with Crossings(tmp_path / "stage", redis=redis) as stage:
        seen = stage.play(SEED, 2_400)
    assert not seen.wrong, seen
    assert seen.crossings == 0, seen
    assert TENANTS >= 100 < seen.hits, seen
    assert seen.kinds["left"] > 150, seen
    assert seen.renewed, seen


def test_under_a_name_without_the_tenant_answers_cross(tmp_path):
    """The control: the same crowd, and whoever asks the same gets the same."""
    with Crossings(tmp_path / "stage", naive=True) as stage:
        seen = stage.play(SEED, 600)
    assert seen.crossings > 100, seen
