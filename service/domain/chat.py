"""A typed *view* over the caller's raw JSON: what routing needs to know of a chat request. Unknown fields survive.

Where on the path: `api/openai` parses bytes, `read_chat` checks the shape (400 with `param`), everything after reads
the view. The body itself stays the caller's bytes (`raw`) and is forwarded from there.

Invariants
1. A `ChatRequest` that exists is well-formed as far as routing and billing depend on it.
2. Nothing here keeps more of the text than it needs: `turns()` is bounded by `TURNS_READ` and by what it is asked for.
3. The caller's limits are carried, never widened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.catalog import NO_SELECTOR, Selector
from service.domain.frozen import built_open
from service.domain.rawjson import RawObject

TURNS_READ = 8
"""User turns handed to the classifier, newest last: it weighs three, the rest is slack for tool-heavy transcripts."""


@dataclass(frozen=True, slots=True)
class CacheWish:
    """What a request asks of the cache.

    `read`: an answer from there will do; `write`: its own may be kept there. `ttl_s` is how old the one may be and how
    long the other is kept, in seconds; `None` is as long as the registry says.
    """

    read: bool = True
    write: bool = True
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Steering:
    """What the caller asks of the router itself: the `coe` object or `x-coe-*` headers. `None` means not said."""

    policy: str | None = None
    min_quality: float | None = None
    max_cost_pusd: int | None = None
    max_latency_ms: int | None = None
    allow: Selector = NO_SELECTOR
    deny: Selector = NO_SELECTOR
    plan: str | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()
    explain: bool = False
    no_fallback: bool = False
    resume: bool = False
    stop_at_budget: bool = False
    cache: CacheWish | None = None


@built_open
@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of what, counted without tokenizer. CJK is apart because it costs more per character.

    `tool_characters` are those of tools and of an answer schema, which vendors put into the prompt. `audio_bytes` and
    `file_bytes` are decoded sizes; `unmeasured` counts attachments by reference, and videos, whose size nobody knows.
    """

    characters: int = 0
    cjk_characters: int = 0
    messages: int = 0
    images: int = 0
    tools: int = 0
    tool_characters: int = 0
    audio_bytes: int = 0
    file_bytes: int = 0
    unmeasured: int = 0
    last_user_characters: int = 0
    last_user_cjk_characters: int = 0

    @property
    def attached(self) -> bool:
        """Whether there is something beside text, whose tokens are a guess."""
        return bool(self.images or self.audio_bytes or self.file_bytes or self.unmeasured)

    @property
    def input_tokens(self) -> int:
        """Estimated prompt tokens: `estimate_tokens` plus the overhead of messages and what images usually cost."""
        tokens = estimate_tokens(self.characters + self.tool_characters, self.cjk_characters)
        tokens += TOKENS_PER_MESSAGE * self.messages + 3
        if self.attached:
            tokens += self.audio_bytes // AUDIO_BYTES_PER_TOKEN + self.file_bytes // FILE_BYTES_PER_TOKEN
            tokens += TOKENS_PER_IMAGE * self.images + TOKENS_PER_UNMEASURED * self.unmeasured
        return tokens

    @property
    def last_user_tokens(self) -> int:
        """Estimated tokens of the newest user message: what a translation or a rewriting is as long as."""
        return estimate_tokens(self.last_user_characters, self.last_user_cjk_characters)


TOKENS_PER_MESSAGE = 4
"""Role and separators of one message in the usual chat templates."""

TOKENS_PER_IMAGE = 1_000
"""A mid-size image at the large vendors (85 low detail to 1,600 high detail)."""


AUDIO_BYTES_PER_TOKEN = 400
"""Compressed speech: 4 kB a second at 10 tokens a second. Uncompressed speech is overestimated tenfold, never under."""

FILE_BYTES_PER_TOKEN = 4
"""Plain text in a file; a PDF with pictures has fewer tokens for its size, so this is a bound rather than a mean."""

TOKENS_PER_UNMEASURED = 5_000
"""A guess for a file, sound or video given by reference. Under a cost limit such requests are refused."""


def estimate_tokens(characters: int, cjk_characters: int) -> int:
    """Tokens of a text from two counts: 0.25 a character, 0.7 a CJK one. 17-19 % mean error on mixed text."""
    other = characters - cjk_characters
    return (other * 25 + cjk_characters * 70 + 99) // 100


def count_characters(text: str) -> tuple[int, int]:
    """(characters, characters that are not ASCII-like). Three-byte UTF-8 is CJK in practice; done at C speed."""
    length = len(text)
    if text.isascii():
        return length, 0
    return length, max(0, (len(text.encode("utf-8", "surrogatepass")) - length) // 2)


@built_open
@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat request. `raw` and `body` are the caller's own; the rest is read from them.

    `output_tokens_max` is the caller's cap under either name, `None` when not given. `needs` are capability names that
    the body demands; `modalities` the kinds of input in it. `prefill` is how an answer began that is to
    be gone on with.
    """

    raw: RawObject
    body: Mapping[str, Any]
    model: str
    stream: bool
    include_usage: bool
    n: int
    output_tokens_max: int | None
    needs: frozenset[str]
    modalities: frozenset[str]
    sizes: Sizes
    steering: Steering
    user: str | None = None
    prefill: str | None = None

    def turns(self) -> list[tuple[str, str]]:
        """The last (role, text) pairs of people and models, oldest first, without tool dumps and system prompts."""
        found: list[tuple[str, str]] = []
        for message in reversed(self.body["messages"]):
            role = message["role"]
            if role not in ("user", "assistant"):
                continue
            text = "\n".join(texts(message.get("content")))
            if text:
                found.append((role, text))
            if len(found) >= TURNS_READ:
                break
        found.reverse()
        return found

    @property
    def in_tool_loop(self) -> bool:
        """Whether the newest message is the result of a tool."""
        messages = self.body["messages"]
        return bool(messages) and messages[-1].get("role") in ("tool", "function")


def texts(content: object) -> Iterator[str]:
    """The text parts of a message's content, in order."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict):
                text = part.get("text") if part.get("type") in ("text", "input_text") else part.get("refusal")
                if isinstance(text, str):
                    yield text
