"""Cuts at any byte, a few of them on every commit; `make chaos` plays thousands (I5, I8)."""

from __future__ import annotations

from collections import Counter

import pytest
from cuts import Case, Cuts, CuttingProxy
from stage import registry, start_router

from service.simulator import SimulatorThread

SEED = 20261122
CASES = 60


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """A router whose first vendor is behind a proxy that cuts."""
    home = tmp_path_factory.mktemp("cuts")
    with SimulatorThread(["alpha", "beta"]) as simulator:
        vendor = int(simulator.base_url("alpha").split(":")[2].split("/")[0])
        with CuttingProxy(vendor) as proxy:
            file = registry(home / "providers.yaml", simulator)
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(f":{vendor}/", f":{proxy.port}/"), encoding="utf-8")
            router = start_router(home / "data", file)
            yield Cuts(router, simulator, proxy)
            assert router.stop() == 0


def test_a_cut_at_any_byte_is_never_a_success_and_never_lost(cuts):
    """Whole answers or errors, one row with one end each; cuts happened at all."""
    found = [cuts.play(Case.drawn(SEED, number)) for number in range(CASES)]
    wrong = [one for one in found if one.wrong]
    assert not wrong, wrong[:3]
    kinds = Counter(one.kind for one in found)
    assert kinds["error event"] >= 3, kinds
    assert kinds["caller left"] >= 3, kinds
    assert sum(count for kind, count in kinds.items() if kind.startswith("whole")) >= 3, kinds
