"""The contract of every ledger sink in `SINKS`: idempotent by attempt id, in any order, exact, restartable."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from service.domain.decision import EntryState, TerminalEntry
from service.domain.lengths import AnswerLength
from service.errors import ConfigurationError
from service.ledger.lines import decode, encode, skim
from service.ledger.rows import terminal_body
from service.ledger.sinks import SINKS, open_sink
from service.ledger.sinks.port import GROUPINGS, TOKEN_COLUMNS, Batch, Problem, SinkMissing
from service.ledger.sinks.sqlite import SqliteSink

SEGMENT = "20261121T101500123Z-42-0a1b2c3d.00000.jsonl"


def opened(number, **changes):
    body = {
        "attempt_id": f"a{number}",
        "request_id": f"r{number}",
        "decision_id": f"d{number}",
        "attempt_number": 1,
        "at_ms": 1_795_000_000_000 + number,
        "requested_model": "auto",
        "model": "small",
        "provider": "acme",
        "tags": ["hr"],
    }
    return decode(encode("open", body | changes)[:-1])


def ended(number, **changes):
    values = {
        "attempt_id": f"a{number}",
        "state": EntryState.SETTLED,
        "at_ms": 1_795_000_002_000,
        "ended": "complete",
        "usage": {"input": 10, "output": 2},
        "usage_source": "provider",
        "cost_pusd": 1_000 + number,
        "baseline_pusd": 5_000,
        "baseline_model": "large",
    }
    return decode(encode("terminal", terminal_body(TerminalEntry(**(values | changes))))[:-1])


def decided(number):
    return decode(encode("decision", {"id": f"d{number}", "key_id": "k", "plan": "single"})[:-1])


@pytest.fixture(params=sorted(set(SINKS) - {"clickhouses"}))
def place(request, tmp_path):
    """The URL of an empty sink of each kind; `clickhouses` is the same one over TLS."""
    servers = {"postgresql": "postgres", "clickhouse": "clickhouse"}
    if request.param in servers:
        return request.getfixturevalue(servers[request.param]).database()
    return f"sqlite:///{tmp_path}/index"


@pytest.fixture
def sink(place, tmp_path):
    made = open_sink(tmp_path, place)
    yield made
    made.close()


def everything(sink):
    """All a sink can tell, in one comparable value."""
    sums = {by: sink.sums((by,), None, None) for by in GROUPINGS}
    numbers = [number for number in range(30) if sink.attempts(f"d{number}")]
    attempts = {number: sink.attempts(f"d{number}") for number in numbers}
    decisions = {number: sink.decision(f"d{number}") for number in numbers}
    audit = sink.audit()
    assert audit.differences == ()
    spent = sorted(sink.spent(0), key=str)
    return sums, attempts, decisions, spent, audit, sink.problems(), sink.checkpoints()


def test_before_anything_was_indexed_there_is_nothing_to_ask(sink):
    """A report on nothing says so instead of inventing a zero."""
    for ask in (
        sink.checkpoints,
        sink.problems,
        lambda: sink.sums((), None, None),
        lambda: sink.decision("d"),
        lambda: sink.attempts("d"),
        lambda: sink.answers(None, None),
        lambda: sink.spent(0),
        sink.audit,
    ):
        with pytest.raises(SinkMissing):
            ask()


def test_a_batch_is_stored_with_its_checkpoint(sink):
    """Rows, problems and checkpoint appear together."""
    sink.prepare()
    problem = Problem(SEGMENT, 70, "torn")
    sink.store(Batch(SEGMENT, 900, (decided(1), opened(1), ended(1)), (problem,)))
    assert sink.checkpoints() == {SEGMENT: 900}
    assert sink.problems() == [problem]
    assert sink.decision("d1") == {"id": "d1", "key_id": "k", "plan": "single"}
    (row,) = sink.attempts("d1")
    assert (row["state"], row["cost_pusd"], row["model"], row["input_tokens"]) == ("settled", 1_001, "small", 10)


def test_any_order_and_any_repetition_give_the_same(sink):
    """Ends before opens, everything twice, in random batches: the answer doesn't change by a pico-dollar."""
    lines = [line for number in range(20) for line in (decided(number), opened(number), ended(number))]
    sink.prepare()
    sink.store(Batch(SEGMENT, 1, lines))
    want = everything(sink)
    sink.clear()
    for line in lines:  # no batch has both lines of an attempt
        sink.store(Batch(SEGMENT, 1, [line]))
    assert everything(sink) == want
    sink.clear()
    for half in (1, 2):  # one half was there when both come
        sink.store(Batch(SEGMENT, 1, lines[half::3]))
        sink.store(Batch(SEGMENT, 1, [*lines, *lines[:30]]))
        assert everything(sink) == want
        sink.clear()
    chance = random.Random(7)
    for _ in range(5):
        shuffled = lines * 2
        chance.shuffle(shuffled)
        sink.clear()
        while shuffled:
            size = chance.randrange(1, 15)
            batch, shuffled = shuffled[:size], shuffled[size:]
            sink.store(Batch(SEGMENT, 1, batch))
        assert everything(sink) == want


