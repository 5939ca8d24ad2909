"""Golden vectors: usage as vendors send it, what it means and what it costs, played through the real code.

The files in `fixtures/usage` say how they are read. Bytes go in (a whole answer, or the pieces of a stream), a row of
the ledger comes out: nothing between is left out but the network. Used by `tests/contract/test_usage_vectors.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from scenery import NOW, a_chat, an_intent

from service.catalog.load import load, load_bytes
from service.domain.catalog import Catalog
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate
from service.domain.features import features_of
from service.ledger.lines import decode, encode
from service.ledger.recorder import Identity, Outcome, Timing, ending, opening
from service.ledger.rows import open_body, terminal_body
from service.routing.estimate import candidate, forecast
from service.upstream.protocols import PROTOCOLS
from service.upstream.quirks import QUIRKS
from service.upstream.stream import Reading
from service.upstream.tally import Tally, bounds_of

HOME = Path(__file__).resolve().parent
REGISTRY = HOME.parent / "providers.yaml"
FIXTURES = HOME / "fixtures" / "usage"

OF_USAGE = frozenset({"cached_tokens", "reasoning_beside", "reasoning_in_total", "usage_cost"})
"""The quirks that say how usage is read."""

WAYS = ("whole", "last")
"""How a vector is played unless it says: as a whole answer, and as a stream with usage in an event of its own."""

ESTIMATED_INPUT = 12
ANSWER = "abcd" * 20
"""20 tokens by the rule of characters: what an estimate is made from."""


@dataclass(frozen=True)
class Vector:
    """One vector at one provider, played one way."""

    name: str
    provider: str
    way: str
    said: dict[str, Any]

    @property
    def usages(self) -> list[str]:
        """The vendor's JSON, verbatim: one object, or one after the other."""
        return self.said["usages"] if "usages" in self.said else [self.said["usage"]]


def vectors() -> list[Vector]:
    """Every vector of the files, at each of its providers and in each of its ways."""
    found = []
    for path in sorted(FIXTURES.glob("*.yaml")):
        for said in yaml.safe_load(path.read_text(encoding="utf-8")):
            providers = said["provider"] if isinstance(said["provider"], list) else [said["provider"]]
            ways = said.get("as", WAYS)
            found += [Vector(said["vector"], provider, way, said) for provider in providers for way in ways]
    return found


@cache
def registry() -> Catalog:
    """The shipped registry, without keys: its providers and their quirks."""
    return load(REGISTRY, {}, now=NOW, known_quirks=QUIRKS)


def dispatched(vector: Vector) -> tuple[ChatRequest, Candidate]:
    """The request of a vector and the deployment that it goes to, with the quote of that instant."""
    said, shipped = vector.said, registry().providers[vector.provider]
    provider: dict[str, Any] = {
        "base_url": "http://127.0.0.1:9/v1",
        "protocol": shipped.protocol,
        "quirks": [f"{name}:{value}" if value else name for name, value in shipped.quirks.items()],
    }
    if "price_region" in said:
        provider["price_region"] = said["price_region"]
    deployment: dict[str, Any] = {"provider": vector.provider, "name": "m-wire"}
    if "self_hosted" in said:
        deployment["self_hosted"] = said["self_hosted"]
    else:
        prices = said["prices"] if "prices" in said else [said["price"]]
        deployment["prices"] = prices and [{"from": date(2026, 1, 1), **price} for price in prices]
    written = yaml.safe_dump(
        {
            "version": 1,
            "currency": {"rates": {"CNY": 0.1406}, "as_of": date(2026, 11, 21)},
            "providers": {vector.provider: provider},
            "models": {"m": {"context_tokens": 20_000_000, "deployments": [deployment]}},
        },
        sort_keys=False,
    )
    catalog = load_bytes(written.encode(), "vector", {}, now=NOW, known_quirks=QUIRKS)
    # A picture by reference, so that the size of these few words is no bound for what the vendor counted.
    content = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "https://x.example/p.png"}}]
    messages = [{"role": "user", "content": content}]
    chat = a_chat(messages=messages, stream=vector.way != "whole", **said.get("asked", {}))
    at = said.get("at", NOW)
    (model,) = catalog.models.values()
    found = candidate(model.deployments[0], model, forecast(features_of(chat), an_intent()), at)
    return chat, replace(found, input_tokens=ESTIMATED_INPUT)


