"""Structural flags of a text: what its shape says when its words say little.

Where on the path: `scanning.scan` asks once per text (`_kernel_flags.h` has the twin); the flags are the last rows of
the weight matrix.

Invariants:
1. Only the selection is read, with a fixed number of passes; a question is only asked of a text that has its marks.
2. The place of a name in `FLAGS` is its row: moving one changes the fingerprint of the features.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from classifiers.alphabet import (
    BACKSLASH,
    BACKTICK,
    BRACKET,
    CODE,
    DIGIT,
    EXCLAMATION,
    HAN,
    LATIN,
    MATHS,
    QUESTION,
    QUOTATION,
    SLASH,
)
from classifiers.language import CHINESE, ENGLISH, LANGUAGES

EVIDENCE_FLAGS: Final = (
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
    "exclamation mark",
    "quotation marks",
    "answer choices",
    "bullet list",
    "numbered list",
    "link",
    "a blank to fill",
    "lines of speakers",
    "two kinds of action",
    "three or more kinds of action",
    "earlier turns",
    "asked by an app",
)
SHAPE_FLAGS: Final = (
    "ends with a question mark",
    "ends with a colon",
    "one line",
    "2-4 lines",
    "5+ lines",
    "blank line inside",
    "short first line, long rest",
    "at most 20 characters",
    "21-60 characters",
    "61-200 characters",
    "201-600 characters",
    "over 600 characters",
    "Han and Latin mixed",
    "no capital at the start",
    *(f"language {language}" for language in LANGUAGES),
)
FLAGS: Final = EVIDENCE_FLAGS + SHAPE_FLAGS
"""Names of the flags, as an explanation shows them; the order is the row order. Shape alone is no evidence: `go on`
and `asdf` are both short single lines."""

FIRST_SHAPE: Final = len(EVIDENCE_FLAGS)

ROW: Final = {name: row for row, name in enumerate(FLAGS)}

ACTIONS: Final = (
    "translate translation 翻译 译成 翻成 译",
    "summarize summarise summary recap 总结 概括 归纳 摘要 提炼",
    "write draft compose 写 起草 仿写",
    "fix rewrite correct improve edit proofread 修改 改写 润色 修好 批改",
    "explain describe analyse analyze 解释 讲解 讲讲 分析",
    "list extract classify tag categorize rank 列出 列一 提取 分类 标出 统计 整理",
    "calculate compute solve convert scale estimate 计算 算出 换算 先解",
    "find search look research check compare pick 查找 查一 帮我查 搜索 搜集 搜一 对比 比较 挑",
    "book reserve order buy download upload 预订 订一 订酒 买下 下载",
    "send email mail invite notify 发给 发邮 通知 发到",
    "make create build generate plot plan design suggest propose 做成 做一 生成 设计 画成 画图 规划 制作 提出 给出",
    "run test document commit 补上 测试",
)
"""Kinds of action, a line of words for each: a wish with several of them is usually several wishes."""

_LATEX_WORDS: Final = ("\\frac", "\\sqrt", "$\\", "\\(", "\\[", "\\begin")
_QUESTION_ENDS: Final = frozenset("?？")
_COLON_ENDS: Final = frozenset(":：")
_MANY: Final = 3
_LINES_FEW: Final = 4
_FIRST_LINE_SHORT: Final = 120
_REST_LONG: Final = 200
_SPEAKER_CHARS: Final = 24
_SPEAKER_LINES_READ: Final = 8
_LENGTHS: Final = (20, 60, 200, 600)

_LENGTH_ROW: Final = ROW["at most 20 characters"]
_LANGUAGE_ROW: Final = {language: ROW[f"language {language}"] for language in LANGUAGES}
(_FENCE, _BACKTICK, _CODE, _MUCH_CODE, _INDENTED, _LATEX, _MATHS, _MANY_MATHS, _A_DIGIT, _DIGITS, _QUESTION) = range(11)
(_QUESTIONS, _EXCLAMATION, _QUOTES, _CHOICES, _BULLETS, _NUMBERED, _LINK, _TO_FILL, _SPEAKERS) = range(11, 20)
(_TWO_ACTIONS, _MORE_ACTIONS) = range(20, 22)
_ENDS_ASKING, _ENDS_COLON, _ONE_LINE, _FEW_LINES, _MORE_LINES, _BLANK_LINE, _SHORT_FIRST = range(
    FIRST_SHAPE, FIRST_SHAPE + 7
)
_MIXED: Final = ROW["Han and Latin mixed"]
_NO_CAPITAL: Final = ROW["no capital at the start"]


def _punctuation(text: str, marks: Sequence[int]) -> list[int]:
    found = []
    if marks[BACKTICK]:
        found.append(_FENCE if marks[BACKTICK] >= _MANY and "```" in text else _BACKTICK)
    code = marks[CODE]
    if marks[BRACKET]:
        code += "()" in text
    if marks[MATHS]:
        code += ("=>" in text) + ("</" in text)
        found.append(_MANY_MATHS if marks[MATHS] > _MANY else _MATHS)
    if code:
        found.append(_MUCH_CODE if code > 2 * _MANY else _CODE)
    if marks[BACKSLASH] and any(word in text for word in _LATEX_WORDS):
        found.append(_LATEX)
    if marks[QUESTION]:
        found.append(_QUESTIONS if marks[QUESTION] > 1 else _QUESTION)
    if marks[EXCLAMATION]:
        found.append(_EXCLAMATION)
    if marks[QUOTATION]:
        found.append(_QUOTES)
    if marks[SLASH] > 1 and ("://" in text or "www." in text):
        found.append(_LINK)
    return found


def _has_choices(text: str) -> bool:
    """Two answers to choose from: `B.` and `C)`, at the start of lines or within one."""
    at = text.find("B")
    while 0 <= at < len(text) - 1:
        if text[at + 1] in ".):、．：" and (at == 0 or not text[at - 1].isalnum()):
            third = text.find("C" + text[at + 1], at)
            return third > 0 and not text[third - 1].isalnum()
        at = text.find("B", at + 1)
    return False


def _lines(text: str, count: int) -> list[int]:
    """`count` is how many line breaks stand inside the text; asked only where there are some."""
    found = [_FEW_LINES if count < _LINES_FEW else _MORE_LINES]
    first = text.find("\n")
    if first <= _FIRST_LINE_SHORT and len(text) - first > _REST_LONG:
        found.append(_SHORT_FIRST)
    if "\n\n" in text:
        found.append(_BLANK_LINE)
    if "\n    " in text or "\n\t" in text:
        found.append(_INDENTED)
    if "\n- " in text or "\n* " in text or "\n• " in text:
        found.append(_BULLETS)
    if "\n2" in text and ("\n2." in text or "\n2、" in text or "\n2)" in text):
        found.append(_NUMBERED)
    if count >= _MANY - 1 and _speakers(text):
        found.append(_SPEAKERS)
    return found


def _speakers(text: str) -> bool:
    """Several of the first lines open with a short name and a colon."""
    opened = 0
    for line in text.split("\n", _SPEAKER_LINES_READ)[:_SPEAKER_LINES_READ]:
        head = line[:_SPEAKER_CHARS]
        if ": " in head or "：" in head:
            opened += 1
    return opened >= _MANY


def flags(text: str, counts: Sequence[int], line_breaks: int, language: str, actions: int) -> list[int]:
    """Places in `FLAGS` of what holds for a selection, ascending.

    `counts` are its characters by kind, `line_breaks` those inside it, `actions` how many kinds of action it asks for.
    """
    found = _punctuation(text, counts) if any(counts[MATHS:]) else []
    if line_breaks:
        found += _lines(text, line_breaks)
    else:
        found.append(_ONE_LINE)
    end = text[-8:].rstrip()[-1:]
    if end in _QUESTION_ENDS:
        found.append(_ENDS_ASKING)
    elif end in _COLON_ENDS:
        found.append(_ENDS_COLON)
    if text[:8].lstrip()[:1].islower():
        found.append(_NO_CAPITAL)
    found.append(_LENGTH_ROW + bisect_left(_LENGTHS, len(text)))
    if "B" in text and _has_choices(text):
        found.append(_CHOICES)
    if "__" in text:
        found.append(_TO_FILL)
    digits = counts[DIGIT]
    if digits:
        found.append(_DIGITS if digits > 2 * _MANY else _A_DIGIT)
    if counts[HAN] and counts[LATIN] > 1 and language in (CHINESE, ENGLISH):
        found.append(_MIXED)
    if actions > 1:
        found.append(_MORE_ACTIONS if actions >= _MANY else _TWO_ACTIONS)
    found.append(_LANGUAGE_ROW[language])
    found.sort()
    return found
