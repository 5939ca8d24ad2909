"""Runs policy tests: each case through the code that decides requests, its expectations held against the decision.

Where on the path: `coe check` and CI. Nothing is spent and nobody is called: the registry is taken as if every provider
had its key, so that a case says the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import orjson

from service.api.chat_body import read_chat
from service.catalog.load import load
from service.catalog.problems import Problems, unknown
from service.cli.policy_cases import Case, CaseFile, ExpectEntry
from service.domain.catalog import Catalog, Selector
from service.domain.decision import NOT_CLASSIFIED, Candidate, Decision
from service.domain.features import features_of
from service.domain.money import PICO, usd_text
from service.domain.ports import Classifier
from service.errors import CoeError
from service.reading import read_intent
from service.routing.router import decide, needs_intent
from service.routing.rules import PINNED, known
from service.routing.weighing import Circumstances
from service.simulator import simulated
from service.startup import only_spoken
from service.upstream.quirks import QUIRKS

RANKED_SHOWN = 3
"""Candidates that a failure tells."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case: `failures` says what was expected and is not so, `found` what was decided instead."""

    case: Case
    failures: tuple[str, ...]
    found: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.failures

    def told(self) -> str:
        """The verdict on one line each: where, what was expected, what was decided and why."""
        where = f"{self.case.file}:{self.case.line}: {self.case.entry.name}"
        return "\n".join((where, *(f"    {one}" for one in self.failures), f"    found: {self.found}"))


def run(files: Iterable[CaseFile], catalog: Catalog, classifier: Classifier) -> Iterator[Verdict]:
    """The verdict on every case. Raises RegistryError for names that the registry does not have."""
    ours = with_all_keys(catalog)
    for file in files:
        used = ours if file.registry is None else with_all_keys(_registry(file.registry, file.cases[0].at))
        check_names(file, used)
        for case in file.cases:
            yield judge(case, used, classifier)


def judge(case: Case, catalog: Catalog, classifier: Classifier) -> Verdict:
    """Decide one case and compare."""
    expect = case.entry.expect
    try:
        decision = _decided(case, catalog, classifier)
    except CoeError as problem:
        if expect.error == problem.code:
            return Verdict(case, ())
        wanted = "a decision" if expect.error is None else f"the error {expect.error}"
        return Verdict(case, (f"expected {wanted}",), f"{problem.code}: {problem.message}")
    if expect.error is not None:
        return Verdict(case, (f"expected the error {expect.error}",), _found(decision))
    failures = tuple(failure for check in CHECKS for failure in check(expect, decision, catalog))
    return Verdict(case, failures, _found(decision) if failures else "")


def with_all_keys(catalog: Catalog) -> Catalog:
    """Every provider that lacks nothing but its key, as if it had one. Nothing is ever called from here."""
    return simulated(catalog, lambda name: catalog.providers[name].base_url)


def check_names(file: CaseFile, catalog: Catalog) -> None:
    """Raise RegistryError for every name that an expectation gives and the registry does not have."""
    problems = Problems(str(file.file))
    problems.locate_with(file.document)
    names, routes = _names(catalog), {one.name for one in catalog.routes}
    for case in file.cases:
        expect, path = case.entry.expect, (*case.path, "expect")
        for field in ("must", "must_not", "all_must", "none_may"):
            for index, name in enumerate(getattr(expect, field) or ()):
                if name not in names:
                    problems.at((*path, field, index), unknown("model, provider, region or tag", name, names))
        for name in expect.rejected:
            if name not in catalog.by_id:
                problems.at((*path, "rejected", name), unknown("deployment", name, catalog.by_id), of_key=True)
        for index, name in enumerate(expect.order or ()):
            if name not in catalog.by_id:
                problems.at((*path, "order", index), unknown("deployment", name, catalog.by_id))
        for field, known_ones in (("policy", {PINNED.name, *catalog.policies}), ("route", routes)):
            said = getattr(expect, field)
            if said is not None and said not in known_ones:
                problems.at((*path, field), unknown(field, said, known_ones))
    if problems:
        problems.fail()


def _names(catalog: Catalog) -> frozenset[str]:
    """Everything that a list of an expectation may name, with and without its kind."""
    providers = catalog.providers.values()
    tags = (*(one.tags for one in providers), *(one.tags for one in catalog.models.values()))
    kinds: dict[str, set[str]] = {
        "model": {*catalog.models, *catalog.by_id},
        "provider": set(catalog.providers),
        "region": {one.region for one in providers},
        "tag": set().union(*tags),
    }
    return frozenset(text for kind, names in kinds.items() for name in names for text in (name, f"{kind}:{name}"))


def _registry(path: Path, at: datetime) -> Catalog:
    return only_spoken(load(path, {}, now=at, known_quirks=QUIRKS))


def _decided(case: Case, catalog: Catalog, classifier: Classifier) -> Decision:
    chat = read_chat(_body(case), {name.lower(): value for name, value in case.entry.headers.items()})
    intent = read_intent(classifier, chat, explained=False) if needs_intent(chat, catalog) else NOT_CLASSIFIED
    around = Circumstances("dec_case", case.at, case.caller)
    budgeted = case.caller.budgeted(catalog.budgets, chat.steering.tags)
    return decide(features_of(chat), intent, catalog, around._replace(budgeted=budgeted))


