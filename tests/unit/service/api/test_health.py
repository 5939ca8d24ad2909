"""Liveness says only ok; readiness names what is degraded, and fails only when every request would."""

from __future__ import annotations

from dataclasses import replace

from scenery import a_model

from service.simulator import Script


def test_alive_and_ready(serving):
    """The healthy case, without a key of ours or a decision."""
    app, _ = serving({"alpha": Script()})
    assert app.get("/healthz").json() == {"status": "ok"}
    ready = app.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"
    assert ready.json()["simulated"] is False
    assert ready.json()["registry"] == app.house.pipeline.catalog.version
    assert ready.json()["degraded"] == {}


def test_unpriced_models_are_named_and_do_not_fail_readiness(serving):
    """They can answer, just not under a budget."""
    app, _ = serving({"alpha": Script()})
    catalog = app.house.pipeline.catalog
    free = a_model("free", None, at=(catalog.providers["alpha"],))
    app.house.pipeline.catalog = replace(catalog, models={**catalog.models, "free": free})
    ready = app.get("/readyz")
    assert ready.status_code == 200
    assert "alpha/free" in ready.json()["degraded"]["unpriced"][0]["deployment"]


def test_a_ledger_that_can_not_write_fails_readiness(serving, monkeypatch):
    """No request could be answered: nothing may be spent that is not written down."""
    app, _ = serving({"alpha": Script()})
    monkeypatch.setattr(type(app.house), "troubles", lambda _: {"ledger": "no space left"})
    ready = app.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert ready.json()["degraded"]["ledger"] == "no space left"
    assert app.get("/healthz").status_code == 200


def test_nobody_to_call_fails_readiness(serving):
    """Also when the providers have keys and every model is retired."""
    app, _ = serving({"alpha": Script()})
    catalog = app.house.pipeline.catalog
    from datetime import date

    gone = {name: replace(model, retires=date(2020, 1, 1)) for name, model in catalog.models.items()}
    app.house.pipeline.catalog = replace(catalog, models=gone)
    ready = app.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["degraded"]["providers"] == "none is active"
