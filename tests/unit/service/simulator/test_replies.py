"""Which answer a request gets, without sockets."""

import json

import pytest

from service.simulator.http1 import HttpRequest
from service.simulator.play import Send
from service.simulator.replies import reply_to, vendor_in
from service.simulator.script import Script, VendorScript
from service.simulator.vendors import Vendor

VENDORS = {"a": Vendor("a", VendorScript(api_keys=("key-1", "key-2")))}


def status_of(method, path, *, own="", authorization="Bearer key-2", body=b""):
    """The status of the answer's head."""
    request = HttpRequest(method, path, {"authorization": authorization}, body, keep_alive=True)
    answer = reply_to(request, VENDORS, own, 1)
    return next(step.status for step in answer.steps if isinstance(step, Send))


@pytest.mark.parametrize(
    ("method", "path", "own", "status"),
    [
        ("GET", "/a/v1/models", "", 200),
        ("GET", "/v1/models", "a", 200),
        ("GET", "/v1/models", "", 404),
        ("GET", "/a/v1/models", "a", 404),
        ("GET", "/b/v1/models", "", 404),
        ("GET", "/a/v1/models/nobody", "", 404),
        ("GET", "/a/v2/models", "", 404),
        ("DELETE", "/a/v1/models", "", 405),
        ("GET", "/a/v1/chat/completions", "", 405),
        ("POST", "/a/v1/chat/completions", "", 400),
        ("POST", "/a/v1/embeddings", "", 404),
    ],
)
def test_routes(method, path, own, status):
    """On a shared port by prefix, on an own port without."""
    assert status_of(method, path, own=own) == status


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer key-3", "Basic key-1", "key-1", "Bearer key-1x"])
def test_wrong_keys(authorization):
    """401 before anything else is looked at."""
    assert status_of("POST", "/a/v1/chat/completions", authorization=authorization) == 401


def test_vendor_in_a_path():
    """For the log of a shared port."""
    assert vendor_in("/a/v1/models") == "a"
    assert vendor_in("/v1/models") == ""


def test_early_faults_need_no_answer():
    """A script that answers 500 does not look at the tools of the request, however odd."""
    vendors = {"a": Vendor("a", VendorScript(default=Script(answer="x")))}
    body = {"model": "m", "messages": [{"role": "user"}], "tools": [{"function": {"parameters": {"enum": []}}}]}
    request = HttpRequest("POST", "/v1/chat/completions", {}, json.dumps(body).encode(), keep_alive=True)
    assert not reply_to(request, vendors, "a", 1).rejected
    vendors["a"].replace(VendorScript())
    assert reply_to(request, vendors, "a", 1).rejected
