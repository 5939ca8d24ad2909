"""Hard filters: which deployments can't serve a request, each with its reason.

Where on the path: second step of `router.decide`. A reason is `kind: detail`; `kind` is stable and groups the record.

Most of what can stand against a deployment is the same for every request of a kind (`Kind`), so it is looked for once
and remembered by `shortlist`; how large a request is comes last and is looked at every time.

Invariants
1. A limit of the caller's or the policy's is never widened here or later.
2. Every deployment gets exactly one verdict: `None` (can serve) or the first reason in the documented order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from service.domain.access import Caller
from service.domain.catalog import Catalog, Deployment, Model, Selector
from service.domain.features import RequestFeatures

REJECTIONS: Mapping[str, str] = {
    "disabled": "the registry switches the model, the deployment or its provider off",
    "inactive": "the provider can't be called: it has no key, or speaks a protocol that this version does not",
    "retired": "the model is gone",
    "key": "the caller's key may not use the model",
    "deny": "a deny list of the caller, the policy or a route names it",
    "allow": "an allow list does not name it",
    "modality": "it does not take what the request contains",
    "capability": "it can't do what the request asks for",
    "language": "it does not speak the language of the request",
    "context": "the request and its answer do not fit its window",
    "output": "the answer that is asked for is longer than it can give",
    "quality": "the caller's own least quality is not met",
    "price": "its price is unknown and there is a cost limit or a hard budget",
    "size": "an attachment has no known size and there is a cost limit or a hard budget",
    "cost": "an answer may cost more than the limit",
}
"""Every kind of reason, in the order in which they are looked for."""

OUTPUT_TOKENS_ROOM = 256
"""Output that must fit behind the input when the caller set no cap: an answer of a few sentences."""


UNDETERMINED = "und"
"""The language of a request that nobody read, or that has no letters."""

_NO_LANGUAGE_ASKED = frozenset({UNDETERMINED, "other", ""})


class Kind(NamedTuple):
    """What of a request decides who can serve it, but for sizes. Requests of one kind have the same shortlist.

    `language` is the classifier's; unsure, it demands nothing. `models` are those that the key may use, empty for all.
    Values of the registry, of the taxonomy and of the calendar only: nothing of a prompt, so a kind may be remembered.
    """

    needs: frozenset[str]
    modalities: frozenset[str]
    today: date
    allow: tuple[Selector, ...] = ()
    deny: tuple[Selector, ...] = ()
    models: frozenset[str] = frozenset()
    forced_tool: bool = False
    language: str = UNDETERMINED


class Demands(NamedTuple):
    """What a deployment must meet to serve one request: of which kind it is, and how large."""

    kind: Kind
    input_tokens: int
    output_tokens: int


def demands_of(
    asked: RequestFeatures,
    *,
    today: date,
    allow: Sequence[Selector],
    deny: Sequence[Selector],
    caller: Caller,
    language: str = UNDETERMINED,
    input_tokens: int | None = None,
) -> Demands:
    """The demands of a request under its limits (the caller's and the policy's selectors, empty ones dropped).

    `input_tokens` are those of the request, where they were estimated before.
    """
    kind = Kind(
        asked.needs,
        asked.modalities,
        today,
        tuple([one for one in allow if one]) if allow else (),
        tuple([one for one in deny if one]) if deny else (),
        caller.models,
        asked.forced_tool,
        UNDETERMINED if language in _NO_LANGUAGE_ASKED else language,
    )
    tokens = asked.sizes.input_tokens if input_tokens is None else input_tokens
    return Demands(kind, tokens, asked.output_tokens_max or OUTPUT_TOKENS_ROOM)


def obstacle(deployment: Deployment, model: Model, demands: Demands) -> str | None:
    """Why this deployment can't serve, or `None`. The order of checks is the order of the documentation."""
    return lasting_obstacle(deployment, model, demands.kind) or too_large(deployment, model, demands)


def lasting_obstacle(deployment: Deployment, model: Model, kind: Kind) -> str | None:
    """Why this deployment can't serve any request of a kind, however small it is."""
    return (
        _unavailable(deployment, model, kind.today)
        or _forbidden(deployment, model, kind)
        or _incapable(deployment, model, kind)
    )


