"""The Protocols that plug-ins implement. A room that needs a neighbour names what it needs here and gets it passed in.

| port | implemented by | table |
|---|---|---|
| `Transport` | `upstream/transport_<name>.py` | `TRANSPORTS` in `upstream/transports.py` |
| `WireProtocol` | `upstream/protocols/<name>.py` | `PROTOCOLS` |
| `Policy` | `routing/policies/<name>.py` | `POLICIES` |
| `Classifier` | `classifiers.scorer` | wired in `app.py` |
| `QualityJudge` | `ArtefactJudge` in `learned.py`, over `classifiers.quality` | read from `COE_QUALITY_DIR` |
| `LedgerWriter` | `ledger.journal.Journal` | wired in `app.py` |
| `Clock` | `SystemClock` in `app.py`, a fixed one in tests | - |
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from service.domain.catalog import Deployment, PolicySpec
from service.domain.chat import ChatRequest
from service.domain.decision import OpenEntry, ReasonCode, TerminalEntry
from service.domain.experience import Experience
from service.domain.money import Usage
from service.errors import Replied


class Clock(Protocol):
    """Time, passed in so that decisions stay pure."""

    def utc(self) -> datetime:
        """The wall clock as an aware UTC instant: for prices and records only."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps: for every duration."""
        ...


class IntentReading(Protocol):
    """What a classifier says; the fields of `decision.Intent`."""

    @property
    def label(self) -> str: ...
    @property
    def confidence(self) -> float: ...
    @property
    def posterior(self) -> Mapping[str, float]: ...
    @property
    def language(self) -> str: ...
    @property
    def abstained(self) -> bool: ...
    @property
    def terms(self) -> tuple[tuple[str, float], ...]: ...
    @property
    def artefact(self) -> str: ...
    @property
    def difficulty(self) -> float: ...
    @property
    def flags(self) -> tuple[str, ...]: ...
    @property
    def doubt(self) -> str: ...


class PartReading(Protocol):
    """One step of a compound request."""

    @property
    def intent(self) -> str: ...


class Classifier(Protocol):
    """Reads the intent of a conversation: bounded work on any input."""

    def predict(self, turns: Sequence[tuple[str, str]]) -> IntentReading:
        """`turns` are (role, text), oldest first. `terms` may be left empty: they are dear, and few ask for them."""
        ...

    def read(self, turns: Sequence[tuple[str, str]]) -> tuple[IntentReading, object | None]:
        """`predict`, and what it saw of the last user turn, for a `QualityJudge` of its kind; `None` without a turn."""
        ...

    def parts(self, turns: Sequence[tuple[str, str]]) -> Sequence[PartReading]:
        """The steps of a compound request, in order; none when they can't be told apart. A few predictions' worth."""
        ...

    def explain(self, turns: Sequence[tuple[str, str]], label: str | None = None) -> tuple[tuple[str, float], ...]:
        """The strongest evidence for a label (default: the likeliest) as (term, weight in logits), strongest first."""
        ...


class QualityJudge(Protocol):
    """How well each model would do on a text, as it was learned from outcomes: bounded work on any input."""

    @property
    def artefact(self) -> str:
        """Its name and version."""
        ...

    def judge(self, features: object, posterior: Mapping[str, float], language: str) -> Experience:
        """The qualities of registry models for the text that these features are of, or that its ground is unknown.

        `features` are what `Classifier.read` gave.
        """
        ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One HTTP request to a vendor. `url` is absolute; `headers` hold the secret, so they are not in `repr`."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    connect_s: float = 5.0


class UpstreamResponse(Protocol):
    """A vendor's answer whose head has arrived.

    One may offer more: `pour(take)` is awaited and calls `take` with each piece of the body as it arrives, from where
    it arrives, until that returns false; it returns whether the body has ended. `arrived()` is the rest of the body
    when all of it is here, else `None`. `upstream.body` makes do without.
    """

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields with lower-case names."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises an `UpstreamError` when it breaks."""
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        ...


class Transport(Protocol):
    """The seam to the network: one method. Everything that speaks HTTP to vendors stands behind it."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and return when the head of the answer has arrived.

        Raises `NotSent` when nothing left this machine and `NoReply` when the request left and no answer came.
        """
        ...


class Answer(NamedTuple):
    """What a unary answer says about itself. `finished` is whether every choice has a finish reason."""

    usage: Usage | None
    model: str | None
    id: str | None
    finished: bool
    output_characters: int
    cjk_characters: int = 0
    usage_flags: tuple[str, ...] = ()


