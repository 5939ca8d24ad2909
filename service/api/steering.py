"""What the caller asks of the router itself: the body object `coe` and the headers `x-coe-*`, checked field by field.

Where on the path: called by `api.chat_body` while a body is read. A header says the same as the body's field with `-`
for `_`; where both speak, the body wins, since it is what was written for this one request.

Invariants
1. A limit that is said is read or refused, never ignored: an unknown field of `coe` is an error, and so is a header
   that looks like a misspelt one. Other `x-coe-*` headers may be anybody's.
2. Work is bounded: lists, names and the digits of a number have limits.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from service.domain.catalog import CACHE_TTL_S_MAX, Selector
from service.domain.chat import CacheWish, Steering
from service.domain.money import pusd_from_usd
from service.errors import InvalidRequest

NAME_CHARACTERS_MAX = 200
LIST_ITEMS_MAX = 64
MAX_COST_USD_MAX = Decimal(1_000_000)
MAX_LATENCY_MS_MAX = 3_600_000
CACHE_HEADER_CHARACTERS_MAX = 200

# No exponents: the exact value of 1e-999999999 would fill the memory.
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,18})?")

_NOTHING_SAID = Steering()
_SELECTOR_FIELDS = ("models", "providers", "regions", "tags")


def read_steering(coe: object, headers: Mapping[str, str]) -> Steering:
    """Merge `coe` (the body's object, or None) with `x-coe-*` headers; raises InvalidRequest with `param`."""
    if coe is None and not headers:
        return _NOTHING_SAID  # as nearly always
    said = _said_in_headers(headers)
    if coe is not None:
        if not isinstance(coe, dict):
            raise InvalidRequest("`coe` must be an object", param="coe")
        for field, value in coe.items():
            if field not in _FIELDS:
                near = difflib.get_close_matches(field, _FIELDS, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else f"; known fields: {', '.join(_FIELDS)}"
                raise InvalidRequest(f"`coe` has no field {field[:50]!r}{hint}", param="coe")
            if value is not None:
                said[field] = _FIELDS[field](value, f"coe.{field}")
    if "max_cost_usd" in said:
        said["max_cost_pusd"] = said.pop("max_cost_usd")
    return Steering(**said)


def _said_in_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name in headers:
        if name.startswith("x-coe-") and name[6:].replace("-", "_") not in _FIELDS:
            near = difflib.get_close_matches(name[6:106].replace("-", "_"), _FIELDS, n=1)
            if near:
                meant = "x-coe-" + near[0].replace("_", "-")
                raise InvalidRequest(f"there is no header {name[:50]!r}; did you mean `{meant}`?", param=name[:50])
    for field, read in _FIELDS.items():
        header = headers.get("x-coe-" + field.replace("_", "-"))
        if header is not None:
            said[field] = read(_header_value(field, header), f"x-coe-{field.replace('_', '-')}")
    return said


def _header_value(field: str, text: str) -> object:
    """A header is text; give it the type that the body's field would have."""
    text = text.strip()
    if field in ("explain", "no_fallback", "resume", "stop_at_budget"):
        lowered = text.lower()
        return {"true": True, "1": True, "false": False, "0": False}.get(lowered, text)
    if field in ("min_quality", "max_latency_ms", "max_cost_usd"):
        return Decimal(text) if _NUMBER.fullmatch(text) else text
    if field == "cache":
        return _cache_header(text)
    if field in ("allow", "deny", "tags"):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _cache_header(text: str) -> object:
    """`true`, `false` or a JSON object, as the body's field."""
    try:
        return json.loads(text.lower()) if len(text) <= CACHE_HEADER_CHARACTERS_MAX else text
    except ValueError:
        return text


def _name(value: object, param: str) -> str:
    if not isinstance(value, str) or not value or len(value) > NAME_CHARACTERS_MAX or not value.isprintable():
        raise InvalidRequest(
            f"`{param}` must be a printable name of at most {NAME_CHARACTERS_MAX} characters", param=param
        )
    return value


def _number(value: object, param: str, low: float, high: float) -> Decimal:
    good = isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:  # type: ignore[operator] # `good` has checked the type
        raise InvalidRequest(f"`{param}` must be a number from {low:g} to {high:g}", param=param)
    return Decimal(str(value))


def _quality(value: object, param: str) -> float:
    return float(_number(value, param, 0, 1))


def _cost(value: object, param: str) -> int:
    return pusd_from_usd(_number(value, param, 0, float(MAX_COST_USD_MAX)))


def _latency(value: object, param: str) -> int:
    number = _number(value, param, 1, MAX_LATENCY_MS_MAX)
    return int(number)


def _flag(value: object, param: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{param}` must be true or false", param=param)
    return value


def _cache(value: object, param: str) -> CacheWish:
    if isinstance(value, bool):
        return CacheWish(read=value, write=value)
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{param}` must be true, false, or an object of read, write, ttl_s", param=param)
    for field in value:
        if field not in ("read", "write", "ttl_s"):
            told = f"`{param}` has no field {field[:50]!r}; known fields: read, write, ttl_s"
            raise InvalidRequest(told, param=param)
    ttl_s = value.get("ttl_s")
    if ttl_s is not None and (type(ttl_s) is not int or not 1 <= ttl_s <= CACHE_TTL_S_MAX):
        where = f"{param}.ttl_s"
        raise InvalidRequest(f"`{where}` must be an integer from 1 to {CACHE_TTL_S_MAX}, in seconds", param=where)
    read, write = (_flag(value.get(one, True), f"{param}.{one}") for one in ("read", "write"))
    return CacheWish(read, write, ttl_s)


def _names(value: object, param: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or len(value) > LIST_ITEMS_MAX:
        raise InvalidRequest(f"`{param}` must be a list of at most {LIST_ITEMS_MAX} names", param=param)
    return tuple(_name(item, param) for item in value)


def _selector(value: object, param: str) -> Selector:
    """An object of lists, or one flat list: `deepseek-flash`, `provider:openai`, `region:cn`, `tag:private`."""
    if isinstance(value, dict):
        for field in value:
            if field not in _SELECTOR_FIELDS:
                raise InvalidRequest(
                    f"`{param}` has no field {field[:50]!r}; known fields: {', '.join(_SELECTOR_FIELDS)}", param=param
                )
        return Selector(**{field: frozenset(_names(names, f"{param}.{field}")) for field, names in value.items()})
    names = _names(value, param)
    for name in names:
        kind, colon, rest = name.partition(":")
        if colon and f"{kind}s" in _SELECTOR_FIELDS and not rest:
            raise InvalidRequest(f"`{param}` has an item without a name after `{kind}:`", param=param)
    return Selector(any_of=frozenset(names))


_FIELDS: dict[str, Callable[[object, str], object]] = {
    "policy": _name,
    "min_quality": _quality,
    "max_cost_usd": _cost,
    "max_latency_ms": _latency,
    "allow": _selector,
    "deny": _selector,
    "plan": _name,
    "session": _name,
    "tags": _names,
    "explain": _flag,
    "no_fallback": _flag,
    "resume": _flag,
    "stop_at_budget": _flag,
    "cache": _cache,
}
