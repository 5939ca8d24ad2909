"""Structural flags of a text: what its shape says when its words say little.

Where on the path: `features.extract` asks once per text; the flags are the last rows of the weight matrix.

Invariants:
1. Only the selection is read, with a fixed number of passes.
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
    "two kinds of action",
    "three or more kinds of action",
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

_ROW: Final = {name: row for row, name in enumerate(FLAGS)}

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

_CHOICE_B: Final = ("\nB.", "(B)", "\nB)", "B、")
_CHOICE_C: Final = ("C.", "C)", "C、")
_LATEX_WORDS: Final = ("\\frac", "\\sqrt", "$\\", "\\(", "\\[", "\\begin")
_CODE_WORDS: Final = ("()", "=>", "</")
_LENGTHS: Final = (
    (20, "at most 20 characters"),
    (60, "21-60 characters"),
    (200, "61-200 characters"),
    (800, "201-800 characters"),
)
_MANY: Final = 3
_LINES_FEW: Final = 4
_FIRST_LINE_SHORT: Final = 120
_REST_LONG: Final = 200


def _punctuation(text: str, marks: Sequence[int]) -> list[str]:
    found = []
    if marks[BACKTICK]:
        found.append("code fence" if "```" in text else "backtick")
    code = marks[CODE]
    if marks[BRACKET] or marks[MATHS] or code:
        code += sum(word in text for word in _CODE_WORDS)
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
    if "\n    " in text or "\n\t" in text:
        found.append("indented lines")
    if "\n\n" in stripped:
        found.append("blank line inside")
    first = stripped.find("\n")
    if first <= _FIRST_LINE_SHORT and len(stripped) - first > _REST_LONG:
        found.append("short first line, long rest")
    if any(mark in text for mark in _CHOICE_B) and any(mark in text for mark in _CHOICE_C):
        found.append("answer choices")
    if "\n- " in text or "\n* " in text or "\n• " in text:
        found.append("bullet list")
    if "\n2." in text or "\n2、" in text or "\n2)" in text:
        found.append("numbered list")
    return found


def flags(text: str, marks: Sequence[int], counts: LanguageCounts, language: str, actions: int) -> tuple[int, ...]:
    """Places in `FLAGS` of what holds for a selection, ascending.

    `marks` counts the kinds of marks of `alphabet`; `actions` is the number of kinds of action asked for.
    """
    found = _punctuation(text, marks) + _lines(text)
    length = len(text)
    found.append(next((name for limit, name in _LENGTHS if length <= limit), "over 800 characters"))
    if counts.digits:
        found.append("many digits" if counts.digits > 2 * _MANY else "a digit")
    if counts.han and counts.latin > 1 and language in (CHINESE, ENGLISH):
        found.append("Han and Latin mixed")
    if actions > 1:
        found.append("three or more kinds of action" if actions >= _MANY else "two kinds of action")
    found.append(f"language {language}")
    return tuple(sorted(_ROW[name] for name in found))
