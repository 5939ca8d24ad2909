"""The cache as the path sees it: one visit before the attempts, one after them.

Where on the path: `pipeline` makes a `Visit` for each request, asks `find` before the first attempt, and hands what was
answered to `keep`.

Invariants
1. Without `cache:` in the registry there is no visit: nothing is looked for, kept or told.
2. What is given is what was kept under this very name, whole, no older than both registry and caller allow.
3. Kept is only what `finished` calls whole, within its size, for which nothing was given up.
4. Nothing here raises, and nothing waits longer than its store: what fails is a miss.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from service import telemetry
from service.cache.finished import stream_is_finished, whole_is_finished
from service.cache.naming import name_of
from service.cache.sealing import HEAD_BYTES_MAX, Kept, sealed, unsealed
from service.cache.stores import Store, StoreAway
from service.domain.access import Caller
from service.domain.catalog import CacheSpec, Catalog
from service.domain.chat import CacheWish, ChatRequest
from service.domain.decision import Decision
from service.domain.ports import Clock

HIT: Final = "hit"
MISS: Final = "miss"
BYPASS: Final = "bypass"
"""What `x-coe-cache` says: given from here; looked for in vain; not looked for."""

WRITES_MAX: Final = 64
"""Answers on their way to a store: of the largest size, 16 MiB. What comes more is not kept."""

NOTED_BYTES_MAX: Final = 32 * 1024 * 1024
"""What is remembered of all streams under way together; one that finds no room is not kept."""

SKEW_MS: Final = 5_000
"""How far ahead the clock of the replica may be that kept an answer."""

UNFINISHED: Final = "unfinished"
TOO_LARGE: Final = "too_large"
GIVEN_UP: Final = "given_up"
BUSY: Final = "busy"
REASONS: Final = (UNFINISHED, TOO_LARGE, GIVEN_UP, BUSY)
"""Why an answer is not kept: not whole by itself, over its size, something was given up for it, too many at once."""

_READS_ALL: Final = CacheWish()


@dataclass(slots=True)
class Room:
    """What may still be remembered of streams under way, in bytes."""

    left: int = NOTED_BYTES_MAX


@dataclass(slots=True)
class Visit:
    """One request at the cache.

    `reads` and `writes` are what it may do here, `ttl_s` how old an answer may be and how long one is kept, `bytes_max`
    its size. `told` is what the caller is told, `away` whether the store could not be asked. `pieces` are those of a
    stream so far, `size` bytes together; `lost` is why they are not remembered any more.
    """

    name: bytes
    reads: bool
    writes: bool
    ttl_s: int
    bytes_max: int
    choices: int
    stream: bool
    told: str = BYPASS
    away: bool = False
    size: int = 0
    lost: str = ""
    room: Room = field(default_factory=Room)
    pieces: list[bytes] = field(default_factory=list)

    def note(self, piece: bytes) -> None:
        """Note a piece of a stream on its way to the caller, as long as it is not too large and there is room."""
        if self.lost:
            return
        if self.size + len(piece) > self.bytes_max:
            self.lost = TOO_LARGE
        elif len(piece) > self.room.left:
            self.lost = BUSY
        else:
            self.size += len(piece)
            self.room.left -= len(piece)
            self.pieces.append(piece)
            return
        self.forget()

    def forget(self) -> None:
        """Let go of what was noted; always called in the end."""
        self.room.left += self.size
        self.size = 0
        self.pieces.clear()


class AnswerCache:
    """See the module. `secret` is derived from what only the operator has."""

    def __init__(self, store: Store, secret: bytes, clock: Clock) -> None:
        self._store = store
        self._names = hmac.digest(secret, b"names", "sha256")
        self._seals = hmac.digest(secret, b"seals", "sha256")
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()
        self._room = Room()
        self._hits = self._misses = self._stored = self._errors = self._saved_pusd = 0
        self._not_kept: Counter[str] = Counter()

    @property
    def problem(self) -> str:
        """Why its store can't be asked at the moment, empty while it can."""
        return self._store.problem

    def visit(self, chat: ChatRequest, caller: Caller, decision: Decision, catalog: Catalog) -> Visit | None:
        """The visit of a request; `None` where the cache is off."""
        spec = catalog.cache
        if spec is None:
            return None
        wish = chat.steering.cache
        if wish is None:
            wish = _READS_ALL if spec.sampled or _is_repeatable(chat) else CacheWish(read=False, write=False)
        takes_part = wish.read or wish.write
        name = name_of(self._names, caller.key_id, chat, decision, catalog.offer) if takes_part else b""
        ttl_s = spec.ttl_s if wish.ttl_s is None else min(spec.ttl_s, wish.ttl_s)
        return Visit(name, wish.read, wish.write, ttl_s, spec.answer_bytes_max, chat.n, chat.stream, room=self._room)

    async def find(self, visit: Visit | None) -> Kept | None:
        """The answer that was kept for a request like this, if there is one that may be given."""
        if visit is None or not visit.reads:
            return None
        kept = await self._found(visit)
        if kept is None:
            self.missed(visit)
        return kept

    def given(self, visit: Visit, kept: Kept) -> None:
        """Count an answer that was given from here."""
        visit.told, visit.writes = HIT, False
        self._hits += 1
        self._saved_pusd += kept.cost_pusd or 0

    def missed(self, visit: Visit) -> None:
        """Count a request that was looked for, and that a vendor is to answer."""
        visit.told = MISS
        self._misses += 1

    def keep(self, visit: Visit | None, kept: Kept, *, given_up: bool) -> None:
        """Keep an answer that went to its caller, if it is one to be kept. Waits for nothing."""
        if visit is None or not visit.writes:
            return
        visit.writes = False
        finished = stream_is_finished if kept.stream else whole_is_finished
        reason = ""
        if given_up:
            reason = GIVEN_UP
        elif visit.lost:
            reason = visit.lost
        elif len(kept.body) > visit.bytes_max:
            reason = TOO_LARGE
        elif not finished(kept.body, visit.choices):
            reason = UNFINISHED
        elif len(self._writing) >= WRITES_MAX:
            reason = BUSY
        if reason:
            self._not_kept[reason] += 1
            return
        try:
            value = sealed(self._seals, visit.name, kept)
        except ValueError:
            self._not_kept[TOO_LARGE] += 1
            return
        task = asyncio.get_running_loop().create_task(self._put(visit.name, value, visit.ttl_s))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def fit(self, spec: CacheSpec | None) -> None:
        """Another registry serves: hold what it allows, and nothing where it has no cache."""
        self._store.fit(0 if spec is None else spec.memory_bytes)

    async def close(self) -> None:
        """Let go of the store."""
        if self._writing:
            await asyncio.wait(tuple(self._writing), timeout=1.0)
        await self._store.close()

    def figures(self) -> dict[str, int | Mapping[str, float]]:
        """For GET /metrics. What was saved is in pico-USD."""
        return {
            telemetry.CACHE_HITS: self._hits,
            telemetry.CACHE_MISSES: self._misses,
            telemetry.CACHE_STORED: self._stored,
            telemetry.CACHE_NOT_KEPT: {reason: self._not_kept[reason] for reason in REASONS},
            telemetry.CACHE_EVICTED: self._store.evicted,
            telemetry.CACHE_BYTES: self._store.held_bytes,
            telemetry.CACHE_ERRORS: self._errors,
            telemetry.CACHE_SAVED: self._saved_pusd,
        }

    async def _found(self, visit: Visit) -> Kept | None:
        try:
            value = await self._store.get(visit.name, visit.bytes_max + HEAD_BYTES_MAX)
        except StoreAway:
            self._errors += 1
            visit.away = bool(self._store.problem)
            return None
        if value is None:
            return None
        kept = unsealed(self._seals, visit.name, value)
        if kept is None:
            self._errors += 1
            telemetry.logger().warning(telemetry.CACHE_FORGED)
            return None
        young = -SKEW_MS <= self._now_ms() - kept.at_ms < visit.ttl_s * 1000
        return kept if young and kept.stream == visit.stream else None

    async def _put(self, name: bytes, value: bytes, ttl_s: int) -> None:
        try:
            await self._store.put(name, value, ttl_s)
        except StoreAway:
            self._errors += 1
        else:
            self._stored += 1

    def _now_ms(self) -> int:
        return int(self._clock.utc().timestamp() * 1000)


def _is_repeatable(chat: ChatRequest) -> bool:
    """Whether a request asks for the likeliest answer, and not for one that is drawn or looked up anew."""
    temperature = chat.body.get("temperature")
    drawn = not isinstance(temperature, int | float) or isinstance(temperature, bool) or temperature != 0
    return not drawn and chat.body.get("web_search_options") is None
