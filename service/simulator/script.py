"""What a simulated vendor does with a request: one `Script` per answer, one `VendorScript` per vendor. Data, no I/O.

Where on the path: the composition root (`--simulate`), tests and benches write scripts; `play` turns one into bytes.

Invariants
1. A script is chosen by the vendor's own lists, never by anything in the prompt: no request can make a vendor fail.
2. The default `Script()` is a healthy vendor: a plausible answer, OpenAI-shaped usage when it was asked for.
3. Every field that is a number is checked when the script is made, so that a typo fails at the test's first line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

DELAY_S_MAX = 3_600.0
"""The longest single pause a script may ask for, in seconds."""

CHUNKS_MAX = 100_000
"""Content chunks in one scripted stream."""

GIANT_BYTES_MAX = 128 * 1024 * 1024
"""The longest single line a script may ask for; the catalogue of bad input needs 64 MB."""

TOOL_CALLS_MAX = 128
"""Parallel tool calls in one answer."""


class Fault(StrEnum):
    """One way to misbehave. The comment says what a client on the socket sees.

    `REFUSE` and `RESET_ON_ACCEPT` happen to connections, so a vendor needs a port of its own for them; all others
    happen to requests. Those marked "mid-stream" take place after `Script.fault_after` chunks of content (0: after the
    role-only chunk).
    """

    REFUSE = "refuse"  # nothing listens on the port
    RESET_ON_ACCEPT = "reset_on_accept"  # the connection opens and is reset at once
    RESET = "reset"  # the request is read, then RST
    HANG_UP = "hang_up"  # the request is read, then FIN without a byte
    SILENCE = "silence"  # the request is read, then nothing, until the client leaves
    SILENCE_AFTER_HEADERS = "silence_after_headers"  # status and headers, then nothing
    ONLY_COMMENTS = "only_comments"  # a stream of SSE comments that never gets to content
    HTTP_ERROR = "http_error"  # `status` with `error_shape`, also on a 200
    HTML = "html"  # `status` with an HTML page
    EMPTY = "empty"  # `status` with Content-Length 0
    REDIRECT = "redirect"  # 302 (or a 3xx `status`) to `location`
    RAW = "raw"  # `raw` bytes instead of any HTTP, then FIN
    NO_CHOICES = "no_choices"  # a well-formed answer whose `choices` is empty
    CUT = "cut"  # mid-stream: FIN without the last chunk; unary: fewer bytes than Content-Length
    CUT_RESET = "cut_reset"  # the same with RST
    END_EARLY = "end_early"  # mid-stream: a clean end of the body, without finish reason and [DONE]
    ERROR_EVENT = "error_event"  # mid-stream: an event with an error of `error_shape`, then a clean end
    BROKEN_JSON = "broken_json"  # mid-stream: an event cut inside its JSON, then a clean end; unary: half the JSON
    STALL = "stall"  # mid-stream: nothing more, until the client leaves
    ENDLESS = "endless"  # mid-stream: content without end
    GIANT_LINE = "giant_line"  # one chunk of content of `giant_bytes`, then a normal end


class ErrorShape(StrEnum):
    """How vendors spell an error."""

    OPENAI = "openai"  # {"error": {"message", "type", "param", "code"}}
    CODE_MSG = "code_msg"  # {"code", "msg"}: Baidu and iFlytek, also with status 200
    BASE_RESP = "base_resp"  # {"base_resp": {"status_code", "status_msg"}}: MiniMax, with status 200
    CHUNK = "chunk"  # a chunk with `error` beside choices whose finish_reason is "error": OpenRouter mid-stream
    TEXT = "text"  # no JSON at all


class UsageShape(StrEnum):
    """How vendors spell usage. The last four are lies or silence."""

    OPENAI = "openai"  # *_details objects; reasoning inside completion_tokens
    PLAIN = "plain"  # three numbers: Cerebras, Ollama, LM Studio
    DEEPSEEK = "deepseek"  # prompt_cache_hit_tokens and prompt_cache_miss_tokens beside the details
    TOP_LEVEL_CACHED = "top_level_cached"  # cached_tokens at the top level: Moonshot, older Qianfan
    XAI = "xai"  # reasoning tokens beside completion_tokens
    OPENROUTER = "openrouter"  # like OpenAI, and `cost` in USD
    MISSING = "missing"
    NEGATIVE = "negative"
    ABSURD = "absurd"  # 1e12 completion tokens
    NOT_INTEGER = "not_integer"  # numbers as text with a fraction


class UsagePlace(StrEnum):
    """Where in a stream usage stands. A unary answer has one place."""

    AS_ASKED = "as_asked"  # a chunk with `choices: []` before [DONE], only with stream_options.include_usage
    ALWAYS = "always"  # the same, asked for or not
    LAST_CONTENT = "last_content"  # on the chunk with the finish reason, asked for or not
    EVERY_CHUNK = "every_chunk"  # cumulative on each chunk
    TWICE = "twice"  # the extra chunk, sent twice


class LineEnding(StrEnum):
    """How the lines of an event stream end."""

    LF = "\n"
    CRLF = "\r\n"
    CR = "\r"


class AfterAnswer(StrEnum):
    """What becomes of the connection after a complete answer."""

    KEEP = "keep"
    CLOSE = "close"  # announced by `Connection: close`
    CLOSE_SILENTLY = "close_silently"  # closed at once without saying so
    CLOSE_ON_REUSE = "close_on_reuse"  # reset when the next request arrives: a stale keep-alive, without the race


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How one request is answered. Durations in seconds, sizes in bytes or tokens; see the enums for the words.

    `answer` replaces the plausible text (also where JSON or a tool call was asked for). `tool_calls` is how many calls
    an answer with `tools` makes: 0 answers in words unless `tool_choice` demands a call. `reasoning` is sent as
    `reasoning_content` and counted; `hidden_reasoning_tokens` are only counted. `cached_tokens` and
    `cache_write_tokens` are parts of the prompt (clipped to it). `finish_reason` overrides the earned one.
    `ignores_cap`: the answer is as long as it is, whatever cap was asked for.
    `fault_after` counts content chunks before a mid-stream fault. `retry_after` is sent verbatim. `header_lines` are
    put into the response head as they are, CRLF and all. `write_bytes` cuts every write into pieces of this size.
    """

    fault: Fault | None = None
    fault_after: int = 2

    header_delay_s: float = 0.0
    first_content_delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    chunks: int | None = None
    write_bytes: int | None = None

    answer: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    hidden_reasoning_tokens: int = 0
    tool_calls: int = 1
    finish_reason: str | None = None
    ignores_cap: bool = False
    served_model: str | None = None
    service_tier: str | None = None

    usage: UsageShape = UsageShape.OPENAI
    usage_place: UsagePlace = UsagePlace.AS_ASKED
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    vendor_cost_usd: str | None = None

    status: int | None = None
    error_shape: ErrorShape = ErrorShape.OPENAI
    error_type: str = "server_error"
    error_code: str | None = "simulated_failure"
    error_message: str = "The simulator was told to fail."
    retry_after: str | None = None
    location: str = "http://127.0.0.1:9/elsewhere"
    header_lines: tuple[str, ...] = ()
    raw: bytes = b""
    giant_bytes: int = 1024 * 1024

    line_ending: LineEnding = LineEnding.LF
    byte_order_mark: bool = False
    comments: bool = False
    multi_line_data: bool = False
    done: bool = True
    after: AfterAnswer = AfterAnswer.KEEP

    def __post_init__(self) -> None:
        """Hold invariant 3."""
        for name in ("header_delay_s", "first_content_delay_s", "chunk_delay_s"):
            _within(name, getattr(self, name), 0, DELAY_S_MAX)
        _within("fault_after", self.fault_after, 0, CHUNKS_MAX)
        _within("chunks", 1 if self.chunks is None else self.chunks, 1, CHUNKS_MAX)
        _within("write_bytes", 1 if self.write_bytes is None else self.write_bytes, 1, GIANT_BYTES_MAX)
        _within("giant_bytes", self.giant_bytes, 1, GIANT_BYTES_MAX)
        _within("tool_calls", self.tool_calls, 0, TOOL_CALLS_MAX)
        for name in ("hidden_reasoning_tokens", "cached_tokens", "cache_write_tokens"):
            _within(name, getattr(self, name), 0, 10**9)
        if self.status is not None:
            _within("status", self.status, 200, 599)
        if self.vendor_cost_usd is not None:
            float(self.vendor_cost_usd)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"Script.{name} must be between {low} and {high}, got {value}")


