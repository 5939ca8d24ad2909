"""Entry by entry through the schema: one bad entry hides no other, and every problem keeps its place in the file.

Where on the path: between `positions` (plain Python) and `crosscheck` (names against names).

Invariants
1. An entry that fails is left out of the draft, but its name stays known, so that references raise no second alarm.
   A model or deployment that fails still shows what is below it, for the sake of the checks that follow.
2. Paths in a draft are paths of the file.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import starmap
from typing import Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.catalog.fields import PROBLEM, Text
from service.catalog.positions import Document, Plain
from service.catalog.price_schema import Entry, PriceEntry
from service.catalog.problems import Path, Problems, shown, unknown
from service.catalog.schema import (
    BudgetEntry,
    CalendarEntry,
    DeploymentEntry,
    HeadEntry,
    ModelEntry,
    Name,
    PolicyEntry,
    ProviderEntry,
    RegistryFile,
    RouteEntry,
)

E = TypeVar("E", bound=Entry)

FIELD_HINTS: Mapping[str, str] = {
    "fallback": "there are no fallback chains: the policy's ranking is the fallback order, so no cycle can be written",
    "fallbacks": "there are no fallback chains: the policy's ranking is the fallback order, so no cycle can be written",
    "alias": "a model has one name; a route with when.model sends one name to another",
    "aliases": "a model has one name; a route with when.model sends one name to another",
    "extends": "write the fields out, or use a YAML alias for a whole value",
    "api_base": "write base_url",
    "endpoint": "write base_url",
    "key": "write api_key: ${env:NAME}",
    "apikey": "write api_key: ${env:NAME}",
    "input_cost_per_token": "write input, the price of 1M tokens",
    "output_cost_per_token": "write output, the price of 1M tokens",
    "cache_write_5m": "write cache_write",
    "budget": "write usd_per_day or usd_per_month",
    "max_budget": "write usd_per_day or usd_per_month",
    "rpm": "write requests_per_minute",
    "tpm": "write tokens_per_minute",
    "max_parallel_requests": "write concurrency",
}
"""What to do about names that other gateways use."""


MAX_NAMES = 5_000
"""Entries of a section by name: forty times the models of the shipped registry."""

MAX_ITEMS: Mapping[str, int] = {"routes": 500, "budgets": 500, "deployments": 100, "prices": 500}
"""Items of the lists that the checks compare with each other."""


@dataclass(frozen=True, slots=True)
class Located(Generic[E]):
    """A valid entry and where it stands."""

    path: Path
    entry: E


@dataclass(frozen=True, slots=True)
class DeploymentDraft:
    """A deployment with its valid prices; `prices` is `None` when the file gives none, `entry` when it failed.

    `provider` is what the file names, good entry or not.
    """

    path: Path
    provider: str
    entry: DeploymentEntry | None
    prices: tuple[Located[PriceEntry], ...] | None


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """A model with its deployments; `entry` is `None` when it failed."""

    path: Path
    entry: ModelEntry | None
    deployments: tuple[DeploymentDraft, ...]


@dataclass(slots=True)
class Draft:
    """All entries that passed the schema, by name, and every name that the file defines."""

    head: HeadEntry | None = None
    providers: dict[str, Located[ProviderEntry]] = field(default_factory=dict)
    models: dict[str, ModelDraft] = field(default_factory=dict)
    policies: dict[str, Located[PolicyEntry]] = field(default_factory=dict)
    calendars: dict[str, Located[CalendarEntry]] = field(default_factory=dict)
    routes: list[Located[RouteEntry]] = field(default_factory=list)
    budgets: list[Located[BudgetEntry]] = field(default_factory=list)
    names: dict[str, frozenset[str]] = field(default_factory=dict)


def draft(document: Document, problems: Problems) -> Draft:
    """Validate every entry of the document; what is wrong goes to `problems`."""
    root = document.value
    if not isinstance(root, dict):
        problems.add(
            *document.position(()), f"expected a mapping with version, providers and models, got {shown(root)}"
        )
        return Draft()
    reader = _Reader(problems)
    made = Draft(head=reader.head(root))
    for name, raw in reader.named(root, "providers"):
        reader.keep(made.providers, name, ("providers", name), raw, ProviderEntry)
    for name, raw in reader.named(root, "models"):
        made.models[name] = reader.model(("models", name), raw)
    for name, raw in reader.named(root, "policies"):
        reader.keep(made.policies, name, ("policies", name), raw, PolicyEntry)
    for name, raw in reader.named(root, "calendars"):
        reader.keep(made.calendars, name, ("calendars", name), raw, CalendarEntry)
    for path, raw in reader.items(root, (), "routes"):
        route = reader.entry(path, raw, RouteEntry)
        if route is not None:
            made.routes.append(Located(path, route))
    for path, raw in reader.items(root, (), "budgets"):
        budget = reader.entry(path, raw, BudgetEntry)
        if budget is not None:
            made.budgets.append(Located(path, budget))
    for section in ("providers", "models", "policies", "calendars"):
        found = root.get(section)
        made.names[section] = frozenset(found) if isinstance(found, dict) else frozenset()
    return made


def entry_at(path: Path, raw: Plain, shape: type[E], problems: Problems) -> E | None:
    """One valid entry at a path of any file of ours, or `None` with its problems: for files beside the registry."""
    return _Reader(problems).entry(path, raw, shape)


class _Reader:
    """Takes raw values apart and sends each entry through its class."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._name = _text_of(Name)

    def head(self, root: dict[str, Plain]) -> HeadEntry | None:
        """The single values at the top, and the names of the sections."""
        sections = set(RegistryFile.model_fields) - set(HeadEntry.model_fields)
        for key in root:
            if key not in RegistryFile.model_fields:
                self._problems.at((key,), _unknown_field(key, RegistryFile), of_key=True)
        single = {key: value for key, value in root.items() if key in HeadEntry.model_fields and key not in sections}
        return self.entry((), single, HeadEntry)

    def named(self, root: dict[str, Plain], section: str) -> list[tuple[str, Plain]]:
        """The entries of a section that maps names to entries."""
        found = root.get(section)
        if section not in root:
            return []
        if not isinstance(found, dict):
            self._problems.at((section,), f"expected a mapping from names to {section}, got {shown(found)}")
            return []
        if len(found) > MAX_NAMES:
            self._problems.at((section,), f"more than {MAX_NAMES} {section}; remove those that nobody uses")
            return []
        for name in found:
            try:
                self._name.check(name)
            except ValueError as error:
                self._problems.at((section, name), str(error), of_key=True)
        return list(found.items())

    def items(self, parent: Mapping[str, Plain], path: Path, name: str) -> list[tuple[Path, Plain]]:
        """The items of a list field, each with its path."""
        found = parent.get(name)
        if name not in parent or found is None:
            if name in parent and name != "prices":
                self._problems.at((*path, name), "expected a list, got nothing; remove the field or fill it")
            return []
        if not isinstance(found, list):
            self._problems.at((*path, name), f"expected a list, got {shown(found)}")
            return []
        if len(found) > MAX_ITEMS[name]:
            self._problems.at((*path, name), f"more than {MAX_ITEMS[name]} {name}; remove those that nobody needs")
            return []
        return [((*path, name, index), raw) for index, raw in enumerate(found)]

    def keep(self, into: dict[str, Located[E]], name: str, path: Path, raw: Plain, shape: type[E]) -> None:
        """Validate an entry and keep it when it is good."""
        entry = self.entry(path, raw, shape)
        if entry is not None:
            into[name] = Located(path, entry)

    def model(self, path: Path, raw: Plain) -> ModelDraft:
        """A model, its deployments and their prices, each validated by itself."""
        if not isinstance(raw, dict):
            return ModelDraft(path, self.entry(path, raw, ModelEntry), ())
        deployments = tuple(starmap(self.deployment, self.items(raw, path, "deployments")))
        return ModelDraft(path, self.entry(path, _without(raw, "deployments"), ModelEntry), deployments)

    def deployment(self, path: Path, raw: Plain) -> DeploymentDraft:
        """A deployment and its prices."""
        if not isinstance(raw, dict):
            return DeploymentDraft(path, "", self.entry(path, raw, DeploymentEntry), None)
        prices = []
        for where, item in self.items(raw, path, "prices"):
            price = self.entry(where, item, PriceEntry)
            if price is not None:
                prices.append(Located(where, price))
        entry = self.entry(path, _without(raw, "prices"), DeploymentEntry)
        provider = raw.get("provider")
        return DeploymentDraft(
            path,
            provider if isinstance(provider, str) else "",
            entry,
            tuple(prices) if raw.get("prices") is not None else None,
        )

    def entry(self, path: Path, raw: Plain, shape: type[E]) -> E | None:
        """A valid entry, or `None` with its problems."""
        try:
            return shape.model_validate(raw)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                self._report(path, found, shape)
            return None

    def _report(self, path: Path, found: ErrorDetails, shape: type[Entry]) -> None:
        """One pydantic error in our words, at its place."""
        kind, loc = found["type"], tuple(found["loc"])
        of_key = bool(loc) and loc[-1] == "[key]"
        if of_key:
            loc = loc[:-1]
        where = (*path, *loc)
        if kind == PROBLEM:
            self._problems.at(where, found["ctx"]["text"], of_key=of_key)
        elif kind == "extra_forbidden":
            self._problems.at(where, _unknown_field(str(loc[-1]), _shape_at(shape, loc[:-1])), of_key=True)
        elif kind == "missing":
            meaning = _describe(_shape_at(shape, loc[:-1]), str(loc[-1]))
            self._problems.at(where[:-1], f"the field {loc[-1]!r} is missing; add it: {meaning}", of_key=True)
        elif kind in {"model_type", "dict_type", "model_attributes_type"}:
            self._problems.at(where, f"expected a mapping, got {_safely(where, found['input'])}")
        elif kind == "list_type":
            self._problems.at(where, f"expected a list, got {_safely(where, found['input'])}")
        elif kind == "too_long":
            self._problems.at(where, f"more than {found['ctx']['max_length']} items; remove some")
        elif kind == "bool_type":
            self._problems.at(where, f"expected true or false, got {_safely(where, found['input'])}")
        else:
            self._problems.at(where, f"{found['msg']}; see the schema of this field")


