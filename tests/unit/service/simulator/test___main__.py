"""The simulator as a process."""

import json
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from service.simulator.__main__ import main


def start(*arguments):
    """The process, with its pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "service.simulator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(ask, tmp_path, number):
    """One JSON line, answers by script, exit code 0, nothing on stderr."""
    script = tmp_path / "scripts.json"
    script.write_text(json.dumps({"vendors": {"c": {"default": {"answer": "from the file"}}}}))
    with start("--port", "0", "--vendors", "a,b", "--script", str(script)) as process:
        urls = json.loads(process.stdout.readline())["base_urls"]
        assert list(urls) == ["a", "b", "c"]
        assert len({httpx.URL(url).port for url in urls.values()}) == 1
        assert httpx.post(f"{urls['a']}/chat/completions", json=ask()).status_code == 200
        assert "from the file" in httpx.post(f"{urls['c']}/chat/completions", json=ask()).text
        process.send_signal(number)
        out, errors = process.communicate(timeout=10)
    assert (process.returncode, out, errors) == (0, "", "")


def code_of(*arguments):
    """The exit code of `main` in this process."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def test_exit_codes(tmp_path, capsys):
    """Usage 64, port taken 75, bad file 78; each says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, code, words in [
            ([], 64, "--vendors"),
            (["--wrong"], 64, "--wrong"),
            (["--vendors", "a/b"], 64, "URL"),
            (["--vendors", "a", "--host", "0.0.0.0"], 64, "loopback"),  # noqa: S104 - the refusal is the test
            (["--vendors", "a", "--port", "70000"], 64, "65535"),
            (["--vendors", "a", "--port", port], 75, "another --port"),
            (["--script", str(tmp_path / "nowhere.json")], 78, "nowhere.json"),
        ]:
            assert code_of(*arguments) == code
            out, errors = capsys.readouterr()
            assert out == ""
            assert words in errors
    with start("--wrong") as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 64
    assert "Traceback" not in errors
