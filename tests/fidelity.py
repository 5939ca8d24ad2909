"""Bodies and answers in every spelling, through a real router: what comes out is what went in, byte for byte. I23, I22.

A vendor on a raw socket keeps the bytes it is sent, and answers with bytes that are made up beforehand. The same answers
show I22 from end to end: they arrive cut anywhere, and the official SDK's decoder reads them behind the router.

What may differ, and nothing else:
- of a request `model`, `coe` (removed), `stream_options` of a stream whose caller does not ask for usage, and with the
  quirks of `beta` (`max_tokens`, `no_store`, `no_developer_role`) the names and roles that these say;
- of a stream its end event, which is the router's own, usage nobody asked for, and what follows the last whole event.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bodies import members
from event_streams import BOM, cut, heard_by_sdk, reference
from spelling import NUMBERS, TEXTS, Spelling
from stage import RunningRouter, registry, start_router

QUIRKS = "[max_tokens, no_store, no_developer_role]"
DONE = b"data: [DONE]\n\n"
LONG_ONE_IN = 100
"""One stream of so many holds an event of a mebibyte."""

ROLES = ("system", "user", "assistant", "developer", "user")


@dataclass(slots=True)
class Case:
    """One request with its answer: the same for the same seed and number. `wrong` fills while it is played."""

    number: int
    vendor: str
    body: bytes
    stream: bool
    wants_usage: bool
    head: bytes
    pieces: list[bytes]
    answer: bytes
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def drawn(cls, seed: int, number: int) -> Case:
        """The case of a number."""
        chance = random.Random(f"{seed}:{number}")
        stream, spelling = chance.random() < 0.6, Spelling(chance)
        vendor = chance.choice(("alpha", "alpha", "beta"))
        body, wants_usage = _body(chance, spelling, vendor, stream=stream)
        if not stream:
            sent = _whole(spelling)
            return cls(number, vendor, body, stream, wants_usage, _head(b"application/json", len(sent)), [sent], sent)
        long = number % LONG_ONE_IN == 0
        sent, wanted = _stream(chance, spelling, long=long, wants_usage=wants_usage)
        step = 1 if len(sent) < 3_000 and chance.random() < 0.1 else 0
        places = range(1, len(sent)) if step else [chance.randrange(len(sent) + 1) for _ in range(chance.randrange(30))]
        return cls(
            number,
            vendor,
            body,
            stream,
            wants_usage,
            _head(b"text/event-stream", None),
            cut(sent, list(places)),
            wanted,
        )

    def check_request(self, sent: bytes) -> None:
        """Compare what a vendor was sent with what the caller wrote."""
        written, found = members(self.body), members(sent)
        wanted = _meant(written, self.vendor, stream=self.stream, wants_usage=self.wants_usage)
        for key in {*wanted, *found}:
            if found.get(key, (b"", b""))[1] != wanted.get(key, (b"", b""))[1] or (
                key in written and key in found and found[key][0] != written[key][0]
            ):
                self.wrong.append(f"{key!r} was sent as {found.get(key)!r}, not {wanted.get(key)!r}")
        if [key for key in found if key in wanted] != list(wanted):
            self.wrong.append(f"sent in the order {list(found)}, not {list(wanted)}")
        if list(wanted) == list(written):  # nothing removed and nothing added: blanks stay too
            exact = _with_values(self.body, written, wanted)
            if sent != exact:
                self.wrong.append("blanks between members were changed")

    def check_answer(self, got: bytes) -> None:
        """Compare what the caller got with what the vendor said."""
        if got != self.answer:
            at = next((at for at, pair in enumerate(zip(got, self.answer, strict=False)) if pair[0] != pair[1]), -1)
            self.wrong.append(f"{len(got)} bytes came, not {len(self.answer)}: {got[at : at + 60]!r} at {at}")
        if self.stream:
            heard = heard_by_sdk([got.removeprefix(BOM)])  # it knows no byte order mark, and makes events of no data
            if [one for one in heard if one] != reference(self.answer):
                self.wrong.append("the SDK reads other events")


def _meant(
    written: dict[str, tuple[bytes, bytes]], vendor: str, *, stream: bool, wants_usage: bool
) -> dict[str, tuple[bytes, bytes]]:
    """The members that a vendor must be sent, in order."""
    wanted = {key: member for key, member in written.items() if key != "coe"}
    wanted["model"] = (wanted["model"][0], f'"{vendor}-wire"'.encode())
    if stream and not wants_usage:
        own = json.loads(wanted.get("stream_options", (b"", b"{}"))[1]) or {}
        wanted["stream_options"] = (
            b'"stream_options"',
            json.dumps({**own, "include_usage": True}, ensure_ascii=False).encode(),
        )
    if vendor == "beta":
        wanted.pop("store", None)
        cap = wanted.pop("max_completion_tokens", None)
        if cap is not None:
            wanted["max_tokens"] = (b'"max_tokens"', cap[1])
        name, messages = wanted["messages"]
        wanted["messages"] = (name, DEVELOPER.sub(rb'\1"system"', messages))
    return wanted


DEVELOPER = re.compile(rb'("(?:[^"\\]|\\.)*"\s*:\s*)"developer"')
"""Nothing but a role has this value in `_body`, which spells it without escapes."""


def _with_values(body: bytes, written: dict[str, tuple[bytes, bytes]], wanted: dict[str, tuple[bytes, bytes]]) -> bytes:
    """The body with its values replaced, every other byte kept."""
    out, at = b"", 0
    for key, (quoted, value) in written.items():
        start = body.index(b":", body.index(quoted, at) + len(quoted)) + 1
        start = body.index(value, start)
        out += body[at:start] + wanted[key][1]
        at = start + len(value)
    return out + body[at:]


def _body(chance: random.Random, spelling: Spelling, vendor: str, *, stream: bool) -> tuple[bytes, bool]:
    """A request, and whether it asks for usage."""
    fields = [
        ("model", spelling.text(f"{vendor}-model")),
        ("messages", spelling.items([_message(chance, spelling) for _ in range(chance.randrange(1, 4))])),
    ]
    fields += spelling.unknown()
    wants_usage = False
    optional: list[tuple[str, Callable[[], bytes]]] = [
        ("temperature", lambda: chance.choice((b"1.0", b"0.70", b"1e-1", b"0", b"2e0"))),
        ("top_p", lambda: chance.choice((b"1.0", b"1", b"5E-1"))),
        ("seed", lambda: chance.choice(NUMBERS).encode()),
        ("logprobs", lambda: b"true"),
        ("store", lambda: b"false"),
        ("user", lambda: spelling.text("caller é")),
        ("max_completion_tokens", lambda: b"77"),
        ("tools", lambda: spelling.items([spelling.members([("type", b'"function"'), ("function", spelling.members([("name", b'"look_up"'), ("parameters", spelling.any())]))])])),
        ("coe", lambda: spelling.members([("tags", spelling.items([b'"a"'])), ("session", spelling.text("s"))])),
    ]  # fmt: skip
    fields += [(name, write()) for name, write in optional if chance.random() < 0.3]
    if stream:
        fields.append(("stream", b"true"))
    if chance.random() < 0.5:
        wants_usage = stream and chance.random() < 0.5
        asked = [("include_usage", b"true")] if wants_usage else [("include_usage", b"false")] * chance.randrange(2)
        fields.append(("stream_options", spelling.members([*asked, ("include_obfuscation", b"false")])))
    chance.shuffle(fields)
    return spelling.blank() + spelling.members(fields) + spelling.blank(), wants_usage


def _message(chance: random.Random, spelling: Spelling) -> bytes:
    role = chance.choice(ROLES)
    text = spelling.text("What is the capital? " + chance.choice(TEXTS))
    part = spelling.members([("type", b'"text"'), ("text", text), *spelling.unknown()])
    content = chance.choice((text, spelling.items([part, part])))
    fields = [("role", f'"{role}"'.encode()), ("content", content), *spelling.unknown()]
    if role == "assistant" and chance.random() < 0.5:
        fields.append(("tool_calls", spelling.items([spelling.call()])))
    chance.shuffle(fields)
    return spelling.members(fields)


def _usage(spelling: Spelling) -> bytes:
    return spelling.members([("prompt_tokens", b"9"), ("completion_tokens", b"5"), *spelling.unknown()])


def _whole(spelling: Spelling) -> bytes:
    """An answer that is not streamed."""
    message = spelling.members(
        [
            ("role", b'"assistant"'),
            ("content", spelling.text("巴黎 Paris\u2028")),
            ("tool_calls", spelling.items([spelling.call()])),
            *spelling.unknown(),
        ]
    )
    choice = spelling.members(
        [("index", b"0"), ("message", message), ("logprobs", _logprobs(spelling)), ("finish_reason", b'"stop"')]
    )
    fields = [
        ("id", spelling.text("chatcmpl-é/1")),
        ("choices", spelling.items([choice])),
        ("usage", _usage(spelling)),
        *spelling.unknown(),
    ]
    return spelling.blank() + spelling.members(fields) + spelling.blank()


def _logprobs(spelling: Spelling) -> bytes:
    token = spelling.members(
        [
            ("token", spelling.text("巴")),
            ("logprob", b"-0.0"),
            ("bytes", spelling.items([b"229", b"183"])),
            ("top_logprobs", b"[]"),
        ]
    )
    return spelling.members([("content", spelling.items([token])), ("refusal", b"null")])


def _stream(chance: random.Random, spelling: Spelling, *, long: bool, wants_usage: bool) -> tuple[bytes, bytes]:
    """(what the vendor sends, what the caller must get)."""
    end = chance.choice((b"\n", b"\n", b"\r\n", b"\r"))
    events = [_event(chance, spelling, end, text) for text in chance.choices(TEXTS, k=chance.randrange(1, 6))]
    if long:
        events.append(_event(chance, spelling, end, "x" * 2**20))
    events.append(_event(chance, spelling, end, "", finish=b'"stop"'))
    counted = b"data: " + _on_a_line(spelling.members([("choices", b"[]"), ("usage", _usage(spelling))])) + end + end
    usage = chance.random() < 0.7
    kept = b"".join(events)
    if chance.random() < 0.1:
        kept = BOM + kept
    sent = kept + (counted if usage else b"") + (b"data: [DONE]" + end + end if chance.random() < 0.8 else b"")
    if chance.random() < 0.2:
        sent += b'data: {"choices":[{"in'
    return sent, kept + (counted if usage and wants_usage else b"") + DONE


def _event(chance: random.Random, spelling: Spelling, end: bytes, text: str, finish: bytes = b"null") -> bytes:
    delta = [("content", spelling.text(text)), *spelling.unknown()] if text else spelling.unknown()
    if chance.random() < 0.2:
        delta.append(("tool_calls", spelling.items([spelling.call()])))
    choice = [("index", b"0"), ("delta", spelling.members(delta)), ("finish_reason", finish)]
    if chance.random() < 0.2:
        choice.append(("logprobs", _logprobs(spelling)))
    data = _on_a_line(
        spelling.members(
            [("id", b'"c1"'), ("choices", spelling.items([spelling.members(choice)])), *spelling.unknown()]
        )
    )
    before = chance.choice(
        (b"", b"", b": keep-alive" + end + end, b"event: message" + end, b"id: 7" + end, b": hm" + end)
    )
    return before + chance.choice((b"data: ", b"data:")) + data + end + end


def _on_a_line(data: bytes) -> bytes:
    """JSON without line ends between its tokens; inside of strings they are escapes."""
    return data.replace(b"\r\n", b" ").replace(b"\n", b" ")


def _head(kind: bytes, length: int | None) -> bytes:
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    return b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n" + framing + b"\r\n\r\n"


class Recorder:
    """A vendor that keeps what it is sent and says what it is told. Each connection has a thread."""

    vendors = ("alpha", "beta")

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.case: Case | None = None
        self.bodies: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def base_url(self, name: str) -> str:
        """Where a vendor is."""
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed: the test is over
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    piece = connection.recv(65_536)
                    if not piece:
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index] # a router always says it
                while len(data) < length:
                    data += connection.recv(65_536)
                self.bodies.append(data[:length])
                data = data[length:]
                assert self.case is not None
                self._say(connection, self.case)

    @staticmethod
    def _say(connection: socket.socket, case: Case) -> None:
        connection.sendall(case.head)
        for piece in case.pieces:
            if piece:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if case.stream else piece)
        if case.stream:
            connection.sendall(b"0\r\n\r\n")


class Passage:
    """A router before a recorder."""

    def __init__(self, router: RunningRouter, recorder: Recorder) -> None:
        import httpx

        self.sent = self.got = b""
        self._client = httpx.Client(base_url=router.url, trust_env=False, timeout=20)
        self._recorder = recorder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def play(self, case: Case) -> Case:
        """Send it, and compare."""
        self._recorder.case = case
        self._recorder.bodies.clear()
        answer = self._client.post(
            "/v1/chat/completions", content=case.body, headers={"content-type": "application/json"}
        )
        if answer.status_code != 200 or len(self._recorder.bodies) != 1:
            case.wrong.append(f"{answer.status_code} after {len(self._recorder.bodies)} calls: {answer.text[:300]}")
            return case
        self.sent, self.got = self._recorder.bodies[0], answer.content
        case.check_request(self.sent)
        case.check_answer(self.got)
        return case


@contextmanager
def a_passage(home: Path) -> Iterator[Passage]:
    """A router whose vendors record; its files go to a new directory."""
    home.mkdir()
    with Recorder() as recorder:
        file: Any = registry(home / "providers.yaml", recorder, quirks={"beta": QUIRKS})  # type: ignore[arg-type] # enough of a simulator
        router = start_router(home / "data", file)
        try:
            with Passage(router, recorder) as passage:
                yield passage
        finally:
            assert router.stop() == 0
