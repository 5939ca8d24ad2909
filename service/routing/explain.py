"""A decision told as plain data: one structure for the journal, POST /v1/route, `coe.explain` and `coe route`.

Where on the path: `pipeline` writes `record(...)` before the first upstream byte; `screen` says the same in lines.

The stored record is the full one without what can be worked out again: it names the first candidates and holds the
figures of all, all that was decided upon, and the versions of what that was held against. `replay` takes the decision
again from it.

Invariants
1. No content: counts, labels and names of the registry, nothing of the prompt. The classifier's terms are fragments of
   the prompt, so they are told only to the caller, never written to the journal.
2. Whatever a decision depends on is told exactly: floats with every digit, money in whole pico-USD or exact decimals.
3. Telling what is stored builds the choice and nobody else: a request waits for this. Reasons of the others are worked
   out when somebody asks, from the same decision taken again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import orjson

from service.domain.access import Caller
from service.domain.decision import QUALITY_STEPS, Candidate, Decision, Intent
from service.domain.fingerprint import digest
from service.domain.money import FX_SCALE, divide_half_even, usd_text
from service.domain.what_if import Alternative, Change, WhatIf

RANKED_KEPT = 5
"""Candidates that the stored record names: the choice with all it is told with, the others with quality and cost."""

FIGURES_KEPT = 64
"""Of so many the stored record holds the figures, of more their digest: a line must not grow with a registry."""

MONEY_LEVERS = frozenset({"expected_cost_usd", "max_cost_usd"})
"""Levers whose values are pico-USD; the others are quality and shares of it."""

_COUNTS_WHERE_ANY = ("cached_tokens", "cache_write_tokens", "output_tokens_cap")
"""Counts of a candidate that are told where they are not 0."""


def record(decision: Decision, *, full: bool = False) -> dict[str, object]:
    """The decision as plain data; `full` tells every candidate, the terms and what would have to change."""
    choices, ranked, rejected = decision.features.n, decision.ranked, decision.rejected
    told: dict[str, object] = {
        "id": decision.id,
        "created_ms": decision.created_ms,
        "at": decision.at.isoformat(),
        "requested": decision.requested,
        "policy": decision.policy,
        "route": decision.route,
        "plan": decision.plan,
        "intent": _intent(decision.intent, full=full),
        "judged_by": list(decision.judged_by),
        "features": decision.features.plain(),
        "caller": _caller(decision.caller),
        "experience": decision.experience.plain(),
        "chosen": decision.chosen.deployment.id,
        "runner_up": ranked.deployment(1).id if len(ranked) > 1 else None,
        "reason_code": decision.reason_code.value,
        "margin": decision.margin,
        "propensity": decision.propensity,
        "seed": None if decision.draw is None else decision.draw.seed,
        "candidates": [_told(one, choices, full=True) for one in ranked] if full else _named(decision),
        "rejected": [_told(one, choices, full=True) for one in rejected] if full else _rejections(decision)[0],
        "baseline": _baseline(decision),
        "ceiling_usd": None if decision.ceiling_pusd is None else usd_text(decision.ceiling_pusd),
        "degraded": list(decision.degraded),
        "notes": list(decision.notes),
        "versions": dict(decision.versions),
    }
    if decision.budgeted:
        told["budgeted"] = True
    if decision.draw is not None:
        told["draw"] = {"share": decision.draw.share, "among": list(decision.draw.among)}
    if full:
        told["what_if"] = told_what_if(decision.what_if())
    else:
        told["figures"] = _figures(decision)
    return told


def reasoned(decision: Decision) -> dict[str, object]:
    """What the stored record leaves to be worked out: the first candidates with all they are told with, the what-if."""
    first = [_told(one, decision.features.n, full=False) for one in decision.ranked[:RANKED_KEPT]]
    return {"candidates": first, "what_if": told_what_if(decision.what_if())}


def _named(decision: Decision) -> list[dict[str, object]]:
    """The choice with all it is told with, and the next few by their figures."""
    ranked, loaded = decision.ranked, decision.experience.busy is not None
    told = [_told(ranked[0], decision.features.n, full=False)]
    for rank in range(1, min(RANKED_KEPT, len(ranked))):
        place = ranked.order[rank]
        told.append(
            {
                "deployment": ranked.able[place][0].id,
                "quality": ranked.qualities[place] / QUALITY_STEPS,
                "expected_cost_usd": _exact(ranked[rank].expected_cost_pusd if loaded else ranked.costs[place]),
            }
        )
    return told


def told_what_if(found: WhatIf) -> dict[str, object]:
    """What would have to change, as plain data."""
    return {"alternatives": [_alternative(one) for one in found.alternatives], "policies": dict(found.policies)}


def grouped(rejected: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The ids of rejected deployments by the kind of their reason."""
    groups: dict[str, list[str]] = {}
    for name, reason in rejected:
        groups.setdefault(reason.partition(":")[0], []).append(name)
    return groups


