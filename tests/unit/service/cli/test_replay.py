"""`coe replay --verify`: what a router decided is decided again from its journal, and every difference is told."""

from __future__ import annotations

import json

import orjson
import pytest
from scenery import a_catalog, a_chat, a_model, decided, start_app
from stage import coe, registry

from service.cli.exits import EX_DATAERR, EX_USAGE
from service.cli.replay import SHOWN, verify
from service.ledger.lines import decode, encode
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import Problem
from service.routing.explain import record
from service.simulator import Script


@pytest.fixture
def books(vendors, tmp_path):
    """(the registry file, the data directory) of a router that has answered three requests and ended."""
    simulator = vendors({"alpha": Script(), "beta": Script()})
    file = registry(tmp_path / "providers.yaml", simulator)
    app = start_app(tmp_path / "data", file)
    for text in ("hello", "translate this", "code"):
        assert app.chat(text, coe={"max_cost_usd": 1}).status_code == 200
    app.stop()
    return file, tmp_path / "data"


def verified(file, data, *arguments):
    """`coe replay --verify` as a user runs it."""
    return coe("replay", "--verify", "--providers", str(file), "--data-dir", str(data), *arguments)


def rewrite(data, change):
    """Change the bodies of the journal's decision lines, each with a checksum that fits."""
    (segment,) = list_segments(journal_dir(data))
    lines = []
    for raw in segment.path.read_bytes().splitlines():
        line = decode(raw)
        body = dict(line.body)
        if line.kind == "decision":
            change(body)
        lines.append(encode(line.kind, body))
    segment.path.write_bytes(b"".join(lines))


def test_what_a_router_decided_comes_out_the_same(books):
    """From the journal of a real router, with its registry."""
    done = verified(*books)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 decisions: 3 equal, 0 changed, 0 decided with other versions, 0 unreadable\n"


def test_since(books):
    """Older decisions are left out; none at all is said."""
    assert verified(*books, "--since", "1h").stdout.startswith("3 decisions: 3 equal")
    done = verified(*books, "--since", "2100-01-01")
    assert done.stdout.startswith("0 decisions")
    assert "No decision is recorded" in done.stderr


def test_another_registry_is_not_judged(books):
    """A price that changed makes other versions, by name; nothing is wrong then."""
    file, data = books
    text = file.read_text()
    assert "input: 10," in text
    file.write_text(text.replace("input: 10,", "input: 11,"))
    done = verified(file, data)
    assert done.returncode == 0
    assert "0 equal, 0 changed, 3 decided with other versions" in done.stdout
    assert "other registry: 3" in done.stdout
    assert "other offer: 3 (the same file may offer" in done.stdout


def test_a_decision_that_comes_out_otherwise_is_told(books):
    """Which, what was chosen, and in which fields; 65."""
    file, data = books

    def change(body):
        if body["judged_by"] == ["coding"]:
            body["intent"]["label"] = "chitchat"

    rewrite(data, change)
    done = verified(file, data)
    assert done.returncode == EX_DATAERR
    assert "3 decisions: 2 equal, 1 changed" in done.stdout
    assert "changed: dec_" in done.stdout
    assert "judged_by" in done.stdout


def test_what_can_not_be_read_is_told(books):
    """A damaged record and a damaged line: each in its count, never taken for equal; 65."""
    file, data = books

    def change(body):
        if body["judged_by"] == ["coding"]:
            body["at"] = "secret"

    rewrite(data, change)
    (segment,) = list_segments(journal_dir(data))
    lines = segment.path.read_bytes().splitlines(keepends=True)
    first = next(place for place, one in enumerate(lines) if b'"t":"decision"' in one)
    lines[first] = lines[first].replace(b"balanced", b"BALANCED", 1)
    segment.path.write_bytes(b"".join(lines))
    done = verified(file, data)
    assert done.returncode == EX_DATAERR
    assert "3 decisions: 1 equal, 0 changed, 0 decided with other versions, 2 unreadable" in done.stdout
    assert f"{segment.name} at byte" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_old_records_are_counted_apart(books):
    """They say of no version which it is, and load all the same."""
    file, data = books

    def change(body):
        body["versions"] = {"registry": body["versions"]["registry"], "classifier": "x"}
        del body["at"], body["caller"], body["figures"]

    rewrite(data, change)
    done = verified(file, data)
    assert done.returncode == 0
    assert "other record: 3 (written by an older router" in done.stdout


def test_a_journal_that_is_not_there(tmp_path, books):
    """No decision is no error."""
    done = verified(books[0], tmp_path / "none")
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "0 decisions")


def test_wrong_use():
    """It must be said what to do; a date that is none."""
    assert coe("replay").returncode == EX_USAGE
    assert "--verify" in coe("replay").stderr
    assert coe("replay", "--verify", "--since", "soon").returncode == EX_USAGE


CATALOG = a_catalog(a_model("m"), a_model("n", (2, 3)))


def stored(catalog=CATALOG, **changes):
    """A record as it is read back."""
    return json.loads(orjson.dumps(record(decided(a_chat(), catalog)))) | changes


def test_each_decision_is_in_one_count():
    """Of several registries each is replayed with its own; the first tells what differs when it is none of them."""
    other = a_catalog(a_model("m", (5, 5)))
    unknown = a_catalog(a_model("x"))
    records = [stored(), stored(other), stored(unknown), stored(chosen="p/n"), Problem("s", 1, "torn"), stored(at=None)]
    tally = verify(iter(records), (CATALOG, other), None)
    assert (tally.equal, tally.changed, tally.other, tally.unreadable, tally.whole) == (2, 1, 1, 2, 6)
    assert tally.others == {"offer": 1}
    assert verify([stored(other)], (CATALOG,), None).other == 1


def test_a_request_that_is_refused_now_is_changed():
    """With what it is refused for."""
    told = stored()
    told["features"]["limits"] = {"min_quality": 1.0}
    tally = verify([told], (CATALOG,), None)
    assert tally.changed == 1
    assert "is refused now: no model can serve" in tally.told[0]


def test_only_the_first_are_named():
    """The counts are exact; the list has its limit."""
    tally = verify([stored(chosen="p/n") for _ in range(SHOWN + 5)], (CATALOG,), None)
    assert (tally.changed, len(tally.told)) == (SHOWN + 5, SHOWN)
