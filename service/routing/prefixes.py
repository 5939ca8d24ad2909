"""Which vendor still holds the beginning of a prompt: vendors read a cached prefix at a fraction of the input price.

Where on the path: `pipeline` makes the chain of a request once, asks `Prefixes.warm` before it decides, and tells
`Prefixes.settled` what the vendor reported when an attempt is over. `estimate` prices what is warm.

A prompt is cached from its start: tools, then messages in order. Its chain has one digest at the end of each message,
each over everything before it, so two requests share a digest exactly when they share that beginning. A conversation's
next turn repeats the turn before it; two conversations of one application repeat its instructions. So of each request
three ends are remembered: of its leading instructions, of what stood before the newest message, and of all of it.

Invariants
1. Memory only, bounded in every direction; digests only, no text. Warmth is lost at a restart, and costs nothing then.
2. The chain is salted with the caller's key: nobody learns from a price what another key has sent.
3. Warm is what was sent there within the deployment's time to live, unless the vendor has since said that it was cold.
4. Tokens are the vendor's own count of what it read. Only whole blocks of the vendor's are ever counted as warm.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.domain.catalog import Deployment
from service.domain.chat import ChatRequest
from service.domain.money import PriceQuote, Rates, Usage, UsageSource

BLOCK_TOKENS: Final = 1_024
"""The shortest prefix that the large vendors cache, and how finely it is counted here: a little less than is warm."""

CACHE_TTL_S: Final = 300.0
"""How long a prefix stays warm where the provider has no quirk `cache_ttl_s`: the shortest of the large vendors."""

TTL_QUIRK: Final = "cache_ttl_s"
MARKED_QUIRK: Final = "cache_marked"
MARKED_WRITES: Final = frozenset({MARKED_QUIRK, "cache_write_marked"})
"""Quirks of providers that write nothing, or nothing that they bill, unless the request marks it."""

WRITES: Final = ("cache_write_5m", "cache_write_1h")
"""The buckets of what is written to a cache, the usual time to live first."""

MARKED_BY: Final = "cache_control"
MARK: Final = b'"cache_control"'

CHAIN_BYTES_MAX: Final = 1024 * 1024
"""How much of a prompt is hashed (about 250,000 tokens); what is behind it counts as cold."""

CHAINED_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""A larger body is attachments rather than conversation, and has no chain."""

PREFIXES_MAX: Final = 8_192
"""Prefixes remembered, the longest unused one forgotten first: a few megabytes."""

HOLDERS_MAX: Final = 16
"""Deployments remembered per prefix: a conversation does not wander further while anything is warm."""

_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Chain:
    """The beginnings of one prompt. `digests` and `shares` go together, from the shortest to the longest.

    A share is how much of the bytes of the whole prompt it is, 0 to 1. `kept` are the places worth remembering.
    `marked`: the request says itself what is to be cached.
    """

    digests: Sequence[bytes]
    shares: Sequence[float]
    kept: Sequence[int]
    marked: bool = False


NO_CHAIN: Final = Chain((), (), ())
"""A prompt too short to be cached."""

ONLY_MARKED: Final = Chain((), (), (), marked=True)
"""One that says what is to be cached and is not remembered: too short as we count, or too long to be read."""


def chain_of(chat: ChatRequest, salt: str | None) -> Chain:
    """The chain of a request; `NO_CHAIN` below one block. Work is bounded by the two limits above.

    Messages are written again from what was parsed, so spaces between JSON tokens make no difference. Nor do marks:
    clients move them to the newest message, and the text that they stood in is the same prefix as before.
    """
    marked = MARK in chat.raw.body
    if chat.sizes.input_tokens < BLOCK_TOKENS or len(chat.raw.body) > CHAINED_BODY_BYTES_MAX:
        return ONLY_MARKED if marked else NO_CHAIN
    messages: Sequence[Mapping[str, Any]] = chat.body["messages"]
    digest = hashlib.sha256((salt or "").encode() + b"\0")
    tools = chat.raw.value("tools") or b""
    digest.update(tools[:CHAIN_BYTES_MAX])
    done = len(tools)
    digests: list[bytes] = []
    ends: list[int] = []
    for message in messages:
        if done > CHAIN_BYTES_MAX:
            break
        text = orjson.dumps(_unmarked(message) if marked else message)
        done += len(text)
        if done > CHAIN_BYTES_MAX:
            break
        digest.update(text)
        digests.append(digest.digest()[:_DIGEST_BYTES])
        ends.append(done)
    # What was not read is taken for as long as the body says: it only makes shares smaller.
    whole = done if len(digests) == len(messages) else max(done, len(chat.raw.body))
    leading = next((at for at, one in enumerate(messages) if one["role"] not in ("system", "developer")), 0)
    kept = sorted({at for at in (leading - 1, len(messages) - 2, len(messages) - 1) if 0 <= at < len(digests)})
    return Chain(digests, [end / whole for end in ends], kept, marked)


