"""The judges of the soak: each is shown what it must catch, and what it must let pass. The hour itself is `make soak`."""

from __future__ import annotations

import asyncio
import json
import os
import random
from fractions import Fraction
from pathlib import Path

import crowd
import pytest
from books import Books, ListPrice, Seen, faults_of
from crowd import NONSENSE, Crowd, Errand, Got, judged
from steadiness import MIB, Sample, looked_at, slope_of
from steadiness import judged as steady

PRICES = {"v1": ListPrice(Fraction(1, 2), Fraction(1, 20), Fraction(2))}
USAGE = {"input": 100, "output": 50}
COST = 150_000_000
"""100 x 0.5 + 50 x 2 USD per million."""


def samples(leak_mib_per_hour=0.0, noise_mib=1.0, minutes=60, leak_in_use=None, **idle):
    """A run with noise: one look each ten seconds, and an idle one every five minutes. `idle`: what spells counted.

    `leak_in_use` in MiB an hour, where it is not what the kernel sees.
    """
    chance = random.Random("noise")
    found = []
    for number in range(minutes * 6):
        at = number * 10.0
        spell = number % 30 == 29
        rss = (150 + leak_mib_per_hour * at / 3600 + chance.gauss(0, noise_mib)) * MIB
        leak = leak_mib_per_hour if leak_in_use is None else leak_in_use
        used = round((120 + leak * at / 3600 + chance.gauss(0, 0.1)) * MIB) if spell else None
        counts = {"descriptors": 23, "threads": 5, "tasks": 3, "in_flight": 0 if spell else 9}
        if spell:
            counts |= {name: each[min(number // 30, len(each) - 1)] for name, each in idle.items()}
        else:
            counts["descriptors"] += chance.randrange(40)
        found.append(Sample(at, int(rss), idle=spell, used=used, **counts))
    return found


def test_a_steady_run_is_steady():
    """With noise of a MiB, and descriptors that come and go under load."""
    found = steady(samples(), 600, 1.0)
    assert found.wrong == []
    assert found.slope.low < 0 < found.slope.high
    assert abs(found.slope.estimate) < 1


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (samples(leak_mib_per_hour=6), "memory grows: +"),
        (samples(leak_mib_per_hour=6, leak_in_use=0), "memory grows: +"),
        (samples(leak_mib_per_hour=0, leak_in_use=2), "memory in use grows: +"),
        (samples(descriptors=[23, 23, 23, 24]), "descriptors at idle spells are not constant"),
        (samples(tasks=[3, 3, 3, 3, 4, 5, 6]), "tasks at idle spells are not constant"),
        (samples(threads=[5, 5, 5, 5, 5, 6]), "threads at idle spells are not constant"),
        (samples(in_flight=[0, 0, 0, 1]), "requests in flight at idle spells"),
        (samples(minutes=12), "memory: "),
        (samples(minutes=25), "memory in use: 3 idle spells"),
        ([one for one in samples() if not one.idle], "0 idle spells"),
    ],
    ids=[
        "memory",
        "memory that is free",
        "memory in use",
        "descriptors",
        "tasks",
        "threads",
        "in flight",
        "short",
        "few spells",
        "never idle",
    ],
)
def test_what_grows_is_seen(run, told):
    """A leak of 6 MiB an hour under noise of one, or of 2 in what a peak left free; one descriptor, task, thread; a request that never ends."""
    assert any(one.startswith(told) for one in steady(run, 600, 1.0).wrong)


def test_the_slope_is_the_one_that_is_there():
    """Within its interval, and not moved by a few wild samples."""
    run = samples(leak_mib_per_hour=12, noise_mib=0.5)
    wild = [one if number % 50 else Sample(one.at_s, one.rss * 3, 23, 5, 3, 0) for number, one in enumerate(run)]
    for found in (slope_of(run), slope_of(wild)):
        assert found.low < 12 < found.high
        assert found.high - found.low < 3
    assert "MiB/h (95 %: +1" in str(slope_of(run))


def test_a_process_is_looked_at():
    """Our own: a descriptor more is a descriptor more."""
    before = looked_at(os.getpid())
    with Path(os.devnull).open("rb"):
        assert looked_at(os.getpid())["descriptors"] == before["descriptors"] + 1
    assert before["rss"] > 10 * MIB
    assert before["threads"] >= 1


def row(kind, **body):
    """A line of the journal."""
    return json.dumps({"v": 1, "t": kind, "e": body}, separators=(",", ":")).encode() + b"\n"


def opened(attempt, name="n1", provider="alpha", reserved=9):
    """An open row."""
    return row("open", attempt_id=attempt, provider=provider, tags=[name], price_version="v1", reserved_pusd=reserved)


def ended(attempt, number=1, **changes):
    """Its end, as the vendor's own numbers have it."""
    body = {"state": "settled", "usage": USAGE, "usage_source": "provider", "cost_pusd": COST}
    return row("terminal", attempt_id=attempt, upstream_id=f"chatcmpl-sim-{number}", **(body | changes))


def compared(lines, seen=None):
    """What the judge says of a journal."""
    books = Books()
    for line in lines:
        books.take(line)
    truth = [Seen(1, "alpha", "n1", "answered", USAGE)] if seen is None else seen
    return faults_of(books, truth, PRICES)


def test_books_that_balance_do():
    """A settled row, a refused one, an estimate, a crash; a request that never reached its vendor."""
    lines = [
        *(opened("a"), ended("a")),
        *(opened("b", "n2"), ended("b", state="refused", usage={}, cost_pusd=0, usage_source="unknown")),
        *(opened("c", "n3"), ended("c", state="estimated", usage_source="estimate")),
        *(opened("d", "n4"), ended("d", state="unknown", usage={}, cost_pusd=9, usage_source="unknown")),
        row("decision", id="x", text="attempts"),
    ]
    wrong, counted = compared(lines)
    assert wrong == []
    assert counted["rows with the vendor's own numbers"] == 1
    assert counted["attempts"] == 4


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([opened("a")], "a: no terminal row"),
        ([opened("a"), ended("a"), ended("a")], "a: 2 terminal rows"),
        ([opened("a"), opened("a"), ended("a")], "a: 2 open rows"),
        ([ended("a")], "a: a terminal row, and no open row"),
        ([], "alpha saw n1 1 times more than announced"),
        ([opened("a", "n9"), ended("a")], "has the answer of n1 at alpha"),
        ([opened("a"), ended("a", cost_pusd=COST + 1)], "its own usage costs 150000000"),
        ([opened("a"), ended("a", usage={"input": 99, "output": 50}, cost_pusd=149_500_000)], "the vendor counts"),
        ([opened("a"), ended("a", state="refused")], "refused, and costs"),
        ([opened("a"), ended("a", state="unknown")], "a crash, booked at"),
    ],
)
def test_books_that_do_not_balance_are_seen(lines, told):
    """Each by its own words."""
    wrong, _ = compared(lines)
    assert any(told in one for one in wrong), wrong


