"""The intents, in the order of every posterior; the words for people are in `intents.yaml`.

A literal, because the scorer needs no YAML on its way. A test holds it equal to `intents.yaml` and to the
service's own.
"""

from __future__ import annotations

from typing import Final

INTENTS: Final = (
    "chitchat",
    "advice_ideas",
    "rewriting",
    "translation",
    "summarization",
    "extraction",
    "factual_qa",
    "writing",
    "roleplay",
    "coding",
    "math",
    "logic",
    "domain_expert",
    "tool_use",
    "compound",
)

INDEX: Final = {name: place for place, name in enumerate(INTENTS)}
COMPOUND: Final = "compound"

EVERYDAY: Final = frozenset(INTENTS[:9])
"""Those of the tiers `cheap` and `mid`: what a small model does well. A test holds it equal to `intents.yaml`."""

FLAG_HEADS: Final = ("code", "math", "tools")
NOTHING: Final = "nothing"
HEADS: Final = ("difficulty", *FLAG_HEADS, NOTHING)
"""What the weights say beside the intent, a column each: how hard the request is, three flags, and whether it fits no
intent at all (a scrap, a paste without a wish)."""

DIFFICULTY_MIN: Final = 1.0
DIFFICULTY_MAX: Final = 5.0
