"""What pages about money answer, as schemas of the OpenAPI document.

Where on the path: beside it, below `document`.
"""

from __future__ import annotations

from service.api.budgets import VERDICTS
from service.api.shapes import BOOLEAN, INSTANT, INTEGER, NUMBER, STRING, Schema, list_of, object_of, or_null


def money() -> dict[str, Schema]:
    """What is told of spend."""
    limit = object_of(
        "measure soft", measure={"enum": ["day", "month", "requests", "tokens", "concurrency"]}, soft=BOOLEAN
    )
    return {
        "Key": object_of(
            "object id name tags at used_day_usd used_month_usd limits shared",
            closed=True,
            object={"const": "key"},
            id=or_null(STRING),
            name=STRING,
            tags=list_of(STRING),
            at=INSTANT,
            used_day_usd=or_null(STRING),
            used_month_usd=or_null(STRING),
            limits=list_of(limit),
            shared=list_of({"allOf": [limit, object_of("budget", budget=STRING)]}),
        ),
        "Foreseen": object_of(
            "verdict may_cost_usd limits",
            closed=True,
            verdict={"enum": list(VERDICTS)},
            may_cost_usd=or_null(STRING),
            limits=list_of({"allOf": [limit, object_of("budget fits", budget=or_null(STRING), fits=BOOLEAN)]}),
        ),
        "Spend": object_of(
            "object at data has_more last_key_id",
            closed=True,
            object={"const": "list"},
            at=INSTANT,
            data=list_of({"allOf": [limit, object_of("budget tag key_id key_name", key_id=or_null(STRING))]}),
            has_more=BOOLEAN,
            last_key_id=or_null(STRING),
        ),
        "Costs": list_of(
            {
                "anyOf": [
                    object_of(
                        "requests attempts cost_usd baseline_cost_usd saved_usd estimated_share",
                        requests=INTEGER,
                        attempts=INTEGER,
                        cost_usd=STRING,
                        baseline_cost_usd=or_null(STRING),
                        saved_usd=or_null(STRING),
                        estimated_share=NUMBER,
                    ),
                    object_of(
                        "against compared_requests cost_usd would_have_cost_usd saved_usd",
                        against={"enum": ["baseline", "strongest", "cheapest", "random"]},
                        compared_requests=INTEGER,
                        saved_low_usd=or_null(STRING),
                        saved_high_usd=or_null(STRING),
                    ),
                ]
            }
        ),
    }
