"""JSON the way nobody writes it twice: any blanks, any escapes, any order, numbers as they are spelt.

What `fidelity` sends in both directions; a value is bytes from the beginning, so that nothing can respell it by accident.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

NUMBERS = (
    "1.0", "1e2", "1E+2", "-0.0", "-0", "0.10", "1e-7", "123456789012345678901234567890", "9007199254740993", "1.5e300",
    "0.1000000000000000055511151231257827", "18446744073709551616", "-9223372036854775809",
)  # fmt: skip
TEXTS = (
    "Paris",
    "巴黎",
    "naïve é🙂",
    "a\u2028b\u2029c\u0085d",
    "\u0000\u001f\u007f",
    'say "no" \\ / {}[],:',
    "",
    " \t\n",
    "null",
    "\ufeff",
)
KEYS = (
    "logit_bias",
    "metadata",
    "x_unknown",
    "modalities",
    "prediction",
    'a"b',
    "é",
    "",
    "user_context",
    "top_logprobs",
    "a.b",
)


class Spelling:
    """Writes JSON by chance; the same for the same chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._blanks = chance.choice(((b"",), (b"", b" "), (b" ", b"\n  ", b"\t", b"\r\n", b"")))

    def blank(self) -> bytes:
        """What stands between two tokens."""
        return self._chance.choice(self._blanks)

    def text(self, text: str) -> bytes:
        """A string."""
        return b'"' + b"".join(self._character(one) for one in text) + b'"'

    def _character(self, one: str) -> bytes:
        units = one.encode("utf-16-be")
        escaped = "".join(f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2))
        if self._chance.random() < 0.05:
            return (escaped if self._chance.random() < 0.5 else escaped.upper().replace("\\U", "\\u")).encode()
        short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "/": self._chance.choice(("/", "\\/"))}
        if one < " " and one not in short:
            return escaped.encode()
        return short.get(one, one).encode()

    def members(self, pairs: Sequence[tuple[str, bytes]]) -> bytes:
        """An object of values that are spelt already."""
        inside = [self.text(key) + self.blank() + b":" + self.blank() + value for key, value in pairs]
        return b"{" + self.blank() + (self.blank() + b"," + self.blank()).join(inside) + self.blank() + b"}"

    def items(self, values: Sequence[bytes]) -> bytes:
        """A list."""
        return b"[" + self.blank() + (self.blank() + b"," + self.blank()).join(values) + self.blank() + b"]"

    def any(self, depth: int = 3) -> bytes:
        """Any value."""
        how = self._chance.randrange(6 if depth else 4)
        if how == 0:
            return self._chance.choice(NUMBERS).encode()
        if how in (1, 2):
            return self.text("".join(self._chance.choice(TEXTS) for _ in range(self._chance.randrange(3))))
        if how == 3:
            return self._chance.choice((b"true", b"false", b"null"))
        if how == 4:
            return self.items([self.any(depth - 1) for _ in range(self._chance.randrange(4))])
        return self.members([(key, self.any(depth - 1)) for key in self._some_keys()])

    def _some_keys(self) -> list[str]:
        return self._chance.sample(KEYS, self._chance.randrange(4))

    def unknown(self) -> list[tuple[str, bytes]]:
        """Fields that nobody here knows."""
        return [(key, self.any()) for key in self._some_keys()]

    def call(self) -> bytes:
        """A tool call, its arguments with the spelling of a model."""
        arguments = self.text('{"x": 1.0, "city": "M\\u00fcnchen", "y": 1e2}')
        function = self.members([("name", self.text("look_up")), ("arguments", arguments)])
        return self.members(
            [("id", self.text("call_ab/1")), ("type", b'"function"'), ("function", function), *self.unknown()]
        )
