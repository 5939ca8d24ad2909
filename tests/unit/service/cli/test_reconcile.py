"""`coe costs --reconcile`, run as a user runs it: a file in, a table and an exit code out."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import click
import pytest
from stage import coe

from service.cli.reconcile import read_tolerance, whole_days
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.writer import JournalWriter

AT_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z
DAY_MS = 86_400_000
REGISTRY = """
version: 1
currency: {base: USD, rates: {CNY: 0.1406}, as_of: 2026-11-21}
providers:
  acme: {base_url: "http://127.0.0.1:9/v1", protocol: openai_chat}
  other: {base_url: "http://127.0.0.1:8/v1", protocol: openai_chat}
models:
  small:
    context_tokens: 8000
    output_tokens_max: 1000
    deployments:
    - {provider: acme, name: small-2026, prices: [{from: 2026-01-01, currency: CNY, input: 1, output: 2}]}
    - {provider: other, name: tiny, prices: [{from: 2026-01-01, currency: USD, input: 1, output: 2}]}
"""


@pytest.fixture
def home(tmp_path):
    """A ledger: 2 USD of acme's and 1 USD of the other's on the 18th, 0.0703 of acme's on the 19th, some simulated."""
    writer = JournalWriter(tmp_path)
    writer.start()
    spent = [("acme", 0, 2 * 10**12), ("other", 0, 10**12), ("acme", 1, 70_300_000_000), ("acme", 0, 10**12)]
    for number, (provider, day, pusd) in enumerate(spent):
        at_ms, name = AT_MS + day * DAY_MS, f"a{number}"
        ids = (name, f"r{name}", f"d{name}", 1, at_ms, None, "auto", "small", provider, "small-2026")
        writer.write_open(OpenEntry(*ids, "coding", "zh", "balanced", None, 9, simulated=number == 3))
        usage = {"input": 10, "output": 5}
        writer.write_terminal(
            TerminalEntry(name, EntryState.SETTLED, at_ms + 5, "complete", usage, "provider", (), pusd)
        )
    writer.close()
    (tmp_path / "providers.yaml").write_text(REGISTRY, encoding="utf-8")
    return tmp_path


def run(home, invoice, *arguments):
    """The command over this invoice."""
    file = home / "invoice.csv"
    file.write_text(invoice, encoding="utf-8")
    env = {"COE_DATA_DIR": str(home), "COE_PROVIDERS": str(home / "providers.yaml")}
    return coe("costs", "--reconcile", str(file), *arguments, **env)


GOOD = "Date,Model,Amount,Currency\n2026-11-18,small-2026,2,USD\n2026-11-19,small-2026,0.5,CNY\n"


def test_an_invoice_that_holds(home):
    """By the vendor's own name for the model and in its own currency; exit 0."""
    done = run(home, GOOD, "--provider", "acme", "--format", "json", "--tolerance", "0")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        "Ledger 2.0703 USD, invoice 2.0703 USD, difference 0 USD: everything holds.",
    )
    told = json.loads(done.stdout)
    assert [(row["day"], row["model"], row["ledger_usd"], row["verdict"]) for row in told] == [
        ("2026-11-18", "small", "2", "equal"),
        ("2026-11-19", "small", "0.0703", "equal"),
    ]


def test_a_pico_dollar_is_a_difference(home):
    """With no tolerance; with a cent it is within. Exit 65 and 0."""
    almost = GOOD.replace(",2,USD", ",2.000000000001,USD")
    strict = run(home, almost, "--provider", "acme", "--tolerance", "0")
    assert strict.returncode == 65
    assert "-0.000000000001" in strict.stdout
    assert "1 of 2 rows differ" in strict.stdout
    assert run(home, almost, "--provider", "acme").returncode == 0


def test_both_sides_show_what_the_other_lacks(home):
    """A model that nobody called, a day that nobody billed, another provider's spend."""
    invoice = "day,model,amount\n2026-11-18,nobody,3\n2026-11-19,small,0.0703\n"
    done = run(home, invoice, "--format", "csv")
    assert done.returncode == 65
    told = {(row["day"], row["model"]): row["verdict"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert told == {
        ("2026-11-18", "nobody"): "not in the ledger",
        ("2026-11-18", "small"): "not on the invoice",
        ("2026-11-19", "small"): "equal",
    }


def test_our_own_focus_export_is_an_invoice_that_holds(home):
    """What was exported is what is there, once what is simulated is left out."""
    env = {"COE_DATA_DIR": str(home), "COE_PROVIDERS": str(home / "providers.yaml")}
    exported = coe("costs", "--format", "focus", **env).stdout
    kept = [line for line in exported.splitlines(keepends=True) if "coe/simulated" not in line]
    assert len(kept) == 4
    done = run(home, "".join(kept), "--tolerance", "0", "--format", "json")
    assert done.returncode == 0, done.stdout
    assert all(row["ledger_tokens"] == row["invoice_tokens"] for row in json.loads(done.stdout))


def test_a_range_leaves_days_out_on_both_sides(home):
    """Whole days, also where it begins in one."""
    done = run(home, GOOD, "--since", "2026-11-19T11:00Z", "--provider", "acme", "--format", "json")
    assert [row["day"] for row in json.loads(done.stdout)] == ["2026-11-19"]
    at = datetime(2026, 11, 19, 11, tzinfo=UTC)
    day = at.replace(hour=0)
    assert whole_days(at, at) == (day, day.replace(day=20))
    assert whole_days(day, day) == (day, day)


@pytest.mark.parametrize(
    ("invoice", "arguments", "code", "told"),
    [
        ("when,what\n", (), 65, "no column is the day"),
        (GOOD.replace("CNY", "EUR"), (), 65, "no rate for 'EUR'"),
        (GOOD, ("--provider", "nobody"), 64, "Choose from acme, other"),
        (GOOD, ("--tolerance", "-1"), 64, "--tolerance"),
        (GOOD, ("--tolerance", "lots"), 64, "--tolerance"),
        (GOOD, ("--by", "model"), 64, "leave out --by"),
        (GOOD, ("--format", "focus"), 64, "leave out --by"),
        (GOOD, ("--since", "soon"), 64, "--since"),
    ],
)
def test_what_makes_no_sense_ends_with_a_word(home, invoice, arguments, code, told):
    """On stderr, with the code of its kind."""
    done = run(home, invoice, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_options_of_an_invoice_want_one():
    """They change nothing without it, so they are refused."""
    for option in ("--tolerance", "--provider", "--currency", "--providers"):
        done = coe("costs", option, "x")
        assert done.returncode == 64
        assert "add --reconcile FILE" in done.stderr


def test_tolerances():
    """Exact."""
    assert read_tolerance("0.01") == 10**10
    with pytest.raises(click.UsageError):
        read_tolerance("nan")
