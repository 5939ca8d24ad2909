"""Structural flags of a text: what its shape says when its words say little.

Where on the path: `features.extract` asks once per text; the flags are the last rows of the weight matrix.

Invariants:
1. Only the selection is read, with a fixed number of passes; a question is only asked of a text that has its marks.
2. The place of a name in `FLAGS` is its row: moving one changes the fingerprint of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from classifiers.alphabet import (
    BACKSLASH,
    BACKTICK,
    BRACKET,
    CODE,
    EXCLAMATION,
    MATHS,
    QUESTION,
    QUOTATION,
    SLASH,
)
from classifiers.language import CHINESE, ENGLISH, LANGUAGES, LanguageCounts

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
    "201-800 characters",
    "over 800 characters",
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
_LENGTHS: Final = (
    (20, "at most 20 characters"),
    (60, "21-60 characters"),
    (200, "61-200 characters"),
    (800, "201-800 characters"),
)
_QUESTION_ENDS: Final = frozenset("?？")
_COLON_ENDS: Final = frozenset(":：")
_MANY: Final = 3
_LINES_FEW: Final = 4
_FIRST_LINE_SHORT: Final = 120
_REST_LONG: Final = 200
_SPEAKER_CHARS: Final = 24
_SPEAKER_LINES_READ: Final = 8


def _punctuation(text: str, marks: Sequence[int]) -> list[str]:
    found = []
    if marks[BACKTICK]:
        found.append("code fence" if marks[BACKTICK] >= _MANY and "```" in text else "backtick")
    code = marks[CODE]
    if marks[BRACKET]:
        code += "()" in text
    if marks[MATHS]:
        code += ("=>" in text) + ("</" in text)
    if code:
        found.append("much code punctuation" if code > 2 * _MANY else "code punctuation")
    if marks[BACKSLASH] and any(word in text for word in _LATEX_WORDS):
        found.append("latex")
    if marks[MATHS]:
        found.append("many maths symbols" if marks[MATHS] > _MANY else "maths symbols")
    if marks[QUESTION]:
        found.append("several question marks" if marks[QUESTION] > 1 else "question mark")
    if marks[EXCLAMATION]:
        found.append("exclamation mark")
    if marks[QUOTATION]:
        found.append("quotation marks")
    if marks[SLASH] > 1 and ("://" in text or "www." in text):
        found.append("link")
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


def _lines(text: str, count: int) -> list[str]:
    """`count` is how many line breaks stand inside the text."""
    found = ["one line" if not count else "2-4 lines" if count < _LINES_FEW else "5+ lines"]
    end = text[-8:].rstrip()[-1:]
    if end in _QUESTION_ENDS:
        found.append("ends with a question mark")
    elif end in _COLON_ENDS:
        found.append("ends with a colon")
    if text[:8].lstrip()[:1].islower():
        found.append("no capital at the start")
    if not count:
        return found
    first = text.find("\n")
    if first <= _FIRST_LINE_SHORT and len(text) - first > _REST_LONG:
        found.append("short first line, long rest")
    if "\n\n" in text:
        found.append("blank line inside")
    if "\n    " in text or "\n\t" in text:
        found.append("indented lines")
    if "\n- " in text or "\n* " in text or "\n• " in text:
        found.append("bullet list")
    if "\n2" in text and ("\n2." in text or "\n2、" in text or "\n2)" in text):
        found.append("numbered list")
    if count >= _MANY - 1 and _speakers(text):
        found.append("lines of speakers")
    return found


def _speakers(text: str) -> bool:
    """Several of the first lines open with a short name and a colon."""
    opened = 0
    for line in text.split("\n", _SPEAKER_LINES_READ)[:_SPEAKER_LINES_READ]:
        head = line[:_SPEAKER_CHARS]
        if ": " in head or "：" in head:
            opened += 1
    return opened >= _MANY


def flags(
    text: str, marks: Sequence[int], counts: LanguageCounts, language: str, actions: int, breaks: int
) -> tuple[int, ...]:
    """Places in `FLAGS` of what holds for a selection, ascending.

    `marks` counts the kinds of marks of `alphabet`; `actions` is the number of kinds of action asked for; `breaks` the
    number of line breaks inside the text.
    """
    found = _punctuation(text, marks)
    found += _lines(text, breaks)
    length = len(text)
    for limit, name in _LENGTHS:
        if length <= limit:
            found.append(name)
            break
    else:
        found.append("over 800 characters")
    if "B" in text and _has_choices(text):
        found.append("answer choices")
    if "__" in text:
        found.append("a blank to fill")
    if counts.digits:
        found.append("many digits" if counts.digits > 2 * _MANY else "a digit")
    if counts.han and counts.latin > 1 and language in (CHINESE, ENGLISH):
        found.append("Han and Latin mixed")
    if actions > 1:
        found.append("three or more kinds of action" if actions >= _MANY else "two kinds of action")
    found.append(f"language {language}")
    return tuple(sorted(ROW[name] for name in found))
