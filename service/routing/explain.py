"""A decision told: as the record that the journal keeps, as the answer of POST /v1/route, as a screenful of text.

Where on the path: `pipeline` writes `record(...)` before the first upstream byte; `coe route` prints `screen`.
Content never appears here: a record holds counts, labels and n-gram terms of the classifier, nothing of the prompt.
(The terms are fragments of the prompt, so they are told only to the caller, never written to the journal.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from service.domain.decision import Candidate, Decision
from service.domain.money import usd_text

RANKED_KEPT = 8
"""Ranked candidates that the stored record tells; the rest can be found again from features and versions."""

SCREEN_ROWS = 8
POSTERIOR_KEPT = 5


def record(decision: Decision, *, full: bool = False) -> dict[str, object]:
    """The decision as plain data. `full` tells every candidate and the classifier's terms; the stored one does not."""
    ranked = decision.ranked if full else decision.ranked[:RANKED_KEPT]
    intent = decision.intent
    by_mass = sorted(intent.posterior.items(), key=lambda item: -item[1])
    told: dict[str, object] = {
        "id": decision.id,
        "created_ms": decision.created_ms,
        "requested": decision.requested,
        "policy": decision.policy,
        "route": decision.route,
        "plan": decision.plan,
        "intent": {
            "label": intent.label,
            "confidence": round(intent.confidence, 4),
            "abstained": intent.abstained,
            "language": intent.language,
            "posterior": {name: round(p, 4) for name, p in (by_mass if full else by_mass[:POSTERIOR_KEPT])},
        },
        "features": dict(decision.features),
        "chosen": decision.chosen.deployment.id,
        "runner_up": decision.ranked[1].deployment.id if len(decision.ranked) > 1 else None,
        "reason_code": decision.reason_code.value,
        "margin": decision.margin,
        "propensity": 1.0,
        "candidates": [_told(one) for one in ranked],
        "rejected": [_told(one) for one in decision.rejected] if full else _grouped(decision.rejected.reasons),
        "baseline": _baseline(decision),
        "ceiling_usd": None if decision.ceiling_pusd is None else usd_text(decision.ceiling_pusd),
        "degraded": list(decision.degraded),
        "notes": list(decision.notes),
        "versions": dict(decision.versions),
    }
    if full:
        told_intent = told["intent"]
        assert isinstance(told_intent, dict)  # noqa: S101 # for the type checker: built ten lines above
        told_intent["terms"] = [{"term": term, "weight": round(weight, 3)} for term, weight in intent.terms]
    return told


def screen(decision: Decision, input_tokens: int) -> str:
    """The decision in a screenful: what was understood, who was chosen, why, and who lost by what."""
    intent, chosen = decision.intent, decision.chosen
    lines = [f"→ {chosen.deployment.id}   expected {_usd(chosen.expected_cost_pusd)}   ({decision.reason_code.value})"]
    if intent.posterior:
        sure = "unsure, so the model must be good at every plausible intent" if intent.abstained else "sure enough"
        likely = sorted(intent.posterior.items(), key=lambda item: -item[1])[:3]
        lines.append(
            f"  intent    {intent.label} · language {intent.language} · {sure}"
            f"   [{', '.join(f'{name} {p:.2f}' for name, p in likely)}]"
        )
        judged = _listed(decision.features.get("intents"))
        if judged != [intent.label]:
            lines.append(f"  judged by {', '.join(judged)}: a model counts as good as it is at the worst of these")
        if intent.terms:
            lines.append("  evidence  " + ", ".join(f"{term!r} {weight:+.2f}" for term, weight in intent.terms))
    else:
        lines.append("  intent    not classified: the request names its model")
    needs = [*_listed(decision.features.get("needs")), *(m for m in _listed(decision.features.get("modalities")))]
    lines.append(f"  request   about {input_tokens:,} input tokens; needs {', '.join(needs) or 'text'}")
    lines.append(f"  policy    {decision.policy}" + (f" (route {decision.route})" if decision.route else ""))
    lines.append(f"  why       {chosen.reason}; {decision.margin}")
    if decision.baseline_pusd is not None and chosen.expected_cost_pusd is not None:
        saved = decision.baseline_pusd - chosen.expected_cost_pusd
        lines.append(
            f"  baseline  {decision.baseline_model} would be expected at {_usd(decision.baseline_pusd)}"
            f" (saves {_usd(saved)})"
        )
    lines.extend(f"  note      {note}" for note in decision.notes)
    lines.append("")
    lines.append(f"  {'candidate':<44}{'quality':>8}{'expected':>16}   why it stands here")
    lines.extend(
        f"  {one.deployment.id:<44}{one.quality:>8.2f}{_usd(one.expected_cost_pusd):>16}   {one.reason}"
        for one in decision.ranked[:SCREEN_ROWS]
    )
    more = len(decision.ranked) - SCREEN_ROWS
    if more > 0:
        lines.append(f"  … and {more} more")
    grouped = _grouped(decision.rejected.reasons)
    if grouped:
        lines.append("")
        lines.extend(f"  can't serve ({len(ids)}): {reason}   {_few(ids)}" for reason, ids in list(grouped.items())[:5])
    return "\n".join(lines)


def _told(one: Candidate) -> dict[str, object]:
    told: dict[str, object] = {
        "deployment": one.deployment.id,
        "quality": round(one.quality, 4),
        "expected_cost_usd": None if one.expected_cost_pusd is None else usd_text(one.expected_cost_pusd),
        "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens,
        "reasoning_tokens": one.reasoning_tokens,
        "reason": one.rejected or one.reason,
    }
    if one.quote is not None:
        told["price_version"] = one.quote.version
    return told


def _grouped(rejected: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The ids of rejected deployments by the kind of their reason."""
    groups: dict[str, list[str]] = {}
    for name, reason in rejected:
        groups.setdefault(reason.partition(":")[0], []).append(name)
    return groups


def _baseline(decision: Decision) -> Mapping[str, object] | None:
    if decision.baseline_model is None:
        return None
    cost = decision.baseline_pusd
    return {"model": decision.baseline_model, "expected_cost_usd": None if cost is None else usd_text(cost)}


def _listed(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _few(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")


def _usd(pusd: int | None) -> str:
    """Readable, not exact: for people, eight decimals."""
    return "unknown" if pusd is None else f"{pusd / 10**12:.8f} USD"