def test_a_record_that_was_only_skimmed_is_kept_whole(sink):
    """What an index does not read of it is there when somebody asks, and what costs are grouped by, too."""
    record = {"id": "d1", "request_id": "r1", "key_id": "k", "created_ms": 7, "plan": "single", "text": "人\n"}
    line = encode("decision", record)[:-1]
    sink.prepare()
    sink.store(Batch(SEGMENT, 1, [skim(line), opened(1), ended(1)]))
    assert sink.decision("d1") == record
    (group,) = sink.sums(("plan",), None, None)
    assert group.keys == ("single",)


def test_two_ends_of_one_attempt_are_damage_and_one_counts(sink):
    """The one that a process knew beats the one that a sweep assumed, whichever comes first; and it is reported."""
    real = ended(1, at_ms=1_795_000_009_000)
    assumed = ended(1, state=EntryState.UNKNOWN, ended="crash", cost_pusd=9_999, usage={}, baseline_pusd=None)
    for order in ([opened(1), real, assumed], [assumed, real, opened(1)]):
        sink.prepare()
        sink.clear()
        sink.store(Batch(SEGMENT, 1, order))
        (row,) = sink.attempts("d1")
        assert (row["state"], row["cost_pusd"]) == ("settled", 1_001)
        assert [problem.what for problem in sink.problems()] == ["attempt a1 has more than one terminal row"]


def test_an_end_whose_open_row_is_lost_still_counts(sink):
    """Money is never dropped because a name is missing."""
    sink.prepare()
    sink.store(Batch(SEGMENT, 1, [ended(1)]))
    (total,) = sink.sums((), None, None)
    assert (total.attempts, total.requests, total.cost_pusd) == (1, 1, 1_001)
    (group,) = sink.sums(("model", "tag"), None, None)
    assert group.keys == (None, None)


def test_sums_are_exact_beyond_64_bits(sink):
    """A thousand rows of nine million dollars, and of minus that, add up to the last pico-dollar."""
    sink.prepare()
    big = 2**63 - 1
    lines = []
    for number in range(1_000):
        cost = -big if number % 10 == 9 else big - number
        lines += [opened(number), ended(number, cost_pusd=cost, baseline_pusd=big)]
    sink.store(Batch(SEGMENT, 1, lines))
    want = sum(-big if number % 10 == 9 else big - number for number in range(1_000))
    for by in ((), ("model",), ("day", "tag")):
        (sums,) = sink.sums(by, None, None)
        assert sums.cost_pusd == want
        assert sums.configured.cost_pusd == want
        assert sums.configured.baseline_pusd == 1_000 * big


def test_the_range_is_half_open(sink):
    """From the first instant on, up to and without the last."""
    sink.prepare()
    sink.store(Batch(SEGMENT, 1, [line for number in range(5) for line in (opened(number), ended(number))]))

    def attempts(since, until):
        rows = sink.sums((), since, until)
        return rows[0].attempts if rows else 0

    first = 1_795_000_000_000
    assert attempts(None, None) == 5
    assert attempts(first + 1, None) == 4
    assert attempts(None, first + 1) == 1
    assert attempts(first + 1, first + 3) == 2
    assert attempts(first + 9, None) == 0


def test_every_grouping_is_answered_and_no_other(sink):
    """The table of groupings and the sink agree; tokens have all their columns."""
    sink.prepare()
    sink.store(Batch(SEGMENT, 1, [decided(1), opened(1), ended(1)]))
    for by in GROUPINGS:
        (row,) = sink.sums((by,), None, None)
        assert len(row.keys) == 1
        assert tuple(row.tokens) == TOKEN_COLUMNS
    with pytest.raises(ValueError, match="choose from model, provider"):
        sink.sums(("model; DROP TABLE attempts",), None, None)


