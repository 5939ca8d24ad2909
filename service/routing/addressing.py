"""`model` of a request -> which deployments are meant, and under which policy.

Where on the path: first step of `router.decide`. Grammar: `auto` · `auto:<policy>` · model id · `provider/model` ·
`plan:<name>`. Exact names only: a misspelt name is a 404 with the nearest ones, never a silent substitute.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from service.domain.catalog import Catalog, Deployment
from service.errors import NotFound
from service.routing.prepared import ADDRESSES_MAX, keep, prepared

PLANS_AVAILABLE = frozenset({"single"})
"""Plans that this version can run."""


@dataclass(frozen=True, slots=True)
class Address:
    """`deployments` is `None` for `auto`: everything is meant. `policy` is set by `auto:<policy>`.

    `meant` names the deployments: addresses of one registry that name the same mean the same; everything is `""`.
    """

    deployments: tuple[Deployment, ...] | None = None
    policy: str | None = None
    plan: str = "single"
    meant: str = field(default="", compare=False)

    @property
    def pinned(self) -> bool:
        """Whether the caller named a model."""
        return self.deployments is not None


def resolve(requested: str, catalog: Catalog) -> Address:
    """What `requested` means in this registry; raises NotFound (`model_not_found`)."""
    held = prepared(catalog).addresses
    found = held.get(requested)
    return keep(held, requested, _resolved(requested, catalog), ADDRESSES_MAX) if found is None else found


def _resolved(requested: str, catalog: Catalog) -> Address:
    if requested == "auto":
        return Address()
    kind, _, rest = requested.partition(":")
    if kind == "auto":
        if rest in catalog.policies:
            return Address(policy=rest)
        raise unknown_name(f"policy {rest!r}", rest, list(catalog.policies), param="model", code="model_not_found")
    if kind == "plan":
        if rest in PLANS_AVAILABLE:
            return Address(plan=rest)
        raise unknown_name(f"plan {rest!r}", rest, sorted(PLANS_AVAILABLE), param="model", code="model_not_found")
    model = catalog.models.get(requested)
    if model is not None:
        return Address(model.deployments, meant=requested)
    deployment = catalog.by_id.get(requested)
    if deployment is not None:
        return Address((deployment,), meant=requested)
    provider, slash, wire_name = requested.partition("/")
    if slash and provider in catalog.providers:
        found = tuple(
            one for one in catalog.deployments() if one.provider.name == provider and one.wire_name == wire_name
        )
        if found:
            return Address(found, meant=requested)
    raise unknown_name(
        f"model {requested!r}", requested, [*catalog.models, *catalog.by_id], param="model", code="model_not_found"
    )


def unknown_name(what: str, name: str, known: list[str], *, param: str, code: str) -> NotFound:
    """A 404 that offers the nearest names."""
    return NotFound(f"there is no {what}{nearest(name, known)}", param=param, code=code)


def nearest(name: str, known: list[str]) -> str:
    """The end of an error message about a name that is not known: the nearest ones, or where all are listed."""
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(near)}?" if near else "; GET /v1/models lists what there is"
