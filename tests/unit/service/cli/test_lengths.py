"""`coe train --lengths`: from what a real router wrote down to a table that the next decision goes by."""

from __future__ import annotations

import json
import sqlite3

import pytest
from stage import coe, registry

from service.cli.lengths import from_ledger, from_outcomes
from service.domain.lengths import AnswerLength
from service.learned import LENGTHS_FILE, read_lengths, write_lengths
from service.ledger.sinks import INDEX_FILE
from service.routing.lengths import Length, Lengths
from service.simulator import Script

TALKATIVE = Script(answer="word " * 1_200, hidden_reasoning_tokens=500)


@pytest.fixture
def served(serving, tmp_path):
    """(data directory, registry) of a router that answered six times, talkatively."""
    app, _ = serving({"alpha": TALKATIVE, "beta": Script()})
    for number in range(6):
        body = {"reasoning_effort": "high"} if number % 2 else {}
        assert app.chat("please write code for this", **body).status_code == 200
    app.chat("please write code for this", max_tokens=5)
    app.stop()
    return app.house.settings.data_dir, app.house.settings.providers


def train(data_dir, providers, *arguments):
    """Run the command."""
    return coe("train", "--lengths", "--data-dir", str(data_dir), "--providers", str(providers), *arguments)


def test_what_was_served_is_learned_and_changes_the_next_decision(served):
    """Effort, hidden tokens and sizes come out of the ledger; `coe route` expects the longer answers."""
    data_dir, providers = served
    answers = from_ledger(data_dir, None)
    assert sorted({(one.model, one.intent, one.effort) for one in answers}) == [
        ("alpha-model", "coding", "default"),
        ("alpha-model", "coding", "high"),
    ]
    assert sum(one.cut for one in answers) == 1
    assert {one.reasoning_tokens for one in answers if not one.cut} == {500}
    before = routed(data_dir, providers)
    done = train(data_dir, providers)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lengths@")
    assert "from 6 answers" in done.stdout
    assert "1 cut at their cap" in done.stdout
    table = read_lengths(data_dir)
    assert table.cells["alpha-model", "coding", "high"].n == 3
    assert table.cells["alpha-model", "coding", "default"].reasoning > 100
    after = routed(data_dir, providers)
    assert after["versions"]["lengths"] == table.version
    assert "lengths" not in before["versions"]
    assert expected_usd(after) > expected_usd(before)


def routed(data_dir, providers):
    """The decision of `coe route` beside that data directory."""
    done = coe("route", "Write a Python function", "--json", "--providers", str(providers), COE_DATA_DIR=str(data_dir))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected_usd(decision):
    """What the first model is expected to cost."""
    return next(
        float(one["expected_cost_usd"]) for one in decision["candidates"] if one["deployment"] == "alpha/alpha-model"
    )


def test_the_same_ledger_gives_the_same_table(served, tmp_path):
    """Also to another place; and a time bound that leaves nothing is said."""
    data_dir, providers = served
    other = tmp_path / "other.json"
    assert train(data_dir, providers).returncode == 0
    assert train(data_dir, providers, "--out", str(other)).returncode == 0
    assert other.read_bytes() == (data_dir / LENGTHS_FILE).read_bytes()
    done = train(data_dir, providers, "--since", "2099-01-01")
    assert (done.returncode, "nothing to learn from" in done.stderr) == (69, True)


def test_an_index_of_another_layout(served):
    """An older one is built again from the journal and then taught from; a newer one is left alone, with a word."""
    data_dir, providers = served
    index = data_dir / INDEX_FILE
    with sqlite3.connect(index) as connection:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        for column in ("effort", "choices", "output_tokens_cap", "last_user_tokens"):
            connection.execute(f"ALTER TABLE attempts DROP COLUMN {column}")
        connection.execute(f"PRAGMA user_version = {layout - 1}")
    connection.close()
    done = train(data_dir, providers)
    assert (done.returncode, "from 6 answers" in done.stdout) == (0, True), done.stderr
    with sqlite3.connect(index) as connection:
        connection.execute(f"PRAGMA user_version = {layout + 1}")
    connection.close()
    done = train(data_dir, providers)
    assert (done.returncode, "run the newer program" in done.stderr) == (78, True), done.stderr
    assert "Traceback" not in done.stderr


