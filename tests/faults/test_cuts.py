"""Cuts at any byte, a few of them on every commit; `make chaos` plays thousands (I5, I8)."""

from __future__ import annotations

from collections import Counter

import pytest
from cuts import Case, a_cutting

SEED = 20261122
CASES = 60


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """A router whose first vendor is behind a proxy that cuts."""
    with a_cutting(tmp_path_factory.mktemp("cuts") / "home") as found:
        yield found


def test_a_cut_at_any_byte_is_never_a_success_and_never_lost(cuts):
    """Whole answers or errors, one row with one end each; cuts happened at all."""
    found = [cuts.play(Case.drawn(SEED, number)) for number in range(CASES)]
    wrong = [one for one in found if one.wrong]
    assert not wrong, wrong[:3]
    kinds = Counter(one.kind for one in found)
    assert kinds["error event"] >= 3, kinds
    assert kinds["caller left"] >= 3, kinds
    assert sum(count for kind, count in kinds.items() if kind.startswith("whole")) >= 3, kinds
