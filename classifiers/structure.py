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
    "two kinds of action",
    "three or more kinds of action",
    *(f"language {language}" for language in LANGUAGES),
)
"""Names of the flags, as an explanation shows them; the order is the row order."""

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


def flags(text: str, counts: LanguageCounts, language: str, actions: int) -> tuple[int, ...]:
    """Rows (within `FLAGS`) of the flags that hold for a selection, ascending; `actions` is the number of kinds."""
    found = _punctuation(text) + _lines(text)
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
