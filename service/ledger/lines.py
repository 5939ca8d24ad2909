"""One line of the journal: what is written, and how a damaged line is known.

Where on the path: `writer` encodes with it, `recovery` and `indexer` decode.

A line is one JSON object and a newline: `{"v":1,"t":"open","e":{...},"c":"89abcdef"}`. `v` is the format, `t` the kind,
`e` the body and `c` the CRC-32 of every byte before `,"c":`.

Invariants
1. `decode(encode(kind, body))` gives the kind and the body back.
2. No prefix of a line is a valid line, and no single changed byte goes unseen.
3. A line holds no newline but its last byte, so damage never spreads beyond one line.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

import orjson

Kind = Literal["segment", "decision", "open", "terminal", "feedback"]

KINDS: tuple[Kind, ...] = get_args(Kind)

VERSION = 1

MAX_LINE_BYTES = 1 << 20
"""A longer line is refused when written and reported when read: nothing in the ledger grows with a prompt."""

_SEAL_HEAD = b',"c":"'
_SEAL_TAIL = b'"}'
_SEAL_BYTES = len(_SEAL_HEAD) + 8 + len(_SEAL_TAIL)

_RECORD: Final = re.compile(
    rb'\{"v":1,"t":"decision","e":(?=\{"id":"([!#-\[\]-~]++)","request_id":"[!#-\[\]-~]*+",'
    rb'"key_id":(?:null|"([!#-\[\]-~]++)"),"created_ms":([0-9]{1,15}),"'
    rb'(?:at":"[^"\\]*+","requested":"[^"\\]*+","policy":"[^"\\]*+","route":(?:null|"[^"\\]*+"),'
    rb'"plan":(null|"[ !#-\[\]-~]*+"),)?+)'
)
"""How a decision record begins as the router writes it: what an index needs of it stands in front."""


class LineError(ValueError):
    """A line that can't be trusted; the message says why and holds none of the line's content."""


class Line(NamedTuple):
    """A line that was read: its kind, its body, and its checksum in hex (the name of this very line).

    `text` is the JSON of a body of which only the beginning was looked at (`skim`), else empty.
    """

    kind: Kind
    body: Mapping[str, object]
    seal: str
    text: bytes = b""


def encode(kind: Kind, body: Mapping[str, object]) -> bytes:
    """The bytes of one line, newline included; raises ValueError when the body isn't JSON or is too long."""
    try:
        payload = orjson.dumps({"v": VERSION, "t": kind, "e": body})[:-1]
    except TypeError as error:
        # orjson's words name types, never values.
        raise ValueError(f"a {kind} row holds something that is not JSON ({error}); give plain values") from error
    line = b"%b%b%08x%b\n" % (payload, _SEAL_HEAD, zlib.crc32(payload), _SEAL_TAIL)
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"a {kind} row has {len(line)} bytes, the limit is {MAX_LINE_BYTES}; store less in it")
    return line


def decode(raw: bytes) -> Line:
    """The line in `raw` (without its newline); raises LineError when it was torn, changed or is of another format."""
    return _parsed(*_unsealed(raw))


def skim(raw: bytes) -> Line:
    """As `decode`, but of a decision record as the router writes it only a few fields are read.

    They are `id`, `key_id`, `created_ms` and, in records of today's form, `plan`. The checksum says that the rest is
    what was written. Records are the longest lines, and an index keeps them as text.
    """
    payload, seal = _unsealed(raw)
    found = _RECORD.match(payload)
    if found is None:
        return _parsed(payload, seal)
    key_id = None if found[2] is None else found[2].decode("ascii")
    body: dict[str, object] = {"id": found[1].decode("ascii"), "key_id": key_id, "created_ms": int(found[3])}
    if found[4] is not None:
        body["plan"] = None if found[4] == b"null" else found[4][1:-1].decode("ascii")
    return Line("decision", body, seal, payload[found.end() :])


def _unsealed(raw: bytes) -> tuple[bytes, str]:
    """(a line without its seal and its last brace, its checksum in hex); raises LineError when the two don't fit."""
    if len(raw) >= MAX_LINE_BYTES:
        raise LineError(f"longer than {MAX_LINE_BYTES} bytes")
    payload, seal = raw[:-_SEAL_BYTES], raw[-_SEAL_BYTES:]
    if len(seal) < _SEAL_BYTES or not seal.startswith(_SEAL_HEAD) or not seal.endswith(_SEAL_TAIL):
        raise LineError("no checksum at its end")
    checksum = seal[len(_SEAL_HEAD) : -len(_SEAL_TAIL)]
    if checksum != b"%08x" % zlib.crc32(payload):
        raise LineError("the checksum does not fit the content")
    return payload, checksum.decode("ascii")


def _parsed(payload: bytes, seal: str) -> Line:
    try:
        whole = orjson.loads(payload + b"}")
        version, kind, body = whole["v"], whole["t"], whole["e"]
    except (ValueError, KeyError, TypeError) as error:
        raise LineError("not a journal line") from error
    if version != VERSION:
        raise LineError(f"format {version!r} is not format {VERSION} of this program")
    if kind not in KINDS or not isinstance(body, dict):
        raise LineError("an unknown kind of line")
    return Line(kind, body, seal)
