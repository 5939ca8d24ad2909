"""What a caller was told so far of a streamed answer, and what of a second stream goes on where the first one broke.

Where on the path: `upstream.stream` notes and splices with it while it reads; `resuming` decides whether there may be a
second stream at all. Only for requests with `coe.resume`: any other stream is neither remembered nor changed.

Invariants
1. The texts that were handed on, put together, are one text: what a second stream repeats of it must be the same to the
   last character, and is left out; what comes then is handed on. Anything else breaks the stream.
2. Of a second stream nothing is handed on that says the role again, which clients would add up, or that thinks anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from service.domain.ports import StreamSignal
from service.errors import Broken

TOLD_CHARACTERS_MAX: Final = 200_000
"""Of a text that is remembered: fifty thousand tokens. A longer one is not resumed."""


class Told:
    """The text of an answer as far as its caller has it. `resumable`: it is nothing but text, and not too long."""

    __slots__ = ("_texts", "characters", "pieces", "resumable")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.characters = self.pieces = 0
        self.resumable = True

    @property
    def text(self) -> str | None:
        """All of it; `None` when it is no text that could be sent: a character may have come in half."""
        whole = "".join(self._texts)
        try:
            return whole.encode("utf-16", "surrogatepass").decode("utf-16")  # two halves are one
        except UnicodeDecodeError:
            return None

    def begin_at(self, text: str, pieces: int) -> None:
        """An attempt begins, and this is what its caller has: of what was only read of others nothing was handed on."""
        self._texts = [text]
        self.characters, self.pieces = len(text), pieces
        self.resumable = True

    def note(self, signal: StreamSignal, text: str) -> None:
        """An event goes to the caller, with this much of its text."""
        if not self.resumable:
            return
        self.characters += len(text)
        if signal.other or signal.thinks or self.characters > TOLD_CHARACTERS_MAX:
            self.resumable = False
            self._texts.clear()
        elif text:
            self._texts.append(text)
            self.pieces += 1


class Splice:
    """A second stream on its way. `repeats` is the text that it begins with again, empty where it goes on at once."""

    __slots__ = ("_at", "_edit", "_repeats")

    def __init__(self, repeats: str, edit: Callable[[bytes, int], bytes]) -> None:
        """`edit` gives the data of an event without its role and without so many characters of its text."""
        self._repeats = repeats
        self._edit = edit
        self._at = 0

    def given(self, raw: bytes, data: bytes, signal: StreamSignal) -> tuple[bytes, str]:
        """What of an event goes to the caller, and the text in it; raises Broken when it is another answer."""
        if signal.other:
            raise Broken("the answer that was to go on is another one", cause="diverged")
        if signal.usage is not None and not signal.content and not signal.finished_choices:
            return raw, ""
        known = min(len(signal.text), len(self._repeats) - self._at)
        if signal.text[:known] != self._repeats[self._at : self._at + known]:
            raise Broken("the answer that was to go on is another one", cause="diverged")
        self._at += known
        if signal.finished_choices and self._at < len(self._repeats):
            raise Broken("the answer that was to go on is shorter than what was told of it", cause="diverged")
        text = signal.text[known:]
        if not text and not signal.finished_choices:
            return b"", ""
        return b"data: %b\n\n" % self._edit(data, known), text
