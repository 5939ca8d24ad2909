"""Personal data that can be told by its form: addresses, numbers, accounts. Exact rules, no guesses about names.

Where on the path: `scorer.predict` asks once per request; the answer is a flag of the request, nothing is kept.

Invariants:
1. Only the selection is read; a text without `@` and without many digits costs two comparisons.
2. Numbers that carry a check digit must pass it: an order number is no card.
"""

from __future__ import annotations

import re
from typing import Final

DIGITS_MIN: Final = 7

_MAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")
_PHONE: Final = re.compile(
    r"(?<![0-9A-Za-z_.])(?:\+\d{1,3}[ -]?(?:\(?\d{1,4}\)?[ -]?){2,5}\d{2,4}|1[3-9]\d[ -]?\d{4}[ -]?\d{4}"
    r"|\(?\d{3}\)?[ -.]\d{3}[ -.]\d{4}|0\d{2,3}-\d{7,8}|0\d{3,4} ?\d{3} ?\d{3,4})(?![0-9A-Za-z_])"
)
_SOCIAL_SECURITY: Final = re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")
_LONG: Final = re.compile(r"(?<![0-9A-Za-z_.])\d(?:[ -]?\d){12,18}[\dXx]?(?![0-9A-Za-z_])")
_IBAN: Final = re.compile(r"(?<![0-9A-Za-z_])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![0-9A-Za-z_])")

_NINE: Final = re.compile(r"\d(?:[ -.]{0,3}\d){8}")
_FIGURES: Final = re.compile(r"[0-9][0-9 ().-]{5}")
_IBAN_START: Final = re.compile(r"[A-Z][A-Z][0-9][0-9]")
"""Whatever the forms above fit holds one of these; looking for them costs a tenth of looking for all. Without a `+` no
number has fewer than nine digits, nor more than three marks between two of them."""

_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK: Final = "10X98765432"
_ID_CHARS: Final = 18
_CARD_DIGITS: Final = range(13, 20)
_IBAN_DIVISOR: Final = 97


def has_personal_data(text: str, digits: int) -> bool:
    """Whether a selection holds a mail address, a phone, identity, card or bank number. `digits`: how many it has."""
    if "@" in text and _MAIL.search(text):
        return True
    if digits < DIGITS_MIN:
        return False
    if (
        (_NINE.search(text) or "+" in text)
        and _FIGURES.search(text)
        and (
            _SOCIAL_SECURITY.search(text)
            or _PHONE.search(text)
            or any(_is_identity(found) or _is_card(found) for found in map(_joined, _LONG.finditer(text)))
        )
    ):
        return True
    return _IBAN_START.search(text) is not None and any(_is_iban(_joined(found)) for found in _IBAN.finditer(text))


def _joined(found: re.Match[str]) -> str:
    return found.group().replace(" ", "").replace("-", "").upper()


def _is_identity(number: str) -> bool:
    """A Chinese resident identity number (GB 11643): 17 digits and a check character."""
    if len(number) != _ID_CHARS or not number[:-1].isdecimal():
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False))
    return _ID_CHECK[total % len(_ID_CHECK)] == number[-1]


def _is_card(number: str) -> bool:
    """A payment card number (ISO/IEC 7812): the Luhn sum ends in zero."""
    if len(number) not in _CARD_DIGITS or not number.isdecimal():
        return False
    total = 0
    for place, digit in enumerate(reversed(number)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _is_iban(number: str) -> bool:
    """An international bank account number (ISO 13616): remainder 1 after moving its first four characters."""
    moved = number[4:] + number[:4]
    value = "".join(str(int(char, 36)) for char in moved)
    return int(value) % _IBAN_DIVISOR == 1
