"""Words that `dressing` knows: talk about how to answer and who should, the grammar of English, and short questions.

Where on the path: beside it; `dressing` looks for them at the ends of a text that looks dear, or like nothing. They are
looked for by the compiled `kernel` in one pass, or by Python one after the other: the same is found.

Invariant: each English saying holds one of `HOW_STEMS` or `PERSONS`, which spare the search for it.
"""

from __future__ import annotations

import re
from operator import eq, ne
from typing import Any, Final

from classifiers import kernel

SENTENCE_MAX: Final = 240
"""Characters of a sentence that are searched for talk about how to answer."""

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
HOW_STEMS: Final = (
    "step", "think", "reason", "principles", "breath", "take your", "edge case", "check", "lives", "life", "maximum",
    "corners", "show ", "phd", "olympiad", "expert", "graduate", " model", "system", "route", "escalate", "budget",
    "priority", "complex", "difficult", "intent=", "specialist", "professional", "genius", "professor", "veteran",
    "experience", "authority", " hard", "challenging",
)
PERSONS: Final = ("expert", "specialist", "professional", "genius", "professor", "veteran", "experience", "authority",
                   "hard", "difficult", "complex", "challenging")
PERSONS_ZH: Final = ("专家", "教授", "医生", "律师", "顾问", "学者")

_GRAMMAR: Final = (
    "the a an of and or but nor to in on at by for from with without into onto over under about after before between "
    "through during than as if then that this these those there here i me my mine you your yours he him his she her "
    "hers it its we us our ours they them their who whom whose what which when where why how is are was were be been "
    "being am do does did done have has had having can could will would shall should may might must not no yes so too "
    "very just only also even still don't doesn't didn't isn't it's i'm i've i'll that's what's you're please all any "
    "some each every both one because while until since like up out off down more most much many such other make get "
    "got want need let give tell help dont im"
)
GRAMMAR: Final = frozenset(_GRAMMAR.split())
# fmt: on
"""How to answer, how hard it is, who should answer: no sentence of these says what is wanted. What is said outright,
the words that spare the search for it (each saying holds one), and the words that hold English sentences together."""

# fmt: off
ANSWER_WORDS: Final = (
    "answer", "repli", "reply", "respond", "respons", "prompt", "request", "question", "model", "system", "assistant",
    "tier", "expert", "scholar", "specialist", "professor", "panel", "contest", "challenge", "capabilit", "power",
    "rigor", "rigour", "reasoning", "inference", "verif", "careful", "slowly", "severity", "priority", "critical",
    "difficult", "comput", "effort", "subtle", "watertight", "quality",
    "回答", "回复", "答复", "答案", "作答", "模型", "系统", "助手", "请求", "推理", "推演", "推论", "思考", "核对",
    "专家", "学者", "权威", "竞赛", "决赛", "能力", "严谨", "质量", "严重", "重要", "难题", "难度", "全力", "算力",
    "评审", "问题", "题目",
)
# fmt: on
"""Words of people who talk about the answer they want: in a wish, too, so nothing is cut off for them but on trial.
Each of ASCII begins a word."""

_SIGN: Final = re.compile(r"[^\w\s.,!?'\"，。！？、：:；;“”‘’（）()…-]|_")
_PERSONA: Final = re.compile(
    r"\byou(?:'re| are) (?:an?|the|my) .{0,60}(?:expert|specialist|professional|genius|professor|veteran|experience)"
    r"|\b(?:act|answer|respond) (?:as|like) (?:an?|the) .{0,40}(?:expert|specialist|professor|professional|genius)"
    r"|\bas an? .{0,40}(?:expert|specialist|professor|authority)\b"
    r"|\b(?:very|extremely|incredibly|really|insanely) (?:hard|difficult|complex|challenging)\b"
    r"|(?:顶级|顶尖|资深|权威).{0,12}(?:专家|教授|医生|律师|顾问|学者)"
)

_talks_how: Final = kernel.finder((*HOW_SAID, *HOW_SAID_ZH))
_names_person: Final = kernel.finder((*PERSONS, *PERSONS_ZH))

may_tell: Final = kernel.finder((*HOW_STEMS, *HOW_SAID_ZH, *PERSONS_ZH))
"""Whether a line in lower case may talk about how to answer."""

is_about_answers: Final = kernel.finder(ANSWER_WORDS, begin_words=True)
"""Whether words of a line in lower case talk about the answer that is wanted."""


def signs_counted(line: str) -> int:
    """How many characters are neither of a word nor blank nor punctuation."""
    return len(_SIGN.findall(line))


def words_counted(words: list[str], grammar: frozenset[str]) -> tuple[int, int, int]:
    """How many words are grammar, how often one of grammar meets one of none, how many are the word before again."""
    held = list(map(grammar.__contains__, words))
    return sum(held), sum(map(ne, held, held[1:])), sum(map(eq, words, words[1:]))


wording: Final[Any] = kernel.compiled("wording") or words_counted
signs: Final[Any] = kernel.compiled("signs") or signs_counted
"""`words_counted` and `signs_counted`, from C where it can be."""


def tells_how(sentence: str) -> bool:
    """Whether a sentence talks about how to answer."""
    low = sentence[:SENTENCE_MAX].lower()
    return _talks_how(low) or (_names_person(low) and _PERSONA.search(low) is not None)


MATERIAL_CHARS_MAX: Final = 48
MATERIAL_HAN_MAX: Final = 14

_ABOUT_MATERIAL: Final = re.compile(
    r"\b(?:any ideas?|fix|wrong|why|simplif\w*|solve|evaluate|outputs?|prints?|returns?|faster|slow|fail\w*|errors?"
    r"|works?|working|broken|bugs?|explain|results?|means?|correct|improve|optimi[sz]e|refactor|help|issue|problem"
    r"|crash\w*|loop|happening|do i do|look|check|true|false|prove|compute|find|derive|plot)\b"
    r"|为什么|为啥|怎么|哪里|哪儿|求|化简|结果|报错|错|意思|优化|解释|看看|帮忙|咋|原因|问题|输出|跑|改|证明|对吗|对不对"
)


def asks_about_material(rest: str) -> bool:
    """Whether a short question is likely about code or a formula that stands beside it."""
    short = MATERIAL_CHARS_MAX if rest.isascii() else MATERIAL_HAN_MAX
    return len(rest) <= short and _ABOUT_MATERIAL.search(rest.lower()) is not None
