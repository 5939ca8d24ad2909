"""Whether bytes are one whole request and nothing else, seen at a glance: what may be refused without being parsed.

Where on the path: `api.door` asks when the line is full. In a flood most of a refusal's time went into parsing what
nobody is going to look at; this looks at the header once, with one expression.

Invariants
1. Yes means: any HTTP/1.1 parser reads just these bytes as one message, and keeps its connection open behind it. One
   `Content-Length` that ends where the bytes end, one `Host`, no other framing, no header line in two ways.
2. No means nothing: whatever is unusual goes the long way, where it is told what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final

HEAD_BYTES_MAX: Final = 8 * 1024
"""Longer headers are looked at by the parser, which knows the limits."""

_LINES: Final = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)"
_HEAD: Final = re.compile(rb"POST /v1/[!-~]{1,200} HTTP/1\.1\r\n" + _LINES + rb"{2,40}\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[\t ]*([0-9]{1,8})[\t ]*\r\n")
_ODD: Final = re.compile(rb"\r\n(?:transfer-encoding|te|trailer|expect|upgrade|content-encoding):")


def is_one_request(data: bytes) -> bool:
    """Whether these are all bytes of one POST to `/v1/…` whose sender goes on with the connection."""
    found = _HEAD.match(data, 0, HEAD_BYTES_MAX)
    if found is None:
        return False
    head = data[: found.end()].lower()
    if head.count(b"\r\ncontent-length:") != 1 or head.count(b"\r\nhost:") != 1 or _ODD.search(head) is not None:
        return False
    if b"\r\nconnection:" in head and b"\r\nconnection: keep-alive\r\n" not in head:
        return False
    length = _LENGTH.search(head)
    return length is not None and len(data) == found.end() + int(length[1])
