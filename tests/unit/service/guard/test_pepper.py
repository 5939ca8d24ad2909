"""The pepper and what is too weak to be one."""

from __future__ import annotations

import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import service
from service.errors import ConfigurationError
from service.guard import pepper as pepper_module
from service.guard.pepper import KEYS_FILE, PEPPER_FILE, load_pepper, weakness

STRONG = "9f2c4e7ab81d5036c9e84f1a7b3d6025"

WEAK = [
    "",
    " " * 40,
    "short",
    STRONG[:-1],
    "a" * 64,
    "ab" * 32,
    STRONG[:12] * 3,
    STRONG[:16] * 2 + STRONG[:5],
    "0123456789abcdef" * 4,
    "0123456789abcdef" * 2 + "0123",
    "changeme-9f2c4e7ab81d5036c9e84f1a7b3d",
    "ChangeMe9f2c4e7ab81d5036c9e84f1a7b3d",
    "sk-1234" + STRONG,
    "correct-horse-PASSWORD-battery-staple",
    "my-very-own-secret-for-the-router-2026",
    "aaaabbbbccccddddaaabbbcccdddaabbccdd",
]


@pytest.mark.parametrize("value", WEAK)
def test_weak_values_are_refused_without_being_repeated(tmp_path, value):
    """Every weak value is a configuration error, and nothing is written instead."""
    with pytest.raises(ConfigurationError) as caught:
        load_pepper(tmp_path, value)
    assert "COE_KEY_PEPPER" in str(caught.value)
    assert len(value.strip()) < 6 or value not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_random_values_of_the_usual_tools_are_accepted():
    """Hex and base64 of 32 random bytes, and 32 hex digits, pass every time."""
    for _ in range(300):
        for value in (secrets.token_hex(32), secrets.token_urlsafe(32), secrets.token_hex(16)):
            assert weakness(value) is None


def test_the_environment_wins_and_is_trimmed(tmp_path):
    """A trailing newline of a secret file is not part of the pepper."""
    assert load_pepper(tmp_path, f"{STRONG}\n") == STRONG.encode()
    assert not (tmp_path / PEPPER_FILE).exists()


def test_a_pepper_is_made_once_and_kept(tmp_path):
    """The first call writes it, 0600 in a directory of 0700; the second reads the same."""
    data_dir = tmp_path / "data"
    first = load_pepper(data_dir, None)
    assert len(first) == 64
    assert load_pepper(data_dir, None) == first
    assert stat.S_IMODE((data_dir / PEPPER_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert [entry.name for entry in data_dir.iterdir()] == [PEPPER_FILE]
    assert load_pepper(tmp_path / "other", None) != first


def test_processes_that_start_together_agree(tmp_path):
    """Whoever is first makes the pepper; all others read that one."""
    program = (
        "import sys, pathlib; from service.guard.pepper import load_pepper; sys.stdin.read(1);"
        "print(load_pepper(pathlib.Path(sys.argv[1]), None).decode())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(service.__file__).parents[1],
            text=True,
        )
        for _ in range(6)
    ]
    for process in started:
        process.stdin.write("x")
        process.stdin.flush()
    seen = {process.communicate()[0].strip() for process in started}
    assert all(process.returncode == 0 for process in started)
    assert len(seen) == 1
    assert len(seen.pop()) == 64


def test_keys_made_by_another_process_meanwhile_are_no_loss(tmp_path, monkeypatch):
    """Between our look for the pepper and the next step somebody makes pepper and keys: theirs is taken."""
    real_read = pepper_module._read
    calls = []

    def read(path):
        calls.append(path)
        if len(calls) == 1:
            path.write_text(f"{STRONG}\n")
            path.chmod(0o600)
            (tmp_path / KEYS_FILE).write_text("{}\n")
            raise FileNotFoundError(path)
        return real_read(path)

    monkeypatch.setattr(pepper_module, "_read", read)
    assert load_pepper(tmp_path, None) == STRONG.encode()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [KEYS_FILE, PEPPER_FILE]


def test_a_pepper_others_can_read_is_refused(tmp_path):
    """Like a private key: the mode is part of the secret."""
    load_pepper(tmp_path, None)
    (tmp_path / PEPPER_FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_pepper(tmp_path, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"changeme", b"x" * 64, b"\xff" * 64, STRONG.encode() * 400])
def test_a_damaged_pepper_file_is_refused_and_kept(tmp_path, content):
    """Nothing is made in its place: that would lock every key out for good."""
    path = tmp_path / PEPPER_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="does not hold a pepper"):
        load_pepper(tmp_path, None)
    assert path.read_bytes() == content


def test_no_new_pepper_for_keys_that_exist(tmp_path):
    """Keys without their pepper can't be checked: say so instead of making another one."""
    (tmp_path / KEYS_FILE).write_text("{}\n")
    with pytest.raises(ConfigurationError, match="COE_KEY_PEPPER is not set"):
        load_pepper(tmp_path, None)
    assert not (tmp_path / PEPPER_FILE).exists()
    assert load_pepper(tmp_path, STRONG) == STRONG.encode()
