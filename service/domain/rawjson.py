"""The caller's JSON object as bytes: where its top-level members lie, so that one can be replaced and the rest kept.

Where on the path: `api` scans the body once; `upstream.protocols` splice `model`, `stream_options` and what a quirk
demands. Everything else reaches the vendor byte for byte: key order, number spelling, escapes, blanks, unknown fields.

Invariants
1. `scan` accepts only what may be a JSON object within the limits; full syntax is the parser's task (`api` runs both).
2. Duplicate keys are refused at every depth: two parsers that disagree on which one counts are how limits get bypassed.
3. Work is linear in the body, whatever it holds; the tokens that Python looks at one by one are capped by `TOKENS_MAX`,
   what a parser makes by `VALUES_MAX`, and a thread that scans gives way every few thousand strings.
4. `edited` changes the members it is told to, and no other byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

DEPTH_MAX = 64
"""Nesting of a request body; deeper ones are refused."""

TOKENS_MAX = 60_000
"""Keys and brackets in a body. 2,048 messages with tool calls have some 40,000; more would hold the event loop."""

KEY_CHARACTERS_SHOWN = 100
"""How much of an offending key a message repeats."""

VALUES_MAX = 200_000
"""Commas outside of strings. A chat has no such lists; the parser would be at work on millions for longer than an event
loop may wait."""

_SHORT = 64 * 1024
"""Bytes that one expression may work through at once; of longer strings there are few enough to look at each."""

_STRINGS_AT_ONCE = 2_000
"""Strings that are passed over in one match: no thread gets a turn before a match has ended."""

# One match is one thing that Python must see: a key, a bracket, or a quote that nothing closes. Strings that are no
# keys and all scalars are skipped inside the match; one that has skipped enough ends without a group. Everything is
# possessive, and every byte belongs to some match, also a string without its end and whatever stands last: else the
# search would start again from the next byte, and the one after, which is quadratic.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_AT_ONCE = rb"{0,%d}+" % _STRINGS_AT_ONCE
_SKIPPED = rb'[^"{}\[\]]*+(?:' + _STRING + rb'(?!\s*+:)[^"{}\[\]]*+)' + _AT_ONCE
_TOKEN = re.compile(_SKIPPED + rb"(?:(" + _STRING + rb')\s*+:|([{}\[\]]|"(?!' + _STRING[1:] + rb")|\Z)|)", re.DOTALL)
_STRINGS = re.compile(_STRING, re.DOTALL)
_SOME = re.compile(rb'(?:[^"]*+' + _STRING + rb'){1,%d}+|[^"]++|("[\s\S]*+)' % _STRINGS_AT_ONCE, re.DOTALL)
_BLANK = b" \t\r\n"
_BEHIND = _BLANK + b","
_NEAR = 32
"""How far from a value's ends blanks are looked for first: a value may be a prompt of megabytes."""

QUICK_QUOTES_MAX = 4_096
QUICK_BRACKETS_MAX = 4_096
"""Bodies with more of either are left to the expression, which need not come back to Python for every string, and which
knows `TOKENS_MAX`."""

_NO_BRACKETS = bytes(one for one in range(256) if one not in b"{}[]")
_COLON = {b":": 0, b": ": 0, b",": -1, b", ": -1}
"""What mostly stands between two strings, and where a colon is in it; -1: nowhere."""

_CLOSES_ARRAY = {ord("}"): False, ord("]"): True}
_OPENS_OBJECT = {ord("{"): True, ord("["): False}

_Span = tuple[str, int, int]
"""A top-level key, where its quote stands, and where its value begins at the earliest."""


class RawJsonError(ValueError):
    """The bytes are no JSON object that we accept. `str()` is fit for the caller; `member` is the top-level key."""

    def __init__(self, message: str, *, member: str | None = None) -> None:
        super().__init__(message)
        self.member = None if member is None else member[:KEY_CHARACTERS_SHOWN]