def test_a_failed_batch_changes_nothing(sink):
    """Neither its rows nor its checkpoint: the next try starts where the last good one ended."""
    sink.prepare()
    sink.store(Batch(SEGMENT, 100, [opened(1)]))
    want = everything(sink)
    bad = Batch(SEGMENT, 200, [opened(2), ended(2)], (Problem(SEGMENT, object(), "unstorable"),))
    with pytest.raises(Exception, match=r"."):
        sink.store(bad)
    assert everything(sink) == want
    sink.store(Batch(SEGMENT, 200, [opened(2), ended(2)]))
    assert sink.checkpoints() == {SEGMENT: 200}


def test_what_was_spent_is_told_by_writer_key_tags_and_day(sink):
    """From an instant on, to the last pico-dollar; what cost nothing, and what nobody is known to have begun, is not."""
    sink.prepare()
    day, other = 86_400_000, SEGMENT.replace("-42-", "-43-")
    first = 1_795_000_000_000
    lines = [
        *(opened(1, key_id="k"), ended(1, cost_pusd=2**62)),
        *(opened(2, key_id="k"), ended(2, cost_pusd=2**62)),
        *(opened(3, key_id="k", at_ms=first + day), ended(3)),
        *(opened(4, tags=[]), ended(4)),
        *(opened(5), ended(5, cost_pusd=0)),
        ended(6),
        opened(7),
    ]
    sink.store(Batch(SEGMENT, 1, lines))
    sink.store(Batch(other, 1, [opened(8, key_id="k"), ended(8)]))
    names = [segment.partition(".")[0] for segment in (SEGMENT, other)]
    late = (names[0], "k", ("hr",), "2026-11-19", 1_003, False)
    assert sorted(sink.spent(first + 4), key=str) == sorted(
        [late, (names[0], None, (), "2026-11-18", 1_004, False), (names[1], "k", ("hr",), "2026-11-18", 1_008, False)],
        key=str,
    )
    assert (names[0], "k", ("hr",), "2026-11-18", 2**63, False) in sink.spent(first)
    assert sink.spent(first + day) == [late]
    assert len(sink.spent(first)) == 4


def test_what_was_spent_at_simulated_vendors_is_told_apart(sink):
    """Nobody pays it, and the same key may have spent real money on the same day; also where hours were added up."""
    sink.prepare()
    first = 1_795_000_000_000
    lines = [
        *(opened(1, key_id="k"), ended(1)),
        *(opened(2, key_id="k", simulated=True), ended(2)),
        *(opened(3, key_id="k", simulated=True), ended(3)),
    ]
    sink.store(Batch(SEGMENT, 1, lines))
    for since in (first - 86_400_000, first + 1):
        assert sorted((one.simulated, one.pusd) for one in sink.spent(since)) == [(False, 1_001), (True, 2_005)]


def test_an_audit_counts_what_is_there(sink):
    """Beginnings, ends, who has not ended what, and the money; all of the last batch or nothing of it."""
    sink.prepare()
    sink.store(Batch(SEGMENT, 900, [opened(1), ended(1), opened(2), ended(3)]))
    found = sink.audit()
    assert (found.attempts, found.opened, found.ended) == (3, 2, 2)
    assert (found.cost_pusd, found.differences) == (1_001 + 1_003, ())
    assert found.running == {SEGMENT.partition(".")[0]: 1}
    assert found.checkpoints == {SEGMENT: 900}


LENGTH = {
    "intent": "coding",
    "effort": "high",
    "choices": 2,
    "last_user_tokens": 30,
    "output_tokens_cap": 100,
    "simulated": False,
    "kind": "answer",
}
LONG = {"input": 10, "output": 120, "reasoning": 40}


