"""Words that `dressing` knows: talk about how to answer and who should, and the grammar of English. Data only.

Where on the path: beside it; `dressing` looks for them at the ends of a text that looks dear, or like nothing.

Invariant: each English saying holds one of `HOW_STEMS` or `PERSONS`, which spare the search for it.
"""

from __future__ import annotations

from typing import Final

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
