"""`coe keys` as a person or a script uses it."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from stage import registry

import service
from service.cli.exits import EX_CANTCREAT, EX_CONFIG, EX_TEMPFAIL, EX_USAGE
from service.cli.keys import keys, parse_expiry
from service.domain.limits import Limits
from service.errors import InvalidRequest
from service.guard import keyfile
from service.guard.keys import KEYS_FILE, KeyStore, load_pepper
from service.simulator import Script

SECRET = re.compile(r"coe-[A-Za-z0-9_-]{43}")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `coe keys …` on a fresh data directory, without the settings of this machine."""
    for name in ("COE_DATA_DIR", "COE_KEY_PEPPER"):
        monkeypatch.delenv(name, raising=False)
    runner = CliRunner()

    def invoke(*arguments, env=None):
        return runner.invoke(keys, [*arguments, "--data-dir", str(tmp_path / "data")], env=env)

    return invoke


@pytest.fixture
def data_dir(tmp_path):
    """The data directory of `run`."""
    return tmp_path / "data"


def test_create_prints_the_secret_alone_on_stdout(run, data_dir):
    """So that a script can take it; the words around it go to stderr."""
    result = run("create", "--name", "alice")
    assert result.exit_code == 0
    assert SECRET.fullmatch(result.stdout.strip())
    assert "alice" in result.stderr
    assert not SECRET.search(result.stderr)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in data_dir.iterdir()} == {
        KEYS_FILE: 0o600,
        "pepper": 0o600,
    }


def test_a_created_key_works_with_all_its_limits(run, data_dir):
    """What the options say is what the router sees."""
    options = ["--tag", "hr", "--tag", "eu", "--model", "gpt-6", "--policy", "cheap", "--expires", "30d"]
    made = json.loads(run("create", "--name", "alice", *options, "--format", "json").stdout)
    store = KeyStore(data_dir / KEYS_FILE, load_pepper(data_dir, None))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    caller = store.authenticate(made["secret"], now_ms=now_ms)
    assert (caller.key_id, caller.tags, caller.models, caller.policies) == (
        made["id"],
        {"hr", "eu"},
        {"gpt-6"},
        {"cheap"},
    )
    (record,) = store.list()
    assert record.expires_ms - record.created_ms == pytest.approx(30 * 86_400_000, abs=60_000)