def test_no_ledger_is_nothing_to_learn_from(tmp_path, vendors):
    """69, and what to do; no table appears."""
    file = registry(tmp_path / "r.yaml", vendors({"alpha": Script()}))
    done = train(tmp_path / "none", file)
    assert done.returncode == 69
    assert "serve whole answers first" in done.stderr
    assert from_ledger(tmp_path / "none", None) == []
    assert not (tmp_path / "none" / LENGTHS_FILE).exists()


def test_outcomes_teach_lengths(tmp_path, vendors):
    """Rows with output tokens, by names as the registry, a deployment or the wire has them; others are counted."""
    rows = tmp_path / "rows.jsonl"
    outcome = {"score": 1.0, "output_tokens": 900}
    names = ("alpha-model", "beta-wire", "stranger")
    with rows.open("w", encoding="utf-8") as sink:
        for number in range(30):
            row = {
                "prompt": f"Write a Python function that adds {number} to a list",
                "outcomes": dict.fromkeys(names, outcome),
            }
            sink.write(json.dumps(row) + "\n")
        sink.write(json.dumps({"prompt": "hi", "outcomes": {"alpha-model": {"score": 1.0}}}) + "\n")
    file = registry(tmp_path / "r.yaml", vendors({"alpha": Script(), "beta": Script()}))
    done = train(tmp_path / "data", file, "--outcomes", str(rows), "--out", str(tmp_path / LENGTHS_FILE))
    assert done.returncode == 0, done.stderr
    assert "30 of models that the registry does not have" in done.stdout
    cells = read_lengths(tmp_path).cells
    assert {key[0] for key in cells} == {"alpha-model", "beta-model"}
    assert cells["beta-model", "coding", "default"].n == 30
    # The registry expects no hidden tokens of it, so all of a row is taken for visible.
    assert cells["beta-model", "coding", "default"].reasoning == 0


def test_a_file_of_outcomes_is_read_as_answers(tmp_path):
    """What a row is about, the classifier says; a prompt that says nothing is nobody's length."""
    from scenery import a_catalog, a_model

    rows = tmp_path / "rows.jsonl"
    texts = ("Translate to Chinese: the meeting has moved to Thursday", "???")
    rows.write_text(
        "".join(
            json.dumps({"prompt": one, "outcomes": {"m": {"score": 0, "output_tokens": 40}}}) + "\n" for one in texts
        )
    )
    found = list(from_outcomes(rows, a_catalog(a_model("m"))))
    assert found[0] == AnswerLength("m", "translation", "default", 40, None, found[0].last_user_tokens)
    assert 10 <= found[0].last_user_tokens <= 20
    assert found[1].intent == "unsure"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lengths", "--seed", "1", "--prices", __file__), "goes with"),
        (("--since", "30d"), "--since goes with --lengths"),
        (("--outcomes", __file__), "--out"),
        (("--lengths", "--since", "soon"), "is no date"),
        (("--lengths", "--outcomes", __file__), "test_lengths.py:1"),
    ],
)
def test_wrong_use_is_64(arguments, message, tmp_path):
    """Said in a line."""
    done = coe("train", *arguments, "--data-dir", str(tmp_path))
    assert (done.returncode, message in done.stderr) == (64, True), done.stderr


def test_a_damaged_table_stops_the_start(tmp_path, vendors):
    """78 with the file, before anything is served."""
    file = registry(tmp_path / "r.yaml", vendors({"alpha": Script()}))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    write_lengths(data_dir / LENGTHS_FILE, Lengths({("m", None, None): Length(1, 1, None, None, 1)}), {})
    path = data_dir / LENGTHS_FILE
    path.write_text(path.read_text().replace("1", "2"))
    done = coe("serve", "--providers", str(file), "--port", "0", COE_DATA_DIR=str(data_dir))
    assert (done.returncode, "lengths.json" in done.stderr, "Traceback" in done.stderr) == (78, True, False), (
        done.stderr
    )
