"""The scenery for tests of routing, pipeline and API: small registries, requests, a classifier, the real app on a socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import orjson
import uvicorn
from stage import RunningRouter

from classifiers.features import Features, extract
from classifiers.turns import select
from service.api.chat_body import read_chat
from service.api.door import Door
from service.app import build
from service.config import Settings
from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Catalog, Deployment, Model, PolicySpec, Provider, RouteSpec
from service.domain.chat import ChatRequest
from service.domain.decision import INTENTS, Decision, Intent
from service.domain.features import features_of
from service.domain.money import Rates, rate_from_decimal
from service.domain.prices import PriceBook, PriceVersion
from service.house import House
from service.routing.router import decide
from service.routing.weighing import Circumstances
from service.startup import open_keys, read_registry

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PATIENCE_S = 10.0

POLICIES: Mapping[str, PolicySpec] = MappingProxyType(
    {
        "balanced": PolicySpec("balanced", min_quality=0.80, relative_to_best=0.90),
        "cheap": PolicySpec("cheap", min_quality=0.50),
        "best": PolicySpec("best", objective="max_quality"),
    }
)


def prices(listed: tuple[object, object] | None, name: str, **more: Any) -> PriceBook:
    """A book with one price: (input, output) per 1M tokens in USD; `None` is unknown."""
    if listed is None:
        return PriceBook(name)
    rates = Rates(*(rate_from_decimal(Decimal(str(one))) for one in listed), **more)
    return PriceBook(name, (PriceVersion(datetime(2026, 1, 1, tzinfo=UTC), rates),))


def a_model(
    name: str,
    listed: tuple[object, object] | None = (1, 2),
    *,
    quality: float | Mapping[str, float] = 0.9,
    at: tuple[str | Provider, ...] = ("p",),
    rates: Mapping[str, int] = MappingProxyType({}),
    **fields: Any,
) -> Model:
    """A model with a deployment at each provider, all at the same price."""
    hosts = [one if isinstance(one, Provider) else Provider(one, f"https://{one}.example/v1") for one in at]
    deployments = tuple(
        Deployment(host, name, f"{name}-wire", prices(listed, f"{host.name}/{name}", **rates)) for host in hosts
    )
    known = {"default": quality} if isinstance(quality, float | int) else dict(quality)
    return Model(name, deployments, quality=known, **{"context_tokens": 100_000, **fields})


def a_catalog(
    *models: Model, policies: Mapping[str, PolicySpec] = POLICIES, routes: tuple[RouteSpec, ...] = (), **fields: Any
) -> Catalog:
    """A registry of these models."""
    every = [one for model in models for one in model.deployments]
    return Catalog(
        providers={one.provider.name: one.provider for one in every},
        models={model.name: model for model in models},
        policies=policies,
        routes=routes,
        by_id={one.id: one for one in every},
        version="v1",
        **fields,
    )


def a_chat(text: str = "hello", *, headers: Mapping[str, str] = MappingProxyType({}), **body: Any) -> ChatRequest:
    """A parsed chat request; `body` adds and overrides members."""
    return read_chat(orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}], **body}), headers)


def an_intent(label: str = "factual_qa", confidence: float = 0.9, *, language: str = "en", **more: Any) -> Intent:
    """What a classifier that is sure would say."""
    rest = (1 - confidence) / (len(INTENTS) - 1)
    posterior = {name: confidence if name == label else rest for name in INTENTS}
    return Intent(
        label,
        confidence,
        more.pop("posterior", posterior),
        language,
        artefact="test-1",
        difficulty=more.pop("difficulty", None),
        **more,
    )


def decided(
    chat: ChatRequest, catalog: Catalog, *, intent: Intent | None = None, caller: Caller = ANONYMOUS
) -> Decision:
    """The decision at `NOW`."""
    return decide(features_of(chat), intent or an_intent(), catalog, Circumstances("dec_1", NOW, caller))


class WordClassifier:
    """A classifier that goes by single words; its evidence are words of the prompt, as the real one's are."""

    def __init__(self) -> None:
        self.explained = 0

    def predict(self, turns: Any) -> Intent:
        """`translate` is translation, `code` is coding, all else a question; Han characters are Chinese."""
        text = turns[-1][1] if turns else ""
        label = "translation" if "translate" in text else "coding" if "code" in text else "factual_qa"
        return an_intent(label, language="zh" if any("一" <= one <= "龥" for one in text) else "en")

    def parts(self, turns: Any) -> tuple[()]:
        """Single words have no steps."""
        del turns
        return ()

    def read(self, turns: Any) -> tuple[Intent, Features | None]:
        """The same, and what the real one would see of the last turn."""
        return self.predict(turns), extract(select(turns[-1][1])) if turns else None

    def explain(self, turns: Any, label: str | None = None) -> tuple[tuple[str, float], ...]:
        """The first words of the prompt, for the label that was predicted."""
        assert label in (None, self.predict(turns).label)
        self.explained += 1
        return tuple((word, 1.5) for word in (turns[-1][1].split()[:3] if turns else ()))


@dataclass
class Serving:
    """The real application on a real socket, in a thread of the test."""

    house: House
    server: uvicorn.Server
    thread: threading.Thread
    classifier: WordClassifier
    books: RunningRouter

    @property
    def url(self) -> str:
        """Its root URL."""
        return self.books.url

    def chat(self, text: str = "hello", *, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        """POST a chat; `body` adds and overrides members."""
        whole = {"model": "auto", "messages": [{"role": "user", "content": text}], **body}
        return httpx.post(f"{self.url}/v1/chat/completions", json=whole, headers=headers, timeout=20, trust_env=False)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET a path."""
        return httpx.get(self.url + path, headers=headers, timeout=20, trust_env=False)

    def stop(self) -> None:
        """Stop as SIGTERM does, and wait."""
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the server did not stop"


def start_app(data_dir: Path, providers: Path, **settings: Any) -> Serving:
    """Build the app over a registry file and serve it from a thread; returns when it listens."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    chosen = Settings(providers=providers, data_dir=data_dir, port=port, local_engines=False, **settings)
    keys = open_keys(chosen)
    classifier = WordClassifier()
    catalog = read_registry(chosen, datetime.now(UTC))
    app = build(chosen, catalog, keys, simulated=False, classifier=classifier)
    config = uvicorn.Config(
        app,
        http=partial(Door, admission=app.state.house.admission),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    due = time.monotonic() + PATIENCE_S
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < due, "the server did not start in time"
        time.sleep(0.01)
    books = RunningRouter(None, port, data_dir, data_dir / "none.log")  # type: ignore[arg-type] # no process to stop
    return Serving(app.state.house, server, thread, classifier, books)


def eventually(condition: Any, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds; a test that waits in vain fails here."""
    due = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < due, f"in vain: {condition}"
        time.sleep(0.01)
