"""What stands behind the `?` of a page that asks: known words, each once.

Where on the path: the operator's pages read their parameters with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from service.errors import InvalidRequest

VALUE_CHARACTERS_MAX: Final = 300


def read_query(pairs: Iterable[tuple[str, str]], known: Iterable[str]) -> Mapping[str, str]:
    """The parameters by name; raises InvalidRequest for one that is unknown, stands twice, is empty or is too long."""
    names, found = tuple(known), dict[str, str]()
    for name, value in pairs:
        if name not in names:
            raise InvalidRequest(
                f"there is no parameter `{name[:50]}` here; known are {', '.join(names)}", param="query"
            )
        if name in found:
            raise InvalidRequest(f"`{name}` was sent more than once; send it once", param=name)
        if not 0 < len(value) <= VALUE_CHARACTERS_MAX:
            raise InvalidRequest(f"`{name}` must have 1 to {VALUE_CHARACTERS_MAX} characters", param=name)
        found[name] = value
    return found
