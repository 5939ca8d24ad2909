"""The composition root: what is mounted, what is not, and what keeps it from being built."""

from __future__ import annotations

import pytest
from scenery import WordClassifier, a_catalog, a_model

from classifiers import ArtefactError, IntentClassifier
from service import app as composition
from service.config import Settings
from service.errors import ConfigurationError
from service.simulator import Script
from service.startup import open_keys

ROUTES = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/route"),
    ("GET", "/v1/decisions/{decision_id}"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/key"),
    ("GET", "/admin/costs"),
    ("GET", "/admin/spend"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model_id}"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
}


def built(tmp_path, **settings):
    """An application that is not started."""
    chosen = Settings(data_dir=tmp_path, **settings)
    return composition.build(
        chosen, a_catalog(a_model("m")), open_keys(chosen), simulated=False, classifier=WordClassifier()
    )


def mounted(app):
    """(method, path) of every route of ours."""
    return {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}


def test_exactly_the_documented_routes_are_mounted(tmp_path):
    """A route that appears by accident would be one that nobody guards."""
    assert mounted(built(tmp_path)) == ROUTES


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_the_framework_shows_no_pages_of_its_own(tmp_path, host):
    """`api.schema_pages` does, and asks who is there."""
    app = built(tmp_path, host=host)
    assert (app.docs_url, app.openapi_url, app.redoc_url) == (None, None, None)


def test_an_empty_proxy_is_no_way_around_one(tmp_path):
    """A variable that expanded to nothing stops the router; it does not call vendors directly."""
    with pytest.raises(ConfigurationError, match="COE_UPSTREAM_PROXY"):
        built(tmp_path, upstream_proxy="")


def test_a_missing_artefact_is_a_configuration_error(tmp_path, monkeypatch):
    """One clear line at start, not a traceback."""

    def missing(cls, directory=None):
        raise ArtefactError("no artefact in there")

    monkeypatch.setattr(IntentClassifier, "load", classmethod(missing))
    chosen = Settings(data_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="no artefact in there"):
        composition.build(chosen, a_catalog(a_model("m")), open_keys(chosen), simulated=False)


def test_settings_reach_the_parts(serving):
    """Bounds of the settings are those of the pipeline."""
    app, _ = serving({"alpha": Script()}, attempts_max=2, deadline_s=7)
    assert app.house.pipeline.attempting._attempts_max == 2
    assert app.house.pipeline._deadline_s == 7
    assert app.get("/v1/nothing").status_code == 404
