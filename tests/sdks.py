"""The official SDKs as clients, by every way in which their users ask: Python here, JavaScript in a process of its own.

An `Ask` is a request through one of the `SURFACES`; `Sdks.ask_all` makes several at once and answers what each SDK
`Said`: what its caller has in hands, and what it raised. The JavaScript side is tests/javascript/asking.mjs, whose
dependencies `make test` installs; one process serves all requests, because starting one takes longer than asking.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import openai
from stage import ROOT, clean_environment

FOLDER = ROOT / "tests" / "javascript"
INSTALLED = FOLDER / "node_modules" / ".done"
"""Written when everything is installed."""

STOP_S = 10.0
TIMEOUT_S = 20.0
"""After which an SDK gives up by itself: nothing here takes so long, so it is never what ends a request."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat request: `surface` is a key of `SURFACES`, `url` ends in /v1, `retries` are what SDKs do by default."""

    surface: str
    url: str
    body: Mapping[str, Any]
    retries: int = 2


@dataclass(slots=True)
class Choice:
    """What a caller has of one choice: text, thinking, (name, arguments) of tool calls, finish reason."""

    text: str = ""
    thinking: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: str | None = None

    @property
    def begun(self) -> bool:
        """Whether there is anything of it."""
        return bool(self.text or self.thinking or self.calls)


@dataclass(frozen=True, slots=True)
class Raised:
    """What an SDK raised: its class, whether that is an API error of the SDK, HTTP status, code, message."""

    name: str
    official: bool
    status: int | None
    code: str | None
    message: str


@dataclass(slots=True)
class Said:
    """What an SDK's caller has in hands when it returns or raises."""

    choices: dict[int, Choice] = field(default_factory=dict)
    usage: bool = False
    raised: Raised | None = None
    took_ms: float = 0.0

    def add(self, index: int, said: Any, finish: str | None) -> None:
        """A delta, or a message, of a choice: the SDK's objects have the same fields in both."""
        choice = self.choices.setdefault(index, Choice())
        choice.text += said.content or ""
        choice.thinking += getattr(said, "reasoning_content", None) or ""
        for place, call in enumerate(said.tool_calls or ()):
            number = getattr(call, "index", None)
            number = place if number is None else number
            while len(choice.calls) <= number:
                choice.calls.append(["", ""])
            choice.calls[number][0] += call.function.name or ""
            choice.calls[number][1] += call.function.arguments or ""
        choice.finish = finish or choice.finish

    def chunk(self, chunk: Any) -> None:
        """A chunk of a stream."""
        self.usage = self.usage or chunk.usage is not None
        for one in chunk.choices:
            self.add(one.index, one.delta, one.finish_reason)

    def whole(self, completion: Any) -> None:
        """A whole answer; what came of it in pieces is in it."""
        self.choices.clear()
        self.usage = self.usage or completion.usage is not None
        for one in completion.choices:
            self.add(one.index, one.message, one.finish_reason)


def _whole(client: openai.OpenAI, body: Any, said: Said) -> None:
    said.whole(client.chat.completions.create(**body))


def _parsed(client: openai.OpenAI, body: Any, said: Said) -> None:
    said.whole(client.chat.completions.parse(**body))


def _stream(client: openai.OpenAI, body: Any, said: Said) -> None:
    for chunk in client.chat.completions.create(**body, stream=True):
        said.chunk(chunk)


def _helper(client: openai.OpenAI, body: Any, said: Said) -> None:
    with client.chat.completions.stream(**body) as events:
        for event in events:
            if event.type == "chunk":
                said.chunk(event.chunk)
        said.whole(events.get_final_completion())


def _response_whole(client: openai.OpenAI, body: Any, said: Said) -> None:
    with client.chat.completions.with_streaming_response.create(**body) as response:
        said.whole(response.parse())


def _response_stream(client: openai.OpenAI, body: Any, said: Said) -> None:
    with client.chat.completions.with_streaming_response.create(**body, stream=True) as response:
        for chunk in response.parse():
            said.chunk(chunk)


async def _async_whole(client: openai.AsyncOpenAI, body: Any, said: Said) -> None:
    said.whole(await client.chat.completions.create(**body))


async def _async_stream(client: openai.AsyncOpenAI, body: Any, said: Said) -> None:
    async for chunk in await client.chat.completions.create(**body, stream=True):
        said.chunk(chunk)


async def _async_helper(client: openai.AsyncOpenAI, body: Any, said: Said) -> None:
    async with client.chat.completions.stream(**body) as events:
        async for event in events:
            if event.type == "chunk":
                said.chunk(event.chunk)
        said.whole(await events.get_final_completion())


async def _async_response(client: openai.AsyncOpenAI, body: Any, said: Said) -> None:
    async with client.chat.completions.with_streaming_response.create(**body, stream=True) as response:
        async for chunk in await response.parse():
            said.chunk(chunk)