def test_the_lengths_of_whole_answers_are_told(sink):
    """Counted by the vendor, of real requests; whether they were cut at their cap; by the instant of dispatch."""
    sink.prepare()
    sink.store(
        Batch(
            SEGMENT,
            1,
            [
                *(opened(1, **LENGTH), ended(1, usage=LONG)),
                *(opened(2, **LENGTH), ended(2, usage={**LONG, "reasoning": 80})),
                *(opened(3, **{**LENGTH, "output_tokens_cap": None}), ended(3, usage=LONG)),
            ],
        )
    )
    whole = AnswerLength("small", "coding", "high", 120, 40, 30, 2)
    cut = AnswerLength("small", "coding", "high", 120, 80, 30, 2, cut=True)
    assert sorted(sink.answers(None, None), key=str) == sorted([whole, cut, whole], key=str)
    first = 1_795_000_000_001
    assert sink.answers(first, first + 1) == [whole]
    assert sink.answers(first + 3, None) == []


@pytest.mark.parametrize(
    ("open_changes", "end_changes"),
    [
        ({"simulated": True}, {}),
        ({"kind": "judge"}, {}),
        ({"last_user_tokens": None}, {}),
        ({"effort": None}, {}),
        ({"choices": 0}, {}),
        ({}, {"usage_source": "estimated", "state": EntryState.ESTIMATED}),
        ({}, {"ended": "client_left"}),
        ({}, {"final": False}),
        ({}, {"state": EntryState.UNKNOWN}),
        ({}, None),
    ],
)
def test_other_answers_tell_nothing_of_lengths(sink, open_changes, end_changes):
    """Made up, not an answer, of unknown size, not counted, not whole, or still running."""
    sink.prepare()
    lines = [opened(1, **{**LENGTH, **open_changes})]
    if end_changes is not None:
        lines.append(ended(1, **{"usage": LONG, **end_changes}))
    sink.store(Batch(SEGMENT, 1, lines))
    assert sink.answers(None, None) == []


def test_an_answer_from_the_cache_is_not_billable(sink):
    """Or each would make the share of what is estimated look smaller."""
    sink.prepare()
    guessed = {"usage_source": "estimated", "state": EntryState.ESTIMATED}
    sink.store(Batch(SEGMENT, 1, [opened(1), ended(1, **guessed), opened(2, kind="cache"), ended(2)]))
    for bounds in ((None, None), (1, 1_795_000_000_000 + 3_000_000)):  # by rollups, and one by one
        (found,) = sink.sums((), *bounds)
        assert (found.attempts, found.billable_attempts, found.guessed_attempts) == (2, 1, 1)


OTHER = "20261121T101500999Z-43-ffffffff.00000.jsonl"
DAY_MS = 86_400_000


def spent(sink, since_ms=0):
    """{(writer's number, key, tags, day): pico-USD}; each group stands once."""
    rows = sink.spent(since_ms)
    found = {(row.writer.split("-")[1], row.key_id, row.tags, row.day): row.pusd for row in rows}
    assert len(found) == len(rows)
    return found


def test_what_was_spent_is_told_by_who_opened_it(sink):
    """By key, tags and the day in which it was opened, also where another process wrote the end."""
    sink.prepare()
    late = 1_795_000_000_000 + DAY_MS
    sink.store(
        Batch(SEGMENT, 1, [opened(1), opened(2), opened(3, key_id="k", tags=[]), opened(4, key_id="k", at_ms=late)])
    )
    sink.store(Batch(SEGMENT, 2, [ended(1), ended(3), ended(4), opened(6, key_id="k"), ended(6)]))
    sink.store(Batch(OTHER, 1, [ended(2), opened(5), ended(5)]))
    first, second = "2026-11-18", "2026-11-19"
    assert spent(sink) == {
        ("42", None, ("hr",), first): 1_001 + 1_002,
        ("42", "k", (), first): 1_003,
        ("42", "k", ("hr",), first): 1_006,
        ("42", "k", ("hr",), second): 1_004,
        ("43", None, ("hr",), first): 1_005,
    }
    assert spent(sink, late) == {("42", "k", ("hr",), second): 1_004}
    assert spent(sink, late + 1) == {}
    assert {row.writer for row in sink.spent(late)} == {SEGMENT.removesuffix(".00000.jsonl")}


def test_an_end_that_comes_before_its_open_row_counts_once_that_is_there(sink):
    """Until then nobody knows whose it is, or of when."""
    sink.prepare()
    sink.store(Batch(OTHER, 1, [ended(1)]))
    assert spent(sink) == {}
    for _ in range(2):
        sink.store(Batch(SEGMENT, 1, [opened(1)]))
    assert spent(sink) == {("42", None, ("hr",), "2026-11-18"): 1_001}


