"""What a decision may know of a request: counts, needs and limits, and not a word of what was said.

Where on the path: `pipeline` reads them from the chat once; `routing.decide` sees nothing else of it, and the decision
record holds them, so that a recorded decision can be taken again.

Invariants
1. `from_plain(features.plain())` equals the features, also after a round through JSON: whole numbers stay whole, floats
   keep every digit.
2. No content, and nothing made from content that could be guessed back. There is no hash of the prompt either: a plain
   one of a short prompt is found by trying, and a keyed one would still tell that two requests said the same. No
   decision depends on it.
3. Text of the caller's own is in here only as names that the registry has, or that the request was refused for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

from service.domain.catalog import Selector
from service.domain.chat import ChatRequest, Sizes, Steering
from service.domain.frozen import built_open
from service.domain.plain import Reader

DEFAULT_EFFORT = "default"
"""The effort of a request that asks for none: the vendor's own default."""

EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
"""The efforts that vendors know. Another word is told as `other`: what it is, is the caller's text."""

SERVICE_TIERS = frozenset({"batch", "flex", "priority", "ultrafast", "fast", "scale"})
"""The service tiers that vendors sell beside their usual one. Another word counts as none: it is the caller's text."""

_LIMITS = ("policy", "min_quality", "max_cost_pusd", "max_latency_ms", "plan")
_SELECTORS = ("allow", "deny")
_COUNTS = tuple(one.name for one in fields(Sizes))
_counts_of = attrgetter(*_COUNTS)


@built_open
@dataclass(frozen=True, slots=True)
class RequestFeatures:
    """The request as a decision sees it. The names are those of `ChatRequest`, of which this is the part that counts.

    `forced_tool` is whether an answer must call a tool. `effort` is one of `EFFORTS`, `default` or `other`,
    `service_tier` one of `SERVICE_TIERS` if any. `steering` holds only what limits the choice: session, tags and the
    like are empty.
    """

    model: str
    needs: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset({"text"})
    sizes: Sizes = field(default_factory=Sizes)
    n: int = 1
    output_tokens_max: int | None = None
    stream: bool = False
    in_tool_loop: bool = False
    forced_tool: bool = False
    effort: str = DEFAULT_EFFORT
    service_tier: str | None = None
    steering: Steering = field(default_factory=Steering)

    def plain(self) -> dict[str, object]:
        """As JSON values. `input_tokens` is told beside the counts that it is estimated from, and never read back."""
        return {
            "model": self.model,
            "input_tokens": self.sizes.input_tokens,
            **dict(zip(_COUNTS, _counts_of(self.sizes), strict=True)),
            "needs": sorted(self.needs),
            "modalities": sorted(self.modalities),
            "n": self.n,
            "output_tokens_max": self.output_tokens_max,
            "effort": self.effort,
            "service_tier": self.service_tier,
            "stream": self.stream,
            "in_tool_loop": self.in_tool_loop,
            "forced_tool": self.forced_tool,
            "limits": _plain_limits(self.steering),
        }


def features_of(chat: ChatRequest) -> RequestFeatures:
    """The features of a chat request."""
    choice = chat.body.get("tool_choice")
    return RequestFeatures(
        model=chat.model,
        needs=chat.needs,
        modalities=chat.modalities,
        sizes=chat.sizes,
        n=chat.n,
        output_tokens_max=chat.output_tokens_max,
        stream=chat.stream,
        in_tool_loop=chat.in_tool_loop,
        forced_tool=choice == "required" or (isinstance(choice, dict) and choice.get("type") != "allowed_tools"),
        effort=_effort(chat.body),
        service_tier=_service_tier(chat.body),
        steering=_limiting(chat.steering),
    )


def _limiting(said: Steering) -> Steering:
    """What limits the choice; most callers say nothing else, and nearly all of them nothing at all."""
    if said.session is None and not (said.tags or said.explain or said.no_fallback or said.resume):
        return said
    return replace(said, session=None, tags=(), explain=False, no_fallback=False, resume=False)


def from_plain(told: object) -> RequestFeatures:
    """The features that `plain` told. Raises PlainError for anything else."""
    read = Reader(told, "features")
    limits = Reader(read.value("limits"), "limits")
    return RequestFeatures(
        model=read.text("model"),
        needs=read.names("needs"),
        modalities=read.names("modalities"),
        sizes=Sizes(**{name: read.whole(name) for name in _COUNTS}),
        n=read.whole("n"),
        output_tokens_max=None if read.value("output_tokens_max") is None else read.whole("output_tokens_max"),
        stream=read.flag("stream"),
        in_tool_loop=read.flag("in_tool_loop"),
        forced_tool=read.flag("forced_tool"),
        effort=read.text("effort"),
        service_tier=read.text("service_tier") if "service_tier" in read and read.value("service_tier") else None,
        steering=Steering(
            policy=limits.text("policy") if "policy" in limits else None,
            min_quality=limits.number("min_quality") if "min_quality" in limits else None,
            max_cost_pusd=limits.whole("max_cost_pusd") if "max_cost_pusd" in limits else None,
            max_latency_ms=limits.whole("max_latency_ms") if "max_latency_ms" in limits else None,
            plan=limits.text("plan") if "plan" in limits else None,
            allow=_selector(limits, "allow"),
            deny=_selector(limits, "deny"),
        ),
    )


def _effort(body: Mapping[str, object]) -> str:
    """The effort that a body asks for, under either of its names."""
    said = body.get("reasoning_effort")
    nested = body.get("reasoning")
    if said is None and isinstance(nested, dict):
        said = nested.get("effort")
    if said is None:
        return DEFAULT_EFFORT
    return said if isinstance(said, str) and said in EFFORTS else "other"


def _service_tier(body: Mapping[str, object]) -> str | None:
    """The service tier that a body asks for, where it has a price of its own."""
    said = body.get("service_tier")
    return said if isinstance(said, str) and said in SERVICE_TIERS else None


def _plain_limits(steering: Steering) -> dict[str, object]:
    """What the caller demanded of the choice; only what was said."""
    said: dict[str, object] = {name: value for name in _LIMITS if (value := getattr(steering, name)) is not None}
    for name in _SELECTORS:
        selector: Selector = getattr(steering, name)
        if selector:
            kinds = (one.name for one in fields(Selector) if getattr(selector, one.name))
            said[name] = {kind: sorted(getattr(selector, kind)) for kind in kinds}
    return said


def _selector(limits: Reader, name: str) -> Selector:
    if name not in limits:
        return Selector()
    said = Reader(limits.value(name), name)
    return Selector(**{one.name: said.names(one.name) for one in fields(Selector) if one.name in said})
