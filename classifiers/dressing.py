"""What can be put around or into a prompt to make it look dearer than it is: found and taken off, for a second reading.

Where on the path: `scorer` reads a text again without its dressing when it looks like a dear one, or like nothing, and
keeps the second reading only if that is sure of something cheaper. So nothing here can make a request dearer, and a
text without dressing is read once. Pure, standard library only. The features know nothing of it, so weights stay valid.

Dressing is
- disguise: characters that nobody sees, marks on plain letters, Cyrillic letters in Latin words;
- a pair of tags around everything;
- at either end: talk about how to answer or who should (personas, effort, routing), lists of keywords without grammar,
  code, formulas and rows of signs that stand apart from the words.

Invariants:
1. Bounded: the text is a selection (see `turns`), each step looks at each character a fixed number of times.
2. What is left is never less than `LEFT_CHARS_MIN` characters; else nothing is taken off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from classifiers.language import ENGLISH_WORDS

LEFT_CHARS_MIN: Final = 12
LEFT_HAN_MIN: Final = 4
"""A shorter rest is no wish that stands by itself."""

HOW_CHARS_MAX: Final = 240
"""Characters of a unit in which talk about how to answer is looked for."""

LIST_CHARS_MAX: Final = 240
"""Characters at the end of a line in which a list of keywords is looked for."""

UNITS_MAX: Final = 24
"""Sentences, lines and blocks that are taken off at each end."""

KEYWORDS_MIN: Final = 5
"""So many words in a row without a function word are a list, not a sentence."""

LIST_MIN: Final = 10
"""So many words without one function word are a list whatever else they are: people who type in a hurry write fewer."""

FUNCTION_SHARE_MAX: Final = 0.25
"""English sentences are to two fifths function words; what has much less is no sentence."""

KEYWORD_HAN_MAX: Final = 4
SCRAPS_MIN: Final = 8
"""Chinese in so many scraps of up to four characters is no sentence, whatever stands in them."""

SIGN_SHARE_MIN: Final = 0.25
"""A unit with so many signs among its visible characters is code, a formula or a row of ornaments."""

_INVISIBLE: Final = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_STRANGE: Final = re.compile(_INVISIBLE.pattern[:-1] + "\u0300-\u036f\u0400-\u04ff]")
_MARK_ON_LATIN: Final = re.compile("(?<=[A-Za-z])[\u0300-\u036f]+|(?<=[一-鿿])[\u0300-\u036f]+")
_MIXED_WORD: Final = re.compile("[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]")
_LOOK_ALIKES: Final = str.maketrans("аеосрхуіАВЕНКМОРСТХ", "aeocpxyiABEHKMOPCTX")
_WRAPPED: Final = re.compile(r"\s*<([A-Za-z][\w-]{0,39})(?:\s[^<>]{0,80})?>(.*)</\1>\s*", re.DOTALL)

_UNIT: Final = re.compile(
    r"```.*?```\s*|\$\$.*?\$\$\s*"
    r"|[\[【]\w{1,20}[\]】].{0,200}?[\[【]/\w{1,20}[\]】]\s*|[\[【].{1,120}?[\]】]\s*"
    r"|Traceback \(.*?(?:\n\s*\n|\n\w+Error[^\n]*|\Z)\s*"
    r"|[^\n.!?。！？;；]+[.!?。！？;；]*[ \t]*\n*\s*|[.!?。！？;；]+\s*|\s+",
    re.DOTALL,
)

# fmt: off
HOW_SAID: Final = (
    "step by step", "step-by-step", "think hard", "think deeply", "think carefully", "think long", "think twice",
    "reason carefully", "reason deeply", "reasoning carefully", "first principles", "deep breath", "take your time",
    "edge cases", "double-check", "double check", "check every", "lives depend", "life depends", "maximum effort",
    "maximum rigor", "maximum rigour", "cut corners", "show your reasoning", "show all your", "show all of your",
    "phd-level", "phd level", "olympiad-level", "olympiad level", "olympiad-grade", "expert-level", "expert level",
    "graduate-level", "graduate level", "best model", "strongest model", "smartest model", "biggest model",
    "largest model", "top model", "capable model", "powerful model", "expensive model", "frontier model",
    "premium model", "small model", "weak model", "cheap model", "weaker model", "cheaper model", "lesser model",
    "weaker system", "the router", "route this", "route accordingly", "escalate", "budget is", "budget does",
    "priority: ", "complexity: ", "difficulty=", "difficulty:", "intent=",
)
HOW_SAID_ZH: Final = (
    "一步一步", "逐步推理", "逐步思考", "仔细思考", "仔细推理", "仔细检查", "认真思考", "认真推理", "认真检查",
    "深入思考", "慎重思考", "深呼吸", "第一性原理", "边界情况", "边界条件", "非常难", "非常困难", "非常复杂",
    "极其困难", "极其复杂", "特别难", "特别复杂", "十分困难", "十分复杂", "博士级", "专家级", "奥赛级", "竞赛级",
    "人命关天", "务必严谨", "最好的模型", "最强的模型", "最强模型", "最贵的模型", "最大的模型", "最聪明的模型",
    "最先进的模型", "小模型", "弱模型", "便宜的模型", "路由", "预算不", "预算无", "升级到", "难度=", "难度：",
    "难度:", "意图=", "意图：", "意图:",
)
HOW_WORDS: Final = frozenset({
    "step", "think", "reason", "reasoning", "principles", "breath", "time", "edge", "check", "lives", "life",
    "maximum", "corners", "show", "phd", "olympiad", "expert", "graduate", "model", "system", "router", "route",
    "escalate", "budget", "priority", "complexity", "difficulty", "intent",
})
_PERSONS: Final = (
    "expert", "specialist", "professional", "genius", "professor", "veteran", "experience", "authority", "very ",
    "extremely", "incredibly", "really ", "insanely", "专家", "教授", "医生", "律师", "顾问", "学者",
)
# fmt: on
"""How to answer, how hard it is, who should answer: no sentence of these says what is wanted. What is said outright,
the words that spare the search for it (each saying holds one), and those for which `_PERSONA` looks closer."""

_PERSONA: Final = re.compile(
    r"\byou(?:'re| are) (?:an?|the|my) .{0,60}(?:expert|specialist|professional|genius|professor|veteran|experience)"
    r"|\b(?:act|answer|respond) (?:as|like) (?:an?|the) .{0,40}(?:expert|specialist|professor|professional|genius)"
    r"|\bas an? .{0,40}(?:expert|specialist|professor|authority)\b"
    r"|\b(?:very|extremely|incredibly|really|insanely) (?:hard|difficult|complex|challenging)\b"
    r"|(?:顶级|顶尖|资深|权威).{0,12}(?:专家|教授|医生|律师|顾问|学者)"
)

_CODE: Final = re.compile(
    r"\bselect\b.{1,80}?\bfrom\b|\binsert into\b|\bupdate\b.{1,80}?\bset\b|\bdelete from\b"
    r"|^(?:def|class|import|return|const|let|var|public)\b|\w\(\w{0,40}\)|Error\b:",
    re.IGNORECASE,
)
"""Statements of code outside a fence."""

_CODE_STEMS: Final = ("(", "select", "insert", "update", "delete", "def ", "class", "import", "return", "const", "let",
                      "var", "public", "error:")  # fmt: skip
"""Every match of `_CODE` holds one of these."""

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'’]*")
_FUNCTION: Final = frozenset(ENGLISH_WORDS.split())
_HAN: Final = re.compile("[一-鿿]")
_HAN_GRAMMAR: Final = re.compile("[的了吗呢吧我你您他她它们这那是在把被请帮给让和与就也都还要想会能怎什哪谁为对从到用]")
_FIGURE: Final = re.compile(r"[\d|=<>(){}%$]")
_SCRAP: Final = re.compile(r"[^\s,，、;；]+")
_STOPS: Final = ".,:;!?()\"'“”"
_BETWEEN: Final = " \t\n,，、;；"
_HAN_LIST: Final = re.compile(r"[\s,，、;；/]+")
_SIGN: Final = re.compile(r"[^\w\s.,!?'\"，。！？、：:；;“”‘’（）()…-]|_")


def undressed(text: str) -> Iterator[str]:
    """The text without its dressing, firmly and then loosely; the very text where nothing, or too much, would go.

    Loosely, what may be meant comes off too: code, formulas and signs at either end, short lists, lists on the line of
    the wish. Whoever needs only the first reading takes only that: the second is not worked out then.
    """
    bare = revealed(text)
    wrapped = _WRAPPED.fullmatch(bare)
    if wrapped is not None:
        bare = wrapped[2]
    units = _UNIT.findall(bare)
    known: dict[str, bool] = {}

    def firmly(unit: str) -> bool:
        found = known.get(unit)
        if found is None:
            found = known[unit] = is_dressing(unit)
        return found

    def loosely(unit: str) -> bool:
        return firmly(unit) or is_material(unit) or _is_list(unit, KEYWORDS_MIN, FUNCTION_SHARE_MAX)

    yield _left(text, _middle(units, firmly))
    yield _left(text, _without_list(_middle(units, loosely)))


def _left(text: str, rest: str) -> str:
    """The rest of a text, or the text when that is the same or says nothing."""
    rest = rest.strip()
    return text if rest == text.strip() or not _says_something(rest) else rest


def _middle(units: Sequence[str], dressing: Callable[[str], bool]) -> str:
    """The units between those at both ends that are dressing."""
    first = _dressed(units, dressing)
    # The unit that stopped the search from the front would stop the one from behind: it is not looked at twice.
    last = len(units) - _dressed(units[:first:-1], dressing)
    return "".join(units[first:last])


def _dressed(units: Sequence[str], dressing: Callable[[str], bool]) -> int:
    """How many units at the beginning are dressing; scraps of a few words count together, as a list cut up by stops."""
    taken = words = 0
    for place, unit in enumerate(units[:UNITS_MAX]):
        if dressing(unit):
            taken, words = place + 1, 0
        elif _is_scrap(unit):
            words += len(_WORD.findall(unit))
            if words >= KEYWORDS_MIN:
                taken = place + 1
        else:
            break
    return taken


def _is_scrap(unit: str) -> bool:
    """A few English words without a function word, Han characters or digits."""
    words = _WORD.findall(unit.lower())
    return 0 < len(words) < KEYWORDS_MIN and not any(word in _FUNCTION for word in words) and unit.isascii()


def revealed(text: str) -> str:
    """The text as a reader sees it: no invisible characters, no marks on plain letters, no look-alike script."""
    if text.isascii() or _STRANGE.search(text) is None:
        return text
    seen = _MARK_ON_LATIN.sub("", _INVISIBLE.sub("", text))
    return seen.translate(_LOOK_ALIKES) if _MIXED_WORD.search(seen) else seen


def is_dressing(unit: str) -> bool:
    """Whether a sentence, line or block at the end of a text says nothing of what is wanted."""
    bare = unit.strip()
    return not bare or _tells_how(bare) or (_FIGURE.search(bare) is None and _is_list(bare, LIST_MIN, 0.0))


def is_material(unit: str) -> bool:
    """Whether a sentence, line or block is code, a formula or a row of signs rather than words."""
    bare = unit.strip()
    if bare.startswith(("```", "$$", "Traceback (")):
        return True
    low = bare.lower()
    if any(stem in low for stem in _CODE_STEMS) and _CODE.search(low) is not None:
        return True
    visible = sum(not one.isspace() for one in bare)
    return len(_SIGN.findall(bare)) >= SIGN_SHARE_MIN * visible


def _tells_how(unit: str) -> bool:
    """Whether a unit talks about how to answer."""
    low = unit[:HOW_CHARS_MAX].lower()
    if not HOW_WORDS.isdisjoint(_WORD.findall(low)) and any(said in low for said in HOW_SAID):
        return True
    if not low.isascii() and any(said in low for said in HOW_SAID_ZH):
        return True
    return any(person in low for person in _PERSONS) and _PERSONA.search(low) is not None


def _is_list(unit: str, least: int, share_max: float) -> bool:
    """Whether a unit is a list of at least so many keywords, at most this share of them function words."""
    if "|" in unit:
        return False
    if _HAN.search(unit) is not None:
        scraps = [one for one in _HAN_LIST.split(unit.strip(".。!！")) if one]
        if len(scraps) < least or max(len(one) for one in scraps) > KEYWORD_HAN_MAX:
            return False
        return len(scraps) >= SCRAPS_MIN or not any(_HAN_GRAMMAR.search(one) for one in scraps)
    words = _WORD.findall(unit.lower())
    functions = sum(word in _FUNCTION for word in words)
    return len(words) >= least and functions <= share_max * len(words) and not (functions and unit.endswith("?"))


def _without_list(text: str) -> str:
    """Without a run of keywords on the same line as the wish, at its beginning or at its end."""
    ahead = _keywords(_SCRAP.finditer(text))
    if len(ahead) >= KEYWORDS_MIN:
        if ahead[-1].end() >= len(text.rstrip()):
            return text
        text = text[ahead[-1].end() :].lstrip(_BETWEEN)
    begin = max(0, len(text) - LIST_CHARS_MAX)
    behind = _keywords(reversed(list(_SCRAP.finditer(text, begin))))
    if len(behind) >= KEYWORDS_MIN and behind[-1].start() > begin:
        text = text[: behind[-1].start()].rstrip(_BETWEEN)
    return text


def _keywords(scraps: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """The scraps before the first one of another script, of a sentence, or with grammar in it."""
    found: list[re.Match[str]] = []
    han = False
    for scrap in scraps:
        word = scrap[0]
        if not found:
            han = _HAN.search(word) is not None
        elif (_HAN.search(word) is not None) != han:
            break
        if han:
            if len(word) > KEYWORD_HAN_MAX or _HAN_GRAMMAR.search(word) is not None:
                break
        elif word.strip(_STOPS).lower() in _FUNCTION:
            break
        found.append(scrap)
    return found


def _says_something(text: str) -> bool:
    return len(text) >= LEFT_CHARS_MIN or len(_HAN.findall(text)) >= LEFT_HAN_MIN
