"""The closed vocabularies of providers.yaml: literal tables, each word with what it means.

Where on the path: `fields` checks single values against them; `json_schema()` shows them to editors.
One word more is one line here (and the code that honours it).
"""

from __future__ import annotations

from service.domain.catalog import PolicySpec
from service.domain.decision import INTENTS

PROTOCOLS = {
    "openai_chat": "POST {base_url}/chat/completions and its siblings, as OpenAI defined them",
    "openai_responses": "POST {base_url}/responses",
    "anthropic_messages": "POST {base_url}/messages, Anthropic's wire",
    "gemini": "POST {base_url}/models/{name}:generateContent, Google's wire",
}

MODALITIES = {
    "text": "words",
    "image": "pictures in the request",
    "audio": "sound in the request",
    "video": "moving pictures in the request",
    "file": "documents (PDF and the like) in the request",
}

CAPABILITIES = {
    "tools": "function calling",
    "json_object": "answers with any JSON object when asked",
    "json_schema": "answers by a JSON schema, enforced by the vendor",
    "reasoning": "thinks before it answers",
    "logprobs": "returns log probabilities of tokens",
    "n": "returns several choices for one request",
    "prompt_cache": "bills repeated prompt prefixes at a lower rate",
    "web_search": "searches the web by itself",
    "completions": "serves /v1/completions",
    "embeddings": "serves /v1/embeddings",
    "images": "serves /v1/images/generations",
    "speech": "serves /v1/audio/speech",
    "transcription": "serves /v1/audio/transcriptions",
    "rerank": "serves /v1/rerank",
    "moderation": "serves /v1/moderations",
}

OBJECTIVES = {
    "min_cost": "the cheapest whose quality is good enough",
    "max_quality": "the best whose cost is low enough",
    "utility": "the best value: quality less cost, at usd_per_quality",
}

ON_UNAVAILABLE = {
    "reject": "answer with an error that names the constraint",
    "any": "fall back to every capable deployment",
}

PLANS = {
    "single": "one model answers",
    "cascade": "a cheap model first, a strong one when its answer fails the checks",
    "draft_polish": "a literal draft, then a writer's polish",
    "map_reduce": "independent parts in parallel, then a merge",
    "panel": "several drafts, one synthesis",
    "plan_execute": "a planner, workers, a final answer",
}

QUALITY_KEYS = {"default": "every intent that is not named", **dict.fromkeys(INTENTS, "this intent")}
"""What a figure per intent may be keyed by."""

ROUTE_INTENTS = dict.fromkeys(INTENTS, "this intent")
"""What a route may ask for."""

WEEKDAYS = {"mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6, "sun": 7}
"""Names of days by ISO number, Monday 1."""

CURRENCY_SHAPE = "write its three capital letters, such as USD or CNY"

BUILTIN_POLICIES = {
    "balanced": PolicySpec("balanced", "min_cost", min_quality=0.80, relative_to_best=0.97),
    "cheap": PolicySpec("cheap", "min_cost", min_quality=0.60),
    "best": PolicySpec("best", "max_quality", max_cost_pusd=500_000_000_000),
}
"""The policies behind `auto:balanced`, `auto:cheap` and `auto:best`, unless the file writes its own of that name."""
