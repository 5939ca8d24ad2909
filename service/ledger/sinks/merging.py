"""What a batch says of attempts before it is written: the best line of each half, as values that columns take. Pure.

Where on the path: below the sinks of databases with typed columns; what the columns are stands in `halves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from service.ledger.lines import Line
from service.ledger.sinks.halves import (
    DEFAULTS,
    INTEGER_MAX,
    OPEN_COLUMNS,
    TERMINAL_COLUMNS,
    Kind,
    decision_values,
    kind_of,
    open_values,
    terminal_values,
)

Values = dict[str, Any]

_KINDS: Final = {name: kind_of(name) for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS)}


@dataclass(slots=True)
class Halves:
    """What a batch says of one attempt: the best line of each half, and which halves had several different lines."""

    first_at: tuple[int, str]
    opened: Values | None = None
    ended: Values | None = None
    several: set[str] = field(default_factory=set)


def merged(lines: Sequence[Line], writer: int) -> dict[str, Halves]:
    """What lines say of each attempt: of several for one half the lowest rank counts, and they are remembered."""
    found: dict[str, Halves] = {}
    for line in lines:
        if line.kind not in ("open", "terminal"):
            continue
        values: Values = open_values(line, writer) if line.kind == "open" else terminal_values(line)
        values = {name: storable(value, _KINDS.get(name)) for name, value in values.items()}
        name = str(values["attempt_id"])
        halves = found.setdefault(name, Halves((values["at_ms"], values["day"])))
        old = halves.opened if line.kind == "open" else halves.ended
        rank = f"{line.kind}_rank"
        if old is not None and old[rank] != values[rank]:
            halves.several.add(line.kind)
        if old is None or values[rank] < old[rank]:
            if line.kind == "open":
                halves.opened = values
            else:
                halves.ended = values
    return found


def storable(value: Any, kind: Kind | None) -> Any:  # noqa: ANN401 # JSON values
    """A value as a column of its kind takes it; what doesn't fit is unknown. Without a kind as it is."""
    if value is None or kind is None:
        return value
    if kind is Kind.TEXT:
        text = value if type(value) is str else orjson.dumps(value).decode()
        return text.replace("\x00", "\ufffd") if "\x00" in text else text.replace("\\u0000", "\\ufffd")
    if kind is Kind.REAL:
        return float(value) if isinstance(value, int | float) else None
    fits = isinstance(value, int) and -INTEGER_MAX - 1 <= value <= INTEGER_MAX
    return int(value) if fits else None


def decided(line: Line) -> Values | None:
    """The values of a `decision` line; `None` for any other."""
    if line.kind != "decision":
        return None
    values = decision_values(line)
    return {name: value if name == "at_ms" else storable(value, Kind.TEXT) for name, value in values.items()} | {
        "json": values["json"]
    }


def whole(halves: Halves) -> Values:
    """Both halves as in `WHOLE_COLUMNS`; what is not there is as its default says."""
    values: Values = {**DEFAULTS, **(halves.ended or {}), **(halves.opened or {})}
    if halves.opened is None:
        values["at_ms"], values["day"] = halves.first_at
    return values
