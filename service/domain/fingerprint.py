"""A short name for a value: equal values have equal names in every process, on every machine.

Where on the path: the versions of a decision record. A policy and a registry are named by what is in them, so that a
replay knows whether it stands on the same ground.

Invariants
1. Nothing of a process gets in: sets are sorted, floats are told with every digit, no address, no `hash()`.
2. The order of mappings and sequences counts: the order of a registry ends ties.
3. Secrets stay out: what a dataclass keeps out of its `repr` is kept out of here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass

FINGERPRINT_CHARS = 12
"""Hex digits of SHA-256: 48 bits tell the versions of a lifetime apart."""


def fingerprint(value: object, without: frozenset[str] = frozenset()) -> str:
    """The name of a value of dataclasses, mappings, sets, sequences and scalars; fields in `without` don't count."""
    return digest(json.dumps(_plain(value, without), separators=(",", ":")))


def digest(text: str) -> str:
    """The name of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:FINGERPRINT_CHARS]


def _plain(value: object, without: frozenset[str]) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)
    if is_dataclass(value):
        counted = (one.name for one in fields(value) if one.repr and one.compare and one.name not in without)
        return [[name, _plain(getattr(value, name), without)] for name in counted]
    if isinstance(value, Mapping):
        return [[_plain(key, without), _plain(one, without)] for key, one in value.items()]
    if isinstance(value, AbstractSet):
        return sorted((_plain(one, without) for one in value), key=json.dumps)
    if isinstance(value, tuple | list):
        return [_plain(one, without) for one in value]
    # Dates, times, time zones and decimals say all of themselves in words.
    return str(value)
