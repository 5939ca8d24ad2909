"""What the application serves, and what each route is to say to whom. Used by tests/e2e/test_access.py.

A route that is not in `ROUTES` is a failure: nobody can add one and forget who may call it.
"""

from __future__ import annotations

import ast
import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from stage import ROOT
from starlette.routing import Route

from service.api import door
from service.api.chat import CHAT_PATH

WAIT_S = 20.0


class For(StrEnum):
    """Whom a route is for."""

    CALLERS = "callers"  # who holds a virtual key
    OPERATOR = "operator"  # who holds the admin key
    EVERYBODY = "everybody"  # it tells nothing that is a secret
    NOBODY = "nobody"  # a place that is kept and has no page yet


ROUTES: Mapping[tuple[str, str], For] = {
    ("POST", "/v1/chat/completions"): For.CALLERS,
    ("POST", "/v1/route"): For.CALLERS,
    ("GET", "/v1/decisions/{decision_id}"): For.CALLERS,
    ("POST", "/v1/feedback"): For.CALLERS,
    ("GET", "/v1/models"): For.CALLERS,
    ("GET", "/v1/models/{model_id}"): For.CALLERS,
    ("GET", "/metrics"): For.OPERATOR,
    ("GET", "/v1/key"): For.CALLERS,
    ("GET", "/admin/costs"): For.OPERATOR,
    ("GET", "/admin/spend"): For.OPERATOR,
    ("GET", "/docs"): For.OPERATOR,
    ("GET", "/openapi.json"): For.OPERATOR,
    ("GET", "/healthz"): For.EVERYBODY,
    ("GET", "/readyz"): For.EVERYBODY,
    ("GET", "/admin"): For.NOBODY,
}
"""Every route, off loopback, and the places that the door keeps. On loopback the schema and its page are everybody's:
they say nothing of this router's registry or keys."""

_WRONG: Mapping[str, tuple[int, str | None]] = dict.fromkeys(
    (
        "an empty key",
        "a wrong key",
        "a key cut short",
        "a revoked key",
        "an expired key",
        "another scheme",
        "a key twice",
    ),
    (401, "invalid_api_key"),
)
_ELSEWHERE = ("no key", "a key in the query", "a key in other headers", "a word of a proxy")
"""Nothing stands where a key is looked for."""

EXPECTED: Mapping[For, Mapping[str, tuple[int, str | None]]] = {
    For.CALLERS: {
        **_WRONG,
        **dict.fromkeys(_ELSEWHERE, (401, "missing_api_key")),
        "the admin key": (401, "invalid_api_key"),
    },
    For.OPERATOR: {
        **_WRONG,
        **dict.fromkeys(_ELSEWHERE, (401, "invalid_api_key")),
        "a caller's key": (403, "forbidden"),
    },
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes with a request: header fields, and what stands behind the path."""

    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The code of an error in the protocol's shape."""
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return str(error["code"])


@dataclass
class Keys:
    """Secrets of every kind, as a router knows them."""

    good: str = field(repr=False)
    revoked: str = field(repr=False)
    expired: str = field(repr=False)
    admin: str = field(repr=False)

    def sent(self) -> dict[str, Sent]:
        """Each way to come without a right to, by its name in `EXPECTED`."""

        def bearer(secret: str) -> Sent:
            return Sent((("authorization", f"Bearer {secret}"),))

        right = self.good, self.admin
        elsewhere = [(name, key) for name in ("x-api-key", "api-key", "x-goog-api-key", "cookie") for key in right]
        near = ("x-forwarded-for", "x-real-ip", "x-client-ip", "forwarded", "x-forwarded-host", "x-remote-user")
        return {
            "no key": Sent(),
            "an empty key": bearer(""),
            "a wrong key": bearer("coe-" + "w" * 43),
            "a key cut short": bearer(self.good[:-1]),
            "a revoked key": bearer(self.revoked),
            "an expired key": bearer(self.expired),
            "another scheme": Sent((("authorization", f"Basic {self.good}"),)),
            "a key twice": Sent((("authorization", f"Bearer {self.good}"), ("authorization", f"Bearer {self.good}"))),
            "the admin key": bearer(self.admin),
            "a caller's key": bearer(self.good),
            "a key in the query": Sent(query=f"?api_key={self.good}&key={self.admin}&access_token={self.good}"),
            "a key in other headers": Sent(tuple(elsewhere)),
            "a word of a proxy": Sent(tuple((name, "127.0.0.1") for name in near)),
        }


def ask(port: int, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Reply:
    """One request with exactly this target and these fields, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        given = {name.lower() for name, _ in headers}
        connection.putrequest(method, target, skip_host="host" in given, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def wrong_answers(
    port: int, keys: Keys, fill: Mapping[str, str], body: bytes, only: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """What any route says to whom it is not for, where it is not what is expected. `fill` has the ids of paths."""
    found = []
    for (method, path), whom in ROUTES.items():
        for name, sent in keys.sent().items():
            expected = EXPECTED.get(whom, {}).get(name)
            if expected is None or not only(name):
                continue
            target = path.format_map(fill) + sent.query
            reply = ask(port, method, target, sent.headers, body if method == "POST" else b"")
            if reply.status != expected[0] or reply.code != expected[1]:
                found.append(f"{method} {path} with {name}: {reply.status} {reply.body[:80]!r}")
            elif any(secret.encode() in reply.body for secret in (keys.good, keys.revoked, keys.expired, keys.admin)):
                found.append(f"{method} {path} with {name} repeats a key")
    return found


def mounted(app: FastAPI) -> set[tuple[str, str]]:
    """(method, path) of all that the framework serves, also what its schema leaves out."""
    plain = get_openapi(title="all of it", version="0", routes=app.routes)
    schema = {(method.upper(), path) for path, methods in plain["paths"].items() for method in methods}
    found = {
        (method, route.path.replace(":path}", "}"))
        for route in _routes(app.routes)
        for method in route.methods or ()
        if method != "HEAD"
    }
    # A prefix given where a router was included is in the schema alone: the two have to agree.
    assert schema <= found, f"served under another path than it seems: {schema - found}"
    return found


def _routes(held: Iterable[Any]) -> Iterator[Route]:
    for one in held:
        if isinstance(one, Route):
            yield one
        else:
            assert hasattr(one, "original_router"), f"{one!r} is no plain route: say here what it serves"
            yield from _routes(one.original_router.routes)


def spoken_of() -> set[str]:
    """Every path that the code of the API names, for what is served without the framework."""
    found = {CHAT_PATH, *(one.decode() for one in door.RESERVED)}
    for file in [*(ROOT / "service" / "api").glob("*.py"), ROOT / "service" / "app.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            text = text.decode("latin-1") if isinstance(text, bytes) else text
            if (
                isinstance(text, str)
                and text[:1] == "/"
                and text[1:2].isalpha()
                and " " not in text
                and text[-1] != "/"
            ):
                found.add(text.replace(":path}", "}"))
    return found
