"""What the router has worked out from a registry for every request alike: each part once, when first asked for.

Where on the path: below `addressing`, `rules` and `weighing`, which ask here first. It hangs on the `Catalog` that it
is about and goes with it, so a reload begins afresh.

Invariants
1. It changes no decision: whatever is in here would come out the same if it were worked out again.
2. Nothing of a prompt is in here, and nothing of a key: names of the registry, kinds of requests, prices.
3. Every part has a limit; beyond it the oldest is forgotten, of shortlists the longest unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from service.routing.shortlist import Shortlist

if TYPE_CHECKING:
    from service.domain.catalog import Catalog, Deployment
    from service.routing.addressing import Address
    from service.routing.capable import Kind
    from service.routing.rules import Rules

ADDRESSES_MAX: Final = 4_096
"""Names that requests call models by: three for each deployment, of some hundred deployments at a time."""

RULES_MAX: Final = 1_024
"""Combinations of a name, a policy and a route."""

SHORTLISTS_MAX: Final = 64
"""Kinds of requests: with a thousand deployments each takes some hundred kilobytes."""

VERSIONS_MAX: Final = 256
"""Combinations of a policy and what was learned."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Prepared:
    """The parts, each filled by its owner through `keep`."""

    __slots__ = ("addresses", "engines", "everybody", "names", "rules", "shortlists", "versions")

    def __init__(self, catalog: Catalog) -> None:
        self.everybody: tuple[Deployment, ...] = tuple(catalog.deployments())
        rooms = ((one.id, one.prices.self_hosted) for one in self.everybody)
        self.engines = {name: own.concurrency for name, own in rooms if own is not None and own.concurrency is not None}
        self.addresses: dict[str, Address] = {}
        self.rules: dict[tuple[str, str | None, int], Rules] = {}
        self.names: Mapping[str, Mapping[str, frozenset[str]]] | None = None
        self.shortlists: dict[tuple[str, Kind], Shortlist] = {}
        self.versions: dict[tuple[str | None, ...], Mapping[str, str]] = {}

    def shortlist(self, meant: str, deployments: tuple[Deployment, ...], catalog: Catalog, kind: Kind) -> Shortlist:
        """Who of these deployments can serve requests of a kind; `meant` is the name that they were meant by."""
        key, held = (meant, kind), self.shortlists
        found = held.pop(key, None)
        if found is None:
            return keep(held, key, Shortlist(deployments, catalog.models, kind), SHORTLISTS_MAX)
        held[key] = found  # back at the end: what was used last is forgotten last
        return found


def prepared(catalog: Catalog) -> Prepared:
    """What has been worked out from a registry."""
    found: Prepared | None = catalog.prepared
    if found is None:
        found = Prepared(catalog)
        object.__setattr__(catalog, "prepared", found)
    return found


def keep(held: dict[Key, Value], key: Key, value: Value, limit: int) -> Value:
    """Put a value in, and the first one out where there are too many."""
    if len(held) >= limit:
        oldest, *_ = held  # in one step: an explanation is worked out in another thread
        held.pop(oldest, None)
    held[key] = value
    return value
