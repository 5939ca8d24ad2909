"""Small changes of seeds, made without looking at what they reach: the fuzzer's poor relation, for every test run."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BYTES_MAX = 4_096
"""Of an input: what goes wrong with a long one goes wrong with a short one, but for limits, which have tests."""

_WORD = re.compile(r'^"(.*)"$', re.MULTILINE)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def seeds(target: str) -> dict[str, bytes]:
    """The seeds of a target, and what the fuzzer found once, by name."""
    return {path.name: path.read_bytes() for path in sorted((HERE / "seeds" / target).iterdir())}


def words_file(target: str) -> Path:
    """What a target's inputs are made of, in libFuzzer's form."""
    return HERE / "words" / f"{target}.dict"


def words(target: str) -> list[bytes]:
    """The same, read."""
    text = words_file(target).read_text(encoding="ascii")
    return [_ESCAPED.sub(lambda one: chr(int(one[1], 16)), word).encode("latin-1") for word in _WORD.findall(text)]


def mutated(data: bytes, others: Sequence[bytes], known: Sequence[bytes], chance: random.Random) -> bytes:
    """The bytes with one to five changes."""
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((0, 1, 2, 8, 40)))
        how = chance.randrange(6)
        if how == 0:
            new = bytes([chance.randrange(256)])
        elif how == 1:
            new = chance.choice(known)
        elif how == 2:
            new = b""
        elif how == 3:
            new = data[at:to] * 2
        elif how == 4:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            new = other[start : start + chance.choice((4, 40, 400))]
        else:
            new = bytes(one ^ (1 << chance.randrange(8)) for one in data[at:to])
        data = (data[:at] + new + data[to:])[:BYTES_MAX]
    return data


def inputs(target: str, seed: int) -> Iterator[bytes]:
    """Mutated seeds without end: the same for the same seed."""
    chance = random.Random(f"{target}:{seed}")
    first, known = list(seeds(target).values()), words(target)
    while True:
        yield mutated(chance.choice(first), first, known, chance)
