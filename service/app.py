"""The composition root: builds every part once, in order; closes them in reverse. Its content is the order.

Where on the path: `cli.serve` calls `build` and hands the application to the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from classifiers import ArtefactError, IntentClassifier
from service import __version__, telemetry
from service.api import admin, feedback, health, openai, schema_pages, spend
from service.api.chat import Application
from service.api.errors import from_framework, render
from service.api.middleware import RequestId
from service.config import Settings, SpendBy
from service.domain.catalog import Catalog
from service.domain.ports import Classifier
from service.errors import ConfigurationError
from service.failpoints import arm, parse
from service.guard.keys import KeyStore
from service.guard.limits import Limiter
from service.guard.strong_share import StrongShares, StrongShareWatch
from service.house import House, SystemClock
from service.learned import read_learned
from service.ledger.indexer import Indexer
from service.ledger.journal import Journal
from service.pipeline import Pipeline
from service.spending import Spending, open_counters
from service.startup import open_cache, open_ledger
from service.upstream.client import UpstreamClient
from service.upstream.protocols import PROTOCOLS
from service.upstream.transports import open_transport


def build(
    settings: Settings,
    catalog: Catalog,
    keys: KeyStore,
    *,
    simulated: bool,
    classifier: Classifier | None = None,
) -> FastAPI:
    """The application over a registry that was loaded and checked. `classifier` defaults to the shipped artefact.

    Raises ConfigurationError when a part can't be built.
    """
    if classifier is None:
        try:
            classifier = IntentClassifier.load()
        except ArtefactError as problem:
            raise ConfigurationError(f"the intent classifier can't be loaded: {problem}") from problem
    clock, alone = SystemClock(), settings.workers == 1
    proxy = settings.upstream_proxy
    transport = open_transport(settings.transport.value, proxy.get_secret_value() if proxy is not None else None)
    journal = Journal(settings.data_dir, sync=settings.journal_sync.value)
    shares = StrongShares(
        limit=settings.strong_share_max,
        window_s=settings.strong_share_window_s,
        requests_min=settings.strong_share_requests_min,
    )
    pipeline = Pipeline(
        catalog=catalog,
        classifier=classifier,
        client=UpstreamClient(transport, PROTOCOLS, clock),
        ledger=journal,
        clock=clock,
        attempts_max=settings.attempts_max,
        deadline_s=settings.deadline_s,
        limiter=Limiter(open_counters(settings), catalog.budgets),
    )
    pipeline.settler.watch = StrongShareWatch(shares, clock)
    counters, by = pipeline.settler.counters, settings.metrics_spend_by
    counters.by_key, counters.by_tag = by in (SpendBy.KEY, SpendBy.BOTH), by in (SpendBy.TAG, SpendBy.BOTH)
    pipeline.cache = open_cache(settings, keys, clock, catalog.cache)
    pipeline.learned = read_learned(settings, catalog)
    house = House(
        settings=settings,
        keys=keys,
        pipeline=pipeline,
        journal=journal,
        indexer=Indexer(settings.data_dir, open_ledger(settings)),
        spending=Spending(
            pipeline.limiter, settings.data_dir, clock, open_ledger(settings), alone=alone, simulated=simulated
        ),
        transport=transport,
        clock=clock,
        shares=shares,
        simulated=simulated,
    )

    if settings.failpoint is not None:
        failpoint = parse(settings.failpoint)
        telemetry.logger().warning(telemetry.FAILPOINT_ARMED, point=failpoint.point, action=failpoint.action)
        arm(failpoint, house)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await house.open()
        try:
            yield
        finally:
            await house.close()

    return _application(house, lifespan)


def _application(house: House, lifespan: object) -> FastAPI:
    app = Application(
        title="coe-router",
        version=__version__,
        redirect_slashes=False,  # a redirect would name a host that the caller chose, and lose the body
        lifespan=lifespan,  # type: ignore[arg-type] # the context manager made in `build`
        docs_url=None,  # `schema_pages` serves both, and asks who is there
        redoc_url=None,
        openapi_url=None,
    )
    app.state.house = house
    app.include_router(health.router)
    app.include_router(openai.router)
    app.include_router(spend.router)
    app.include_router(admin.router)
    app.include_router(feedback.router)
    app.include_router(schema_pages.router)

    async def refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)  # noqa: S101 # registered for nothing else, ten lines below
        told = from_framework(problem.status_code, request.url.path, request.method, problem.headers)
        return render(told, openai.request_id_of(request))

    app.add_exception_handler(HTTPException, refused)
    app.add_middleware(RequestId)
    return app
