"""What a failpoint replaces, what follows an error there, and that nothing is replaced without one."""

from __future__ import annotations

import os
import time

import pytest
from scenery import WordClassifier, a_catalog, a_model

from service import failpoints
from service.app import build
from service.config import Settings
from service.errors import ConfigurationError
from service.failpoints import POINTS, Failpoint, arm
from service.ledger import segments
from service.ledger.journal import Journal
from service.routing.verdicts import Verdicts
from service.simulator import Script
from service.startup import open_keys

REPLACED = {
    "after_open": ("journal", "append_open"),
    "before_settle": ("journal", "terminal_at_once"),
    "after_settle": ("journal", "append_terminal"),
    "before_fsync": ("journal.writer.syncer", "force"),
    "in_reload": ("pipeline.attempting", "forget"),
}
"""By point: where in the house something stands in the way. The other points stand in the module of segments."""


@pytest.fixture(autouse=True)
def own_segments(monkeypatch):
    """What a failpoint does to a module ends with the test."""
    for name in ("write_at", "mark_swept"):
        monkeypatch.setattr(segments, name, getattr(segments, name))


def part(house, path):
    """A part of the house by its dotted name."""
    for name in path.split("."):
        house = getattr(house, name)
    return house


def test_without_the_setting_nothing_stands_in_the_way(serving):
    """Every method is its class's own."""
    app, _ = serving({"alpha": Script()})
    for path, name in REPLACED.values():
        assert name not in vars(part(app.house, path))
    assert set(REPLACED) | {"mid_write", "in_recovery"} == set(POINTS)
    assert app.house.journal.append_open.__func__ is Journal.append_open
    assert isinstance(app.house.pipeline.attempting.health, Verdicts)


@pytest.mark.parametrize("point", REPLACED)
def test_with_it_one_method_is_another(serving, point):
    """Of the house that was built."""
    app, _ = serving({"alpha": Script()}, failpoint=f"{point}:sleep@1000")
    path, name = REPLACED[point]
    assert name in vars(part(app.house, path))


def test_an_unknown_point_stops_the_start(tmp_path):
    """Before anything is served: `coe serve` ends with 78, as for every ConfigurationError, and says what there is."""
    settings = Settings(data_dir=tmp_path, failpoint="nowhere:kill")
    with pytest.raises(ConfigurationError, match="COE_FAILPOINT='nowhere:kill' is none: give point:action"):
        build(settings, a_catalog(a_model("m")), open_keys(settings), simulated=False, classifier=WordClassifier())


@pytest.mark.parametrize(
    ("point", "status", "state", "sync"),
    [
        ("after_open", 503, None, "group"),
        ("before_settle", 200, None, "group"),
        ("after_settle", 200, "settled", "always"),
        ("mid_write", 503, None, "group"),
    ],
)
def test_an_error_at_a_point_is_met_as_promised(serving, point, status, state, sync):
    """Nothing is sent when the intent can't be written; an answer that is paid is given; the next one is as ever."""
    app, simulator = serving({"alpha": Script()}, failpoint=f"{point}:error", journal_sync=sync)
    reply = app.chat()
    assert reply.status_code == status, reply.text
    assert len(simulator.log) == (1 if status == 200 else 0)
    assert app.chat().status_code == 200
    (first, *_) = [ends for _, ends in app.books.attempts()] if point != "mid_write" else [[]]
    assert [end["state"] for end in first] == ([state] if state else [])
    assert app.chat().status_code == 200


def test_a_disk_that_fails_behind_the_rows_takes_no_answer_away(serving):
    """In `group`; the rows that follow go to another part."""
    app, _ = serving({"alpha": Script()}, failpoint="before_fsync:error")
    assert [app.chat().status_code for _ in range(2)] == [200, 200]
    time.sleep(0.05)
    assert app.chat().status_code == 200
    assert app.house.journal.status().failed_syncs == 1
    assert app.house.journal.status().writable


@pytest.mark.parametrize(("spec_turn", "calls", "raised"), [(None, 3, [0]), (2, 3, [1]), (5, 3, [])])
def test_an_error_comes_in_its_turn_and_once(spec_turn, calls, raised):
    """The first time, or the one that was named."""
    failpoint, seen = Failpoint("p", "error", spec_turn), []
    for number in range(calls):
        try:
            failpoint.act(KeyError("x"))
        except KeyError:
            seen.append(number)
    assert seen == raised


def test_sleep_is_each_time_and_kill_is_a_kill(monkeypatch):
    """A real SIGKILL, in a child."""
    slept = []
    monkeypatch.setattr(failpoints.time, "sleep", slept.append)
    failpoint = Failpoint("p", "sleep")
    for _ in range(3):
        failpoint.act(KeyError("x"))
    assert slept == [failpoints.SLEEP_S] * 3
    child = os.fork()
    if not child:
        Failpoint("p", "kill").act(KeyError("x"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


def test_arming_is_of_the_one_point(serving):
    """And can be done to a house that stands."""
    app, _ = serving({"alpha": Script()})
    arm(Failpoint("in_reload", "error"), app.house)
    with pytest.raises(ConfigurationError, match="a failpoint"):
        app.house.pipeline.attempting.forget()
    app.house.pipeline.attempting.forget()