def answer_of(vector: Vector) -> str:
    """An answer as long as the vector says, so that our own count of it does not wonder."""
    estimated = vector.said.get("source") == "estimated" and "output_tokens" not in vector.said
    return ANSWER if estimated else "abcd" * max(1, vector.said["buckets"].get("output", 0))


def whole(vector: Vector) -> bytes:
    """The body of a whole answer."""
    return _object(
        {"id": "chatcmpl-1", "object": "chat.completion", "model": "m-wire", **vector.said.get("around", {})},
        {"message": {"role": "assistant", "content": answer_of(vector)}, "finish_reason": "stop"},
        vector.said.get("tier"),
        vector.usages[-1],
    )


def streamed(vector: Vector) -> list[bytes]:
    """The pieces of a stream: usage in an event of its own, in every event, in the choice that ends, or in `x_groq`."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m-wire"}
    tier, text, usages = vector.said.get("tier"), answer_of(vector), vector.usages
    third = len(text) // 3
    deltas = [{"role": "assistant", "content": ""}, {"content": text[:third]}, {"content": text[third:]}]
    choices = [{"delta": delta, "finish_reason": None} for delta in deltas]
    ending_choice: dict[str, Any] = {"delta": {}, "finish_reason": "stop"}
    around = vector.said.get("around", {})
    if vector.way == "every":
        told = [*choices[: 1 + max(0, 3 - len(usages))], *choices[1 + max(0, 3 - len(usages)) :], ending_choice]
        counted = [None] * (len(told) - len(usages)) + usages
        pieces = [_object(head, one, tier, usage) for one, usage in zip(told, counted, strict=True)]
    else:
        pieces = [_object({**head, **around}, one, tier) for one in choices]
        if vector.way == "choice":
            pieces.append(_object(head, ending_choice, tier, usages[-1], where="choice"))
        elif vector.way == "x_groq":
            pieces.append(_object(head, ending_choice, tier, usages[-1], where="x_groq"))
        else:
            pieces += [_object(head, ending_choice, tier), _object(head, None, tier, usages[-1])]
    return [b"data: %b\n\n" % piece for piece in (*pieces, b"[DONE]")]


def _object(
    head: dict[str, Any], choice: dict[str, Any] | None, tier: str | None, usage: str | None = None, where: str = "top"
) -> bytes:
    """One JSON object of the wire; the vendor's own usage goes in as it is written."""
    mark = "@usage@"
    told: dict[str, Any] = {**head, "choices": [] if choice is None else [{"index": 0, **choice}]}
    if tier is not None:
        told["service_tier"] = tier
    if usage is not None:
        holder = {"top": told, "choice": told["choices"][-1] if told["choices"] else told}.get(where)
        if holder is None:
            holder = told["x_groq"] = {"id": "req_1"}
        holder["usage"] = mark
    return json.dumps(told).replace(f'"{mark}"', usage or "").encode()


def played(vector: Vector) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two rows of the attempt, as they come back from the journal: bytes in, cost out."""
    chat, chosen = dispatched(vector)
    protocol = PROTOCOLS[chosen.deployment.provider.protocol]
    tally = Tally(started=0.0)
    if vector.way == "whole":
        tally.note_answer(protocol.answer(whole(vector), chosen.deployment), bounds_of(chat, chosen))
    else:
        reading = Reading(protocol, chat, chosen, tally, SimpleNamespace(monotonic=lambda: 0.0))
        for piece in streamed(vector):
            reading.take(piece)
        assert reading.done, reading.problem
        assert reading.problem is None
    usage = tally.usage_or_estimate(chosen.input_tokens, attached=True)
    at = vector.said.get("at", NOW)
    who = Identity("att_1", "req_1", 1, None, (), chat.stream)
    decision = SimpleNamespace(
        id="dec_1", requested="m", intent=an_intent(), policy="balanced", features=features_of(chat)
    )
    entry = opening(who, decision, chosen, _ms(at))
    asked = vector.said.get("asked", {}).get("service_tier")
    outcome = Outcome("complete", usage, tally.model, 200, tally.upstream_id, asked_tier=asked)
    row = ending(entry, chosen, outcome, Timing(_ms(vector.said.get("ended", at)), None, 1.0, None), None)
    lines = (encode("open", open_body(entry)), encode("terminal", terminal_body(row)))
    opened, ended = (dict(decode(line[:-1]).body) for line in lines)
    return opened, ended


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
