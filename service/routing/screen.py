"""A decision in a screenful of text: what was understood, who was chosen, why, who lost by what, what would change it.

Where on the path: `coe route`. It says what the record says, in fewer words.

Invariant: at most `SCREEN_LINES` lines, whatever the registry is like; what is left out is counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.domain.decision import Decision, Intent
from service.domain.what_if import Change, WhatIf
from service.routing.explain import MONEY_LEVERS, cost_split, grouped
from service.routing.rules import NOT_READ

SCREEN_LINES = 30
"""What fits a terminal window with the prompt above it."""

RANKED_SHOWN = 6
REJECTED_SHOWN = 4
NOTES_SHOWN = 2
CHANGES_SHOWN = 2
"""Changes told of one alternative; the record has them all."""

_DOUBTS = {
    "no_words": "nothing to read",
    "follow_up": "a reply to turns that are not here",
    "little_evidence": "its words say little",
    "fits_nothing": "it looks like prompts without a wish",
    "low_confidence": "close between several",
    NOT_READ: "the classifier failed",
}

_IDS_SHOWN = 3
LEVERS = {
    "min_quality": "min_quality were",
    "coe.min_quality": "coe.min_quality were",
    "relative_to_best": "relative_to_best were",
    "expected_cost_usd": "it cost",
    "quality": "its quality were",
    "max_cost_usd": "max_cost_usd were",
}
"""Every lever that a change may name, in words."""


def screen(decision: Decision) -> str:
    """The decision in a screenful."""
    lines = [*_choice(decision), *_understood(decision), *_why(decision), *_changes(decision.what_if())]
    lines += ["", *_candidates(decision)]
    rejected = list(_rejected(decision))
    if rejected:
        lines += ["", *rejected]
    return "\n".join(lines)


def _choice(decision: Decision) -> Iterator[str]:
    chosen = decision.chosen
    split = cost_split(chosen, decision.features.n)
    made_of = ""
    if split is not None:
        parts = [f"{name} {_usd(pusd)}" for name, pusd in split.items() if pusd]
        made_of = f" = {' + '.join(parts)}" if len(parts) > 1 else ""
    cost = f"{_usd(chosen.expected_cost_pusd)} USD{made_of}"
    yield f"→ {chosen.deployment.id}   expected {cost}   ({decision.reason_code.value})"


def _understood(decision: Decision) -> Iterator[str]:
    intent, features = decision.intent, decision.features
    if intent.posterior:
        sure = _unsure(intent) if intent.abstained else "sure enough"
        likely = sorted(intent.posterior.items(), key=lambda item: -item[1])[:3]
        hard = "" if intent.difficulty is None else f" · difficulty {intent.difficulty:.1f} of 5"
        yield (
            f"  intent    {intent.label} · language {intent.language}{hard} · {sure}"
            f"   [{', '.join(f'{name} {p:.2f}' for name, p in likely)}]"
        )
        if decision.judged_by != (intent.label,):
            yield f"  judged by {', '.join(decision.judged_by)}: a model counts as good as it is at the worst of these"
        if intent.terms:
            yield "  evidence  " + ", ".join(f"{term!r} {weight:+.2f}" for term, weight in intent.terms)
        if intent.parts or intent.flags:
            told = (("parts", intent.parts), ("flags", intent.flags))
            yield "  noted     " + "; ".join(f"{name} {', '.join(found)}" for name, found in told if found)
    else:
        yield "  intent    not classified: the request names its model"
    needs = [*sorted(features.needs), *sorted(features.modalities)]
    yield f"  request   about {features.sizes.input_tokens:,} input tokens; needs {', '.join(needs) or 'text'}"


def _unsure(intent: Intent) -> str:
    doubt = f" ({_DOUBTS.get(intent.doubt, intent.doubt)})" if intent.doubt else ""
    return f"unsure{doubt}, so the model must be good at every plausible intent"


def _why(decision: Decision) -> Iterator[str]:
    chosen = decision.chosen
    yield f"  policy    {decision.policy}" + (f" (route {decision.route})" if decision.route else "")
    yield f"  why       {chosen.reason}; {decision.margin}"
    if decision.baseline_pusd is not None and chosen.expected_cost_pusd is not None:
        saved = decision.baseline_pusd - chosen.expected_cost_pusd
        yield (
            f"  baseline  {decision.baseline_model} would be expected at {_usd(decision.baseline_pusd)} USD"
            f" (saves {_usd(saved)} USD)"
        )
    yield from (f"  note      {note}" for note in decision.notes[:NOTES_SHOWN])


def _changes(found: WhatIf) -> Iterator[str]:
    """What would have to change: a line for each alternative that one change would let win, one for the policies."""
    for one in found.alternatives:
        who = f"{one.deployment} ({', '.join(one.told_as).replace('_', '-')})"
        if one.changes:
            changes = " or ".join(_told(change) for change in one.changes[:CHANGES_SHOWN])
            yield f"  change    {who} would win if {changes}"
        elif one.obstacle is not None:
            yield f"  change    {who} can't serve: {one.obstacle}"
    if found.policies:
        chosen: dict[str, list[str]] = {}
        for policy, deployment in found.policies.items():
            chosen.setdefault(deployment, []).append(policy)
        yield "  policies  " + "; ".join(f"with {', '.join(names)}: {who}" for who, names in chosen.items())


def _told(change: Change) -> str:
    money = change.lever in MONEY_LEVERS

    def shown(value: float) -> str:
        return f"{_usd(int(value))} USD" if money else f"{value:g}"

    now = "" if change.now is None else f" (now {shown(change.now)})"
    if change.at_least is None or change.at_most is None:
        bound = f"≤ {shown(change.at_most)}" if change.at_most is not None else f"≥ {shown(change.at_least or 0)}"
    else:
        bound = f"{shown(change.at_least)} to {shown(change.at_most)}"
    return f"{LEVERS[change.lever]} {bound}{now}"


def _candidates(decision: Decision) -> Iterator[str]:
    yield f"  {'candidate':<44}{'quality':>8}{'expected USD':>16}   why it stands here"
    for one in decision.ranked[:RANKED_SHOWN]:
        yield f"  {one.deployment.id:<44}{one.quality:>8.2f}{_usd(one.expected_cost_pusd):>16}   {one.reason}"
    more = len(decision.ranked) - RANKED_SHOWN
    if more > 0:
        yield f"  … and {more} more"


def _rejected(decision: Decision) -> Iterator[str]:
    groups = list(grouped(decision.rejected.reasons).items())
    for reason, ids in groups[:REJECTED_SHOWN]:
        few = ", ".join(ids[:_IDS_SHOWN]) + (" …" if len(ids) > _IDS_SHOWN else "")
        yield f"  can't serve ({len(ids)}): {reason}   {few}"
    more = sum(len(ids) for _, ids in groups[REJECTED_SHOWN:])
    if more:
        yield f"  can't serve ({more}) for other reasons"


def _usd(pusd: int | None) -> str:
    """Readable, not exact: for people, eight decimals, more where that would be nothing."""
    if pusd is None:
        return "unknown"
    return f"{pusd / 10**12:.8f}" if abs(pusd) >= 10**4 or not pusd else f"{pusd / 10**12:.12f}"
