"""Settings from the environment: defaults, bounds, secrets, misspelt names."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.config import JournalSync, OnDisconnect, Settings, environ, unknown_settings, variable


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Nothing of the machine's environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_the_defaults_are_the_contracts():
    """Loopback, port 8000, ./data, group sync: what interface and documentation promise."""
    found = Settings()
    assert (found.host, found.port, found.workers) == ("127.0.0.1", 8000, 1)
    assert (found.providers, found.data_dir) == (None, Path("data"))
    assert (found.journal_sync, found.on_disconnect) == (JournalSync.GROUP, OnDisconnect.CLOSE)
    assert (found.body_bytes_max, found.attempts_max, found.deadline_s) == (4 * 1024 * 1024, 3, 600)


def test_the_environment_speaks(monkeypatch):
    """Each under `COE_` and its name."""
    for name, value in {"PORT": "9", "DATA_DIR": "/x", "JOURNAL_SYNC": "always", "LOCAL_ENGINES": "false"}.items():
        monkeypatch.setenv(f"COE_{name}", value)
    found = Settings()
    assert (found.port, found.data_dir, found.journal_sync, found.local_engines) == (
        9,
        Path("/x"),
        JournalSync.ALWAYS,
        False,
    )
    assert environ()["COE_PORT"] == "9"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", ""),
        ("port", "http"),
        ("workers", "0"),
        ("log_level", "debug"),
        ("journal_sync", "sometimes"),
        ("on_disconnect", "wait"),
        ("body_bytes_max", "10"),
        ("attempts_max", "11"),
        ("deadline_s", "0"),
        ("deadline_s", "inf"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch, name, value):
    """At start, by name; an empty value is a mistake too, never the default in disguise."""
    monkeypatch.setenv(variable(name), value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert caught.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "empty"),
        ("Zq7-" * 7, "shorter than 32 bytes"),
        ("Zq7-" * 12, "repeats itself"),
        ("sk-1234-f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6", "placeholder"),
        ("ChangeMe-f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc", "placeholder"),
    ],
)
def test_a_weak_admin_key_is_refused_and_not_repeated(monkeypatch, value, why):
    """The operator's key is held to what the pepper is held to."""
    monkeypatch.setenv("COE_ADMIN_KEY", value)
    with pytest.raises(ValidationError, match=why) as caught:
        Settings()
    (problem,) = caught.value.errors(include_input=False)
    assert problem["loc"] == ("admin_key",)
    assert not value or value not in problem["msg"]


def test_a_random_admin_key_is_taken(monkeypatch):
    """Its positive control."""
    monkeypatch.setenv("COE_ADMIN_KEY", "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8")
    assert Settings().admin_key is not None


def test_settings_do_not_change_and_do_not_show_secrets():
    """Frozen, and the pepper prints as stars."""
    found = Settings(key_pepper="p" * 40)
    with pytest.raises(ValidationError):
        found.port = 1
    assert "ppp" not in repr(found)
    assert found.key_pepper.get_secret_value() == "p" * 40


def test_a_misspelt_setting_is_noticed():
    """Names that look like ours and are none; anything else in the environment is not our business."""
    given = {"COE_PROT": "1", "coe_port": "1", "COE_REDIS_UR": "redis://x", "PATH": "/bin", "COE_PORT": "1"}
    assert unknown_settings(given) == ["COE_PROT", "COE_REDIS_UR"]


def test_every_setting_says_what_it_is():
    """The reference page is written from these."""
    assert all(field.description for field in Settings.model_fields.values())