def _unmarked(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message without `cache_control`, which may stand on it and on each of its parts."""
    bare = {name: value for name, value in message.items() if name != MARKED_BY}
    content = bare.get("content")
    if isinstance(content, list):
        bare["content"] = [
            {name: value for name, value in part.items() if name != MARKED_BY} if isinstance(part, dict) else part
            for part in content
        ]
    return bare


class Prefixes:
    """What was sent where, and when. One per process, used from its event loop only."""

    def __init__(self, limit: int = PREFIXES_MAX) -> None:
        self._limit = limit
        # digest -> deployment id -> (tokens that are warm, 0 for known cold; until when, monotonic seconds)
        self._held: OrderedDict[bytes, dict[str, tuple[int, float]]] = OrderedDict()

    def __len__(self) -> int:
        """How many prefixes are remembered."""
        return len(self._held)

    def warm(self, chain: Chain, now: float) -> dict[str, int]:
        """Deployment id -> tokens of this prompt that are warm there, at a monotonic instant. Changes nothing.

        The longest beginning that a deployment has seen decides, also when that one is known to be cold.
        """
        if not self._held:
            return {}
        found: dict[str, int] = {}
        for digest in reversed(chain.digests):
            for name, (tokens, until) in self._held.get(digest, {}).items():
                if until > now and name not in found:
                    found[name] = tokens
        return {name: tokens for name, tokens in found.items() if tokens}

    def settled(self, chain: Chain, deployment: Deployment, usage: Usage, sent: float, due: int = 0) -> None:
        """Remember what a vendor said it read of a prompt. What nobody counted teaches nothing.

        `sent` is when it was sent, monotonic seconds: a long answer keeps nothing warm. `due` are the tokens that were
        held for warm then. A prompt that was read fresh is warm since, as automatic caches have it. One of which a
        block was due, and no token came from the cache, is cold there until a hit is reported or a time to live has
        passed: such a vendor does not keep its prefixes, or not where we reach them. What was learned while it ran
        was not due: of two requests that begin alike and run together, both are read fresh. With `cache_marked` only
        what was reported as read or written is kept.
        """
        total = usage.input_total
        if not chain.kept or usage.source is not UsageSource.PROVIDER or total < BLOCK_TOKENS:
            return
        kept, until = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h, sent + ttl_s(deployment)
        if MARKED_QUIRK not in deployment.provider.quirks:
            found = None if kept else self._found(chain, deployment.id, sent)
            missed, kept = not kept and due >= BLOCK_TOKENS, total
            if found is not None and found[0] == 0:
                kept, until = found  # cold since then; not longer for having been asked again
            elif missed:
                kept = 0
        for place in chain.kept:
            tokens = min(kept, max(1, int(total * chain.shares[place])))
            holders = self._held.setdefault(chain.digests[place], {})
            before = holders.pop(deployment.id, None)
            # An earlier request may end later: it does not shorten what a later one has begun.
            both_warm = before is not None and before[0] and tokens
            holders[deployment.id] = (tokens, max(until, before[1]) if before is not None and both_warm else until)
            if len(holders) > HOLDERS_MAX:
                del holders[next(iter(holders))]
            self._held.move_to_end(chain.digests[place])
        while len(self._held) > self._limit:
            self._held.popitem(last=False)

    def _found(self, chain: Chain, name: str, now: float) -> tuple[int, float] | None:
        """(tokens, until when) of the longest beginning of a prompt that a deployment is known to hold, or not to."""
        for digest in reversed(chain.digests):
            held = self._held.get(digest, {}).get(name)
            if held is not None and held[1] > now:
                return held
        return None


def ttl_s(deployment: Deployment) -> float:
    """How long a prefix stays warm at a deployment, in seconds."""
    said = deployment.provider.quirks.get(TTL_QUIRK, "")
    return float(said) if said.isdecimal() else CACHE_TTL_S


def writes_of(deployment: Deployment, *, marked: bool) -> tuple[str, ...]:
    """The buckets in which a vendor may bill what it writes of a prompt: none where it writes only what is `marked`.

    How long something marked is to be kept is not looked at: it may be either.
    """
    if marked:
        return WRITES
    return WRITES[:1] if MARKED_WRITES.isdisjoint(deployment.provider.quirks) else ()


def dearest_input(rates: Rates, writes: Sequence[str]) -> int:
    """The most that an input token can cost, in pico-units, where it may be written to a cache in these buckets."""
    fresh = rates.input or 0
    if not writes:
        return fresh
    longer = rates.cache_write_1h if len(writes) > 1 else None
    return max(fresh, rates.cache_write_5m or 0, longer or 0)


def split(
    quote: PriceQuote, deployment: Deployment, input_tokens: int, warm_tokens: int, *, marked: bool
) -> tuple[int, int]:
    """(tokens read from the cache, tokens written to it) of a prompt, in whole blocks; the rest is fresh.

    Reads count only where the price book has a price for them, writes where it bills them and the vendor writes
    whatever it reads or the request is `marked`.
    """
    if input_tokens < BLOCK_TOKENS:
        return 0, 0
    rates = quote.rates_for(input_tokens)
    whole = input_tokens // BLOCK_TOKENS * BLOCK_TOKENS
    read = min(warm_tokens, input_tokens) // BLOCK_TOKENS * BLOCK_TOKENS if rates.cache_read is not None else 0
    writes = rates.cache_write_5m is not None and (marked or MARKED_WRITES.isdisjoint(deployment.provider.quirks))
    return read, whole - read if writes else 0
