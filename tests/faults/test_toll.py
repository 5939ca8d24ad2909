"""What faults cost (I7, I9), a little of it on every commit; `make chaos` plays hundreds of each."""

from __future__ import annotations

from collections import Counter

import pytest
import toll
from toll import FAST, Calls, called, judged, later

from service.simulator import Fault, Script, http_error

FEW = 6
MANY = 120


@pytest.mark.parametrize("fault", ["500", "cut after the role"])
def test_a_fast_fault_is_hardly_noticed(tmp_path, monkeypatch, fault):
    """Each answer comes from the one that it should; how late is for `make chaos`, where the machine is its own."""
    monkeypatch.setattr(toll, "ADDED_MS", 1_000.0)
    found = later(tmp_path / "r", fault, FAST[fault], FEW)
    assert found.wrong == []
    assert (len(found.with_it), len(found.without)) == (FEW, 2 * FEW)


def test_a_fault_that_takes_its_time_is_found(tmp_path):
    """Positive control: an error that comes after 200 ms is more than the 50 that are promised."""
    slow = Script(fault=Fault.HTTP_ERROR, status=500, header_delay_s=0.2)
    found = later(tmp_path / "r", "late", slow, FEW)
    assert len(found.wrong) == 1
    assert "later, at most 50 promised" in found.wrong[0]


@pytest.mark.parametrize(("dead", "callers"), [(3, 1), (3, 4), (2, 1)])
def test_an_outage_takes_few_calls(tmp_path, dead, callers):
    """At most 1.2 for each request when nobody answers; everybody is answered while somebody can."""
    found = called(tmp_path / "r", http_error(500), dead, callers, MANY * callers)
    assert judged("this", found, dead, callers) == []


def test_too_many_calls_are_found():
    """Positive control: the judge, on what a router without breakers and without a budget does."""
    every = Calls([3] * 100, Counter({502: 100}))
    assert len(judged("all dead", every, 3)) == 2
    assert len(judged("one alive", every, 2)) == 2
    assert len(judged("four", Calls([4], Counter({200: 1})), 1)) == 1
    assert judged("fine", Calls([1] * 9 + [2], Counter({200: 10})), 1) == []
