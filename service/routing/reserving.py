"""What to reserve for an attempt under a budget: a bound for its bill, and the cap that makes it one. Pure.

Where on the path: `settling.open`, before an attempt of a request that has a budget.

Whoever sets no cap may get the longest answer that a model can give; others what their cap allows. That much is
reserved where the budget has room for it, so that no answer is cut without need. Where it has not, the attempt is
capped at what nine of ten answers stay under, and only that is reserved: an answer that is rarely cut is better than a
refusal.
"""

from __future__ import annotations

from dataclasses import replace

from service.domain.catalog import Model
from service.domain.decision import Candidate
from service.domain.features import RequestFeatures
from service.routing.capable import context_of, output_limit
from service.routing.estimate import affordable_output, worst_cost


def paid_output(found: Candidate, input_tokens: int, *, reserved: bool, ceiling_pusd: int | None) -> int | None:
    """How many output tokens are paid for, all choices together; `None` where nothing says so.

    `reserved`: by what is held of a hard budget; `ceiling_pusd`: by what the request may still cost. `input_tokens` is
    what the prompt may be counted as.
    """
    limits = [] if ceiling_pusd is None else [ceiling_pusd]
    if reserved and found.reserved_pusd is not None:
        limits.append(found.reserved_pusd)
    if not limits or found.quote is None:
        return None
    return affordable_output(found.quote, max(input_tokens, found.input_tokens), min(limits), found.worst)


def reservations(found: Candidate, model: Model, asked: RequestFeatures) -> tuple[Candidate, ...]:
    """The candidate with each reservation that would do, the one that cuts nothing first.

    Where the price is unknown, or a cost limit has capped the answer, there is one: as it stands. A cap of the caller's
    may be lowered, never raised.
    """
    if found.reserved_pusd is None or found.output_tokens_cap:
        return (found,)

    def held(tokens: int, cap: int) -> Candidate:
        worst = worst_cost(found.quote, found.input_tokens, tokens * asked.n, found.worst)
        return replace(found, reserved_pusd=worst, output_tokens_cap=cap)

    if asked.output_tokens_max is not None:
        likely = max(1, found.wanted_tokens)
        return (found, held(likely, likely)) if likely < asked.output_tokens_max else (found,)
    window, limit = context_of(found.deployment, model), output_limit(found.deployment, model)
    # All of the window: what the input takes of it is an estimate, and where it is too high the answer may be longer.
    most = min([tokens for tokens in (limit, window) if tokens is not None], default=None)
    left = None if window is None else max(1, window - found.input_tokens)
    wanted = min([max(1, found.wanted_tokens), *[tokens for tokens in (limit, left) if tokens is not None]])
    if most is None:
        return (held(wanted, wanted),)
    if most <= wanted:
        return (held(most, 0),)
    return (held(most, 0), held(wanted, wanted))