class StreamSignal(NamedTuple):
    """What one server-sent event means to us. All flags false: pass it on and think nothing of it.

    `content`: the caller sees something of the answer (text, reasoning, a tool call, a refusal). `finished_choices` and
    `seen_choices` are choice indexes. `usage` replaces what earlier events said. `hide` when it exists only because we
    asked for usage. `error` is the vendor's error event. `done` is the protocol's end event. `text` is what the event
    adds to the answer of its one choice; `thinks`: it adds to the thinking, `other`: to anything else.
    """

    content: bool = False
    seen_choices: tuple[int, ...] = ()
    finished_choices: tuple[int, ...] = ()
    usage: Usage | None = None
    hide: bool = False
    done: bool = False
    error: Replied | None = None
    model: str | None = None
    id: str | None = None
    output_characters: int = 0
    cjk_characters: int = 0
    usage_flags: tuple[str, ...] = ()
    text: str = ""
    thinks: bool = False
    other: bool = False


class TextFrame(NamedTuple):
    """The bytes of an event around its text.

    With the inside of any other JSON string in the gap between `before` and `after` it says the same, but for the text.
    Where there is an `end`, a second gap lies between `after` and it, whose string means nothing at all.
    """

    before: bytes
    after: bytes
    end: bytes = b""


class WireProtocol(Protocol):
    """How one vendor protocol is spoken: pure functions over bytes and values."""

    name: str

    def request(
        self, chat: ChatRequest, deployment: Deployment, *, api_key: str | None, output_tokens_cap: int | None
    ) -> UpstreamRequest:
        """The upstream request for a chat. `output_tokens_cap`: a bound of ours, which never widens the caller's."""
        ...

    def answer(self, body: bytes, deployment: Deployment) -> Answer:
        """Read a unary answer; raises `Broken` or `Replied` when the body is no answer."""
        ...

    def signal(self, data: bytes, deployment: Deployment, *, asked_for_usage: bool) -> StreamSignal:
        """Read the data of one stream event; raises `Broken` when it is not what the protocol allows."""
        ...

    def text_frame(self, data: bytes, deployment: Deployment) -> TextFrame | None:
        """What stands around the text of an event that says some text of one choice and nothing else, or `None`."""
        ...

    def without_beginning(self, data: bytes, characters: int) -> bytes:
        """The data of an event without the role, and without so many characters of its text."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> Replied:
        """The `Replied` error for an answer whose status is not 2xx."""
        ...


class Figures(NamedTuple):
    """All that a ranking may depend on: two numbers per candidate that can serve, in the order of the registry.

    `qualities` are steps (`decision.QUALITY_STEPS`), `costs` expected pico-USD, `None` when the price is unknown. Never
    empty. Who is not in here was rejected, and no policy can bring it back.
    """

    qualities: Sequence[int]
    costs: Sequence[int | None]


class Ranking(NamedTuple):
    """The order of all candidates: the first `eligible` of `order` meet the floor, best first; the rest is fallback.

    `order` holds places of `Figures`. `asked` is the absolute floor of the policy and `floor` the one that was applied,
    in steps. `reason_code` says why the first is first.
    """

    order: Sequence[int]
    eligible: int
    asked: int
    floor: int
    reason_code: ReasonCode

    @property
    def kept(self) -> bool:
        """Whether anybody reaches the absolute floor."""
        return self.floor >= self.asked


class Standing(NamedTuple):
    """One candidate as texts name it: its deployment's id, quality in steps, expected pico-USD."""

    id: str
    quality: int
    cost: int | None


class Policy(Protocol):
    """What "best" means: an order among candidates that meet the floors, and the words for it. Stateless.

    Monotone: who gets cheaper or better never gets a larger key.
    """

    @property
    def code(self) -> ReasonCode:
        """Why the first of several is first."""
        ...

    def key(self, quality: int, cost: int, spec: PolicySpec) -> tuple[int, ...]:
        """What candidates are sorted by, smallest first. An unknown cost comes as `bounds.NO_COST`."""
        ...

    def won(self, ranking: Ranking, spec: PolicySpec) -> str:
        """Why the first is first."""
        ...

    def margin(self, first: Standing, second: Standing, spec: PolicySpec) -> str:
        """By what the first beat the second."""
        ...

    def lost(self, one: Standing, first: Standing, spec: PolicySpec) -> str:
        """By what one that meets the floor lost to the first."""
        ...


class LedgerWriter(Protocol):
    """Where the intent to spend and the end of every attempt are written before anything else happens."""

    async def append_open(self, entry: OpenEntry) -> None:
        """Returns when the row is as durable as the sync mode promises; raises `LedgerUnavailable`."""
        ...

    async def append_terminal(self, entry: TerminalEntry) -> None:
        """Exactly once per attempt."""
        ...

    def terminal_at_once(self, entry: TerminalEntry) -> bool:
        """`append_terminal` where durability needs no waiting; false, and nothing done, where it does."""
        ...

    def hold_decision(self, record: Mapping[str, object]) -> bytes:
        """Take the decision record, for replay and `/v1/decisions/{id}`; returns it as it is written down.

        It is written with the open row that comes next: `no_attempt` must be called when it has none.
        """
        ...

    def no_attempt(self) -> None:
        """Write a decision that no open row followed; raises LedgerUnavailable."""
        ...
