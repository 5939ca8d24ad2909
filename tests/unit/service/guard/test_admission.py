"""The queue at the door: what is begun in a turn, who waits, who is refused, and that nobody is forgotten."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.guard import admission
from service.guard.admission import LINE_S, PER_TURN, QUEUE_MAX, QUEUE_S, Admission


class Scene:
    """A loop of its own: turns are taken when the test says so."""

    def __init__(self, most=10_000):
        self.now, self.turns, self.begun, self.refused = 0.0, [], [], []
        self.left = set()
        self.admission = Admission(most, lambda: self.now, self.turns.append)

    def arrive(self, name, behind=None):
        def start():
            if name in self.left:
                return False
            self.begun.append(name)
            return True

        def refuse():
            self.refused.append(name)
            if behind is not None:
                self.arrive(behind)

        self.admission.arrive(start, refuse)

    def turn(self):
        turns, self.turns[:] = self.turns[:], []
        assert len(turns) <= 1, "one call for the next turn is enough"
        for one in turns:
            one()


def test_few_are_begun_at_once():
    """Without waiting for a turn; each turn has room anew."""
    scene = Scene()
    for turn in range(5):
        for name in range(PER_TURN):
            scene.arrive((turn, name))
        assert len(scene.begun) == PER_TURN * (turn + 1)
        scene.turn()
    assert scene.admission.figures() == {
        "coe_requests_in_flight": 5 * PER_TURN,
        "coe_requests_waiting": 0,
        "coe_requests_shed_total": 0,
    }


def test_more_wait_in_line_and_are_begun_in_order():
    """A turn each; who comes meanwhile stands behind them."""
    scene = Scene()
    for name in range(PER_TURN * 3):
        scene.arrive(name)
    assert scene.begun == list(range(PER_TURN))
    scene.arrive("late")
    scene.turn()
    assert scene.begun == list(range(PER_TURN * 2))
    scene.turn()
    scene.turn()
    assert scene.begun == [*range(PER_TURN * 3), "late"]
    assert not scene.turns


def test_a_full_line_is_a_refusal_at_once():
    """The first come keep their places."""
    scene = Scene()
    for name in range(PER_TURN + QUEUE_MAX + 3):
        scene.arrive(name)
    assert scene.refused == list(range(PER_TURN + QUEUE_MAX, PER_TURN + QUEUE_MAX + 3))
    assert scene.admission.refused == 3
    while scene.turns:
        scene.turn()
    assert scene.begun == list(range(PER_TURN + QUEUE_MAX))


def test_so_many_run_at_once_and_no_more():
    """Whoever ends makes room."""
    scene = Scene(most=2)
    for name in "abc":
        scene.arrive(name)
    assert (scene.begun, scene.refused) == (["a", "b"], ["c"])
    scene.admission.ended()
    scene.arrive("d")
    assert scene.begun == ["a", "b", "d"]


def test_a_line_that_stands_still_is_refused():
    """Waiting longer than `QUEUE_S` is no favour; who waits less is begun."""
    scene = Scene()
    for name in range(PER_TURN + 1):
        scene.arrive(name)
    scene.now = QUEUE_S / 2
    scene.arrive("later")
    scene.now = QUEUE_S + 0.01
    scene.turn()
    assert scene.refused == [PER_TURN]
    assert scene.begun[-1] == "later"


def test_the_limit_holds_for_those_who_waited():
    """It filled up while they stood in line."""
    scene = Scene(most=PER_TURN + 1)
    for name in range(PER_TURN + 2):
        scene.arrive(name)
    scene.turn()
    assert (scene.begun[-1], scene.refused) == (PER_TURN, [PER_TURN + 1])


def test_who_comes_out_of_a_refusal_joins_the_line():
    """A refused request may have another behind it on its connection: turns stay single, and so does the order."""
    scene = Scene()
    for name in range(PER_TURN + 4):
        scene.arrive(name, behind=f"behind {name}")
    scene.now = QUEUE_S + 0.01
    scene.turn()
    assert scene.refused == list(range(PER_TURN, PER_TURN + 4))
    while scene.turns:
        scene.turn()
    assert scene.begun[PER_TURN:] == [f"behind {PER_TURN + place}" for place in range(4)]


def test_one_who_left_takes_no_place():
    """It is neither begun nor refused, and counts nowhere."""
    scene = Scene()
    for name in range(PER_TURN + 2):
        scene.arrive(name)
    scene.left.add(PER_TURN)
    scene.turn()
    assert scene.begun[-1] == PER_TURN + 1
    assert scene.admission.in_flight == PER_TURN + 1


@pytest.mark.parametrize("most", [1, 7, 10_000])
@given(st.lists(st.sampled_from(["arrive", "arrive", "arrive", "turn", "end", "wait"]), max_size=300))
def test_whatever_happens_everybody_is_told(most, moves):
    """Random lives: nobody twice, nobody forgotten, limits held, and the line empties by itself."""
    scene, count, ended = Scene(most), 0, 0
    limits = admission.PER_TURN, admission.QUEUE_MAX
    admission.PER_TURN, admission.QUEUE_MAX = 2, 5
    try:
        for move in moves:
            if move == "arrive":
                scene.arrive(count)
                count += 1
            elif move == "turn":
                scene.turn()
            elif move == "wait":
                scene.now += 0.4
            elif ended < len(scene.begun):
                scene.admission.ended()
                ended += 1
            assert 0 <= scene.admission.in_flight <= most
            assert scene.admission.figures()["coe_requests_waiting"] <= 5
        while scene.turns:
            scene.turn()
    finally:
        admission.PER_TURN, admission.QUEUE_MAX = limits
    assert sorted(scene.begun + scene.refused) == list(range(count))
    assert scene.begun == sorted(scene.begun)
    assert scene.admission.in_flight == len(scene.begun) - ended


def test_a_line_is_as_long_as_the_machine_is_quick():
    """A flood at a machine that begins 80 a second: hardly anybody waits in vain; then the line is long again."""
    scene, waited = Scene(), []
    for turn in range(100):
        for name in range(200):
            scene.arrive((turn, name))
        scene.now += 0.1  # a turn of a slow machine: eight are begun
        before = len(scene.refused)
        scene.turn()
        waited.append(len(scene.refused) - before)
    assert len(scene.begun) == PER_TURN * 101
    assert sum(waited[20:]) == 0, "refused after they had waited"
    assert scene.admission.figures()["coe_requests_waiting"] <= 80 * LINE_S
    while scene.turns:
        scene.turn()
    for name in range(PER_TURN + QUEUE_MAX):
        scene.arrive(("later", name))
    assert scene.admission.figures()["coe_requests_waiting"] == QUEUE_MAX


def test_a_quick_machine_has_the_whole_line():
    """Eight in 2 ms: a quarter of a second of that is more than `QUEUE_MAX`."""
    scene = Scene()
    for _ in range(50):
        while scene.admission.figures()["coe_requests_waiting"] < QUEUE_MAX:
            scene.arrive("x")
        scene.now += 0.002
        scene.turn()
    assert scene.refused == []


def test_it_says_beforehand_whom_it_would_refuse():
    """Whatever the state: who is told that it is full would be refused, and who is not would not be."""
    chance, scene, said = random.Random(3), Scene(most=40), Counter()
    for name in range(6_000):
        full, before = scene.admission.is_full, len(scene.refused)
        scene.arrive(name)
        assert full is (len(scene.refused) > before)
        said[full] += 1
        if chance.random() < 0.02:
            scene.turn()
        for _ in range(chance.choice([0, 0, 0, 1])):
            if scene.admission.in_flight:
                scene.admission.ended()
    assert min(said.values()) > 100
    scene.admission.stopping = True
    assert not scene.admission.is_full, "each connection is told that it ends"