@dataclass(frozen=True, slots=True)
class RawObject:
    """A JSON object and the spans of its top-level members.

    `members` maps a decoded key to (start of the key's quote, start of the value, end of the value) in `body`, in the
    order of the body.
    """

    body: bytes
    members: Mapping[str, tuple[int, int, int]]

    def value(self, key: str) -> bytes | None:
        """The bytes of a member's value as the caller wrote them, or `None`."""
        span = self.members.get(key)
        return None if span is None else self.body[span[1] : span[2]]

    def edited(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The object with members replaced (bytes) or removed (`None`); new ones are added at the end.

        A removed member takes one comma and the blanks beside it along; all other bytes stay as they are.
        """
        body = self.body
        pieces: list[bytes] = []
        gap_start = end = body.index(b"{") + 1
        for key, (start, value_start, value_end) in self.members.items():
            change = changes.get(key)
            if key not in changes or change is not None:
                # The gap before a member is its own: comma and blanks. The first one kept takes the object's opening.
                pieces.append(body[gap_start:start] if pieces else body[:end] + _blanks(body[gap_start:start]))
                pieces.append(body[start:value_end] if change is None else body[start:value_start] + change)
            gap_start = value_end
        if not pieces:
            pieces.append(body[:end])
        for key, change in changes.items():
            if change is not None and key not in self.members:
                pieces.append((b"," if len(pieces) > 1 else b"") + json.dumps(key).encode() + b":" + change)
        pieces.append(body[gap_start:])
        return b"".join(pieces)


def _blanks(gap: bytes) -> bytes:
    """The gap before the first member that is kept: without the comma of those that went."""
    return gap.replace(b",", b"", 1)


def scan(body: bytes) -> RawObject:
    """Find the top-level members of a JSON object.

    Raises RawJsonError for what is no object, for duplicate keys, for nesting over `DEPTH_MAX`, for more than
    `TOKENS_MAX` keys and brackets or `VALUES_MAX` values. Syntax errors inside values are left to the parser.
    """
    if not body.lstrip(_BLANK).startswith(b"{"):
        raise RawJsonError("the body must be a JSON object")
    # Without them a string is passed over at the speed of memory, and not pair by pair while nobody else has a turn.
    text = _without_escapes(body)
    quick = _quickly(body, text)
    if quick is not None:
        return RawObject(body, quick)
    if text.count(b",") > VALUES_MAX and _holds_too_many(text):
        raise RawJsonError(f"the body has more than {VALUES_MAX} JSON values")
    return _patiently(body, text)


def _without_escapes(body: bytes) -> bytes:
    """The same length with `_` for backslashes and what they escape: every quote in it begins or ends a string.

    A backslash outside of strings goes too; no parser accepts that.
    """
    if b"\\" not in body:
        return body
    return body.replace(b"\\\\", b"__").replace(b'\\"', b"__").replace(b"\\", b"_")


def _holds_too_many(body: bytes) -> bool:
    """Whether more than `VALUES_MAX` commas stand outside of strings."""
    commas = 0
    for match in _SOME.finditer(body):
        commas += _commas_outside(match)
        if commas > VALUES_MAX:
            return True
    return False


def _commas_outside(match: re.Match[bytes]) -> int:
    """How many commas of a piece of `_SOME` stand outside of its strings."""
    piece = match[0]
    if match[1] is not None:
        # What follows a quote that nothing closes is no string: each quote in it would be tried to the end.
        return piece.count(b",")
    if len(piece) <= _SHORT:
        return _STRINGS.sub(b"", piece).count(b",")
    return piece.count(b",") - sum(string[0].count(b",") for string in _STRINGS.finditer(piece))


def _quickly(body: bytes, text: bytes) -> dict[str, tuple[int, int, int]] | None:
    """The members of an ordinary body; `None` for whatever is long, odd or wrong, which `_patiently` has a word for.

    Without escapes (`text`), quotes stand only around strings, so every other piece between them is outside of strings.
    A prompt has few quotes, so this is a few steps at the speed of memory, however long it is.
    """
    if text.count(b'"') > QUICK_QUOTES_MAX:
        return None
    pieces = text.split(b'"')
    if len(pieces) % 2 == 0 or len(pieces) < 3 or pieces[0].strip(_BLANK) != b"{" or _values(body, pieces) > VALUES_MAX:
        return None
    members: dict[str, tuple[int, int, int]] = {}
    seen: set[bytes] | None = set()
    levels = [seen]
    pending: _Span | None = None
    at = len(pieces[0])
    walked = 0
    for inside, outside in zip(pieces[1::2], pieces[2::2], strict=True):
        end = at + len(inside) + 2
        colon = _COLON.get(outside, -2)
        if colon == -2:
            rest = outside.lstrip()
            colon = len(outside) - len(rest) if rest.startswith(b":") else -1
        if colon >= 0:
            key = body[at + 1 : end - 1]
            if seen is None or key in seen or b"\\" in key:
                return None
            seen.add(key)
            if len(levels) == 1:
                _close_member(body, members, pending, before=at)
                pending = (key.decode("utf-8", "replace"), at, end + colon + 1)
        at = end + len(outside)
        if outside not in _COLON and (brackets := outside.translate(None, _NO_BRACKETS)):
            walked += len(brackets)
            if walked > QUICK_BRACKETS_MAX or not _walked(levels, brackets):
                return None
            seen = levels[-1] if levels else None
    if levels:
        return None
    _close_member(body, members, pending, before=body.rindex(b"}"))
    return members


def _values(body: bytes, pieces: list[bytes]) -> int:
    """At least how many commas stand outside of strings: all, where there may be too many of them."""
    return 0 if body.count(b",") <= VALUES_MAX else sum(outside.count(b",") for outside in pieces[2::2])


def _walked(levels: list[set[bytes] | None], brackets: bytes) -> bool:
    """Open and close levels; false where brackets don't match, go too deep, or go on behind the end."""
    for mark in brackets:
        if not levels:
            return False
        if mark in _OPENS_OBJECT:
            if len(levels) >= DEPTH_MAX:
                return False
            levels.append(set() if _OPENS_OBJECT[mark] else None)
        elif (levels.pop() is None) != _CLOSES_ARRAY[mark]:
            return False
    return True


def _patiently(body: bytes, text: bytes) -> RawObject:
    """The same for every body, with the reason where one is refused. `text` is the body without escapes."""
    members: dict[str, tuple[int, int, int]] = {}
    # One entry per open bracket: the keys of an object so far, or `None` for an array.
    levels: list[set[bytes] | None] = []
    pending: _Span | None = None
    for tokens, match in enumerate(_TOKEN.finditer(text), 1):
        if tokens > TOKENS_MAX:
            raise RawJsonError(f"the body has more than {TOKENS_MAX} JSON keys and brackets")
        mark = match[2]
        if match.lastindex is None:
            continue
        if mark is None:
            key = _new_key(body[match.start(1) : match.end(1)], levels[-1] if levels else None, pending)
            if len(levels) == 1:
                _close_member(body, members, pending, before=match.start(1))
                pending = (key.decode("utf-8", "replace"), match.start(1), match.end())
        elif mark in (b"{", b"["):
            if len(levels) >= DEPTH_MAX:
                where = None if pending is None else pending[0]
                raise RawJsonError(f"the body is nested deeper than {DEPTH_MAX} levels", member=where)
            levels.append(set() if mark == b"{" else None)
        elif mark in (b'"', b""):
            break
        else:
            if not levels or (levels.pop() is None) != (mark == b"]"):
                raise RawJsonError("the body is not valid JSON: brackets do not match")
            if not levels:
                _close_member(body, members, pending, before=match.start(2))
                return RawObject(body, members)
    raise RawJsonError("the body is not valid JSON: it ends too early")


def _new_key(quoted: bytes, seen: set[bytes] | None, pending: _Span | None) -> bytes:
    """A key without quotes and escapes, noted in `seen`: the keys of its object so far, `None` outside an object."""
    if seen is None:
        raise RawJsonError("the body is not valid JSON: a key outside an object")
    key = _decoded(quoted) if b"\\" in quoted else quoted[1:-1]
    if key in seen:
        shown = key.decode("utf-8", "replace")[:KEY_CHARACTERS_SHOWN]
        raise RawJsonError(f"the key {shown!r} appears twice", member=pending[0] if pending else None)
    seen.add(key)
    return key


def objects_in(array: bytes) -> Iterator[tuple[int, int]]:
    """The (start, end) of each object that is an element of a JSON array. `array` must be valid JSON."""
    depth = start = 0
    for match in _TOKEN.finditer(array):
        mark = match[2]
        if mark in (b"{", b"["):
            depth += 1
            if depth == 2:
                start = match.start(2)
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 1 and mark == b"}":
                yield start, match.end(2)


def _close_member(body: bytes, members: dict[str, tuple[int, int, int]], pending: _Span | None, *, before: int) -> None:
    """Note the member that ends before the next key or the closing brace, without the blanks around its value."""
    if pending is None:
        return
    key, key_start, value_start = pending
    end = _without_blanks_behind(body, value_start, before)
    members[key] = (key_start, _without_blanks_before(body, value_start, end), end)


def _without_blanks_behind(body: bytes, start: int, end: int) -> int:
    """The end of what stands there but for blanks and a comma. Copies a few bytes, or, where all are blanks, all."""
    for near in (max(start, end - _NEAR), start):
        kept = body[near:end].rstrip(_BEHIND)
        if kept:
            return near + len(kept)
    return start


def _without_blanks_before(body: bytes, start: int, end: int) -> int:
    """The start of what stands there but for blanks."""
    for near in (min(end, start + _NEAR), end):
        kept = body[start:near].lstrip(_BLANK)
        if kept:
            return near - len(kept)
    return end


def _decoded(quoted: bytes) -> bytes:
    """A key with escapes, decoded, so that `"a"` and its escaped spelling count as one key."""
    try:
        text = json.loads(quoted.decode("utf-8"))
    except ValueError as problem:
        raise RawJsonError("the body is not valid JSON: a key has a broken escape") from problem
    return str(text).encode("utf-8", "surrogatepass")
