"""Which answer a request gets: routes, keys, models, then the vendor's script. No I/O.

Where on the path: `server` read a request; `performing` plays what comes out of `reply_to`.

Invariants
1. A refusal has OpenAI's error shape and takes no script, but for a schema without a value, which is found out later.
2. Nothing in a prompt chooses the behaviour.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping

from service.simulator.composing import BadRequest, compose, read_chat
from service.simulator.http1 import HttpRequest
from service.simulator.performing import Answer
from service.simulator.play import INSTEAD, chat_steps, json_steps
from service.simulator.script import Script, VendorScript
from service.simulator.vendors import Vendor

SHARED_PATH = re.compile(r"/([^/]+)/v1(/.*)")
OWN_PATH = re.compile(r"()/v1(/.*)")
REJECTING = Script()


def vendor_in(path: str) -> str:
    """The vendor that a path on a shared port names, or the empty string."""
    found = SHARED_PATH.fullmatch(path)
    return found[1] if found else ""


def rejection(
    message: str, *, status: int, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Answer:
    """A refusal that the vendor's own rules demand; the connection stays open unless the request was no HTTP at all."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Answer(json_steps(body, REJECTING, 0, status=status), rejected=True)


def reply_to(request: HttpRequest, vendors: Mapping[str, Vendor], own: str, number: int) -> Answer:
    """The answer to a request. `own` is the vendor whose port it came in on; empty on a shared port."""
    found = (OWN_PATH if own else SHARED_PATH).fullmatch(request.path)
    vendor = vendors.get(own or found[1]) if found else None
    if found is None or vendor is None:
        return rejection(f"Unknown url: {request.path[:200]}", status=404, code="unknown_url")
    if not _authorised(request, vendor.script):
        return rejection("Incorrect API key provided.", status=401, code="invalid_api_key")
    tail = found[2]
    if tail == "/chat/completions":
        if request.method != "POST":
            return rejection("Use POST here.", status=405, code="method_not_allowed")
        return _chat(request, vendor, number)
    if tail == "/models" or tail.startswith("/models/"):
        if request.method != "GET":
            return rejection("Use GET here.", status=405, code="method_not_allowed")
        return _models(vendor.script, tail.removeprefix("/models").removeprefix("/"), number)
    return rejection(f"Unknown url: {request.path[:200]}", status=404, code="unknown_url")


def _authorised(request: HttpRequest, script: VendorScript) -> bool:
    if not script.api_keys:
        return True
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = key.strip().encode()
    good = [hmac.compare_digest(given, expected.encode()) for expected in script.api_keys]
    return scheme.lower() == "bearer" and any(good)


def _chat(request: HttpRequest, vendor: Vendor, number: int) -> Answer:
    try:
        asked = read_chat(request.body)
        if vendor.script.models and asked.model not in vendor.script.models:
            raise BadRequest(
                f"The model '{asked.model[:200]}' does not exist.", param="model", code="model_not_found", status=404
            )
        script = vendor.take(asked.model)
        choices = () if script.fault in INSTEAD else compose(asked, script, number)
    except BadRequest as error:
        return rejection(str(error), status=error.status, param=error.param, code=error.code)
    return Answer(
        chat_steps(asked, script, choices, number, int(time.time())),
        fault=script.fault,
        model=asked.model,
        stream=asked.stream,
        write_bytes=script.write_bytes,
    )


def _models(script: VendorScript, wanted: str, number: int) -> Answer:
    listed = [
        {"id": name, "object": "model", "created": 0, "owned_by": script.owned_by, **script.model_fields.get(name, {})}
        for name in script.models
    ]
    how = script.model_list
    if wanted:
        one = next((entry for entry in listed if entry["id"] == wanted), None)
        if one is None:
            return rejection("The model does not exist.", status=404, param="model", code="model_not_found")
        return Answer(json_steps(one, how, number), fault=how.fault, write_bytes=how.write_bytes)
    steps = json_steps({"object": "list", "data": listed}, how, number)
    return Answer(steps, fault=how.fault, write_bytes=how.write_bytes)
