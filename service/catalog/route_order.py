"""Routes that can never be reached, and ties: errors at load, because the first match wins silently at run time.

Where on the path: called by `crosscheck` with every valid route in the order of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from service.catalog.draft import Located
from service.catalog.problems import Path, Problems
from service.catalog.schema import RouteEntry, WhenEntry

MAX_COMBINATIONS = 500
"""Combinations of a condition's values that are tried against all earlier routes; beyond, only pairs are compared."""

_FIELDS = ("key_tag", "intent", "languages", "model")

Condition = tuple[frozenset[str] | None, ...]
"""The values of each field, `None` where the field is not given."""


def check_order(routes: Sequence[Located[RouteEntry]], problems: Problems) -> None:
    """Report every route that earlier ones leave nothing for."""
    earlier: list[tuple[Path, str, Condition]] = []
    for route in routes:
        condition = _condition(route.entry.when)
        name = route.entry.name
        for path, other, before in earlier:
            line = problems.line_of(path)
            if before == condition:
                problems.at(route.path, f"route {name!r} ties with {other!r} on line {line}: keep one of them")
                break
            if _implies(condition, before):
                problems.at(
                    route.path,
                    f"route {name!r} is never reached: {other!r} on line {line} takes all of it; move it up",
                )
                break
        else:
            if _covered(condition, [before for _, _, before in earlier]):
                problems.at(
                    route.path,
                    f"route {name!r} is never reached: the routes above take all of it; move it up or remove it",
                )
        earlier.append((route.path, name, condition))


def _condition(when: WhenEntry) -> Condition:
    values = (getattr(when, name) for name in _FIELDS)
    return tuple(None if value is None else frozenset(value) for value in values)


def _implies(condition: Condition, other: Condition) -> bool:
    """Whether `other` holds wherever `condition` does."""
    return all(
        theirs is None or (ours is not None and ours <= theirs) for ours, theirs in zip(condition, other, strict=True)
    )


def _covered(condition: Condition, others: Sequence[Condition]) -> bool:
    """Whether every single combination of values of `condition` is taken by one of `others`."""
    axes = [[None] if values is None else sorted(values) for values in condition]
    combinations = 1
    for axis in axes:
        combinations *= len(axis)
    if combinations > MAX_COMBINATIONS or not others:
        return False
    singles = (tuple(None if value is None else frozenset((value,)) for value in point) for point in product(*axes))
    return all(any(_implies(single, other) for other in others) for single in singles)