def test_names_that_the_registry_does_not_have_are_said(run, tmp_path, vendors):
    """On stderr, with the nearest name; the key is made all the same, and good names are not spoken of."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    env = {"COE_LOCAL_ENGINES": "false"}
    limits = ("--model", "alpha-modle", "--model", "alpha-model", "--policy", "chep", "--policy", "cheap")
    result = run("create", "--name", "a", *limits, "--providers", str(file), env=env)
    assert result.exit_code == 0
    assert SECRET.fullmatch(result.stdout.strip())
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == 2
    assert "unknown model 'alpha-modle'; did you mean 'alpha-model'?" in warnings[0]
    assert "unknown policy 'chep'; did you mean 'cheap'?" in warnings[1]
    none = run("create", "--name", "b", "--model", "m", "--providers", str(tmp_path / "none.yaml"), env=env)
    assert none.exit_code == 0
    assert "Warning: the names were not checked" in none.stderr
    assert "Warning" not in run("create", "--name", "c", "--providers", str(tmp_path / "none.yaml"), env=env).stderr


def test_list_shows_every_key_and_no_secret(run):
    """Table and JSON: status, limits and the first characters, nothing that opens a door."""
    secrets = [run("create", "--name", name, "--tag", "hr").stdout.strip() for name in ("alice", "张三", "bob")]
    run("revoke", "bob")
    table = run("list")
    rows = json.loads(run("list", "--format", "json").stdout)
    assert table.exit_code == 0
    for secret in secrets:
        assert secret[8:] not in table.output + json.dumps(rows)
        assert f"{secret[:8]}…" in table.stdout
    assert [(row["name"], row["status"], row["tags"]) for row in rows] == [
        ("alice", "active", ["hr"]),
        ("张三", "active", ["hr"]),
        ("bob", "revoked", ["hr"]),
    ]
    assert all("digest" not in row for row in rows)
    assert rows[2]["revoked_at"].endswith("Z")


def test_the_table_is_aligned_with_wide_names(run):
    """A Chinese character takes two columns of a terminal."""
    run("create", "--name", "张三")
    run("create", "--name", "alice")
    header, *lines = run("list").stdout.splitlines()
    column = header.index("KEY")
    assert [line[column - (2 if "张" in line else 0) :][:4] for line in lines] == ["coe-", "coe-"]


def test_list_without_keys_writes_nothing(run, data_dir):
    """An empty array for programs, a hint for people, no directory and no pepper for nobody."""
    assert json.loads(run("list", "--format", "json").stdout) == []
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "coe keys create" in result.stderr
    assert not data_dir.exists()


def test_revoke_by_name_and_by_id(run):
    """Both end a key; an ambiguous or unknown one is a usage error and changes nothing."""
    first, second = (json.loads(run("create", "--name", "ci", "--format", "json").stdout)["id"] for _ in range(2))
    ambiguous = run("revoke", "ci")
    assert ambiguous.exit_code == EX_USAGE
    assert first in ambiguous.stderr
    assert second in ambiguous.stderr
    assert run("revoke", first).exit_code == 0
    assert run("revoke", "ci").exit_code == 0
    assert run("revoke", "ci").exit_code == EX_USAGE
    assert [row["status"] for row in json.loads(run("list", "--format", "json").stdout)] == ["revoked"] * 2


def test_limits_from_birth_on(run, data_dir):
    """Made with, changed, taken away one by one; the caller and both lists say what is left."""
    options = ("--usd-per-day", "0.3", "--requests-per-minute", "60", "--soft")
    secret = run("create", "--name", "alice", *options).stdout.strip()
    store = KeyStore(data_dir / KEYS_FILE, load_pepper(data_dir, None))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)

    def seen():
        store.list()  # looks at the file at once
        return store.authenticate(secret, now_ms=now_ms).limits

    assert seen() == Limits(day_pusd=3 * 10**11, requests_per_minute=60, soft=True)
    assert "0.3 USD/day, 60 requests/minute, soft" in run("list").stdout
    result = run("limit", "alice", "--usd-per-month", "100", "--usd-per-day", "none", "--hard")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("(alice) is limited to 100 USD/month, 60 requests/minute.\n")
    assert seen() == Limits(month_pusd=10**14, requests_per_minute=60)
    (row,) = json.loads(run("list", "--format", "json").stdout)
    assert row["limits"] == {
        "usd_per_day": None,
        "usd_per_month": "100",
        "requests_per_minute": 60,
        "tokens_per_minute": None,
        "concurrency": None,
        "soft": False,
    }
    run("limit", row["id"], "--usd-per-month", "none")
    assert run("limit", "alice", "--requests-per-minute", "none").stdout.endswith("(alice) has no limits.\n")
    assert not seen().any


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["alice"], "Nothing to change"),
        (["alice", "--usd-per-day", "1e3"], "--usd-per-day takes an amount"),
        (["alice", "--soft"], "soft needs a limit"),
        (["nobody", "--usd-per-day", "1e3"], "--usd-per-day takes an amount"),
        (["nobody", "--concurrency", "1"], "coe keys list"),
        (["dead", "--concurrency", "1"], "coe keys list"),
    ],
)
def test_limits_that_make_no_sense_are_usage_errors(run, data_dir, arguments, words):
    """64, a sentence, and nothing written."""
    run("create", "--name", "alice")
    run("create", "--name", "dead")
    run("revoke", "dead")
    before = (data_dir / KEYS_FILE).read_bytes()
    result = run("limit", *arguments)
    assert (result.exit_code, result.stdout) == (EX_USAGE, "")
    assert words in result.stderr
    assert (data_dir / KEYS_FILE).read_bytes() == before


def test_limits_in_the_wrong_directory_are_told(run, data_dir):
    """And make nothing there."""
    result = run("limit", "alice", "--concurrency", "1")
    assert result.exit_code == EX_USAGE
    assert "--data-dir" in result.stderr
    assert not data_dir.exists()


def test_revoke_does_not_repeat_a_pasted_secret(run):
    """People paste the secret where the id belongs: it must not end in a terminal log."""
    secret = run("create", "--name", "alice").stdout.strip()
    result = run("revoke", secret)
    assert result.exit_code == EX_USAGE
    assert secret not in result.output


def test_revoke_in_the_wrong_directory_says_so(run, data_dir):
    """And makes nothing there."""
    result = run("revoke", "alice")
    assert result.exit_code == EX_USAGE
    assert "--data-dir" in result.stderr
    assert not data_dir.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "a", "--usd-per-day", "five"],
        ["--name", "a", "--usd-per-month", "-1"],
        ["--name", "a", "--requests-per-minute", "1.5"],
        ["--name", "a", "--soft"],
        ["--name", ""],
        ["--name", "a\tb"],
        ["--name", "a", "--expires", "2026-02-30"],
        ["--name", "a", "--expires", "soon"],
        ["--name", "a", "--expires", "2001-01-01"],
        ["--name", "a", "--expires", "0d"],
        ["--name", "a", "--expires", "999999d"],
        ["--name", "a", "--expires", "-3d"],
        ["--name", "a", "--model", "auto"],
        ["--name", "a", "--tag", "two words"],
    ],
)
def test_values_that_make_no_sense_are_usage_errors(run, data_dir, arguments):
    """64, a sentence, and no key."""
    result = run("create", *arguments)
    assert result.exit_code == EX_USAGE
    assert result.stderr.startswith("coe: ")
    assert result.stdout == ""
    assert not (data_dir / KEYS_FILE).exists()


def test_expiry_is_a_lifetime_or_the_start_of_a_day():
    """Days and hours count from now, a date is its first instant in UTC."""
    assert parse_expiry("30d", NOW) == NOW + timedelta(days=30)
    assert parse_expiry("12h", NOW) == NOW + timedelta(hours=12)
    assert parse_expiry("2026-12-31", NOW) == datetime(2026, 12, 31, tzinfo=UTC)
    for wrong in ("", "30", "d", "1.5d", "30 d", "36501d", "٣d", "2026-13-01"):
        with pytest.raises(InvalidRequest):
            parse_expiry(wrong, NOW)


def test_a_directory_that_can_not_be_written_is_73(run, data_dir):
    """A file stands where the directory should be."""
    data_dir.touch()
    result = run("create", "--name", "alice")
    assert result.exit_code == EX_CANTCREAT
    assert str(data_dir) in result.stderr
    assert result.stdout == ""


def test_a_file_that_can_not_be_written_is_73(run, data_dir):
    """The pepper is there, the key file is not writable: same code, same advice."""
    load_pepper(data_dir, None)
    (data_dir / KEYS_FILE).mkdir()
    result = run("create", "--name", "alice")
    assert result.exit_code == EX_CANTCREAT
    assert result.stdout == ""


@pytest.mark.parametrize("pepper", ["", "changeme", "x" * 64])
def test_a_weak_pepper_in_the_environment_is_78(run, data_dir, pepper):
    """Empty included: click would take it for unset."""
    result = run("create", "--name", "alice", env={"COE_KEY_PEPPER": pepper})
    assert result.exit_code == EX_CONFIG
    assert "COE_KEY_PEPPER" in result.stderr
    assert not data_dir.exists()


def test_another_pepper_than_the_keys_were_made_with_is_78(run):
    """Told at once, instead of a key that never works."""
    run("create", "--name", "alice")
    other = {"COE_KEY_PEPPER": "9f2c4e7ab81d5036c9e84f1a7b3d6025"}
    for arguments in (["create", "--name", "bob"], ["list"], ["revoke", "alice"]):
        result = run(*arguments, env=other)
        assert result.exit_code == EX_CONFIG
        assert "COE_KEY_PEPPER" in result.stderr


def test_a_damaged_file_is_78_with_its_line(run, data_dir):
    """The operator's way to the cause of a 503."""
    run("create", "--name", "alice")
    with (data_dir / KEYS_FILE).open("a") as file:
        file.write("garbage\n")
    for arguments in (["create", "--name", "bob"], ["list"], ["revoke", "alice"]):
        result = run(*arguments)
        assert result.exit_code == EX_CONFIG
        assert f"{KEYS_FILE} line 2" in result.stderr


def test_a_held_lock_is_75(run, data_dir, monkeypatch):
    """Somebody else writes: try again."""
    import fcntl

    run("create", "--name", "alice")
    monkeypatch.setattr(keyfile, "LOCK_WAIT_S", 0.05)
    with (data_dir / KEYS_FILE).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run("create", "--name", "bob").exit_code == EX_TEMPFAIL


def test_the_data_directory_comes_from_the_environment(tmp_path):
    """In a process of its own: COE_DATA_DIR, and only the secret on stdout."""
    program = "from service.cli.keys import keys; keys()"
    done = subprocess.run(
        [sys.executable, "-c", program, "create", "--name", "alice"],
        env={"COE_DATA_DIR": str(tmp_path / "elsewhere"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        cwd=Path(service.__file__).parents[1],
        timeout=60,
        check=True,
    )
    assert SECRET.fullmatch(done.stdout.strip())
    assert (tmp_path / "elsewhere" / KEYS_FILE).exists()
