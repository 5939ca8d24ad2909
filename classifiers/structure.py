"""Structural flags of a text: what its shape says when its words say little.

Where on the path: `features.extract` asks once per text; the flags are the last rows of the weight matrix.

Invariants:
1. Only the selection is read, with a fixed number of passes.
2. `FLAGS` is append-only within a feature spec: the place in the tuple is the row.
"""

from __future__ import annotations

from typing import Final

from classifiers.language import CHINESE, ENGLISH, LANGUAGES, LanguageCounts

FLAGS: Final = (
    "code fence",
    "backtick",
    "code punctuation",
    "much code punctuation",
    "indented lines",
    "latex",
    "maths symbols",
    "many maths symbols",
    "a digit",
    "many digits",
    "question mark",
    "several question marks",
    "ends with a question mark",
    "ends with a colon",
    "exclamation mark",
    "quotation marks",
    "answer choices",
    "bullet list",
    "numbered list",
    "link",
    "one line",
    "2-4 lines",
    "5+ lines",
    "blank line inside",
    "short first line, long rest",
    "at most 6 characters",
    "7-20 characters",
    "21-60 characters",
    "61-200 characters",
    "201-800 characters",
    "over 800 characters",
    "Han and Latin mixed",
    "no capital at the start",
    *(f"language {language}" for language in LANGUAGES),
)
"""Names of the flags, as an explanation shows them; the order is the row order."""

_ROW: Final = {name: row for row, name in enumerate(FLAGS)}

_CODE_MARKS: Final = ("{", "}", ";", "==", "();", "=>", "->", "def ", "import ", "</", "SELECT ", "#include", "var ", "print(")
_MATHS_MARKS: Final = "=+^×÷√π∑∫≤≥≠∞°%*/<>"
_LENGTHS: Final = (
    (6, "at most 6 characters"),
    (20, "7-20 characters"),
    (60, "21-60 characters"),
    (200, "61-200 characters"),
    (800, "201-800 characters"),
)
_MANY: Final = 3
_LINES_FEW: Final = 4
_FIRST_LINE_SHORT: Final = 120
_REST_LONG: Final = 200


def _punctuation(text: str) -> list[str]:
    found = []
    if "```" in text:
        found.append("code fence")
    elif "`" in text:
        found.append("backtick")
    code = sum(text.count(mark) for mark in _CODE_MARKS)
    if code:
        found.append("much code punctuation" if code > 2 * _MANY else "code punctuation")
    if "\n    " in text or "\n\t" in text:
        found.append("indented lines")
    if "\\" in text and ("\\frac" in text or "\\sqrt" in text or "$\\" in text or "\\(" in text or "\\[" in text):
        found.append("latex")
    maths = sum(text.count(mark) for mark in _MATHS_MARKS)
    if maths:
        found.append("many maths symbols" if maths > _MANY else "maths symbols")
    questions = text.count("?") + text.count("？")
    if questions:
        found.append("several question marks" if questions > 1 else "question mark")
    if "!" in text or "！" in text:
        found.append("exclamation mark")
    if '"' in text or "“" in text or "「" in text or "《" in text:
        found.append("quotation marks")
    if "http" in text or "www." in text:
        found.append("link")
    return found


def _lines(text: str) -> list[str]:
    stripped = text.strip()
    breaks = stripped.count("\n")
    found = ["one line" if not breaks else "2-4 lines" if breaks < _LINES_FEW else "5+ lines"]
    if stripped.endswith(("?", "？")):
        found.append("ends with a question mark")
    elif stripped.endswith((":", "：")):
        found.append("ends with a colon")
    if stripped[:1].islower():
        found.append("no capital at the start")
    if not breaks:
        return found
    if "\n\n" in stripped:
        found.append("blank line inside")
    first = stripped.find("\n")
    if first <= _FIRST_LINE_SHORT and len(stripped) - first > _REST_LONG:
        found.append("short first line, long rest")
    if ("\nB." in text or "(B)" in text or "\nB)" in text or "B、" in text) and ("C." in text or "C)" in text or "C、" in text):
        found.append("answer choices")
    if "\n- " in text or "\n* " in text or "\n• " in text:
        found.append("bullet list")
    if "\n2." in text or "\n2、" in text or "\n2)" in text:
        found.append("numbered list")
    return found


def flags(text: str, counts: LanguageCounts, language: str) -> tuple[int, ...]:
    """Rows (within `FLAGS`) of the flags that hold for a selection, ascending."""
    found = _punctuation(text) + _lines(text)
    length = len(text)
    found.append(next((name for limit, name in _LENGTHS if length <= limit), "over 800 characters"))
    if counts.digits:
        found.append("many digits" if counts.digits > 2 * _MANY else "a digit")
    if counts.han and counts.latin > 1 and language in (CHINESE, ENGLISH):
        found.append("Han and Latin mixed")
    found.append(f"language {language}")
    return tuple(sorted(_ROW[name] for name in found))
