"""A crowd of callers for long runs: what they ask, how they behave, and the verdict on what each of them got.

Every request is drawn from a seed and its number: in English or Chinese, a stream or a whole answer, for `auto` or a
named model, from a caller who stays, leaves in the middle, or sends what is no request. Its name stands in the prompt,
where the vendor's truth log has it, and in a tag, where the ledger has it; nothing else joins the two.

The promise: a whole answer, a clear error, or the caller left. Everything else is `wrong`, and told with the name.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

HUNG_S: Final = 45.0
"""Longer than any deadline of the router under test, with the pauses that it is sent to: who waits longer is hung."""

MODELS: Final = ("auto", "auto", "auto", "auto:cheap", "auto:best")
ASKED_EN: Final = (
    "What is the capital of France?",
    "Write a function that reverses a linked list.",
    "Summarise this report in three sentences, please.",
    "Translate the following into Chinese: good morning, everybody.",
    "Why is the sky blue, and the sunset red?",
)
ASKED_ZH: Final = (
    "法国的首都是哪里？",
    "请写一个反转链表的函数。",
    "请把这份报告概括成三句话。",
    "请把下面的话翻译成英文：大家早上好。",
    "天空为什么是蓝色的？",
)

NONSENSE: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "empty": b"",
        "half": b'{"model":"auto","messages":[{"role":"us',
        "list": b"[]",
        "not UTF-8": b'{"model":"auto","messages":[{"role":"user","content":"\xff\xfe"}]}',
        "no messages": b'{"model":"auto"}',
        "messages of a wrong kind": b'{"model":"auto","messages":"hello"}',
        "a number too far": b'{"model":"auto","messages":[{"role":"user","content":"x"}],"temperature":1e400}',
        "deep": b'{"model":"auto","messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        "unknown model": b'{"model":"nobody-knows-it","messages":[{"role":"user","content":"x"}]}',
        "twice": b'{"model":"auto","model":"auto","messages":[{"role":"user","content":"x"}]}',
    }
)
"""Bodies that get a 4xx, and no attempt."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One request. `leaves_after`: bytes of the answer after which its caller is gone, `None` for one who stays."""

    name: str
    body: bytes
    stream: bool = False
    leaves_after: int | None = None
    nonsense: str = ""

    @classmethod
    def drawn(cls, seed: int | str, number: int, models: Sequence[str]) -> Errand:
        """The errand of a number: the same for the same seed."""
        chance = random.Random(f"{seed}:errand:{number}")
        name = f"n{number}"
        if chance.random() < 0.04:
            nonsense = chance.choice(sorted(NONSENSE))
            return cls(name, NONSENSE[nonsense], nonsense=nonsense)
        asked = chance.choice(ASKED_ZH if chance.random() < 0.5 else ASKED_EN)
        stream = chance.random() < 0.6
        body: dict[str, Any] = {
            "model": chance.choice((*MODELS, *models)),
            "messages": [{"role": "user", "content": f"Question {name} {asked * chance.choice((1, 1, 1, 4, 30))}"}],
            "stream": stream,
            "coe": {"tags": [name]},
        }
        if stream and chance.random() < 0.3:
            body["stream_options"] = {"include_usage": True}
        if chance.random() < 0.1:
            body["max_tokens"] = chance.choice((1, 5, 50))
        if chance.random() < 0.05:
            body["coe"]["no_fallback"] = True
        leaves = chance.randrange(4_000) if chance.random() < 0.08 else None
        return cls(name, json.dumps(body, ensure_ascii=chance.random() < 0.5).encode(), stream, leaves)


@dataclass(slots=True)
class Verdicts:
    """What came of all of them: kinds by number, and what was wrong, by name."""

    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, errand: Errand, kind: str, wrong: str = "") -> None:
        """One that came to its end."""
        self.kinds[kind] += 1
        if wrong:
            self.wrong.append(f"{errand.name}: {wrong}")


