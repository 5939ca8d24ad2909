"""An answer as bytes in a store, sealed: only who has the secret can have written them, and only under this name.

Where on the path: between `answer_cache` and a store, both ways. Pure.

    coe1 · HMAC-SHA256 over the name and the rest (32 bytes) · length of the head (4 bytes) · head (JSON) · body

Invariants
1. What was changed, cut, written by somebody else or moved to another name is not an answer: `unsealed` gives `None`.
2. A seal hides nothing: who may read the store reads the answers in it. Questions are not in there.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import orjson

FORM: Final = b"coe1"
_SEAL_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
HEAD_BYTES_MAX: Final = 4_096
"""What stands before an answer's own bytes: form, seal, and a head of a few ids."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole answer: of a stream, the vendor's events up to the end event.

    `at_ms` is when it was given, in Unix milliseconds; `deployment` who gave it, in `attempt_id`, at `cost_pusd`
    (`None`: its price was unknown). `upstream_id` and `served_model` are the vendor's words.
    """

    body: bytes
    content_type: str
    stream: bool
    at_ms: int
    deployment: str
    attempt_id: str
    cost_pusd: int | None
    upstream_id: str | None = None
    served_model: str | None = None


def sealed(secret: bytes, name: bytes, kept: Kept) -> bytes:
    """The bytes for a store. Raises ValueError when its head is larger than `HEAD_BYTES_MAX`, or no JSON."""
    cost = None if kept.cost_pusd is None else str(kept.cost_pusd)
    told = [kept.content_type, kept.stream, kept.at_ms, kept.deployment, kept.attempt_id, cost]
    try:
        head = orjson.dumps([*told, kept.upstream_id, kept.served_model])
    except orjson.JSONEncodeError as problem:
        raise ValueError("a vendor's id or the name of its model is no text; nothing is kept") from problem
    if len(head) > HEAD_BYTES_MAX - len(FORM) - _SEAL_BYTES - _LENGTH_BYTES:
        raise ValueError(f"the head of an answer has {len(head)} bytes; nothing is kept")
    rest = len(head).to_bytes(_LENGTH_BYTES, "big") + head + kept.body
    return FORM + _seal(secret, name, rest) + rest


def unsealed(secret: bytes, name: bytes, value: bytes) -> Kept | None:
    """The answer in a store's bytes; `None` when they are not what was put there under this name."""
    begin = len(FORM) + _SEAL_BYTES
    rest = value[begin:]
    if not value.startswith(FORM) or not hmac.compare_digest(value[len(FORM) : begin], _seal(secret, name, rest)):
        return None
    end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "big")
    head = orjson.loads(rest[_LENGTH_BYTES:end])
    content_type, stream, at_ms, deployment, attempt_id, cost, upstream_id, served = head
    cost_pusd = None if cost is None else int(cost)
    return Kept(rest[end:], content_type, stream, at_ms, deployment, attempt_id, cost_pusd, upstream_id, served)


def _seal(secret: bytes, name: bytes, rest: bytes) -> bytes:
    mac = hmac.new(secret, name, "sha256")
    mac.update(rest)
    return mac.digest()
