"""The schema and the page that shows it: this machine's own, and off loopback the operator's."""

from __future__ import annotations

import pytest

from service.simulator import Script

ADMIN = "an-admin-key-of-more-than-thirty-two-bytes"


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_off_loopback_they_are_the_operators(serving, path):
    """As /metrics is: 401 without a key or with a wrong one, 403 with a caller's, 200 with the admin key."""
    app, _ = serving({"alpha": Script()}, host="192.0.2.1", admin_key=ADMIN)
    key = app.house.keys.create("k").secret
    statuses = {who: app.get(path, authorization=f"Bearer {who}").status_code for who in ("wrong", key, ADMIN)}
    assert list(statuses.values()) == [401, 403, 200]
    assert app.get(path).status_code == 401
    assert app.get(path).json()["error"]["code"] == app.get("/metrics").json()["error"]["code"]


def test_off_loopback_nobody_has_them_where_no_admin_key_is(serving):
    """There is nobody whom they could be for."""
    app, _ = serving({"alpha": Script()}, host="192.0.2.1")
    assert [app.get(path).status_code for path in ("/docs", "/openapi.json")] == [401, 401]


def test_on_loopback_they_are_everybodys(serving):
    """The document names the routes, and the page loads it."""
    app, _ = serving({"alpha": Script()}, admin_key=ADMIN)
    document = app.get("/openapi.json").json()
    assert "/v1/chat/completions" in document["paths"]
    assert "/docs" not in document["paths"]
    assert "/openapi.json" in app.get("/docs").text
