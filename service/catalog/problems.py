"""What is wrong with the registry file: where, what, and the nearest right word. Collected, sorted, raised together.

Where on the path: every step of `catalog.load` adds to one `Problems`.

Invariants
1. All problems are reported at once, in the order of the file, each as `file:line:column: message`.
2. A message never holds the value of a key or a header; other values are shown short and escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn, Protocol

from service.errors import RegistryError

MAX_PROBLEMS = 200
"""Problems that are printed; a file with more has one cause, and the first lines show it."""

MAX_SHOWN_CHARS = 60
"""Characters of an offending value that a message repeats."""

CLOSE_ENOUGH = 0.6
"""Similarity (0..1, difflib) from which a word is offered as what was meant."""

Path = tuple[str | int, ...]
"""Keys and indexes from the root of the file to a value."""


class Positions(Protocol):
    """Whoever knows where a path stands in the file."""

    def position(self, path: Path, *, of_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1."""
        ...


class Problems:
    """The list of everything wrong with one file."""

    def __init__(self, file: str) -> None:
        """`file` is the name that every line starts with."""
        self._file = file
        self._found: set[tuple[int, int, str]] = set()
        self._where: Positions | None = None

    def locate_with(self, where: Positions) -> None:
        """From now on `at` can be used."""
        self._where = where

    def add(self, line: int, column: int, message: str) -> None:
        """A problem at a known place; line and column count from 1."""
        self._found.add((line, column, message))

    def at(self, path: Path, message: str, *, of_key: bool = False) -> None:
        """A problem at a path of the file: at its value, or at its key."""
        line, column = (1, 1) if self._where is None else self._where.position(path, of_key=of_key)
        self.add(line, column, message)

    def line_of(self, path: Path) -> int:
        """The line of a path, to point from one problem to its other half."""
        return 1 if self._where is None else self._where.position(path, of_key=True)[0]

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._found)

    def fail(self) -> NoReturn:
        """Raise RegistryError with everything found, in the order of the file."""
        found = sorted(self._found)
        lines = [f"{self._file}:{line}:{column}: {message}" for line, column, message in found[:MAX_PROBLEMS]]
        if len(found) > MAX_PROBLEMS:
            more = len(found) - MAX_PROBLEMS
            lines.append(f"{self._file}: and {more} more problems; mend these first and run again")
        raise RegistryError(tuple(lines))


def shown(value: object) -> str:
    """A value for a message: short, on one line, control characters escaped."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        text = value if len(value) <= MAX_SHOWN_CHARS else value[:MAX_SHOWN_CHARS] + "…"
        return f"the text {text!r}"
    return str(value)[:MAX_SHOWN_CHARS]


def nearest(word: str, words: Iterable[str], *, cutoff: float = CLOSE_ENOUGH) -> str | None:
    """The one of `words` that was probably meant, or `None`."""
    known = sorted(words)
    if len(word) > MAX_SHOWN_CHARS:
        return None
    by_case = {known_word.lower(): known_word for known_word in known}
    close = get_close_matches(word.lower(), by_case, n=1, cutoff=cutoff)
    return by_case[close[0]] if close else None


def unknown(noun: str, word: str, words: Iterable[str]) -> str:
    """`unknown <noun> '<word>'; did you mean '<near>'?`, or the list of what there is when nothing is near."""
    known = sorted(words)
    text = word if len(word) <= MAX_SHOWN_CHARS else word[:MAX_SHOWN_CHARS] + "…"
    near = nearest(word, known)
    if near is not None:
        return f"unknown {noun} {text!r}; did you mean {near!r}?"
    if not known:
        return f"unknown {noun} {text!r}; the file defines none"
    most = 12
    listed = ", ".join(known[:most]) + (", …" if len(known) > most else "")
    return f"unknown {noun} {text!r}; use one of: {listed}"
