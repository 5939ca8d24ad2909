"""One request on its way: what it asked, what was decided, what was tried, what each attempt came to.

Where on the path: `api` makes an `Arrival`, `pipeline` the `Work`; `attempting`, `settling` and the streams fill it in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from service.cache.answer_cache import Visit
from service.domain.access import Caller
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate, Decision, OpenEntry, TerminalEntry
from service.domain.money import PriceQuote
from service.errors import UpstreamError
from service.guard.leases import Lease
from service.ledger.cost_lines import RequestEnd
from service.ledger.recorder import ROUTER_STOPPING, Tried
from service.routing.health import Rest
from service.routing.prefixes import NO_CHAIN, Chain
from service.routing.verdicts import Asked
from service.upstream.splice import Told
from service.upstream.tally import Tally


@dataclass(slots=True)
class Arrival:
    """A request at the door.

    `at` is monotonic seconds; `gone` is set when the caller hangs up. `cut_by` is how an attempt ends that is
    cancelled: whoever cancels for another reason than the router's own end sets it first.
    """

    request_id: str
    caller: Caller
    at: float
    gone: bool = False
    cut_by: str = ROUTER_STOPPING


@dataclass(slots=True)
class Work:
    """One request on its way: what it asked, what was decided, what was tried.

    `attempts` is its list of attempts, kept in step with the ledger, `costs` what each ended one came to; `last` is who
    was tried last, `passed_over` maps the id of each deployment that was not called to the reason. `chain` are the
    beginnings of its prompt. `waited_s` is time spent waiting on vendors, in seconds. `told` is the text that its
    caller has, noted only where it may be gone on with, `authors` the models that it is of. `tries` counts the calls of
    each deployment, `failed` has those that failed, `asked` what they may have failed of. `lease` is what it holds of
    budgets and limits, where it has any, `visit` what it may do at the cache. `end` is how it ended, until the cost log
    has it.
    """

    chat: ChatRequest
    arrival: Arrival
    decision: Decision
    baseline: tuple[str, PriceQuote] | None
    chain: Chain = NO_CHAIN
    attempts: list[Tried] = field(default_factory=list)
    costs: list[int | None] = field(default_factory=list)
    last: Candidate | None = None
    waited_s: float = 0.0
    committed_ms: float | None = None
    failures: list[tuple[Candidate, UpstreamError]] = field(default_factory=list)
    settling: list[asyncio.Task[TerminalEntry]] = field(default_factory=list)
    passed_over: dict[str, Rest] = field(default_factory=dict)
    told: Told | None = None
    lease: Lease | None = None
    visit: Visit | None = None
    tries: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    authors: set[str] = field(default_factory=set)
    end: RequestEnd | None = None
    asked: Asked = field(init=False)

    def __post_init__(self) -> None:
        """What `routing.verdicts` knows it by."""
        self.asked = Asked(self.decision.id, self.arrival.caller.key_id or "")

    def spent_pusd(self) -> int | None:
        """What the attempts that ended cost together, in pico-USD; `None` when one has no known price."""
        known = [cost for cost in self.costs if cost is not None]
        return sum(known) if len(known) == len(self.costs) else None

    def overhead_ms(self, now: float) -> float:
        """Our own time: what has passed since arrival but for waiting on vendors.

        For a stream it stands still once the first content is there: after that the caller's reading sets the pace.
        """
        if self.committed_ms is not None:
            return self.committed_ms
        return milliseconds(max(0.0, now - self.arrival.at - self.waited_s))


class Attempt(NamedTuple):
    """One attempt that was opened in the ledger; `tally` fills while it runs."""

    entry: OpenEntry
    candidate: Candidate
    tally: Tally


def milliseconds(seconds: float) -> float:
    """Milliseconds to the microsecond."""
    return round(seconds * 1000, 3)