def _without(raw: dict[str, Plain], name: str) -> dict[str, Plain]:
    return {key: value for key, value in raw.items() if key != name}


def _safely(path: Path, value: object) -> str:
    """A value for a message, unless it stands where a secret may have been put."""
    return "another kind of value" if {"api_key", "headers"} & set(path) else shown(value)


def _text_of(annotated: object) -> Text:
    """The `Text` of an annotated type."""
    return next(meta for meta in get_args(annotated) if isinstance(meta, Text))


def _names_of(shape: type[BaseModel]) -> dict[str, str]:
    """What the file calls the fields of a class, with their descriptions."""
    return {info.alias or name: info.description or "" for name, info in shape.model_fields.items()}


def _describe(shape: type[BaseModel] | None, name: str) -> str:
    """The first sentence about a field, as an instruction."""
    text = "" if shape is None else _names_of(shape).get(name, "")
    return (text[:1].lower() + text[1:]).rstrip(".")


def _unknown_field(name: str, shape: type[BaseModel] | None) -> str:
    hint = FIELD_HINTS.get(name.lower())
    if hint is not None:
        return f"unknown field {name[:60]!r}: {hint}"
    return unknown("field", name, () if shape is None else _names_of(shape))


def _shape_at(shape: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    """The class of the mapping at `loc` below an entry of class `shape`."""
    current = shape
    for step in loc:
        if isinstance(step, int):
            continue  # the items of a list are of the class that the list's own step gave
        found = next((info for name, info in current.model_fields.items() if (info.alias or name) == step), None)
        inner = None if found is None else _model_in(found.annotation)
        if inner is None:
            return None
        current = inner
    return current


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The class of entries inside `X`, `X | None`, `list[X]` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, types.UnionType, list, dict}:
        for part in get_args(annotation):
            inner = _model_in(part)
            if inner is not None:
                return inner
    return None
