"""A file that says only how to choose, laid over a registry: `policies:`, `routes:`, `default_policy:`.

Where on the path: beside it; `coe replay --policy FILE` asks what another way to choose would have done.

Invariants
1. What the file names must be there: it is checked against the registry as that file itself would be, and every problem
   is told with its place.
2. Policies are added and replaced by name; routes, where the file has any, replace all of the registry's. Providers,
   models and prices stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from service.catalog.build import Setting, build
from service.catalog.crosscheck import crosscheck
from service.catalog.draft import Draft, draft
from service.catalog.load import VERSION_CHARS, bytes_of
from service.catalog.positions import Document, read
from service.catalog.problems import Problems
from service.domain.catalog import Catalog

SECTIONS: Final = frozenset({"version", "policies", "routes", "default_policy"})
"""What such a file may have at its top."""

_VERSION: Final = b"\nversion: 1\n"
"""Put behind a file that does not say it, where it moves no line."""


def is_overlay(path: Path) -> bool:
    """Whether a file is no whole registry: it has neither providers nor models. Raises RegistryError."""
    problems = Problems(str(path))
    document = read(bytes_of(path, problems), problems)
    if document is None:
        problems.fail()
    root = document.value
    return isinstance(root, dict) and not {"providers", "models"} & root.keys()


def overlaid(
    catalog: Catalog,
    registry: Path,
    over: Path,
    environ: Mapping[str, str],
    *,
    now: datetime,
    known_quirks: Mapping[str, str] | None = None,
) -> Catalog:
    """The catalogue with the way to choose of `over`; `registry` is the file that it was read from.

    `environ`, `now` and `known_quirks` are those of `load`. Raises RegistryError.
    """
    problems = Problems(str(registry))
    below = _drafted(bytes_of(registry, problems), problems)
    if problems:
        problems.fail()
    problems = Problems(str(over))
    data = bytes_of(over, problems)
    above, root = _overlay(data, problems)
    for key in root - SECTIONS:
        problems.at(
            (key,), f"{key[:60]!r} does not belong into a file of policies; it may have {_listed()}", of_key=True
        )
    combined = _combined(below, above, root)
    crosscheck(combined, problems, known_quirks)
    made = build(combined, Setting(environ, now, (), catalog.version), problems)
    if problems:
        problems.fail()
    version = hashlib.sha256(catalog.version.encode() + data).hexdigest()[:VERSION_CHARS]
    return replace(
        catalog,
        policies=made.policies,
        routes=made.routes,
        default_policy=made.default_policy,
        version=version,
    )


def _listed() -> str:
    return ", ".join(sorted(SECTIONS - {"version"}))


def _drafted(data: bytes, problems: Problems) -> Draft:
    document = _document(data, problems)
    return draft(document, problems)


def _document(data: bytes, problems: Problems) -> Document:
    document = read(data, problems)
    if document is None:
        problems.fail()
    problems.locate_with(document)
    return document


def _overlay(data: bytes, problems: Problems) -> tuple[Draft, frozenset[str]]:
    """(its entries, the names at its top)."""
    document = _document(data, problems)
    root = document.value
    if isinstance(root, dict) and "version" not in root:
        document = _document(data + _VERSION, problems)
    return draft(document, problems), frozenset(map(str, root)) if isinstance(root, dict) else frozenset()


def _combined(below: Draft, above: Draft, root: frozenset[str]) -> Draft:
    """The registry's entries with what the file says instead."""
    head = below.head
    if head is not None and above.head is not None and "default_policy" in root:
        head = head.model_copy(update={"default_policy": above.head.default_policy})
    names = dict(below.names)
    names["policies"] = names.get("policies", frozenset()) | above.names.get("policies", frozenset())
    return Draft(
        head=head,
        providers=below.providers,
        models=below.models,
        policies={**below.policies, **above.policies},
        calendars=below.calendars,
        routes=above.routes if "routes" in root else below.routes,
        budgets=below.budgets,
        names=names,
    )