def too_large(deployment: Deployment, model: Model, demands: Demands) -> str | None:
    """Why a request is too large for this deployment, or `None`."""
    context = context_of(deployment, model)
    if context is not None and demands.input_tokens + demands.output_tokens > context:
        both = f"about {demands.input_tokens:,} input and {demands.output_tokens:,} output tokens"
        return f"context: {both} do not fit into {context:,}"
    cap = output_limit(deployment, model)
    if cap is not None and demands.output_tokens > cap:
        return f"output: {demands.output_tokens:,} output tokens asked, {cap:,} offered"
    return None


def context_of(deployment: Deployment, model: Model) -> int | None:
    """The window of a deployment in tokens, where the registry knows it."""
    return deployment.context_tokens or model.context_tokens


def output_limit(deployment: Deployment, model: Model) -> int | None:
    """Most output tokens of one choice, where the registry knows it."""
    return deployment.output_tokens_max or model.output_tokens_max


def _unavailable(deployment: Deployment, model: Model, today: date) -> str | None:
    if model.inactive_reason is not None:
        return f"disabled: {model.inactive_reason}"
    if deployment.inactive_reason is not None:
        return f"disabled: {deployment.inactive_reason}"
    if deployment.provider.inactive_reason is not None:
        return f"inactive: {deployment.provider.inactive_reason}"
    if model.retired(today):
        return f"retired: gone since {model.retires}"
    return None


def _forbidden(deployment: Deployment, model: Model, kind: Kind) -> str | None:
    if kind.models and model.name not in kind.models:
        return "key: this key may not use the model"
    for selector in kind.deny:
        for noun, names in selector.fields():
            if names & _names(deployment, model, noun):
                return f"deny: its {noun} is on the deny list"
    for selector in kind.allow:
        for noun, names in selector.fields():
            if not names & _names(deployment, model, noun):
                return f"allow: its {noun} is not on the allow list"
    return None


def _names(deployment: Deployment, model: Model, noun: str) -> frozenset[str]:
    if noun == "model":
        return frozenset({model.name, deployment.id})
    if noun == "provider":
        return frozenset({deployment.provider.name})
    if noun == "region":
        return frozenset({deployment.provider.region})
    return deployment.provider.tags | model.tags


def _incapable(deployment: Deployment, model: Model, kind: Kind) -> str | None:
    if not kind.modalities <= model.modalities:
        return f"modality: takes no {' or '.join(sorted(kind.modalities - model.modalities))}"
    offered = model.capabilities if deployment.capabilities is None else deployment.capabilities
    if not kind.needs <= offered:
        return f"capability: lacks {', '.join(sorted(kind.needs - offered))}"
    if kind.forced_tool and deployment.concerned_by("no_forced_tool_choice"):
        return "capability: the vendor refuses a forced tool choice"
    if kind.language not in _NO_LANGUAGE_ASKED and model.languages and kind.language not in model.languages:
        return f"language: does not speak {kind.language}"
    return None


_NOT_CALLABLE = frozenset({"disabled", "inactive", "retired"})


def emptied_by(reasons: Sequence[str], catalog: Catalog) -> str:
    """Name the constraint that emptied the list: the commonest reason among deployments that could be called at all.

    When none of those that were meant can be called, their own reasons are told; when nobody can be called whoever is
    meant, it is the operator's to set a key.
    """
    if not reasons:
        return "the registry has no deployment for it"
    if not any(provider.active for provider in catalog.providers.values()):
        unset = sorted({one.inactive_reason for one in catalog.providers.values() if one.inactive_reason})
        return f"no provider is active ({'; '.join(unset[:3])}{' …' if len(unset) > 3 else ''})"
    counted = Counter(reason.partition(":")[0] for reason in reasons)
    able_to_be_called = Counter({kind: n for kind, n in counted.items() if kind not in _NOT_CALLABLE})
    shown = []
    for kind, count in (able_to_be_called or counted).most_common(3):
        example = next(reason for reason in reasons if reason.startswith(kind + ":"))
        shown.append(f"{example} ({count} of {(able_to_be_called or counted).total()})")
    return "; ".join(shown)
