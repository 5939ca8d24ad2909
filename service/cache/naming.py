"""The name under which the answer to a request is kept: an HMAC over its tenant and all that changes the answer.

Where on the path: `answer_cache.visit`, once for a request. Pure.

Invariants
1. Two tenants never have one name: the id of the key is in it. Ids are random and never used again, also where a name
   is; all anonymous callers of a loopback router are one tenant.
2. Two requests that a vendor could answer differently never have one name: every member of the body counts, in the
   bytes that its caller wrote, and so does what the caller demanded of the router and the rules that applied.
3. Without the secret nobody can tell from a name what was asked, or by whom.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Final

import orjson

from service.domain.catalog import Selector
from service.domain.chat import ChatRequest, Steering
from service.domain.decision import Decision

NAME_BYTES: Final = 32
_FORM: Final = b"coe answer 1"
"""Another number: nothing that was kept before is found."""

_ROUTERS_OWN: Final = "coe"
"""The member of a body that no vendor sees: what counts of it is in `Steering`."""


def name_of(secret: bytes, key_id: str | None, chat: ChatRequest, decision: Decision, offer: str) -> bytes:
    """`NAME_BYTES` bytes. `offer` names the registry as it is here: another one has answers of its own."""
    mac = hmac.new(secret, digestmod="sha256")
    for part in _parts(key_id, chat, decision, offer):
        mac.update(len(part).to_bytes(8, "big"))  # or the end of one could be the beginning of the next
        mac.update(part)
    return mac.digest()


def _parts(key_id: str | None, chat: ChatRequest, decision: Decision, offer: str) -> Iterator[bytes]:
    yield _FORM
    yield b"anonymous" if key_id is None else b"key " + _bytes(key_id)
    ruled = (offer, decision.policy, decision.route or "", decision.plan)
    yield from map(_bytes, ruled)
    yield orjson.dumps(_demanded(chat.steering))
    for member in sorted(chat.raw.members):
        if member != _ROUTERS_OWN:
            yield _bytes(member)
            yield chat.raw.value(member) or b""


def _demanded(said: Steering) -> list[object]:
    """What of the caller's demands may lead to another answer. How soon, how often and how told does not."""
    return [
        said.policy,
        said.min_quality,
        None if said.max_cost_pusd is None else str(said.max_cost_pusd),
        _selected(said.allow),
        _selected(said.deny),
        said.plan,
        said.session,
        _sorted(said.tags),
    ]


def _selected(selector: Selector) -> list[list[str]]:
    return [_sorted(getattr(selector, one.name)) for one in fields(selector)]


def _sorted(words: Iterable[str]) -> list[str]:
    return sorted(one.encode("utf-8", "surrogatepass").hex() for one in words)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
