"""Standard error that never holds anybody up: whoever reads it may be slow, stand still, or be gone."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from service.log_pipe import LogPipe, without_waiting

WRITER = """
    import sys, time
    from service.log_pipe import LogPipe

    pipe = LogPipe(lambda lines: f"{lines} dropped\\n", backlog_bytes=int(sys.argv[2]))
    longest = 0.0
    for number in range(int(sys.argv[1])):
        before = time.monotonic()
        pipe.write(f"{number:06d} {'x' * 90}\\n")
        longest = max(longest, time.monotonic() - before)
    print(longest, pipe.dropped, pipe.drops(60.0), flush=True)
    sys.stdin.readline()
    pipe.drain(20.0)
    pipe.write("after\\n")
    pipe.drain(20.0)
    print(len(pipe._kept), flush=True)
"""


def a_writer(stderr, lines, backlog):
    """A process that writes so many lines of a hundred bytes, then waits for a word, and drains."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(lines), str(backlog)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)


@pytest.fixture(params=["pipe", "socket"])
def ends(request):
    """(descriptor to read, descriptor to write) of what a service manager gives a process as standard error."""
    if request.param == "pipe":
        reading, writing = os.pipe()
        yield reading, writing
        os.close(reading)
    else:
        ours, theirs = socket.socketpair()
        yield ours.fileno(), theirs.detach()
        ours.close()


def fill(put, size=4_096):
    """Put until nothing more is taken."""
    while True:
        put(b"y" * size)


def all_of(reading):
    """Everything that comes until the other end is closed."""
    told = b""
    while chunk := os.read(reading, 1 << 16):
        told += chunk
    return told.decode().splitlines()


def test_a_reader_that_stands_still_holds_nobody_up_and_what_is_lost_is_counted(ends):
    """Two thousand kilobytes at a pipe that nobody reads: no wait, whole lines only, and where some are missing."""
    reading, writing = ends
    process = a_writer(writing, 20_000, 100_000)
    os.close(writing)
    longest, dropped, drops = process.stdout.readline().split()
    assert float(longest) < 1.0
    assert (int(dropped) > 10_000, drops) == (True, b"True")
    process.stdin.write(b"go\n")
    process.stdin.close()
    told = all_of(reading)
    assert process.wait(20) == 0
    process.stdout.close()
    assert told[-2:] == [f"{int(dropped)} dropped", "after"]
    assert [int(line[:6]) for line in told[:-2]] == list(range(20_000 - int(dropped)))
    assert {len(line) for line in told[:-2]} == {97}


def test_a_reader_that_is_slow_for_a_moment_gets_every_line(ends):
    """What the pipe does not take is kept until it does."""
    reading, writing = ends
    process = a_writer(writing, 20_000, 4 << 20)
    os.close(writing)
    assert process.stdout.readline().split()[1:] == [b"0", b"False"]
    process.stdin.write(b"go\n")
    process.stdin.close()
    told = all_of(reading)
    assert process.stdout.readline() == b"0\n"
    assert process.wait(20) == 0
    process.stdout.close()
    assert [line[:6] for line in told] == [*(f"{number:06d}" for number in range(20_000)), "after"]


def test_the_flags_of_what_was_inherited_are_left_alone():
    """A shell or a parent writes to the same pipe, and does not expect to be told to come back later."""
    reading, writing = os.pipe()
    put = without_waiting(writing)
    assert os.get_blocking(writing) is True
    assert put(b"x" * 40_000) == 40_000
    with pytest.raises(BlockingIOError):
        fill(put)
    os.close(reading)
    os.close(writing)


def test_files_and_closed_ends(tmp_path):
    """A file takes all; a reader that has gone is an error, and the lines count as dropped."""
    with (tmp_path / "log").open("wb") as file:
        assert without_waiting(file.fileno())(b"line\n") == 5
    assert (tmp_path / "log").read_bytes() == b"line\n"
    reading, writing = os.pipe()
    put = without_waiting(writing)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        put(b"line\n")
    os.close(writing)


def test_a_terminal_takes_a_line():
    """And one whose output is held takes nothing."""
    ours, theirs = os.openpty()
    put = without_waiting(theirs)
    assert put(b"line\n") == 5
    assert os.read(ours, 100) == b"line\r\n"
    with pytest.raises(BlockingIOError):
        fill(put)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("size", [1, 100, 1_000, 2_600, 4_000])
def test_a_terminal_with_less_room_than_a_line_takes_the_rest_later(size):
    """Writable, for a terminal, is not room for all: such a write would wait for whoever reads."""
    ours, theirs = os.openpty()
    put = without_waiting(theirs)
    with pytest.raises(BlockingIOError):
        fill(put, size)
    assert os.read(ours, 1)
    os.close(ours)
    os.close(theirs)


def test_a_stream_that_somebody_put_there_is_used(monkeypatch):
    """Tests and programs that embed the router; one that fails is passed over."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    pipe = LogPipe(str)
    pipe.write("line\n")
    assert stream.getvalue() == "line\n"
    stream.close()
    pipe.write("line\n")


def test_a_router_goes_on_when_nobody_reads_its_log(tmp_path):
    """As a real process: its standard error is a pipe, full from the start. Answers come, and it stops in order."""
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
        from service import telemetry
        telemetry.configure("INFO")
        for number in range(3_000):
            telemetry.logger().info(telemetry.STARTED, number=number)
            telemetry.note(telemetry.REQUEST, number=number)
        print("through", telemetry.LOG.dropped)
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        fill(partial(os.write, writing))
    os.set_blocking(writing, True)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=writing, timeout=30, check=False
    )
    os.close(writing)
    assert done.stdout.startswith(b"through")
    assert time.monotonic() - begun < 30
    os.close(reading)


def test_the_count_leads_in_the_next_line(monkeypatch):
    """In the form of the log itself."""
    taken = []
    full = [True]

    def put(content):
        if full[0]:
            raise BlockingIOError
        taken.append(content)
        return len(content)

    pipe = LogPipe(lambda lines: json.dumps({"lines": lines}) + "\n", backlog_bytes=30)
    pipe._put = put
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    for number in range(4):
        pipe.write(f"a line, the {number}\n")
    assert (pipe.dropped, pipe.drops(60.0), LogPipe(str).drops(60.0)) == (2, True, False)
    full[0] = False
    pipe.write("4\n")
    pipe.write("5\n")
    assert b"".join(taken) == b'a line, the 0\na line, the 1\n{"lines": 2}\n4\n5\n'


def test_lines_of_several_processes_do_not_mix():
    """Two writers on one pipe that is read slowly: every line is whole."""
    reading, writing = os.pipe()
    processes = [a_writer(writing, 4_000, 4 << 20) for _ in range(2)]
    os.close(writing)
    for process in processes:
        process.stdout.readline()
        process.stdin.write(b"go\n")
        process.stdin.close()
    told = all_of(reading)
    for process in processes:
        assert process.wait(30) == 0
        process.stdout.close()
    os.close(reading)
    assert len(told) == 2 * 4_001
    assert {len(line) for line in told} == {97, 5}


def test_what_a_closed_end_loses_is_counted_once(monkeypatch):
    """Also behind the line that tells of others."""

    def put(_content):
        raise BrokenPipeError

    pipe = LogPipe(lambda lines: f"{lines} dropped\n")
    pipe._put = put
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    for number in range(1_000):
        pipe.write(f"{number}\n")
    assert pipe.dropped == 1_000