def test_only_what_costs_something_was_spent(sink):
    """Neither what still runs, nor what was free or has no known price; a crashed one counts as it was reserved."""
    sink.prepare()
    lines = [opened(number) for number in range(1, 5)]
    lines += [ended(2, cost_pusd=0), ended(3, cost_pusd=None), ended(4, cost_pusd=7, state=EntryState.UNKNOWN)]
    sink.store(Batch(SEGMENT, 1, lines))
    assert spent(sink) == {("42", None, ("hr",), "2026-11-18"): 7}


def test_what_was_spent_is_summed_exactly_beyond_64_bits(sink):
    """As every sum of money here."""
    sink.prepare()
    large = 4 * 10**18 + 1
    for number in range(5):
        sink.store(Batch(SEGMENT, number + 1, [opened(number), ended(number, cost_pusd=large)]))
    assert spent(sink) == {("42", None, ("hr",), "2026-11-18"): 5 * large}


def test_a_rebuilt_sink_tells_the_same_spend(sink):
    """Whatever order the lines came in, and however often."""
    sink.prepare()
    lines = [line for number in range(20) for line in (opened(number, key_id=f"k{number % 3}"), ended(number))]
    sink.store(Batch(SEGMENT, 1, lines))
    want = spent(sink)
    for seed in range(4):
        sink.clear()
        shuffled = lines * 2
        random.Random(seed).shuffle(shuffled)
        for line in shuffled:
            sink.store(Batch(SEGMENT if line.kind == "open" else OTHER, 1, [line]))
        assert spent(sink) == want


def test_what_is_stored_survives_closing(sink):
    """A sink opened again goes on; emptied, it is as new."""
    sink.prepare()
    sink.store(Batch(SEGMENT, 100, [decided(1), opened(1), ended(1)]))
    want = everything(sink)
    sink.close()
    assert everything(sink) == want
    sink.prepare()
    assert everything(sink) == want
    sink.clear()
    assert sink.checkpoints() == {}
    assert sink.sums((), None, None) == []
    assert sink.decision("d1") is None


def test_a_ledger_url_chooses_the_sink(tmp_path):
    """The default lies in the data directory; a wrong URL is refused without repeating what may be a password."""
    assert type(open_sink(tmp_path)) is SqliteSink
    sink = open_sink(tmp_path, f"sqlite:///{tmp_path}/elsewhere.sqlite")
    sink.prepare()
    sink.close()
    assert (tmp_path / "elsewhere.sqlite").exists()
    for url in ("oracle://me:geheim@db/ledger", "sqlite", "sqlite:///", "nosuch:///geheim"):
        with pytest.raises(ConfigurationError, match="sqlite:///") as refused:
            open_sink(tmp_path, url)
        assert "geheim" not in str(refused.value)


ANOTHER_BASELINE = """
import importlib.util
import pathlib
import sys

import service.ledger

# Before anything derives its columns from it.
where = service.ledger.__path__[0] + "/sinks/port.py"
spec = importlib.util.spec_from_file_location("service.ledger.sinks.port", where)
port = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(port)
port.BASELINES = (*port.BASELINES, port.Baseline("another", "another_pusd"))

from service.ledger.lines import Line
from service.ledger.sinks import open_sink, sqlite_folding

sqlite_folding.SETTLE_ROWS = 3  # some are in the rollups, some wait
sink = open_sink(pathlib.Path(sys.argv[2]), sys.argv[1])
sink.prepare()
for number in range(5):
    opened = {"attempt_id": f"a{number}", "decision_id": f"d{number // 2}", "at_ms": 10**12, "model": "m"}
    ended = {"attempt_id": f"a{number}", "state": "settled", "at_ms": 10**12, "cost_pusd": 3, "final": number % 2 == 1}
    ended |= {"another_pusd": 100 + number, "baseline_pusd": 7}
    sink.store(port.Batch("w.00000.jsonl", number, [Line("open", opened, "0"), Line("terminal", ended, "0")]))
(found,) = sink.sums(("model",), None, None)
assert sink.audit().differences == ()
print([(name, *found.baselines[name]) for name in ("baseline", "another")])
"""


def test_one_line_in_the_table_is_one_baseline_more(place, tmp_path):
    """Columns, rollups, reports and audit follow from it, in every sink."""
    command = [sys.executable, "-c", ANOTHER_BASELINE, place, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "[('baseline', 2, 14, 12), ('another', 2, 204, 12)]\n", done.stderr