class Crowd:
    """Callers at one port. `under_way` are those who wait for something."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.verdicts = Verdicts()
        self.under_way: set[asyncio.Task[None]] = set()

    def send(self, errand: Errand) -> None:
        """Let one go."""
        task = asyncio.get_running_loop().create_task(self._gone(errand))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def back(self) -> None:
        """Return when nobody is under way."""
        while self.under_way:
            await asyncio.wait(tuple(self.under_way))

    async def _gone(self, errand: Errand) -> None:
        try:
            async with asyncio.timeout(HUNG_S):
                got = await asked(self.port, errand)
        except TimeoutError:
            self.verdicts.note(errand, "hung", f"nothing came of it in {HUNG_S:.0f} s")
        except OSError as problem:
            self.verdicts.note(errand, "cut", f"the router hung up: {problem!r}")
        except Exception as problem:  # a caller's own fault must not end the run: it is told with the others
            self.verdicts.note(errand, "unreadable", repr(problem))
        else:
            self.verdicts.note(errand, *judged(errand, got))


@dataclass(frozen=True, slots=True)
class Got:
    """What a caller got: status, the body as far as it was sent, whether that was all, whether the caller left."""

    status: int
    body: bytes
    whole: bool
    left: bool = False


async def asked(port: int, errand: Errand) -> Got:
    """Ask over a connection of its own, and read what comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(errand.body)}\r\nconnection: close\r\n\r\n".encode() + errand.body)
        data = b""
        while errand.leaves_after is None or len(data) < errand.leaves_after:
            piece = await reader.read(65_536)
            if not piece:
                return _read(data)
            data += piece
        if errand.leaves_after % 2:
            writer.transport.abort()
        return Got(0, b"", whole=False, left=True)
    finally:
        writer.close()


def _read(data: bytes) -> Got:
    top, _, rest = data.partition(b"\r\n\r\n")
    if not top:
        raise ConnectionResetError("not a byte of an answer")
    status, fields = int(top[9:12]), top.lower()
    if b"transfer-encoding: chunked" in fields:
        body, whole = _unchunked(rest)
        return Got(status, body, whole)
    length = int(fields.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return Got(status, rest, len(rest) == length)


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        if size == 0:
            return b"".join(pieces), True
        pieces.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(pieces), False


def judged(errand: Errand, got: Got) -> tuple[str, str]:
    """(what kind of end it is, what is wrong with it)."""
    if got.left:
        return "caller left", ""
    if not got.whole:
        return "truncated", "the router's own answer was cut"
    if errand.nonsense:
        told = "refused nonsense"
        return told, "" if 400 <= got.status < 500 and _is_error(got.body) else f"{got.status} for {errand.nonsense!r}"
    if got.status != 200:
        clear = got.status in {429, 502, 503, 504} and _is_error(got.body)
        return f"error {got.status}", "" if clear else f"{got.status} with {got.body[:200]!r}"
    text = got.body.decode(errors="replace")
    garbled = ", garbled on the way" if "\ufffd" in text else ""
    return _judged_stream(text, garbled) if errand.stream else _judged_whole(text, garbled)


def _judged_whole(text: str, garbled: str) -> tuple[str, str]:
    answer = json.loads(text)
    choices = answer.get("choices") or [{}]
    whole = choices[0].get("finish_reason") and choices[0].get("message")
    return f"whole answer{garbled}", "" if whole or garbled else f"a 200 that is no whole answer: {text[:200]}"


def _judged_stream(text: str, garbled: str) -> tuple[str, str]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    done = "[DONE]" in lines
    events = [_event(line) for line in lines if line != "[DONE]"]
    broken = any("error" in event for event in events)
    finished = any(choice.get("finish_reason") for event in events for choice in event.get("choices") or ())
    if broken:
        return f"stream with an error event{garbled}", "[DONE] behind an error" if done else ""
    problem = "" if done and (finished or garbled) else f"a stream that ends without its end: {text[-200:]}"
    return f"whole stream{garbled}", problem


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        if "\ufffd" in line:  # a byte that the proxy changed was part of it
            return {}
        raise
    return event if isinstance(event, dict) else {}


def _is_error(body: bytes) -> bool:
    """An error in the one shape that callers know, with words for a person."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(error.get("message")) and {"type", "param", "code"} <= set(error)
