"""A cost report as CSV with the columns of FOCUS, the FinOps Open Cost and Usage Specification. Pure functions.

Where on the path: beside it; one of the formats of `render`.

Invariants
1. The costs of all rows add up to the ledger's sum of the range, exactly. Nothing is split: a row is a day of a model
   at a provider, and its cost is that of all its tokens together; how many of each kind stands in columns of ours.
2. A column that is not of the specification begins with `x_`, as it asks.
3. What the ledger does not know is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import orjson

from service.domain.limits import end_of, month_of
from service.domain.money import usd_text
from service.ledger.cells import csv_cell
from service.ledger.reports import CostReport, CostRow
from service.ledger.sinks.port import TOKEN_COLUMNS

FOCUS_GROUPING: Final = ("day", "provider", "model", "simulated")
"""What a row is about; other groupings go into its tags."""

FOCUS_WITHOUT: Final[Mapping[str, str]] = {
    "tag": "an attempt with two tags would stand in two rows, and the costs would not add up.",
}
"""Groupings that are not possible, and why."""

OWN_COLUMNS: Final = (
    *(f"x_{''.join(word.capitalize() for word in name.split('_'))}" for name in TOKEN_COLUMNS),
    "x_Attempts",
    "x_Requests",
    "x_EstimatedShare",
    "x_UnpricedAttempts",
    "x_OpenAttempts",
)

COLUMNS: Final = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "SkuId",
    "SubAccountId",
    "Tags",
    *OWN_COLUMNS,
)
"""In order: the 21 that FOCUS 1.2 wants of every data set, those of the others that a ledger can fill, ours."""


def as_focus(report: CostReport) -> str:
    """A header and a line for each row of a report that is at least by `FOCUS_GROUPING`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in report.rows:
        told = _told(report, row)
        writer.writerow([csv_cell(told.get(name), is_text=True) for name in COLUMNS])
    return out.getvalue()


def _told(report: CostReport, row: CostRow) -> Mapping[str, object]:
    day, provider = str(row.keys["day"]), row.keys["provider"] or ""
    model = row.keys["model"] or ""
    start, end = _instant(day), end_of(day)
    tokens, cost = sum(row.tokens.values()), usd_text(row.cost_pusd)
    own = (*row.tokens.values(), row.attempts, row.requests, row.estimated_share)
    return {
        "BilledCost": cost,
        "BillingAccountId": provider,
        "BillingAccountName": provider,
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _text(end_of(month_of(day))),
        "BillingPeriodStart": _text(_instant(f"{month_of(day)}-01")),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{row.attempts} attempts at {model} of {provider}",
        "ChargeFrequency": "Usage-Based",
        # A range that cuts a day holds a part of it, and says so.
        "ChargePeriodEnd": _text(end if report.until is None else min(end, report.until)),
        "ChargePeriodStart": _text(start if report.since is None else max(start, report.since)),
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": provider,
        "ListCost": cost,
        "PricingQuantity": tokens,
        "PricingUnit": "Tokens",
        "ProviderName": provider,
        "PublisherName": provider,
        "ResourceId": f"{provider}/{model}",
        "ResourceName": model,
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Model inference",
        "SkuId": f"{provider}/{model}",
        "SubAccountId": row.keys.get("key"),
        "Tags": _tags(row),
        **dict(zip(OWN_COLUMNS, (*own, row.unpriced_attempts, row.open_attempts), strict=True)),
    }


def _tags(row: CostRow) -> str:
    """What else the row is about, as a JSON object of strings; `{}` for nothing."""
    tags = {f"coe/{name}": str(value) for name, value in row.keys.items() if name not in FOCUS_GROUPING and value}
    if row.keys["simulated"]:
        tags["coe/simulated"] = "true"
    return orjson.dumps(tags, option=orjson.OPT_SORT_KEYS).decode("utf-8")


def _instant(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _text(at: datetime) -> str:
    """An instant as FOCUS writes it."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"
