"""Names that must mean something, switches that need a reason, routes that can be reached: across entries.

Where on the path: after `draft` (every entry is good by itself), before `build`. Adds to the problems, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from service.catalog.draft import DeploymentDraft, Draft
from service.catalog.fields import ENV_REFERENCE
from service.catalog.problems import Path, Problems, nearest, unknown
from service.catalog.route_order import check_order
from service.catalog.schema import (
    BudgetEntry,
    PolicyEntry,
    ProviderEntry,
    RouteEntry,
    SelectorEntry,
    SwitchFields,
    TimeoutsEntry,
)
from service.catalog.words import BUILTIN_POLICIES, PLANS
from service.domain.catalog import NARROWED_QUIRKS, NUMBERED_QUIRKS, QUIRK_NUMBER_MAX

ALMOST = 0.75
"""Similarity from which a region or tag that nobody carries is taken for a typing error."""

SECRET_HEADER = re.compile(r"authorization|api-?key|secret|cookie|token\Z", re.IGNORECASE)
"""Headers whose value must come from the environment."""

FORBIDDEN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect", "content-type"}
)
"""Headers that the transport owns."""

BUDGET_LIMITS = ("usd_per_day", "usd_per_month", "requests_per_minute", "tokens_per_minute", "concurrency")
"""Fields of a budget, one of which it must have."""

DEFAULT_SECONDS = {"connect_s": 5, "first_token_s": 30, "idle_s": 30, "total_s": 600}
"""Deadlines of a provider that gives none; the domain holds the same figures."""


def crosscheck(draft: Draft, problems: Problems, known_quirks: Mapping[str, str] | None) -> list[str]:
    """Report what is wrong between entries; the answer lists what is odd but may be meant, for `Catalog.notes`."""
    checker = _Checker(draft, problems)
    checker.head()
    for provider in draft.providers.values():
        checker.provider(provider.path, provider.entry, known_quirks)
    for model in draft.models.values():
        if model.entry is not None:
            checker.switch(model.path, model.entry)
        checker.deployments(model.deployments)
    for policy in draft.policies.values():
        checker.policy(policy.path, policy.entry)
    for name, path in ((route.entry.name, route.path) for route in draft.routes):
        checker.once("route", name, path)
    for route in draft.routes:
        checker.route(route.path, route.entry)
    check_order(draft.routes, problems)
    for budget in draft.budgets:
        checker.once("budget", budget.entry.name, budget.path)
        checker.budget(budget.path, budget.entry)
    return checker.notes


class _Checker:
    """The names of one file, and what refers to them."""

    def __init__(self, draft: Draft, problems: Problems) -> None:
        self._draft = draft
        self._problems = problems
        self._providers = draft.names.get("providers", frozenset())
        self._models = draft.names.get("models", frozenset())
        self._policies = draft.names.get("policies", frozenset()) | BUILTIN_POLICIES.keys()
        self._regions = {provider.entry.region for provider in draft.providers.values()}
        self._tags = {tag for provider in draft.providers.values() for tag in provider.entry.tags}
        self._tags |= {tag for model in draft.models.values() if model.entry for tag in model.entry.tags}
        self._names: dict[tuple[str, str], Path] = {}
        self.notes: list[str] = []

    def head(self) -> None:
        """The single values at the top."""
        head = self._draft.head
        if head is None:
            return
        if head.baseline is not None and head.baseline not in self._models:
            self._problems.at(("baseline",), unknown("model", head.baseline, self._models))
        if head.default_policy not in self._policies:
            self._problems.at(("default_policy",), unknown("policy", head.default_policy, self._policies))
        if "USD" in head.currency.rates:
            self._problems.at(("currency", "rates", "USD"), "USD is the base; remove its rate")
        if head.currency.rates and head.currency.as_of is None:
            self._problems.at(("currency",), "exchange rates without a day; add as_of: YYYY-MM-DD")
        if "auto" in self._models:
            self._problems.at(("models", "auto"), "auto is the router's own name; choose another", of_key=True)

    def switch(self, path: Path, entry: SwitchFields) -> None:
        """Off needs a reason, and only off has one."""
        if not entry.enabled and entry.disabled_reason is None:
            self._problems.at(
                (*path, "enabled"), "disabled without a reason; add disabled_reason: why, how to enable it"
            )
        if entry.enabled and entry.disabled_reason is not None:
            self._problems.at((*path, "disabled_reason"), "a reason, but enabled; add enabled: false, or remove it")

    def provider(self, path: Path, entry: ProviderEntry, known_quirks: Mapping[str, str] | None) -> None:
        """The deadlines, the quirks and the headers of a provider."""
        self.switch(path, entry)
        if entry.api_key is not None and not entry.api_key:
            self._problems.at((*path, "api_key"), "an empty list of keys; write ${env:NAME}, or remove the field")
        if entry.timeouts is not None:
            self._timeouts((*path, "timeouts"), entry.timeouts)
        seen: set[str] = set()
        for index, quirk in enumerate(entry.quirks):
            word, _, value = quirk.partition(":")
            if word in seen:
                self._problems.at((*path, "quirks", index), f"the quirk {word!r} twice; keep one")
            seen.add(word)
            if known_quirks is not None and word not in known_quirks:
                self._problems.at((*path, "quirks", index), unknown("quirk", word, known_quirks))
            elif "|" in value and word not in NARROWED_QUIRKS:
                message = f"several values for the quirk {word!r}; it takes one, only wire names come in alternatives"
                self._problems.at((*path, "quirks", index), message)
            elif word in NUMBERED_QUIRKS and not (value.isdecimal() and 0 < int(value) <= QUIRK_NUMBER_MAX):
                message = f"the quirk {word!r} wants a whole number from 1 to {QUIRK_NUMBER_MAX}: {word}:3600"
                self._problems.at((*path, "quirks", index), message)
        for header, value in entry.headers.items():
            where = (*path, "headers", header)
            if header.lower() in FORBIDDEN_HEADERS:
                self._problems.at(where, f"the header {header!r} belongs to the transport; remove it", of_key=True)
            elif "${" in value and not ENV_REFERENCE.match(value):
                self._problems.at(where, "write ${env:NAME} and nothing else; defaults and mixtures are not supported")
            elif SECRET_HEADER.search(header) and not ENV_REFERENCE.match(value):
                self._problems.at(where, f"the header {header!r} holds a secret; write ${{env:NAME}} and set NAME")

    def _timeouts(self, path: Path, entry: TimeoutsEntry) -> None:
        given = {name: getattr(entry, name) for name in DEFAULT_SECONDS}
        total = DEFAULT_SECONDS["total_s"] if given["total_s"] is None else given["total_s"]
        for name in ("connect_s", "first_token_s", "idle_s"):
            value = DEFAULT_SECONDS[name] if given[name] is None else given[name]
            if value > total:
                place = name if given[name] is not None else "total_s"
                message = f"{name} ({value}) is longer than total_s ({total}); make total_s the longest"
                self._problems.at((*path, place), message)

    def deployments(self, deployments: Iterable[DeploymentDraft]) -> None:
        """Where a model can be had: at known providers, once at each."""
        first: dict[str, Path] = {}
        for one in deployments:
            if one.entry is not None:
                self.switch(one.path, one.entry)
            name, where = one.provider, (*one.path, "provider")
            if not name:
                continue  # missing or no text: said already
            if name not in self._providers:
                self._problems.at(where, unknown("provider", name, self._providers))
            elif name in first:
                line = self._problems.line_of(first[name])
                self._problems.at(where, f"a second deployment at {name!r}, first on line {line}; keep one")
            first.setdefault(name, where)

    def policy(self, path: Path, entry: PolicyEntry) -> None:
        """What a policy values, allows and denies."""
        if entry.objective == "utility" and entry.usd_per_quality is None:
            meaning = "what one whole point of quality is worth on one request, such as 0.10"
            self._problems.at((*path, "objective"), f"the objective utility needs usd_per_quality: {meaning}")
        if entry.objective != "utility" and entry.usd_per_quality is not None:
            message = f"{entry.objective} does not use it; remove it, or write objective: utility"
            self._problems.at((*path, "usd_per_quality"), message, of_key=True)
        if entry.explore and entry.max_cost_usd is None:
            meaning = "the most that one request may cost, so that no draw goes to just anybody"
            self._problems.at((*path, "explore"), f"explore needs max_cost_usd: {meaning}")
        for side, selector in (("allow", entry.allow), ("deny", entry.deny)):
            if selector is not None:
                self._selector((*path, side), selector)

    def _selector(self, path: Path, entry: SelectorEntry) -> None:
        if not any((entry.models, entry.providers, entry.regions, entry.tags)):
            self._problems.at(path, "names nothing; add models, providers, regions or tags, or remove it")
        self._known((*path, "models"), "model", entry.models, self._targets())
        self._known((*path, "providers"), "provider", entry.providers, self._providers)
        self._carried((*path, "regions"), "region", entry.regions, self._regions)
        self._carried((*path, "tags"), "tag", entry.tags, self._tags)

    def _known(self, path: Path, noun: str, named: Iterable[str], known: Iterable[str]) -> None:
        defined = frozenset(known)
        for index, name in enumerate(named):
            if name not in defined:
                self._problems.at((*path, index), unknown(noun, name, defined))

    def _carried(self, path: Path, noun: str, named: Iterable[str], carried: set[str]) -> None:
        """Regions and tags may be meant for providers that are yet to come, unless they look like a typing error."""
        for index, name in enumerate(named):
            if name in carried:
                continue
            near = nearest(name, carried, cutoff=ALMOST)
            if near is not None:
                message = f"no provider or model carries the {noun} {name!r}; did you mean {near!r}?"
                self._problems.at((*path, index), message)
            else:
                where = ".".join(str(step) for step in path)
                self.notes.append(f"{where}: no provider or model carries the {noun} {name!r}")

    def once(self, noun: str, name: str, path: Path) -> None:
        """A name stands for one route in decisions, and for one budget in counters."""
        first = self._names.setdefault((noun, name), path)
        if first is not path:
            line = self._problems.line_of(first)
            message = f"a second {noun} {name!r}, first on line {line}; give each its own name"
            self._problems.at((*path, "name"), message)

    def budget(self, path: Path, entry: BudgetEntry) -> None:
        """A budget that limits something."""
        if all(getattr(entry, name) is None for name in BUDGET_LIMITS):
            self._problems.at(path, f"budget {entry.name!r} limits nothing; add one of {', '.join(BUDGET_LIMITS)}")

    def route(self, path: Path, entry: RouteEntry) -> None:
        """Exactly one target that exists, and a condition that can hold."""
        targets = [target for target in ("policy", "plan", "model") if getattr(entry, target) is not None]
        if len(targets) != 1:
            found = "names nothing to do" if not targets else f"names {' and '.join(targets)}"
            self._problems.at(path, f"route {entry.name!r} {found}; write exactly one of policy, plan and model")
        if entry.policy is not None and entry.policy not in self._policies:
            self._problems.at((*path, "policy"), unknown("policy", entry.policy, self._policies))
        if entry.model is not None and entry.model not in self._targets():
            self._problems.at((*path, "model"), unknown("model", entry.model, self._targets()))
        for name in ("key_tag", "intent", "languages", "model"):
            if getattr(entry.when, name) == []:
                self._problems.at((*path, "when", name), "an empty list never holds; name something, or remove it")
        asked = self._targets() | self._virtual()
        for index, name in enumerate(entry.when.model or ()):
            if name not in asked:
                self._problems.at((*path, "when", "model", index), unknown("model", name, asked))

    def _targets(self) -> frozenset[str]:
        """Everything that a route may send a request to: models and `provider/model`."""
        models = self._draft.models.items()
        return self._models.union(f"{one.provider}/{name}" for name, model in models for one in model.deployments)

    def _virtual(self) -> frozenset[str]:
        """The names that a caller may ask for beside models."""
        return frozenset({"auto"} | {f"auto:{name}" for name in self._policies} | {f"plan:{name}" for name in PLANS})