def cost_split(one: Candidate, choices: int) -> dict[str, int] | None:
    """What the expected cost is made of, in pico-USD; adds up to it exactly. `None` when it is unknown.

    `input` is what is read for the first time, with a fee per request and with what rounding leaves.
    """
    if one.expected_cost_pusd is None or one.quote is None:
        return None
    quote, rates = one.quote, one.quote.rates_for(one.input_tokens)
    counts = {
        "cache_read": one.cached_tokens,
        "cache_write_5m": one.cache_write_tokens,
        "output": one.output_tokens,
        "reasoning": one.reasoning_tokens * choices,
    }
    scale = quote.multiplier.denominator * FX_SCALE
    parts = {
        bucket: divide_half_even(
            count * (rates.rate(bucket) or 0) * quote.multiplier.numerator * quote.fx.nano_usd, scale
        )
        for bucket, count in counts.items()
    }
    return {
        "input": one.expected_cost_pusd - sum(parts.values()),
        "cached": parts["cache_read"],
        "cache_write": parts["cache_write_5m"],
        "output": parts["output"],
        "reasoning": parts["reasoning"],
    }


def _intent(intent: Intent, *, full: bool) -> dict[str, object]:
    told: dict[str, object] = {
        "label": intent.label,
        "confidence": intent.confidence,
        "abstained": intent.abstained,
        "language": intent.language,
        "difficulty": intent.difficulty,
        "flags": list(intent.flags),
        "parts": list(intent.parts),
        "posterior": dict(intent.posterior),
    }
    if intent.doubt:
        told["doubt"] = intent.doubt
    if full:
        told["terms"] = [{"term": term, "weight": round(weight, 3)} for term, weight in intent.terms]
    return told


def _caller(caller: Caller) -> dict[str, list[str]]:
    """What binds the caller's key; a key that nothing binds leaves it empty."""
    said = {"tags": caller.tags, "models": caller.models, "policies": caller.policies}
    return {name: sorted(names) for name, names in said.items() if names}


def _figures(decision: Decision) -> dict[str, object]:
    """The numbers that were ranked, of those who can serve in the order of the registry, and the order they gave."""
    ranked = decision.ranked
    figures = (list(ranked.order), list(ranked.qualities), list(ranked.costs))
    told: dict[str, object] = {"eligible": ranked.eligible, "reasons": _rejections(decision)[1]}
    if len(ranked) > FIGURES_KEPT:
        told |= {"able": len(ranked), "digest": _digest_of(figures)}
    else:
        told |= zip(("order", "quality_steps", "expected_cost_pusd"), figures, strict=True)
    return told


def _digest_of(figures: tuple[Sequence[int | None], ...]) -> str:
    try:
        return digest(orjson.dumps(figures).decode())
    except TypeError:  # beyond 64 bits
        return digest(json.dumps(figures))


def _rejections(decision: Decision) -> tuple[Mapping[str, list[str]], str]:
    """(who is out, by the kind of the reason; a digest of who is out and why)."""
    return _told_rejections(tuple(decision.rejected.reasons))


@lru_cache(maxsize=64)
def _told_rejections(reasons: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, list[str]], str]:
    """The same few sets of reasons come again with every request. What is given is shared: it is only ever written."""
    return grouped(reasons), digest(json.dumps(reasons))


def _told(one: Candidate, choices: int, *, full: bool) -> dict[str, object]:
    told: dict[str, object] = {
        "deployment": one.deployment.id,
        "quality": one.quality,
        "expected_cost_usd": _exact(one.expected_cost_pusd),
        "reserved_usd": _exact(one.reserved_pusd),
        "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens,
        "reasoning_tokens": one.reasoning_tokens,
        "reason": one.rejected or one.reason,
    }
    told |= {name: count for name in _COUNTS_WHERE_ANY if (count := getattr(one, name))}
    if one.learned_quality is not None:
        told["learned_quality"] = one.learned_quality
    if one.quote is not None:
        told["price_version"] = one.quote.version
    if full:
        split = cost_split(one, choices)
        told["cost_split_usd"] = None if split is None else {name: usd_text(pusd) for name, pusd in split.items()}
        told["eligible"] = one.eligible
    return told


def _alternative(one: Alternative) -> dict[str, object]:
    return {
        "deployment": one.deployment,
        "as": list(one.told_as),
        "obstacle": one.obstacle,
        "wins_if": [_change(change) for change in one.changes],
    }


def _change(one: Change) -> dict[str, object]:
    told: dict[str, object] = {"lever": one.lever, "now": _value(one, one.now)}
    bounds = (("at_least", one.at_least), ("at_most", one.at_most))
    return told | {name: _value(one, value) for name, value in bounds if value is not None}


def _value(change: Change, value: float | None) -> object:
    """Money as an exact decimal, a quality or a share as it is."""
    return usd_text(int(value)) if change.lever in MONEY_LEVERS and value is not None else value


def _baseline(decision: Decision) -> Mapping[str, object] | None:
    if decision.baseline_model is None:
        return None
    return {"model": decision.baseline_model, "expected_cost_usd": _exact(decision.baseline_pusd)}


def _exact(pusd: int | None) -> str | None:
    return None if pusd is None else usd_text(pusd)
