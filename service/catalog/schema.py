"""providers.yaml field by field: the schema that the loader enforces and editors can use.

Where on the path: `draft` validates each entry by these classes; `json_schema()` is what `coe check --schema` prints.

Invariants
1. Every mapping forbids unknown fields, every field says what it means.
2. These classes hold what the file says and nothing else: names are checked against each other in `crosscheck`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from service.catalog import words
from service.catalog.fields import ENV_REFERENCE, NAME, NAME_SHAPE, Day, Number, OneOf, OneOrMany, Text, Whole, refuse
from service.catalog.hosts import url_problem
from service.catalog.price_schema import Entry, PriceEntry, SelfHostedEntry
from service.domain.catalog import CACHE_TTL_S_MAX
from service.domain.limits import CONCURRENCY_MAX, PER_MINUTE_MAX, PUSD_MAX
from service.domain.money import PICO

SCHEMA_VERSION = 1
"""The only version of the file's shape that there is."""

MAX_CONTEXT_TOKENS = 100_000_000
"""Window of a model: ten times the largest on offer."""

MAX_SECONDS = Decimal(86_400)
"""A timeout: no attempt may last a day."""

EXPLORE_MAX = Decimal("0.2")
"""Requests that a policy may leave to a draw: 2 to 5 % teach enough."""

MAX_COUNT = 1_000_000_000
"""Any other count of the file."""

