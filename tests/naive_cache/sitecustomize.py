"""The mistake that the cache is made against, forced into a router: whoever asks the same gets the same, tenant or not.

Python runs a `sitecustomize` that it finds on its path before anything else. With this one the name of an answer has no
tenant in it: the control of `crossings.py`, which must see answers cross.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.cache import naming

_parts = naming._parts


def _of_nobody(_key_id: str | None, *rest: Any) -> Iterator[bytes]:
    return _parts(None, *rest)


naming._parts = _of_nobody
