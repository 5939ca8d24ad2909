"""The caller's JSON object as bytes: where its top-level members lie, so that one can be replaced and the rest kept.

Where on the path: `api` scans the body once; `upstream.protocols` splice `model`, `stream_options` and what a quirk
demands. Everything else reaches the vendor byte for byte: key order, number spelling, escapes, unknown fields.

Invariants
1. `scan` accepts only what may be a JSON object within the limits; full syntax is the parser's task (`api` runs both).
2. Duplicate keys are refused at every depth: two parsers that disagree on which one counts are how limits get bypassed.
3. Work is linear in the body; the structural tokens that Python looks at one by one are capped by `TOKENS_MAX`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

DEPTH_MAX = 64
"""Nesting of a request body; deeper ones are refused."""

TOKENS_MAX = 200_000
"""Strings and brackets in a body. A real 200-page request has a few thousand; past this the scan would hold the loop."""

# Possessive quantifiers: a string is matched in one pass and never re-tried, so hostile escapes cost nothing extra.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"(\s*+:)?|[{}\[\]]', re.DOTALL)
_BLANK = b" \t\r\n"


class RawJsonError(ValueError):
    """The bytes can't be a JSON object we accept. `str()` is fit for the caller."""


@dataclass(frozen=True, slots=True)
class RawObject:
    """A JSON object and the spans of its top-level members.

    `members` maps a decoded key to (start of the key's quote, start of the value, end of the value) in `body`.
    """

    body: bytes
    members: Mapping[str, tuple[int, int, int]]

    def value(self, key: str) -> bytes | None:
        """The bytes of a member's value as the caller wrote them, or `None`."""
        span = self.members.get(key)
        return None if span is None else self.body[span[1] : span[2]]

    def edited(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The object with members replaced (bytes) or removed (`None`); new ones are added at the end.

        All other bytes stay as they are.
        """
        pieces: list[tuple[int, int, bytes]] = []
        added: list[bytes] = []
        removed = 0
        for key, value in changes.items():
            span = self.members.get(key)
            if span is None:
                if value is not None:
                    added.append(json.dumps(key).encode() + b":" + value)
            elif value is not None:
                pieces.append((span[1], span[2], value))
            else:
                removed += 1
        if removed:
            return self._without(changes, added)
        body = self.body
        for start, end, value in sorted(pieces, reverse=True):
            body = body[:start] + value + body[end:]
        if added:
            body = self._appended(body, added, empty=not self.members)
        return body

    def _appended(self, body: bytes, added: list[bytes], *, empty: bool) -> bytes:
        close = body.rindex(b"}")
        return body[:close].rstrip(_BLANK) + (b"" if empty else b",") + b",".join(added) + body[close:]

    def _without(self, changes: Mapping[str, bytes | None], added: list[bytes]) -> bytes:
        """Write the kept members again, each with its own bytes: commas around a removed one need care otherwise."""
        kept: list[bytes] = []
        for key, (start, value_start, value_end) in self.members.items():
            if key in changes:
                value = changes[key]
                if value is not None:
                    kept.append(self.body[start:value_start] + value)
            else:
                kept.append(self.body[start:value_end])
        return b"{" + b",".join(kept + added) + b"}"


def scan(body: bytes) -> RawObject:
    """Find the top-level members of a JSON object.

    Raises RawJsonError for what is no object, for duplicate keys, for nesting over `DEPTH_MAX` and for more than
    `TOKENS_MAX` tokens. Syntax errors inside values are left to the parser.
    """
    if not body.strip(_BLANK).startswith(b"{"):
        raise RawJsonError("the body must be a JSON object")
    members: dict[str, tuple[int, int, int]] = {}
    seen: list[set[bytes]] = []
    closers: list[bytes] = []
    pending: tuple[str, int, int] | None = None
    tokens = 0
    for match in _TOKEN.finditer(body):
        tokens += 1
        if tokens > TOKENS_MAX:
            raise RawJsonError(f"the body has more than {TOKENS_MAX} JSON elements")
        start = match.start()
        first = body[start]
        if first == 0x22:
            if match.end(1) < 0 or not closers or closers[-1] != b"}":
                continue
            key_bytes = body[start : match.start(1)]
            if b"\\" in key_bytes:
                key_bytes = _decoded(key_bytes).encode("utf-8", "surrogatepass")
            else:
                key_bytes = key_bytes[1:-1]
            if key_bytes in seen[-1]:
                raise RawJsonError(f"the key {key_bytes.decode('utf-8', 'replace')[:100]!r} appears twice")
            seen[-1].add(key_bytes)
            if len(closers) == 1:
                if pending is not None:
                    _close_member(body, members, pending, before=start)
                pending = (key_bytes.decode("utf-8", "replace"), start, match.end())
        elif first == 0x7B or first == 0x5B:
            if len(closers) >= DEPTH_MAX:
                raise RawJsonError(f"the body is nested deeper than {DEPTH_MAX} levels")
            closers.append(b"}" if first == 0x7B else b"]")
            seen.append(set())
        else:
            if not closers or closers[-1] != body[start : start + 1]:
                raise RawJsonError("the body is not valid JSON: brackets do not match")
            closers.pop()
            seen.pop()
            if not closers:
                if pending is not None:
                    _close_member(body, members, pending, before=start)
                return RawObject(body, members)
    raise RawJsonError("the body is not valid JSON: it ends too early")


def _close_member(
    body: bytes, members: dict[str, tuple[int, int, int]], pending: tuple[str, int, int], *, before: int
) -> None:
    """Trim blanks around the value that ends before the next key or the closing brace."""
    key, key_start, value_start = pending
    end = before
    while end > value_start and body[end - 1] in b" \t\r\n,":
        end -= 1
    while value_start < end and body[value_start] in _BLANK:
        value_start += 1
    members[key] = (key_start, value_start, end)


def _decoded(quoted: bytes) -> str:
    """A key with escapes, decoded, so that `"a"` and its escaped spelling count as one key."""
    try:
        text = json.loads(quoted)
    except ValueError as problem:
        raise RawJsonError("the body is not valid JSON: a key has a broken escape") from problem
    return str(text)
