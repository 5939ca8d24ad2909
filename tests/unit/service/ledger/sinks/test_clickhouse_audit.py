"""An audit finds what rows say that their requests do not."""

from __future__ import annotations

import pytest

from service.ledger.lines import decode, encode
from service.ledger.sinks import clickhouse as module
from service.ledger.sinks import clickhouse_audit
from service.ledger.sinks import clickhouse_layout as layout
from service.ledger.sinks.clickhouse import ClickHouseSink
from service.ledger.sinks.port import Batch, SinkFault

BATCH_LINES = []
for number in range(1, 4):
    opened = {"attempt_id": f"a{number}", "decision_id": f"d{number // 2}", "at_ms": number, "model": "small"}
    ended = {"attempt_id": f"a{number}", "state": "settled", "at_ms": 9, "cost_pusd": 5, "final": True}
    ended |= {"baseline_pusd": 9}
    rows = (("decision", {"id": f"d{number // 2}", "plan": "single"}), ("open", opened), ("terminal", ended))
    BATCH_LINES += [decode(encode(kind, body)[:-1]) for kind, body in rows]


@pytest.fixture
def place(clickhouse, tmp_path):
    """(a sink with three attempts of two requests, what asks its database)."""
    url = clickhouse.database()
    sink = ClickHouseSink(url, tmp_path)
    sink.prepare()
    sink.store(Batch("w.00000.jsonl", 1, BATCH_LINES))
    yield sink, lambda statement: clickhouse.ask(statement, url.rpartition("/")[2])
    sink.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("1 AS picked WHERE attempt_id = 'a2'", "1 requests are compared"),
        ("0 AS picked WHERE attempt_id = 'a3'", "1 requests are compared"),
        ("0 AS charged WHERE attempt_id = 'a2'", "1 requests are compared"),
        ("NULL AS cost_pusd WHERE attempt_id = 'a2'", "1 requests are compared"),
        ("'panel' AS plan WHERE attempt_id = 'a1'", "1 attempts have another plan"),
        ("NULL AS plan WHERE attempt_id = 'a1'", "1 attempts have another plan"),
        ("'d7' AS decision_id WHERE attempt_id = 'a1'", "1 attempts can't be found"),
    ],
)
@pytest.mark.parametrize("piece", [500_000, 1])
def test_a_difference_is_told(place, change, told, monkeypatch, piece):
    """Of baselines, of plans, of what decisions have; in one piece and in several."""
    sink, ask = place
    monkeypatch.setattr(clickhouse_audit, "PIECE_ROWS", piece)
    assert sink.audit().differences == ()
    value, _, rest = change.partition(" AS ")
    column, _, where = rest.partition(" ")
    named = ("source", *layout.COLUMNS)
    values = [value if name == column else "version + 1" if name == "version" else name for name in named]
    into = f"INSERT INTO {layout.ATTEMPTS} ({', '.join(named)})"
    ask(f"{into} SELECT {', '.join(values)} FROM {layout.ATTEMPTS} FINAL {where}")  # noqa: S608  # Literals of ours.
    found = sink.audit().differences
    assert any(one.startswith(told) for one in found), found


def test_an_audit_is_of_one_state(place, monkeypatch):
    """A batch that comes in meanwhile begins it anew; when that goes on and on, it says so."""
    sink, _ = place
    audit = module.audit
    more = iter(range(2, 4))

    def disturbed(*arguments):
        found = audit(*arguments)
        for end in more:
            sink.store(Batch("w.00000.jsonl", end, BATCH_LINES))
            break
        return found

    monkeypatch.setattr(module, "audit", disturbed)
    assert sink.audit().checkpoints == {"w.00000.jsonl": 3}
    more = iter(range(4, 100))
    with pytest.raises(SinkFault, match="again and again"):
        sink.audit()


def test_progress_is_told(place):
    """In pieces done of pieces, up to all."""
    sink, _ = place
    told = []
    sink.audit(lambda done, total: told.append((done, total)))
    assert told == [(0, 1), (1, 1)]