Ratio = Annotated[Decimal, Number(Decimal(0), Decimal(1))]
Seconds = Annotated[Decimal, Number(Decimal(0), MAX_SECONDS, above=True)]
Tokens = Annotated[int, Whole(1, MAX_CONTEXT_TOKENS)]
Count = Annotated[int, Whole(1, MAX_COUNT)]
Usd = Annotated[Decimal, Number(Decimal(0), Decimal(PUSD_MAX // PICO), decimals=12)]
PerMinute = Annotated[int, Whole(0, PER_MINUTE_MAX)]
Name = Annotated[str, Text("a name", NAME, NAME_SHAPE)]
Label = Annotated[str, Text("a label", r"[^\s,;\x00-\x1f]{1,100}", "a word of at most 100 characters without spaces")]
Prose = Annotated[str, Text()]
Capability = Annotated[str, OneOf("capability", words.CAPABILITIES)]
Modality = Annotated[str, OneOf("modality", words.MODALITIES)]
QualityKey = Annotated[str, OneOf("intent", words.QUALITY_KEYS)]
EnvReference = Annotated[
    str,
    Text(
        "a reference to an environment variable",
        ENV_REFERENCE.pattern.removesuffix(r"\Z"),
        "write ${env:NAME}; a key itself never stands in this file, and defaults are not supported",
        secret=True,
    ),
]
Quirk = Annotated[
    str,
    Text(
        "a quirk",
        r"[a-z][a-z0-9_]*(?::[A-Za-z0-9_.-]+(?:\|[A-Za-z0-9_.-]+)*)?",
        "write name or name:value, in small letters",
    ),
]
HeaderName = Annotated[str, Text("a header name", r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", "letters, digits and dashes")]
HeaderValue = Annotated[
    str, Text("a header value", r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", "visible ASCII characters", secret=True)
]
Currency = Annotated[str, Text("a currency", r"[A-Z]{3}", words.CURRENCY_SHAPE)]


@dataclass(frozen=True, slots=True)
class BaseUrl(Text):
    """A url that may be dialled; never repeated in a message, as it may hold a password."""

    noun: str = "a url"
    secret: bool = True

    def check(self, value: object) -> str:
        """The url; a validation error otherwise."""
        url = Text.check(self, value)
        problem = url_problem(url)
        if problem is not None:
            refuse(problem)
        return url


class CurrencyEntry(Entry):
    """The base currency, and one explicit rate for each other one."""

    base: Annotated[str, OneOf("base currency", {"USD": "US dollar"})] = Field(
        "USD", description="The currency of every report; only USD."
    )
    rates: dict[Currency, Annotated[Decimal, Number(Decimal(0), Decimal(1_000), above=True, decimals=9)]] = Field(
        default_factory=dict, description="USD per unit of another currency: {CNY: 0.1406}."
    )
    as_of: Annotated[date, Day()] | None = Field(None, description="Day on which the rates were read.")


class TimeoutsEntry(Entry):
    """Deadlines of one attempt, in seconds."""

    connect_s: Seconds | None = Field(None, description="To a connection. Default 5.")
    first_token_s: Seconds | None = Field(None, description="From the request to the first content. Default 30.")
    idle_s: Seconds | None = Field(None, description="Between two chunks of a stream. Default 30.")
    total_s: Seconds | None = Field(None, description="For the whole attempt. Default 600.")


class LimitsEntry(Entry):
    """What the account allows."""

    concurrency: Count | None = Field(None, description="Requests at the same time.")
    requests_per_minute: Count | None = Field(None, description="Requests in a minute.")
    tokens_per_minute: Count | None = Field(None, description="Tokens in a minute, input and output together.")


class SwitchFields(Entry):
    """The switch that providers, models and deployments share."""

    enabled: bool = Field(True, description="false: listed with its reason, never called.")
    disabled_reason: Prose | None = Field(None, description="Why it is not enabled, and how to enable it.")


class ProviderEntry(SwitchFields):
    """A vendor account: where to call, with which keys, and what is odd about it."""

    base_url: Annotated[str, BaseUrl()] = Field(description="Where the API begins, such as https://api.example.com/v1.")
    protocol: Annotated[str, OneOf("protocol", words.PROTOCOLS)] = Field(
        "openai_chat", description="The wire it speaks."
    )
    api_key: Annotated[list[EnvReference], OneOrMany(secret=True)] | None = Field(
        None, description="${env:NAME}, or a list of them. Unset variables make the provider inactive. Absent: no key."
    )
    title: Prose | None = Field(None, description="Its name for people.")
    region: Label = Field("unknown", description="Where requests are processed: cn, us, eu, onprem, …")
    price_region: Label | None = Field(
        None, description="Which of the `regions` of its prices the account pays for. Absent: the plain price."
    )
    tags: list[Label] = Field(default_factory=list, description="Words that policies can allow or deny.")
    timeouts: TimeoutsEntry | None = Field(None, description="Deadlines that differ from the defaults.")
    limits: LimitsEntry | None = Field(
        None, description="What the account allows: who has no room is passed over, on all replicas together."
    )
    quirks: list[Quirk] = Field(
        default_factory=list, description="Named departures from the protocol, `name` or `name:value`."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Headers on every call; a secret one is written ${env:NAME}."
    )


class DeploymentEntry(SwitchFields):
    """A model at a provider: the unit that the router chooses."""

    provider: Prose = Field(description="Name of a provider of this file.")
    name: Annotated[str, Text("a model name", r"[^\x00-\x20\x7f]{1,256}", "no spaces, at most 256 characters")] = Field(
        description="What the vendor calls the model on the wire."
    )
    context_tokens: Tokens | None = Field(None, description="Window at this provider, when it differs.")
    output_tokens_max: Tokens | None = Field(None, description="Largest answer at this provider, when it differs.")
    capabilities: list[Capability] | None = Field(None, description="Capabilities at this provider, when they differ.")
    prices: list[PriceEntry] | None = Field(
        None, description="Price history. null or absent: unknown, and not eligible under a budget."
    )
    self_hosted: SelfHostedEntry | None = Field(None, description="An engine of one's own, instead of prices.")


class ModelEntry(SwitchFields):
    """A model by its vendor-free name, and where it can be had."""

    context_tokens: Tokens | None = Field(None, description="Largest input and output together. Absent: unknown.")
    output_tokens_max: Tokens | None = Field(None, description="Largest answer. Absent: unknown.")
    modalities: list[Modality] = Field(default_factory=lambda: ["text"], description="What a request may contain.")
    capabilities: list[Capability] = Field(default_factory=list, description="What it can do beside plain chat.")
    languages: list[Label] = Field(default_factory=list, description="Languages it is good at: zh, en, … Empty: any.")
    quality: dict[QualityKey, Ratio] = Field(
        default_factory=dict, description="Prior P(acceptable), 0 to 1, per intent or `default`."
    )
    quality_source: Prose | None = Field(None, description="Where the priors come from.")
    reasoning_tokens: dict[QualityKey, Annotated[int, Whole(0, MAX_CONTEXT_TOKENS)]] = Field(
        default_factory=dict, description="Hidden thinking tokens to expect, per intent or `default`."
    )
    tags: list[Label] = Field(default_factory=list, description="Words that policies can allow or deny.")
    retires: Annotated[date, Day()] | None = Field(None, description="First day on which it can no longer be had.")
    deployments: list[DeploymentEntry] = Field(default_factory=list, description="Where it can be had.")


class SelectorEntry(Entry):
    """A set of deployments. Names within a field are alternatives."""

    models: list[Prose] = Field(default_factory=list, description="Models of this file, or provider/model.")
    providers: list[Prose] = Field(default_factory=list, description="Names of providers of this file.")
    regions: list[Label] = Field(default_factory=list, description="Regions of providers.")
    tags: list[Label] = Field(default_factory=list, description="Tags of providers or models.")


class PolicyEntry(Entry):
    """How to choose among the deployments that can serve a request."""

    objective: Annotated[str, OneOf("objective", words.OBJECTIVES)] = Field(
        "min_cost", description="What is best, within the bounds below."
    )
    min_quality: Ratio | None = Field(None, description="Least P(acceptable). Absent: 0.")
    min_quality_for: dict[Annotated[str, OneOf("intent", words.ROUTE_INTENTS)], Ratio] = Field(
        default_factory=dict, description="Least P(acceptable) of intents that differ: {coding: 0.90}."
    )
    relative_to_best: Ratio | None = Field(None, description="Share of the best candidate's quality that suffices.")
    usd_per_quality: Annotated[Decimal, Number(Decimal(0), Decimal(10_000), above=True, decimals=12)] | None = Field(
        None, description="For utility: what one whole point of quality is worth on one request, in USD."
    )
    max_cost_usd: Annotated[Decimal, Number(Decimal(0), Decimal(10_000), above=True, decimals=12)] | None = Field(
        None, description="Most that one request may be expected to cost, in USD."
    )
    max_latency_ms: Count | None = Field(
        None, description="Longest time to the answer, or to the first content of a stream; then 504."
    )
    allow: SelectorEntry | None = Field(None, description="Only these: each field that names something must match.")
    deny: SelectorEntry | None = Field(None, description="Never these: one field that matches is enough.")
    explore: Annotated[Decimal, Number(Decimal(0), EXPLORE_MAX)] | None = Field(
        None, description="Share of requests left to a draw among those good enough, to learn. Absent: 0. Up to 0.2."
    )
    on_unavailable: Annotated[str, OneOf("on_unavailable", words.ON_UNAVAILABLE)] = Field(
        "reject", description="What to do when nothing is within the bounds."
    )


class WhenEntry(Entry):
    """When a route applies: every field that is given must hold; values within one are alternatives."""

    key_tag: Annotated[list[Label], OneOrMany()] | None = Field(None, description="Tag of the caller's key.")
    intent: Annotated[list[Annotated[str, OneOf("intent", words.ROUTE_INTENTS)]], OneOrMany()] | None = Field(
        None, description="What the request is about."
    )
    languages: Annotated[list[Label], OneOrMany()] | None = Field(None, description="Language of the request.")
    model: Annotated[list[Prose], OneOrMany()] | None = Field(None, description="The model that the caller asked for.")


class RouteEntry(Entry):
    """One line of the routing table; the first that applies wins. Exactly one of policy, plan and model."""

    name: Name = Field(description="Its name in decisions.")
    when: WhenEntry = Field(default_factory=WhenEntry, description="When it applies. Absent: always.")
    policy: Prose | None = Field(None, description="Name of a policy.")
    plan: Annotated[str, OneOf("plan", words.PLANS)] | None = Field(None, description="Name of a plan.")
    model: Prose | None = Field(None, description="A model, or provider/model.")


class BudgetEntry(Entry):
    """What all requests with a tag may spend and ask for together, or all requests at all. At least one limit."""

    name: Name = Field(description="Its name in refusals, metrics and counters.")
    tag: Label | None = Field(None, description="Tag of the caller's key or of the request. Absent: every request.")
    usd_per_day: Usd | None = Field(None, description="Most that may be spent in a UTC day, in USD.")
    usd_per_month: Usd | None = Field(None, description="Most that may be spent in a UTC month, in USD.")
    requests_per_minute: PerMinute | None = Field(None, description="Requests in a minute.")
    tokens_per_minute: PerMinute | None = Field(None, description="Tokens in a minute, input and output together.")
    concurrency: Annotated[int, Whole(0, CONCURRENCY_MAX)] | None = Field(
        None, description="Requests at the same time."
    )
    soft: bool = Field(False, description="true: what goes over is counted and told, never refused.")
    stop: bool = Field(False, description="true: a stream is ended where what was reserved for it is used up.")


class CalendarEntry(Entry):
    """Days on which a price window does not apply."""

    zone: Annotated[str, Text("a time zone")] = Field(description="IANA time zone in which the days are meant.")
    days: list[Annotated[date, Day()]] = Field(description="The days, YYYY-MM-DD.")
    until: Annotated[date, Day()] = Field(description="Last day that the list speaks about.")


class CacheEntry(Entry):
    """Answers that are kept for their tenant, for whoever asks the very same again. Absent: none are."""

    ttl_s: Annotated[int, Whole(1, CACHE_TTL_S_MAX)] = Field(
        description="Seconds that an answer is kept; a request may ask for less."
    )
    answer_bytes_max: Annotated[int, Whole(1_024, 4 * 1024 * 1024)] = Field(
        256 * 1024, description="Largest answer that is kept, in bytes."
    )
    memory_bytes: Annotated[int, Whole(1_024, 64 * 1024**3)] = Field(
        64 * 1024 * 1024,
        description="What each process may hold in memory, in bytes. Nothing where COE_CACHE_URL is set.",
    )
    sampled: bool = Field(
        False, description="true: also answers to requests that don't say `temperature: 0` and don't ask for it."
    )


class HeadEntry(Entry):
    """The single values at the top of the file."""

    version: Annotated[int, Whole(SCHEMA_VERSION, SCHEMA_VERSION)] = Field(description="Shape of this file; 1.")
    currency: CurrencyEntry = Field(default_factory=CurrencyEntry, description="Base currency and exchange rates.")
    baseline: Prose | None = Field(None, description="Model that savings are counted against.")
    default_policy: Prose = Field("balanced", description="Policy of requests that name none.")
    cache: CacheEntry | None = Field(None, description="Keep answers for those who ask the same again. Absent: don't.")


class RegistryFile(HeadEntry):
    """The whole of providers.yaml."""

    providers: dict[Name, ProviderEntry] = Field(default_factory=dict, description="Vendor accounts by name.")
    models: dict[Name, ModelEntry] = Field(default_factory=dict, description="Models by vendor-free name.")
    policies: dict[Name, PolicyEntry] = Field(
        default_factory=dict, description="Policies by name; balanced, cheap and best exist unless written here."
    )
    routes: list[RouteEntry] = Field(default_factory=list, description="The routing table, first match wins.")
    budgets: list[BudgetEntry] = Field(
        default_factory=list, description="What many requests may spend and ask for together."
    )
    calendars: dict[Name, CalendarEntry] = Field(
        default_factory=dict, description="Calendars by name; one of a built-in name replaces it."
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of providers.yaml, with a description for every field: for editors and CI."""
    schema = RegistryFile.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "coe-router providers.yaml"
    for part in (schema, *schema["$defs"].values()):
        for described in part["properties"].values():
            if "patternProperties" in described:
                described["additionalProperties"] = False  # a key that breaks the pattern is an error, not a free field
    return schema
