"""`coe replay --verify`: what a router decided is decided again from its journal, and every difference is told."""

from __future__ import annotations

import json

import httpx
import orjson
import pytest
from scenery import a_catalog, a_chat, a_model, decided, start_app
from stage import coe, registry

from service.cli.exits import EX_CONFIG, EX_DATAERR, EX_USAGE
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


def compared(file, data, *arguments):
    """`coe replay` under another policy, as a user runs it; its JSON."""
    done = coe("replay", "--format", "json", "--providers", str(file), "--data-dir", str(data), *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def test_the_same_policy_changes_nothing(books, tmp_path):
    """By name, by the registry itself, by a file that says the same: difference 0, and nothing is an estimate."""
    file, data = books
    same = tmp_path / "same.yaml"
    same.write_text("policies:\n  balanced: {objective: min_cost, min_quality: 0.80, relative_to_best: 0.90}\n")
    for arguments in (("--policy", str(file)), ("--policy", str(same)), ("--policy-name", "balanced")):
        told = compared(file, data, *arguments)
        assert (told["decisions"], told["same"], told["changed"], told["left_out"]) == (3, 3, 0, [])
        assert told["totals"]["difference_usd"] == told["ledger"]["difference_usd"] == "0"
        assert told["totals"]["old_usd"] == told["totals"]["new_usd"] == told["ledger"]["booked_usd"] != "0"
        assert told["totals"]["estimated"] is False
    done = coe("replay", "--policy-name", "balanced", "--providers", str(file), "--data-dir", str(data))
    assert "3 decisions: 3 the same, 0 changed, 0 left out" in done.stdout


def test_another_policy(books, tmp_path):
    """Whom it would have chosen, what it would have cost, and that this is an estimate."""
    file, data = books
    new = tmp_path / "new.yaml"
    new.write_text("policies:\n  wary: {objective: max_quality}\ndefault_policy: wary\n")
    told = compared(file, data, "--policy", str(new))
    assert (told["same"], told["changed"]) == (0, 3)
    assert {one["from"] for one in told["groups"]} == {"alpha/alpha-model"}
    assert {one["to"] for one in told["groups"]} == {"alpha/baseline-model"}
    assert {one["intent"] for one in told["groups"]} == {"factual_qa", "translation", "coding"}
    assert told["totals"]["estimated"] is True
    assert float(told["totals"]["difference_usd"]) > 0
    assert told["ledger"]["difference_usd"] == "0"
    assert compared(file, data, "--policy", str(new), "--policy-name", "balanced")["changed"] == 0


def test_quality_from_feedback_over_the_wire(vendors, tmp_path):
    """A router that explores, answers judged by HTTP: the same bits again, and quality where the log can tell."""
    simulator = vendors({"alpha": Script(), "beta": Script()})
    file = registry(tmp_path / "providers.yaml", simulator)
    own = "  balanced: {objective: min_cost, min_quality: 0.80, relative_to_best: 0.90"
    text = file.read_text()
    assert own in text
    file.write_text(text.replace(own, own + ", explore: 0.2, max_cost_usd: 1"))
    app = start_app(tmp_path / "data", file)
    drawn = 0
    for place in range(270):
        name = app.chat(f"hello {place}").headers["x-coe-decision-id"]
        drawn += app.house.pipeline.decision_record(name)["propensity"] < 0.5
        said = {"decision_id": name, "score": 1 if place % 4 else 0}
        assert httpx.post(f"{app.url}/v1/feedback", json=said, trust_env=False).status_code == 200
    app.stop()
    assert 20 < drawn < 90
    done = coe("replay", "--verify", "--providers", str(file), "--data-dir", str(tmp_path / "data"))
    assert done.stdout.startswith("270 decisions: 270 equal, 0 changed")
    told = compared(file, tmp_path / "data", "--policy", str(file))
    assert (told["same"], told["totals"]["difference_usd"], told["ledger"]["difference_usd"]) == (270, "0", "0")
    quality = told["quality"]
    assert quality["drawn_choices"] == {"decisions": drawn, "judged": drawn}
    if 270 - drawn >= 200:
        assert quality["low"] < 0.75 < quality["high"]
    else:
        assert "effective sample size" in quality["refused"]
    told = compared(file, tmp_path / "data", "--policy-name", "best")
    assert "overlap is too thin" in told["quality"]["refused"]


def test_a_row_that_was_tampered_with_is_told(books):
    """The difference is signed, the row is named; 65."""
    file, data = books
    (segment,) = list_segments(journal_dir(data))
    lines, done = [], False
    for raw in segment.path.read_bytes().splitlines():
        line = decode(raw)
        body = dict(line.body)
        if line.kind == "terminal" and not done:
            body["cost_pusd"], done = body["cost_pusd"] + 7, True
        lines.append(encode(line.kind, body))
    segment.path.write_bytes(b"".join(lines))
    found = coe("replay", "--policy-name", "balanced", "--providers", str(file), "--data-dir", str(data))
    assert found.returncode == EX_DATAERR
    assert "difference -0.000000000007" in found.stdout
    assert "alpha/alpha-model: booked" in found.stdout


def test_a_policy_file_that_is_wrong(books, tmp_path):
    """Its place is told; nothing is decided."""
    file, data = books
    new = tmp_path / "new.yaml"
    new.write_text("policies:\n  wary: {objective: max_qualit}\n")
    done = coe("replay", "--policy", str(new), "--providers", str(file), "--data-dir", str(data))
    assert done.returncode == EX_CONFIG
    assert f"{new}:2:21:" in done.stderr
    done = coe("replay", "--policy-name", "balance", "--providers", str(file), "--data-dir", str(data))
    assert done.returncode == EX_USAGE
    assert "did you mean 'balanced'?" in done.stderr


def test_wrong_use():
    """It must be said what to do; a date that is none."""
    assert coe("replay").returncode == EX_USAGE
    assert "--verify" in coe("replay").stderr
    assert coe("replay", "--verify", "--policy-name", "cheap").returncode == EX_USAGE
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