STREAM = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
ERROR = b'{"error":{"message":"no","type":"t","param":null,"code":null}}'
WHOLE = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    ("errand", "got", "kind", "fine"),
    [
        (Errand("n", b""), Got(200, WHOLE, whole=True), "whole answer", True),
        (Errand("n", b""), Got(503, ERROR, whole=True), "error 503", True),
        (Errand("n", b"", stream=True), Got(200, STREAM, whole=True), "whole stream", True),
        (Errand("n", b"", nonsense="list"), Got(400, ERROR, whole=True), "refused nonsense", True),
        (Errand("n", b""), Got(0, b"", whole=False, left=True), "caller left", True),
        (
            Errand("n", b"", stream=True),
            Got(200, b'data: {"error":{}}\n\n', whole=True),
            "stream with an error event",
            True,
        ),
        (Errand("n", b""), Got(200, WHOLE[:-9], whole=False), "truncated", False),
        (Errand("n", b""), Got(200, b'{"choices":[{"message":{}}]}', whole=True), "whole answer", False),
        (Errand("n", b""), Got(500, ERROR, whole=True), "error 500", False),
        (Errand("n", b""), Got(502, b"<html>", whole=True), "error 502", False),
        (
            Errand("n", b"", stream=True),
            Got(200, STREAM.replace(b'"stop"', b"null"), whole=True),
            "whole stream",
            False,
        ),
        (Errand("n", b"", stream=True), Got(200, STREAM.replace(b"[DONE]", b"{}"), whole=True), "whole stream", False),
        (
            Errand("n", b"", stream=True),
            Got(200, b'data: {"error":{}}\n\ndata: [DONE]\n\n', whole=True),
            "stream with an error event",
            False,
        ),
        (Errand("n", b"", nonsense="list"), Got(200, WHOLE, whole=True), "refused nonsense", False),
        (Errand("n", b"", nonsense="list"), Got(500, ERROR, whole=True), "refused nonsense", False),
    ],
)
def test_what_a_caller_got_is_judged(errand, got, kind, fine):
    """A whole answer, a clear error, or the caller left: nothing else passes."""
    found, wrong = judged(errand, got)
    assert found == kind
    assert (wrong == "") is fine


async def test_callers_without_a_router_are_told_of(monkeypatch):
    """A cut is an end that nobody promised; and who hangs is noticed."""
    crowds = Crowd(1)  # nobody listens there
    crowds.send(Errand("n0", b"{}"))
    await crowds.back()
    assert crowds.verdicts.kinds == {"cut": 1}
    assert "n0: the router hung up" in crowds.verdicts.wrong[0]

    async def listen(reader, writer):
        await reader.read()
        writer.close()

    monkeypatch.setattr(crowd, "HUNG_S", 0.2)
    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    waiting = Crowd(silent.sockets[0].getsockname()[1])
    waiting.send(Errand("n1", b"{}"))
    await waiting.back()
    await asyncio.sleep(0.05)
    silent.close()
    assert waiting.verdicts.kinds == {"hung": 1}


def test_errands_are_the_same_for_the_same_seed_and_of_every_kind():
    """English and Chinese, streams and not, those who leave, every nonsense."""
    drawn = [Errand.drawn(1, number, ["m"]) for number in range(2_000)]
    assert drawn == [Errand.drawn(1, number, ["m"]) for number in range(2_000)]
    assert {one.nonsense for one in drawn} == {"", *NONSENSE}
    assert any(one.leaves_after is not None for one in drawn)
    assert {one.stream for one in drawn if not one.nonsense} == {True, False}
    texts = [json.loads(one.body)["messages"][0]["content"] for one in drawn if not one.nonsense]
    assert any("法国" in text for text in texts)
    assert any("France" in text for text in texts)
