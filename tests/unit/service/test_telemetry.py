"""Log lines: one JSON object a line, no secrets, no tracebacks of the server, and never a failed request."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from service import telemetry

SOURCES = Path(telemetry.__file__).parent


def test_an_event_is_one_line_of_json(capsys):
    """With level and UTC time; control characters can't begin a second line."""
    telemetry.configure("INFO")
    telemetry.logger().info(telemetry.STARTED, registry="a\nb\x1b[31m", simulated=False)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["registry"]) == ("started", "info", "a\nb\x1b[31m")
    assert told["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdefgh12345678", "coe-AbCdEfGh_12345678", "Bearer abcdefgh.12345678", "bce-v3/ALTAK-abcdefgh/1234"],
)
def test_what_looks_like_a_secret_is_redacted(secret, capsys):
    """The second net: nobody should pass one, and if somebody does it is not written."""
    telemetry.configure("INFO")
    telemetry.logger().error(telemetry.SETTLE_FAILED, error=f"the vendor said {secret} is wrong")
    written = capsys.readouterr().err
    assert secret not in written
    assert "[redacted] is wrong" in written


def test_a_note_is_what_the_logger_writes(capsys):
    """The same keys and form, redacted too, and silent below its level: only faster."""
    for level, lines in (("INFO", 2), ("WARNING", 0)):
        telemetry.configure(level)
        fields = {"request_id": "sk-abcdefgh12345678", "model": "a\nb", "status": 200, "total_ms": 1.5}
        telemetry.logger().info(telemetry.REQUEST, **fields)
        telemetry.note(telemetry.REQUEST, **fields)
        told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert len(told) == lines
    telemetry.configure("INFO")
    telemetry.logger().info(telemetry.REQUEST, **fields)
    telemetry.note(telemetry.REQUEST, **fields)
    one, other = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert len(one.pop("timestamp")) == len(other.pop("timestamp")) == len("2026-11-22T09:00:00.123456Z")
    assert one == other
    assert one["request_id"] == "sk-[redacted]"


def test_the_level_holds(capsys):
    """Below it nothing is written."""
    telemetry.configure("ERROR")
    telemetry.logger().warning(telemetry.ATTEMPT_FAILED)
    assert capsys.readouterr().err == ""


def test_a_closed_stream_does_not_fail_the_caller(monkeypatch):
    """`coe serve 2>&1 | head`: requests go on when nobody reads the log."""

    class Gone(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    telemetry.configure("INFO")
    monkeypatch.setattr(sys, "stderr", Gone())
    telemetry.logger().info(telemetry.STOPPED)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    telemetry.logger().info(telemetry.STOPPED)


def test_what_the_server_logs_becomes_an_event_without_texts(capsys):
    """Its tracebacks and arguments may hold what a caller sent: only the template and the type are told."""
    telemetry.configure("INFO")
    log = logging.getLogger("uvicorn.error")
    try:
        raise ValueError("secret prompt")
    except ValueError:
        log.exception("Exception in %s application\n", "secret path")
    log.info("Started server process")
    (line,) = capsys.readouterr().err.splitlines()
    log.error("Traceback (most recent call last):\n  File x\nservice.errors.Broken: secret\n")
    (other,) = capsys.readouterr().err.splitlines()
    assert json.loads(other)["error"] == "service.errors.Broken"
    assert "secret" not in other
    told = json.loads(line)
    assert (told["event"], told["server"], told["error"]) == (
        "server_trouble",
        "Exception in %s application",
        "ValueError",
    )
    assert "secret" not in line


def test_what_the_event_loop_logs_becomes_an_event_without_values(capsys):
    """A task nobody waited for, a callback with its arguments: what was said before the first value, and the type."""
    telemetry.configure("INFO")
    log = logging.getLogger("asyncio")
    try:
        raise ValueError("secret prompt")
    except ValueError as problem:
        log.error("Task exception was never retrieved\nfuture: <Task exception=secret>", exc_info=problem)
        log.error("Exception in callback told('secret')", exc_info=problem)
    lines = capsys.readouterr().err.splitlines()
    assert "secret" not in str(lines)
    assert [(json.loads(line)["server"], json.loads(line)["error"]) for line in lines] == [
        ("event loop: Task exception was never retrieved", "ValueError"),
        ("event loop: Exception in callback told", "ValueError"),
    ]


def test_every_event_and_metric_has_a_meaning_and_is_used():
    """A constant each, one line of documentation each, and somebody who logs it."""
    constants = {
        name: value
        for name, value in vars(telemetry).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str)
    }
    assert set(constants.values()) == {*telemetry.EVENTS, *telemetry.METRICS, *telemetry.PARTS}
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    for name in constants:
        used = f"telemetry.{name}" in text or text.count(f"({name}") > 0 or f'"event": {name}' in text
        assert used, f"nobody logs or counts {name}"


def test_a_line_of_the_cost_log_goes_to_standard_output(capsys):
    """And not to the log; a tag that is a secret is struck out there, too."""
    telemetry.configure("INFO", costs=True)
    assert telemetry.tells_costs()
    telemetry.cost_line({"kind": "attempt", "tags": ["sk-abcdefghijklmnop"], "cost_usd": "0.1"})
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"kind": "attempt", "tags": ["sk-[redacted]"], "cost_usd": "0.1"}, "")
    telemetry.configure("INFO")
    assert not telemetry.tells_costs()