SYNC: Mapping[str, Callable[[openai.OpenAI, Any, Said], None]] = MappingProxyType(
    {
        "python whole": _whole,
        "python parsed": _parsed,
        "python response whole": _response_whole,
        "python stream": _stream,
        "python helper": _helper,
        "python response stream": _response_stream,
    }
)
ASYNC: Mapping[str, Callable[[openai.AsyncOpenAI, Any, Said], Coroutine[Any, Any, None]]] = MappingProxyType(
    {
        "python async whole": _async_whole,
        "python async stream": _async_stream,
        "python async helper": _async_helper,
        "python async response stream": _async_response,
    }
)
JAVASCRIPT = (
    "javascript whole",
    "javascript parsed",
    "javascript stream",
    "javascript with_response",
    "javascript helper",
    "javascript helper_iterated",
)
SURFACES = (*JAVASCRIPT, *SYNC, *ASYNC)
PYTHON = (*SYNC, *ASYNC)


def streams(surface: str) -> bool:
    """Whether a surface asks for a stream."""
    return not surface.endswith(("whole", "parsed"))


def why_no_javascript() -> str | None:
    """What is missing for the JavaScript SDK, or `None`."""
    if shutil.which("node") is None:
        return "node is missing: install Node.js 18 or newer with npm, or let `make test` do it"
    if not INSTALLED.exists():
        return "tests/javascript/node_modules is missing or incomplete; `make test` installs it"
    return None


class Sdks:
    """Both SDKs, ready to ask. Without `javascript` only the one of Python.

    Clients are kept, as their users keep them: making one costs more than asking.
    """

    def __init__(self, *, javascript: bool = True) -> None:
        self._javascript = javascript
        self._node: subprocess.Popen[str] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._sync: dict[tuple[str, int], openai.OpenAI] = {}
        self._async: dict[tuple[str, int], openai.AsyncOpenAI] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        if self._javascript:
            self._node = subprocess.Popen(
                ["node", "asking.mjs"],
                cwd=FOLDER,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # the SDK writes there what it could not parse, and raises
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._node is not None and self._node.stdin is not None and self._node.stdout is not None:
            self._node.stdin.close()
            self._node.wait(STOP_S)
            self._node.stdout.close()
        for client in self._sync.values():
            client.close()
        for one in self._async.values():
            asyncio.run_coroutine_threadsafe(one.close(), self._loop).result(STOP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        self._loop.close()

    def ask(self, ask: Ask) -> Said:
        """One request."""
        (said,) = self.ask_all([ask])
        return said

    def ask_all(self, asks: Sequence[Ask]) -> list[Said]:
        """Several requests at once, and what was said to each."""
        script = {number: ask for number, ask in enumerate(asks) if ask.surface in JAVASCRIPT}
        others = {number: ask for number, ask in enumerate(asks) if number not in script}
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            running = {number: pool.submit(self._said_in_python, ask) for number, ask in others.items()}
            found = self._said_in_javascript(script) if script else {}
            found.update({number: one.result() for number, one in running.items()})
        return [found[number] for number in range(len(asks))]

    def _said_in_javascript(self, asks: Mapping[int, Ask]) -> dict[int, Said]:
        node = self._node
        assert node is not None, "the JavaScript SDK was not wanted"
        assert node.stdin is not None
        assert node.stdout is not None
        for number, ask in asks.items():
            surface = ask.surface.removeprefix("javascript ")
            case = {"id": number, "surface": surface, "url": ask.url, "body": ask.body}
            node.stdin.write(json.dumps({**case, "retries": ask.retries, "timeout_s": TIMEOUT_S}) + "\n")
        node.stdin.flush()
        found = {}
        for _ in asks:
            line = node.stdout.readline()
            assert line, "the JavaScript process ended: run tests/javascript/asking.mjs by hand to see why"
            told = json.loads(line)
            raised = told["raised"]
            found[told["id"]] = Said(
                {one.pop("index"): Choice(**one) for one in told["choices"]},
                told["usage"],
                raised and Raised(**raised),
                told["took_ms"],
            )
        return found

    def _said_in_python(self, ask: Ask) -> Said:
        said, key = Said(), (ask.url, ask.retries)
        settings: Any = {"base_url": ask.url, "api_key": "x", "max_retries": ask.retries, "timeout": TIMEOUT_S}
        begun = time.monotonic()
        try:
            if ask.surface in SYNC:
                client = self._sync.get(key) or self._sync.setdefault(key, openai.OpenAI(**settings))
                begun = time.monotonic()
                SYNC[ask.surface](client, ask.body, said)
            else:
                other = self._async.get(key) or self._async.setdefault(key, openai.AsyncOpenAI(**settings))
                begun = time.monotonic()
                asking = ASYNC[ask.surface](other, ask.body, said)
                asyncio.run_coroutine_threadsafe(asking, self._loop).result(2 * TIMEOUT_S)
        except Exception as error:
            told = {name: getattr(error, name, None) for name in ("status_code", "code")}
            official = isinstance(error, openai.APIError)
            said.raised = Raised(type(error).__name__, official, told["status_code"], told["code"], str(error))
        said.took_ms = (time.monotonic() - begun) * 1_000
        return said


def must_have_javascript() -> bool:
    """Whether a machine without the JavaScript SDK is a failure: in CI it is."""
    return bool(os.environ.get("CI"))