def http_error(
    status: int,
    *,
    error_type: str = "server_error",
    error_code: str | None = "simulated_failure",
    error_message: str = "The simulator was told to fail.",
    shape: ErrorShape = ErrorShape.OPENAI,
    retry_after: str | None = None,
) -> Script:
    """A script that answers with an HTTP status and an error body: the commonest fault, so it has a short spelling."""
    return Script(
        fault=Fault.HTTP_ERROR,
        status=status,
        error_type=error_type,
        error_code=error_code,
        error_message=error_message,
        error_shape=shape,
        retry_after=retry_after,
    )


@dataclass(frozen=True, slots=True)
class VendorScript:
    """Everything one vendor does.

    A chat request takes the first of: the head of `queue` (used once), `by_model` (keyed by the model's wire name), the
    next of `cycle` (round and round), `default`. `models` are the wire names it serves (empty: any; asking for another
    is a 404). `api_keys` are the keys it takes (empty: any, or none). `owned_by` is what its model list says.
    `model_fields` adds members to a model's entry in that list, as engines do (`max_model_len`, `meta`); `model_list`
    is how the list itself is served, so that it can fail too.
    """

    default: Script = field(default_factory=Script)
    queue: tuple[Script, ...] = ()
    cycle: tuple[Script, ...] = ()
    by_model: Mapping[str, Script] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    owned_by: str = "simulator"
    model_fields: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    model_list: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        """A refused connection has no request, so only a vendor's default can refuse."""
        rest = (*self.queue, *self.cycle, *self.by_model.values())
        if any(script.fault is Fault.REFUSE for script in rest):
            raise ValueError(
                "Fault.REFUSE closes a port: use it as a vendor's default, or call refuse() on the simulator"
            )


SCRIPT_FIELDS = tuple(item.name for item in fields(Script))
"""The names a script file may use."""
