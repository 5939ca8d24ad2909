"""What the fuzzer runs: bytes in, nothing out, an AssertionError where a promise does not hold. I21.

Nothing of the fuzzer is needed here, so that every test can run a target on the seeds, on what was found once, and on
small changes of both. A target tells more than "no exception":

- `sse`: the tap gives the events of a parser written from the standard, and every byte, for any cutting; a reading of
  the stream notes the same however it was cut, and with frames the same as without.
- `request`: a body is accepted exactly when the standard library and the documented rules say so; a refusal of its shape
  names a field that is at fault; what is sent to a vendor differs from it in nothing but the members meant.
- `registry`: a file gives a catalogue, or problems with a line and a column that exist, in bounded time; what the YAML
  library refuses is refused; no key is told.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import yaml
from bodies import NotJson, faults, is_beside, members, strict
from event_streams import cut, reference, tapped

from service.api.chat_body import read_chat
from service.catalog.check import check
from service.catalog.load import load_bytes
from service.catalog.problems import MAX_PROBLEMS
from service.catalog.report import render
from service.domain.catalog import Deployment, Provider
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate
from service.domain.ports import TextFrame
from service.domain.prices import PriceBook
from service.errors import InvalidRequest, RegistryError
from service.upstream.protocols import PROTOCOLS
from service.upstream.quirks import QUIRKS, STRICT_FIELDS
from service.upstream.sse import SseTap
from service.upstream.stream import Reading
from service.upstream.tally import Tally

WIRE = PROTOCOLS["openai_chat"]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CANARY = "sk-canary-0123456789abcdef0123456789abcdef"
LOAD_S = 5.0
"""Processor time for a file of the sizes that are tried here; it takes milliseconds, and instrumented tens of them."""

BYTE_BY_BYTE_MAX = 400
"""Of a stream that is always read byte by byte; a longer one is so once in thirteen times."""

ASKED = {
    usage: read_chat(
        b'{"model":"auto","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":%b},"n":%d}'
        % (usage, choices),
        {},
    )
    for usage, choices in ((b"true", 1), (b"false", 2))
}


def _deployment(*quirks: str) -> Deployment:
    provider = Provider(
        "acme",
        "https://acme.example/v1",
        quirks={name: value for name, _, value in (one.partition(":") for one in quirks)},
    )
    return Deployment(provider, "model-1", "wire-1", PriceBook("acme/model-1"))


EVENT_END = re.compile(rb"\n\n|\r\n\r\n|\r\r")


class _Standing:
    """A clock that stands."""

    def monotonic(self) -> float:
        return 100.0


class _Frameless:
    """The wire, without frames."""

    def signal(self, *told: object, **named: object) -> object:
        return WIRE.signal(*told, **named)  # type: ignore[arg-type] # passed through

    def text_frame(self, *_: object) -> TextFrame | None:
        return None


def sse(data: bytes, tap: Callable[[], SseTap] = SseTap) -> None:
    """The first two bytes say how the rest is cut, and what was asked for."""
    how, stream = int.from_bytes(data[:2], "big"), data[2:]
    chance = random.Random(how)
    wanted = reference(stream)
    places = sorted(chance.randrange(len(stream) + 1) for _ in range(how % 7))
    step = 1 if len(stream) <= BYTE_BY_BYTE_MAX else 1 + how % 13
    ways = [[stream], cut(stream, places), [stream[at : at + step] for at in range(0, len(stream), step)]]
    ways.append(cut(stream, [one.end() for one in EVENT_END.finditer(stream)]))  # as vendors send them: frames need it
    for pieces in ways:
        events, raw = tapped(pieces, tap)
        assert raw == stream, "the tap gives back other bytes"
        assert events == wanted, f"the tap reads {events!r}, the standard {wanted!r}"
    usage = b"true" if how % 2 else b"false"
    deployment = _deployment(*(["error_in_200"] if how % 3 == 0 else []), *(["usage_cost"] if how % 5 == 0 else []))
    told = [_read(pieces, usage, deployment, frames=frames) for pieces in ways for frames in (True, False)]
    for framed, plain in zip(told[::2], told[1::2], strict=True):
        assert framed == plain, "an event is told otherwise by its frame"
    for one in told[2::2]:
        assert one[1:] == told[0][1:], "a stream is read otherwise when it is cut otherwise"
        assert reference(one[0]) == reference(told[0][0]), "other events are handed on when it is cut otherwise"


def _read(pieces: list[bytes], usage: bytes, deployment: Deployment, *, frames: bool) -> tuple[bytes, ...]:
    """What of a stream is handed on, then all else that is known of it."""
    candidate = Candidate(deployment, 0.9, None, None, 12, 100, 0, None, output_tokens_cap=0)
    wire = WIRE if frames else _Frameless()
    reading = Reading(wire, ASKED[usage], candidate, Tally(99.0), _Standing())  # type: ignore[arg-type] # enough of a wire and a clock
    handed = []
    for piece in pieces:
        if reading.over:
            break
        handed.append(reading.take(piece))
    problem, reading.problem = reading.problem, None
    fault = None if problem is None else (type(problem).__name__, problem.cause, problem.message)
    return b"".join(handed), repr((fault, reading.done, reading.nothing_missing, reading.tally)).encode()


SOME_QUIRKS = (
    (), ("max_tokens",), ("max_completion_tokens",), ("no_developer_role",), ("no_stream_options", "no_store"),
    ("no_sampling", "tool_stream"), ("temperature_positive", "tools_effort_none"), ("strict_fields",), ("seed_field:random_seed",),
)  # fmt: skip
CHANGED = frozenset(
    [
        "model",
        "stream_options",
        "coe",
        "max_tokens",
        "max_completion_tokens",
        "messages",
        "store",
        "temperature",
        "top_p",
        "top_k",
        "tool_stream",
        "reasoning_effort",
        "seed",
        "random_seed",
    ]
)
"""What any quirk may change."""


def request(data: bytes) -> None:
    """The bytes are a body."""
    try:
        body = strict(data)
    except NotJson:
        body = None
    chat = _chat(data)
    if isinstance(chat, InvalidRequest):
        _refused(chat, body)
        return
    assert body is not None, "no JSON, and accepted"
    assert not faults(body), f"accepted with {faults(body)}"
    assert list(chat.raw.members) == list(body), "other members, or in another order"
    written = members(data)
    assert {key: chat.raw.value(key) for key in body} == {key: value for key, (_, value) in written.items()}
    assert chat.raw.edited({}) == data
    _edits(data, chat.raw.edited, written)
    chat.turns()
    for quirks in SOME_QUIRKS:
        sent = WIRE.request(chat, _deployment(*quirks), api_key=None, output_tokens_cap=None).body
        _sent(sent, written, quirks, stream=chat.stream)


def _chat(data: bytes) -> ChatRequest | InvalidRequest:
    """What is made of a body, or why it is refused."""
    try:
        return read_chat(data, {})
    except InvalidRequest as problem:
        return problem


def _refused(problem: InvalidRequest, body: Mapping[str, object] | None) -> None:
    """A refusal is right, and names what is at fault."""
    assert problem.status == 400
    assert 0 < len(problem.message) < 2_000
    if problem.code in ("invalid_json", "empty_body"):
        assert body is None, f"valid JSON is refused: {problem.message}"
        return
    assert body is not None, "what is no JSON gets as far as its fields"
    assert problem.param is not None, "a refusal that names no field"
    assert is_beside(problem.param) or problem.param in faults(body), f"{problem.param} is no fault: {problem.message}"


def _edits(
    data: bytes, edited: Callable[[Mapping[str, bytes | None]], bytes], written: Mapping[str, tuple[bytes, bytes]]
) -> None:
    """Any members replaced, removed and added: the others keep every byte and their order."""
    chance = random.Random(zlib.crc32(data))
    changes: dict[str, bytes | None] = {
        key: chance.choice((None, b'{"new": 1}')) for key in written if chance.random() < 0.4
    }
    changes["added by a test"] = b"[]"
    left = {
        key: (quoted, changes.get(key, value) or value)
        for key, (quoted, value) in written.items()
        if changes.get(key, b"") is not None
    }
    left.setdefault("added by a test", (b'"added by a test"', b"[]"))
    if "added by a test" in written:
        left["added by a test"] = (written["added by a test"][0], b"[]")
    found = edited(changes)
    assert members(found) == left, "an edit changes more than it was told to"
    assert list(members(found)) == list(left), "an edit changes the order"
    replaced = {key: change for key, change in changes.items() if change is not None and key in written}
    assert edited(replaced) == _replaced(data, written, replaced), "an edit changes blanks"


def _replaced(data: bytes, written: Mapping[str, tuple[bytes, bytes]], changes: Mapping[str, bytes]) -> bytes:
    """The body with values replaced, every other byte kept: found by walking over it once more."""
    text, out, at = data, b"", 0
    for key, (quoted, value) in written.items():
        start = text.index(quoted, at)
        start = text.index(b":", start + len(quoted)) + 1
        start = text.index(value, start)
        out += text[at:start] + changes.get(key, value)
        at = start + len(value)
    return out + text[at:]


def _sent(sent: bytes, written: Mapping[str, tuple[bytes, bytes]], quirks: tuple[str, ...], *, stream: bool) -> None:
    """What a vendor gets: one JSON object, no key twice, no other member changed than may be."""
    strict(sent)
    found = members(sent)
    assert found["model"][1] == b'"wire-1"'
    assert "coe" not in found
    for key, member in written.items():
        if key not in CHANGED and ("strict_fields" not in quirks or key in STRICT_FIELDS):
            assert found.get(key) == member, f"{key!r} is changed by {quirks}"
    if not quirks:
        meant = {"model", "coe"} | ({"stream_options"} if stream else set())
        assert {key: one for key, one in found.items() if key not in meant} == {
            key: one for key, one in written.items() if key not in meant
        }
        assert [key for key in found if key in written] == [key for key in written if key in found], "another order"


PROBLEM = re.compile(r"providers\.yaml:(\d+):(\d+): \S.*\Z", re.DOTALL)
MORE = re.compile(r"providers\.yaml: and \d+ more problems; .*\Z")


def registry(data: bytes) -> None:
    """The bytes are a file."""
    begun = time.process_time()
    try:
        catalog = load_bytes(
            data, "providers.yaml", {"A": CANARY, "DEEPSEEK_API_KEY": CANARY}, now=NOW, known_quirks=QUIRKS
        )
        told = [render(check(catalog, now=NOW))]
        assert _is_yaml(data), "what the YAML library can't read is loaded"
        assert load_bytes(data, "x", {}, now=NOW, known_quirks=QUIRKS).version == catalog.version
    except RegistryError as error:
        told = list(error.problems)
        _places(told, data)
    assert time.process_time() - begun < LOAD_S, "a file holds the processor"
    assert all(CANARY not in line for line in told), "a key is told"


def _places(problems: list[str], data: bytes) -> None:
    """Each problem stands somewhere in the file."""
    assert 1 <= len(problems) <= MAX_PROBLEMS + 1, "an error without a problem, or with too many"
    lines = len(re.split(rb"\r\n|\r|\n|\xc2\x85|\xe2\x80[\xa8\xa9]", data))
    for number, problem in enumerate(problems):
        if number == MAX_PROBLEMS and MORE.match(problem):
            continue
        found = PROBLEM.match(problem)
        assert found, f"no file:line:column: {problem!r}"
        assert 1 <= int(found[1]) <= lines + 1, f"a line that is not there: {problem!r}"
        assert 1 <= int(found[2]) <= len(data) + 2, f"a column that is not there: {problem!r}"


def _is_yaml(data: bytes) -> bool:
    """Whether the YAML library reads it to its end: its C scanner where there is one, as the loader does.

    Its two scanners are not of one mind: the one in Python refuses a tab behind a closing bracket.
    """
    with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
        for _ in yaml.parse(data.decode("utf-8-sig"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            pass
        return True
    return False


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {"sse": sse, "request": request, "registry": registry}
)
