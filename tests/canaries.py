"""Secrets that are easy to recognise, and the search for them in whatever a router wrote or said.

Used by tests/e2e/test_secrets.py. A canary is looked for by its mark, so that a part of it is found too, and in the forms
that something written may take: as it is, in hex, in base64 at any offset, percent-encoded.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from access import Reply, ask

BASE64 = "in base64"
_ONE_BASE64 = bytes.maketrans(b"-_", b"+/")

MARK_CHARACTERS_MIN = 12
"""Of a mark; fewer could stand somewhere by chance."""


@dataclass(frozen=True)
class Canary:
    """Something that may not be seen. `mark` is the part of `text` that is looked for."""

    name: str
    text: str = field(repr=False)
    mark: str = field(repr=False)

    def __post_init__(self) -> None:
        """A mark is part of its canary, and long enough."""
        assert self.mark in self.text
        assert len(self.mark) >= MARK_CHARACTERS_MIN

    @cached_property
    def forms(self) -> tuple[tuple[str, bytes], ...]:
        """What is looked for, by the name of the form: all but base64 in lower case, that with `+` and `/`."""
        mark = self.mark.encode()
        found = [
            ("as it is", mark.lower()),
            ("in hex", mark.hex().encode()),
            ("percent-encoded", quote(self.mark, safe="").lower().encode()),
            ("percent-encoded throughout", "".join(f"%{one:02x}" for one in mark).encode()),
        ]
        for offset in range(3):
            # What stands before and behind the mark shares letters with it: those are left out.
            coded = base64.b64encode(b"x" * offset + mark).rstrip(b"=")[(0, 2, 3)[offset] : -1]
            found.append((BASE64, coded))
        return tuple(found)


@dataclass
class Search:
    """Places that were looked at, and what was found there."""

    canaries: tuple[Canary, ...]
    places: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    bytes_read: int = 0

    def look(self, place: str, content: bytes | str, *, allowed: frozenset[str] = frozenset()) -> None:
        """Look for every canary but those whose names are `allowed` here."""
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        self.places.append(place)
        self.bytes_read += len(data)
        lower, coded = data.lower(), data.translate(_ONE_BASE64)
        for canary in self.canaries:
            for form, written in canary.forms:
                if canary.name not in allowed and written in (coded if form == BASE64 else lower):
                    self.found.append(f"{canary.name} {form} in {place}")

    def look_at_reply(self, place: str, reply: Reply, *, allowed: frozenset[str] = frozenset()) -> None:
        """Look at header fields and body."""
        self.look(f"headers of {place}", json.dumps(dict(reply.headers)), allowed=allowed)
        self.look(f"body of {place}", reply.body, allowed=allowed)

    def look_into(self, directory: Path) -> None:
        """Look at every file below, and at every name."""
        for path in sorted(directory.rglob("*")):
            self.look(f"name {path.name}", str(path.relative_to(directory)))
            if path.is_file():
                self.look(f"file {path.name}", path.read_bytes())


def post(
    port: int, body: object, headers: tuple[tuple[str, str], ...] = (), path: str = "/v1/chat/completions"
) -> Reply:
    """A request with a JSON body, or with these bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(port, "POST", path, headers, data)
