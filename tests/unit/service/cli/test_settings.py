"""Settings for a command, and every configuration error as one clear message and a sysexits code."""

from __future__ import annotations

import asyncio

import pytest
from scenery import NOW
from stage import registry

from classifiers import ArtefactError
from service.cli.exits import EX_CANTCREAT, EX_CONFIG, EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE
from service.cli.settings import exits, fail, read_catalog, read_settings
from service.config import Settings, variable
from service.errors import ConfigurationError, InvalidRequest, NoCandidate, RegistryError, RouterError
from service.ledger.writer import DataDirUnwritable
from service.simulator import Script, VendorScript
from service.startup import InstanceRunning


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Nothing of the machine's environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_the_command_line_goes_before_the_environment(monkeypatch):
    """And what it did not say is left to it."""
    monkeypatch.setenv("COE_PORT", "1")
    monkeypatch.setenv("COE_HOST", "::1")
    found = read_settings(port=2, host=None)
    assert (found.port, found.host) == (2, "::1")


def test_what_makes_no_sense_is_78_by_name_without_its_value(monkeypatch, capsys):
    """Every wrong one at once; a secret that is wrong is not repeated."""
    monkeypatch.setenv("COE_PORT", "canary-1")
    monkeypatch.setenv("COE_JOURNAL_SYNC", "canary-2")
    with pytest.raises(SystemExit) as caught:
        read_settings()
    told = capsys.readouterr().err
    assert caught.value.code == EX_CONFIG
    assert "COE_PORT: " in told
    assert "COE_JOURNAL_SYNC: " in told
    assert "canary" not in told


def test_a_misspelt_setting_is_said(monkeypatch, capsys):
    """With what was probably meant; the command goes on."""
    monkeypatch.setenv("COE_PROT", "9")
    monkeypatch.setenv("COE_REDIS_UR", "redis://:secret@x")
    assert read_settings().port == 8000
    told = capsys.readouterr().err
    assert "COE_PROT is not a setting of this version and changes nothing; did you mean COE_PORT?" in told
    assert "did you mean COE_REDIS_URL?" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (InstanceRunning("another router"), EX_TEMPFAIL, "another router"),
        (DataDirUnwritable("can't write"), EX_CANTCREAT, "can't write"),
        (RegistryError(("f:1:1: x", "f:2:1: y")), EX_CONFIG, "f:1:1: x\nf:2:1: y"),
        (ConfigurationError("wrong"), EX_CONFIG, "wrong"),
        (RouterError("busy"), EX_TEMPFAIL, "busy"),
        (RouterError("full", code="keys_unwritable"), EX_CANTCREAT, "full"),
        (InvalidRequest("bad"), EX_USAGE, "bad"),
        (NoCandidate("nobody"), EX_UNAVAILABLE, "nobody"),
        (ArtefactError("damaged"), EX_CONFIG, "damaged"),
        (PermissionError(13, "Permission denied", "/data"), EX_CANTCREAT, "/data can't be read or written: Permission"),
        (NotADirectoryError(20, "Not a directory", "/data/x"), EX_CANTCREAT, "/data/x can't be read or written: Not a"),
        (OSError(28, "No space left on device"), EX_CANTCREAT, "No space left"),
        (OSError("odd"), EX_CANTCREAT, "a file can't be read or written: odd"),
        (OSError(), EX_CANTCREAT, "OSError"),
        (UnicodeEncodeError("utf-8", "canary\udcff", 6, 7, "surrogates"), EX_USAGE, "not UTF-8"),
        (UnicodeEncodeError("ascii", "canary→", 6, 7, "range"), EX_CONFIG, "PYTHONIOENCODING=utf-8"),
        (UnicodeDecodeError("utf-8", b"canary\xff", 6, 7, "start"), EX_USAGE, "not utf-8 (byte 6)"),
    ],
)
def test_each_error_has_its_code(problem, code, said, capsys):
    """And its message on stderr, nothing on stdout."""
    with pytest.raises(SystemExit) as caught, exits():
        raise problem
    told = capsys.readouterr()
    assert caught.value.code == code
    assert told.err.startswith("coe: ")
    assert said in told.err
    assert "canary" not in told.err
    assert told.out == ""


@pytest.mark.parametrize("defect", [ZeroDivisionError, BrokenPipeError])
def test_a_defect_is_not_dressed_up(defect):
    """What is no error of the house goes on as it is; so does a reader who left, which click ends quietly."""
    with pytest.raises(defect), exits():
        raise defect


async def test_the_registry_as_it_would_be_served(vendors, tmp_path, monkeypatch):
    """With what is found on loopback, unless that is switched off."""
    simulator = vendors({"vllm": VendorScript(default=Script(), models=("small-7b",), owned_by="vllm")})
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    monkeypatch.setattr("service.startup.candidates", lambda _port: (simulator.base_url("vllm"),))
    found = await asyncio.to_thread(read_catalog, Settings(providers=file), NOW)
    assert "small-7b" in found.models
    off = await asyncio.to_thread(read_catalog, Settings(providers=file, local_engines=False), NOW)
    assert "small-7b" not in off.models


def test_fail_speaks_on_stderr(capsys):
    """And ends with the code it was given."""
    with pytest.raises(SystemExit) as caught:
        fail("no", 77)
    assert (caught.value.code, capsys.readouterr().err) == (77, "coe: no\n")
