"""Scripts from a JSON file, for benches and `--simulate`: the fields of `Script` and `VendorScript` by name.

Where on the path: `__main__` and the command line; tests write scripts in Python.

    {"vendors": {"deepseek": {"default": {"usage": "deepseek"},
                              "queue": [{"fault": "cut", "fault_after": 1}],
                              "models": ["deepseek-flash"]}}}

Invariants
1. Unknown names and wrong types are errors that say where and what was expected; nothing is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from service.errors import ConfigurationError
from service.simulator.script import Script, VendorScript

FILE_BYTES_MAX = 4 * 1024 * 1024
"""A script file; a longer one is a mistake."""


def load_scripts(path: Path) -> dict[str, VendorScript]:
    """The vendors of a script file. Raises ConfigurationError with the file and the place in it."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); give a JSON file of scripts") from None
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{path}: larger than {FILE_BYTES_MAX} bytes; use `cycle` instead of long queues")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not JSON ({error})") from None
    vendors = document.get("vendors") if isinstance(document, dict) else None
    if not isinstance(vendors, dict) or not vendors:
        raise ConfigurationError(f'{path}: expected {{"vendors": {{name: script, ...}}}}')
    return {name: _vendor(value, f"{path}: vendors.{name}") for name, value in vendors.items()}


def _vendor(value: object, where: str) -> VendorScript:
    known = get_type_hints(VendorScript)
    given = _object(value, where, known)
    fields: dict[str, Any] = {}
    for name, item in given.items():
        here = f"{where}.{name}"
        if name in ("default", "model_list"):
            fields[name] = _script(item, here)
        elif name in ("queue", "cycle"):
            fields[name] = tuple(_script(one, f"{here}[{at}]") for at, one in enumerate(_list(item, here)))
        elif name == "by_model":
            fields[name] = {model: _script(one, f"{here}.{model}") for model, one in _mapping(item, here).items()}
        elif name == "model_fields":
            fields[name] = {model: _mapping(one, f"{here}.{model}") for model, one in _mapping(item, here).items()}
        elif name in ("models", "api_keys"):
            fields[name] = _texts(item, here)
        else:
            fields[name] = _text(item, here)
    try:
        return VendorScript(**fields)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _script(value: object, where: str) -> Script:
    known = get_type_hints(Script)
    given = _object(value, where, known)
    fields: dict[str, Any] = {name: _field(known[name], item, f"{where}.{name}") for name, item in given.items()}
    try:
        return Script(**fields)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _field(kind: object, value: object, where: str) -> object:
    """A value of one of the types that `Script` uses: enums, numbers, text, bytes, a tuple of texts, perhaps None."""
    if get_origin(kind) is tuple:
        return _texts(value, where)
    kinds = [one for one in get_args(kind) if one is not type(None)] or [kind]
    if value is None and type(None) in get_args(kind):
        return None
    only = kinds[0]
    if isinstance(only, type) and issubclass(only, StrEnum):
        return _member(only, value, where)
    if only is bool or only is int or only is float:
        return _number(only, value, where)
    if only is bytes:
        return _text(value, where).encode("latin-1", "replace")
    return _text(value, where)


def _member(kind: type[StrEnum], value: object, where: str) -> StrEnum:
    by_name = {member.name.lower(): member for member in kind}
    if isinstance(value, str) and value.lower() in by_name:
        return by_name[value.lower()]
    raise ConfigurationError(f"{where}: {value!r} is not one of {', '.join(by_name)}{_nearest(value, by_name)}")


def _number(kind: type, value: object, where: str) -> object:
    fits = isinstance(value, bool) if kind is bool else isinstance(value, int) and not isinstance(value, bool)
    if not fits and not (kind is float and isinstance(value, float)):
        raise ConfigurationError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value


def _object(value: object, where: str, known: Mapping[str, Any]) -> dict[str, Any]:
    given = _mapping(value, where)
    for name in given:
        if name not in known:
            raise ConfigurationError(f"{where}: unknown field {name!r}{_nearest(name, known)}")
    return given


def _nearest(word: object, known: Mapping[str, Any]) -> str:
    close = get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: expected an object, got {value!r}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{where}: expected a list, got {value!r}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(one, f"{where}[{at}]") for at, one in enumerate(_list(value, where)))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{where}: expected text, got {value!r}")
    return value
