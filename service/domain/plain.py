"""Reading back what was told as plain data: field by field, by type, for files that anybody may have changed.

Where on the path: below `features` and `routing.replay`, which read decision records.

Invariant: what is not of the wanted type is refused, never converted; messages name the field and never its value.
"""

from __future__ import annotations

from collections.abc import Iterator


class PlainError(ValueError):
    """Plain data that is not what was told; the message names the field."""


class Reader:
    """The fields of one object."""

    def __init__(self, told: object, where: str) -> None:
        """`where` is what messages call the object. Raises PlainError when it is none."""
        if not isinstance(told, dict):
            raise PlainError(f"`{where}` is not an object")
        self._told = told
        self._where = where

    def __contains__(self, name: str) -> bool:
        """Whether the object has a field."""
        return name in self._told

    def __iter__(self) -> Iterator[str]:
        """The names of its fields, in order."""
        return iter(self._told)

    def value(self, name: str) -> object:
        """Whatever a field holds; raises PlainError when there is no such field, as all of these do."""
        if name not in self._told:
            raise PlainError(f"`{self._where}` has no `{name}`")
        return self._told[name]

    def text(self, name: str) -> str:
        """A text."""
        found = self.value(name)
        if not isinstance(found, str):
            raise self._wrong(name, "a text")
        return found

    def whole(self, name: str) -> int:
        """A whole number; 1.0 is none."""
        found = self.value(name)
        if type(found) is not int:
            raise self._wrong(name, "a whole number")
        return found

    def number(self, name: str) -> float:
        """A number."""
        found = self.value(name)
        if type(found) is not float and type(found) is not int:
            raise self._wrong(name, "a number")
        return float(found)

    def flag(self, name: str) -> bool:
        """True or false."""
        found = self.value(name)
        if type(found) is not bool:
            raise self._wrong(name, "true or false")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, in order."""
        found = self.value(name)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._wrong(name, "a list of texts")
        return tuple(found)

    def names(self, name: str) -> frozenset[str]:
        """A list of texts whose order means nothing."""
        return frozenset(self.texts(name))

    def _wrong(self, name: str, wanted: str) -> PlainError:
        return PlainError(f"`{self._where}.{name}` is not {wanted}")
