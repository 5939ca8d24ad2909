"""What becomes of vendors over a long run: fair hours, showers, outages, silence. Drawn from a seed, spell by spell.

A vendor's spell is a script for each of its next requests (`VendorScript.cycle`), or a port that refuses, and how likely
its proxy troubles a connection. `fair` is what a vendor does that is well: it is slow now and then, and thinks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from service.simulator import ErrorShape, Fault, Script, VendorScript, http_error
from service.simulator.script import AfterAnswer, UsageShape

SCRIPTS: Final = 24
"""In one spell; then they come again in the same order."""

SPELL_S: Final = (12.0, 40.0)
OUTAGE_S: Final = (5.0, 15.0)
"""Shorter, or half of a run would be an outage: the breakers rest for longer than it lasts."""


@dataclass(frozen=True, slots=True)
class Spell:
    """What a vendor does for so many seconds. `refuses`: its port is closed."""

    name: str
    seconds: float
    scripts: VendorScript
    trouble: float = 0.0
    refuses: bool = False


def well(chance: random.Random) -> Script:
    """A healthy answer, one of many kinds."""
    pace = chance.choice((0.0, 0.0, 0.002, 0.01))
    return Script(
        header_delay_s=chance.uniform(0, 0.05),
        first_content_delay_s=chance.choice((0.0, chance.uniform(0, 0.3))),
        chunk_delay_s=pace,
        chunks=chance.choice((None, None, 3, 40)),
        cached_tokens=chance.choice((0, 0, 4, 200)),
        hidden_reasoning_tokens=chance.choice((0, 0, 0, 77)),
        reasoning=chance.choice((None, None, None, "Let me think about that. ")),
        comments=chance.random() < 0.1,
        write_bytes=chance.choice((None, None, None, 7, 100)),
        after=AfterAnswer.CLOSE if chance.random() < 0.03 else AfterAnswer.KEEP,
    )


def ill(chance: random.Random) -> Script:
    """One of the ways to fail, before the first content or after it."""
    after = chance.randrange(6)
    return chance.choice(
        (
            http_error(429, retry_after=chance.choice(("1", "2"))),
            http_error(429),
            http_error(500),
            http_error(502, shape=ErrorShape.TEXT),
            http_error(503, retry_after="1"),
            http_error(529),
            http_error(200, shape=ErrorShape.CODE_MSG),
            Script(fault=Fault.RESET),
            Script(fault=Fault.HANG_UP),
            Script(fault=Fault.HTML),
            Script(fault=Fault.EMPTY),
            Script(fault=Fault.NO_CHOICES),
            Script(fault=Fault.RAW, raw=b"\x16\x03\x01\x00\x02go away\r\n\r\n"),
            Script(fault=Fault.CUT, fault_after=after),
            Script(fault=Fault.CUT_RESET, fault_after=after),
            Script(fault=Fault.END_EARLY, fault_after=after),
            Script(fault=Fault.ERROR_EVENT, fault_after=after),
            Script(fault=Fault.ERROR_EVENT, fault_after=after, error_shape=ErrorShape.CHUNK),
            Script(fault=Fault.BROKEN_JSON, fault_after=after),
            Script(fault=Fault.STALL, fault_after=after),
            Script(fault=Fault.SILENCE),
            Script(fault=Fault.SILENCE_AFTER_HEADERS),
            Script(fault=Fault.ONLY_COMMENTS),
            Script(fault=Fault.GIANT_LINE, giant_bytes=300_000),
            Script(chunk_delay_s=0.2, chunks=20),
            Script(usage=UsageShape.MISSING),
            Script(usage=UsageShape.NEGATIVE),
            Script(usage=UsageShape.ABSURD),
            Script(usage=UsageShape.NOT_INTEGER),
            Script(after=AfterAnswer.CLOSE_SILENTLY),
            Script(after=AfterAnswer.CLOSE_ON_REUSE),
        )
    )


def _mixed(chance: random.Random, share: float) -> VendorScript:
    return VendorScript(cycle=tuple(ill(chance) if chance.random() < share else well(chance) for _ in range(SCRIPTS)))


FAIR: Final = VendorScript(cycle=(Script(),))
SILENT: Final = VendorScript(default=Script(fault=Fault.SILENCE))

KINDS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "fair": 6,
        "drizzle": 5,
        "showers": 3,
        "troubled line": 4,
        "over its limit": 1,
        "broken": 1,
        "silent": 1,
        "down": 1,
    }
)
"""How often each spell is drawn."""


def spell(chance: random.Random) -> Spell:
    """The next one of a vendor."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    seconds, outage = chance.uniform(*SPELL_S), chance.uniform(*OUTAGE_S)
    if kind == "drizzle":
        return Spell(kind, seconds, _mixed(chance, 0.04), 0.05)
    if kind == "showers":
        return Spell(kind, seconds, _mixed(chance, 0.3), 0.2)
    if kind == "troubled line":
        return Spell(kind, seconds, _mixed(chance, 0.01), 0.6)
    if kind == "over its limit":
        return Spell(kind, outage, VendorScript(default=http_error(429, retry_after=str(chance.randint(1, 4)))))
    if kind == "broken":
        return Spell(kind, outage, VendorScript(default=http_error(500)))
    if kind == "silent":
        return Spell(kind, outage, SILENT)
    if kind == "down":
        return Spell(kind, outage, FAIR, refuses=True)
    return Spell(kind, seconds, _mixed(chance, 0.0))