def _body(case: Case) -> bytes:
    """The chat request of a case."""
    entry = case.entry
    if entry.body is not None:
        return orjson.dumps({"model": "auto", **entry.body}, default=_number)
    texts = entry.turns if entry.turns is not None else [entry.prompt or ""]
    texts = [*texts[:-1], texts[-1] * entry.repeat]
    messages = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]
    coe = {**entry.coe, **({"policy": entry.policy} if entry.policy is not None else {})}
    request = {"model": entry.model or "auto", "messages": messages, **({"coe": coe} if coe else {})}
    return orjson.dumps(request, default=_number)


def _number(value: object) -> float:
    """A decimal of the file as JSON has it."""
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"a request can't hold {type(value).__name__}")


def _ids(names: Sequence[str], catalog: Catalog) -> frozenset[str]:
    """The deployments that a list of models, providers, regions and tags means; raises InvalidRequest."""
    return known(Selector(any_of=frozenset(names)), catalog, "expect").models


def _choice(expect: ExpectEntry, decision: Decision, catalog: Catalog) -> Iterator[str]:
    """Who was chosen, and who may be asked after it."""
    chosen = decision.chosen.deployment.id
    if expect.must is not None and chosen not in _ids(expect.must, catalog):
        yield f"must be one of {', '.join(expect.must)}"
    if expect.must_not is not None and chosen in _ids(expect.must_not, catalog):
        yield f"must not be one of {', '.join(expect.must_not)}"
    ranked = [one.deployment.id for one in decision.ranked]
    if expect.all_must is not None:
        meant = _ids(expect.all_must, catalog)
        wrong = [name for name in ranked if name not in meant]
        if wrong:
            yield f"everybody must be one of {', '.join(expect.all_must)}; not so: {', '.join(wrong[:RANKED_SHOWN])}"
    if expect.none_may is not None:
        meant = _ids(expect.none_may, catalog)
        wrong = [name for name in ranked if name in meant]
        if wrong:
            yield f"nobody may be one of {', '.join(expect.none_may)}; not so: {', '.join(wrong[:RANKED_SHOWN])}"


def _order(expect: ExpectEntry, decision: Decision, _: Catalog) -> Iterator[str]:
    """Who stands before whom, and who can't serve."""
    if expect.order is not None:
        stands = [one.deployment.id for one in decision.ranked if one.deployment.id in expect.order]
        if stands != expect.order:
            yield f"must stand in the order {', '.join(expect.order)}; they stand {', '.join(stands) or 'nowhere'}"
    reasons = dict(decision.rejected.reasons)
    for name, kind in expect.rejected.items():
        reason = reasons.get(name)
        if reason is None:
            yield f"{name} must be rejected ({kind}); it can serve"
        elif reason.partition(":")[0] != kind:
            yield f"{name} must be rejected ({kind}); it is, but: {reason}"


def _reading(expect: ExpectEntry, decision: Decision, _: Catalog) -> Iterator[str]:
    """What was understood and which rules applied."""
    if expect.intent is not None and decision.intent.told not in expect.intent:
        yield f"the intent must be {' or '.join(expect.intent)}; it is {decision.intent.told}"
    if expect.language is not None and decision.intent.language != expect.language:
        yield f"the language must be {expect.language}; it is {decision.intent.language}"
    if expect.reason_code is not None and decision.reason_code.value not in expect.reason_code:
        yield f"the reason must be {' or '.join(expect.reason_code)}; it is {decision.reason_code.value}"
    for field, found in (("policy", decision.policy), ("route", decision.route)):
        said = getattr(expect, field)
        if said is not None and said != found:
            yield f"the {field} must be {said}; it is {found}"
    if expect.degraded is not None and sorted(expect.degraded) != sorted(decision.degraded):
        yield f"given up must be {expect.degraded}; it is {list(decision.degraded)}"


def _bounds(expect: ExpectEntry, decision: Decision, _: Catalog) -> Iterator[str]:
    """The quality and the expected cost of the choice."""
    chosen = decision.chosen
    if expect.min_quality is not None and chosen.quality < float(expect.min_quality):
        yield f"its quality must be at least {expect.min_quality}; it is {chosen.quality:.4f}"
    cost = chosen.expected_cost_pusd
    most = expect.max_expected_cost_usd
    if most is not None and (cost is None or cost > most * PICO):
        yield f"it must be expected to cost at most {most} USD; it is {_usd(cost)}"
    share, baseline = expect.max_share_of_baseline, decision.baseline_pusd
    if share is not None and (cost is None or baseline is None or cost > share * baseline):
        yield f"it must cost at most {share} of the baseline's {_usd(baseline)}; it is {_usd(cost)}"


CHECKS: tuple[Callable[[ExpectEntry, Decision, Catalog], Iterator[str]], ...] = (_choice, _order, _reading, _bounds)


def _found(decision: Decision) -> str:
    """A decision in a line: who stands first and why, and who follows."""
    chosen = decision.chosen
    following = "; ".join(_placed(one) for one in decision.ranked[1:RANKED_SHOWN])
    return (
        f"{_placed(chosen)} ({decision.policy}, {decision.reason_code.value}, intent {decision.intent.told}): "
        f"{chosen.reason}; {decision.margin}" + (f"; then {following}" if following else "")
    )


def _placed(one: Candidate) -> str:
    return f"{one.deployment.id} at {_usd(one.expected_cost_pusd)}, quality {one.quality:.4f}"


def _usd(pusd: int | None) -> str:
    return "an unknown price" if pusd is None else f"{usd_text(pusd)} USD"
