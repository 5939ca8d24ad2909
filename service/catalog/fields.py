"""The shapes of single values: exact numbers, whole numbers, words, dates, lists that may be written as one value.

Where on the path: `schema` and `price_schema` annotate their fields with these.

Invariants
1. A shape checks and describes: each gives its own JSON schema, so that the editor and the loader say the same.
2. A message says what was found and what to write; it never repeats the value of a secret.
3. Nothing is converted silently: a quoted number is not a number, `yes` is not `true`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from service.catalog.problems import shown, unknown

ENV_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}\Z")
"""`${env:NAME}`: the value of an environment variable, the only way in which a secret enters."""

PROBLEM = "problem"
"""Type of our own pydantic errors; `ctx["text"]` is the message."""

MAX_TEXT_CHARS = 2_000
"""Characters of any text of the file."""

FIRST_DAY = date(2000, 1, 1)
"""No price list of a language model is older."""

LAST_DAY = date(2199, 12, 31)
"""Far enough for any price, and far from the last day that `datetime` can count to."""


def refuse(text: str) -> NoReturn:
    """Raise the one kind of validation error that carries its message as it will be printed."""
    raise PydanticCustomError(PROBLEM, "{text}", {"text": text})


class Shape(ABC):
    """A check that stands for the whole validation of a field: nothing is converted before or after it."""

    __slots__ = ()

    @abstractmethod
    def check(self, value: object) -> object:
        """The value as the schema's classes hold it; a validation error otherwise."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by `check` alone."""
        return core_schema.no_info_plain_validator_function(self.check)


@dataclass(frozen=True, slots=True, eq=False)
class OneOf(Shape):
    """A word of a closed vocabulary; `noun` names it in messages."""

    noun: str
    words: Mapping[str, object]

    def check(self, value: object) -> str:
        """The word itself; a validation error with the nearest word otherwise."""
        if not isinstance(value, str):
            refuse(f"expected a {self.noun} (one of {', '.join(self.words)}), got {shown(value)}")
        if value not in self.words:
            refuse(unknown(self.noun, value, self.words))
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """An enum."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Number(Shape):
    """An exact decimal between bounds. `above` excludes the minimum, `decimals` bounds the digits after the point."""

    minimum: Decimal
    maximum: Decimal
    above: bool = False
    decimals: int | None = None

    def check(self, value: object) -> Decimal:
        """The number, exactly as written; a validation error otherwise."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = Decimal(value)
        if not isinstance(value, Decimal):
            hint = f"write a plain decimal such as 0.15, without quotes or exponent; got {shown(value)}"
            refuse(f"expected a number: {hint}")
        if not value.is_finite():
            refuse(f"expected a finite number, got {value}")
        if value < self.minimum or (self.above and value == self.minimum):
            refuse(f"must be {'above' if self.above else 'at least'} {self.minimum}, got {value}")
        if value > self.maximum:
            refuse(f"must be at most {self.maximum}, got {value}; check the unit")
        exponent = value.normalize().as_tuple().exponent
        if self.decimals is not None and isinstance(exponent, int) and -exponent > self.decimals:
            refuse(f"has more than {self.decimals} decimals ({value:f}); check the unit")
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A bounded number."""
        low = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "number", low: _bound(self.minimum), "maximum": _bound(self.maximum)}


def _bound(value: Decimal) -> int | float:
    """A bound as JSON writes it: only for the eyes of an editor, never for arithmetic."""
    return int(value) if value == value.to_integral_value() else float(value)


@dataclass(frozen=True, slots=True)
class Whole(Shape):
    """A whole number between bounds, both included."""

    minimum: int
    maximum: int

    def check(self, value: object) -> int:
        """The number; a validation error otherwise."""
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(f"expected a whole number: write digits only, without quotes; got {shown(value)}")
        if not self.minimum <= value <= self.maximum:
            bounds = f"between {self.minimum} and {self.maximum}" if self.minimum < self.maximum else str(self.minimum)
            refuse(f"must be {bounds}, got {shown(value)}")
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A bounded integer."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Day(Shape):
    """A calendar date, written YYYY-MM-DD."""

    def check(self, value: object) -> date:
        """The date; a validation error otherwise."""
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            try:
                day = date.fromisoformat(value)
            except ValueError:
                refuse(f"no such day: {value}")
            if not FIRST_DAY <= day <= LAST_DAY:
                refuse(f"expected a day between {FIRST_DAY} and {LAST_DAY}, got {value}")
            return day
        refuse(f"expected a date as YYYY-MM-DD, got {shown(value)}")

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A date."""
        return {"type": "string", "format": "date"}


@dataclass(frozen=True, slots=True)
class Text(Shape):
    """A text that is not empty. `pattern` bounds its characters, `shape` says in words what the pattern wants.

    `secret` keeps the value out of messages.
    """

    noun: str = "text"
    pattern: str | None = None
    shape: str = ""
    secret: bool = False

    def check(self, value: object) -> str:
        """The text; a validation error otherwise."""
        if not isinstance(value, str):
            seen = "another kind of value" if self.secret else f"{shown(value)}"
            quotes = "; put quotes around it" if isinstance(value, int | Decimal) else ""
            refuse(f"expected {self.noun}, got {seen}{quotes}")
        if not value.strip():
            refuse(f"expected {self.noun}, got an empty text; remove the field or fill it")
        if len(value) > MAX_TEXT_CHARS:
            refuse(f"{self.noun} has more than {MAX_TEXT_CHARS} characters")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            refuse(f"not {self.noun}: {self.shape}" + ("" if self.secret else f"; got {shown(value)}"))
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A string, with its pattern."""
        found: dict[str, Any] = {"type": "string", "minLength": 1}
        if self.pattern is not None:
            found["pattern"] = f"^(?:{self.pattern})$"
        return found


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """A list that may be written as a single value. `secret` keeps the value out of messages."""

    secret: bool = False

    def wrap(self, value: object) -> object:
        """A list as it is, a single text as a list of one."""
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list):
            refuse(f"expected a text or a list of texts, got {'another value' if self.secret else shown(value)}")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap first, then validate the list."""
        return core_schema.no_info_before_validator_function(self.wrap, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One item or an array of them."""
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME_SHAPE = "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 100 characters"
