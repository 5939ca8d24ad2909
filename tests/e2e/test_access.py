"""Who may call what (I16): every route, every wrong credential, every trick of path and host, and how soon a key ends."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from access import EXPECTED, ROUTES, WAIT_S, For, Keys, ask, mounted, spoken_of, wrong_answers
from fastapi import APIRouter
from scenery import WordClassifier, a_catalog, a_model, start_app
from stage import registry, start_router

from service.api import openai
from service.app import build
from service.config import Settings
from service.domain.access import ANONYMOUS
from service.simulator import Script, SimulatorThread
from service.startup import open_keys

ADMIN = "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8"
PEPPER = "9b1d7c4e8a2f6035d9c1b7e4a8f20c63"
EVERYWHERE = "0.0.0.0"  # noqa: S104 # a router that others can reach, which is when access matters
ASK = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).encode()
CHAT = "/v1/chat/completions"
REFUSED = {400, 401, 403, 404, 405}


def built(tmp_path, host):
    """An application that is not started."""
    chosen = Settings(data_dir=tmp_path, host=host)
    return build(chosen, a_catalog(a_model("m")), open_keys(chosen), simulated=False, classifier=WordClassifier())


@pytest.mark.parametrize("host", [EVERYWHERE, "127.0.0.1"])
def test_every_route_is_in_the_table(tmp_path, host):
    """What the framework serves, and every path that the API's code names, has an expectation here."""
    app = built(tmp_path, host)
    kept = {one for one, whom in ROUTES.items() if whom is For.NOBODY}
    assert mounted(app) == set(ROUTES) - kept
    assert spoken_of() <= {path for _, path in ROUTES}


def test_a_route_that_is_forgotten_is_found(tmp_path):
    """Positive control: one more, with and without a place in the schema, under a prefix too."""
    app = built(tmp_path, EVERYWHERE)
    before = mounted(app)
    app.add_api_route("/v1/hidden", lambda: None, include_in_schema=False)
    router = APIRouter()
    router.add_api_route("/plain", lambda: None)
    app.include_router(router)
    assert mounted(app) - before == {("GET", "/v1/hidden"), ("GET", "/plain")}
    prefixed = APIRouter()
    prefixed.add_api_route("/plain2", lambda: None)
    app.include_router(prefixed, prefix="/v2")
    with pytest.raises(AssertionError, match="/v2/plain2"):
        mounted(app)


class Stand:
    """A router that others can reach, with keys of every kind and an answer of another tenant's."""

    def __init__(self, home, simulator):
        self.simulator = simulator
        self.store = open_keys(Settings(data_dir=home / "data", key_pepper=PEPPER))
        expires = datetime.now(UTC) + timedelta(seconds=0.2)
        made = {name: self.store.create(name) for name in ("good", "revoked", "other")}
        made["expired"] = self.store.create("expired", expires_at=expires)
        self.store.revoke(made["revoked"].id)
        self.keys = Keys(*(made[name].secret for name in ("good", "revoked", "expired")), admin=ADMIN)
        self.router = start_router(
            home / "data",
            registry(home / "providers.yaml", simulator),
            *("--host", EVERYWHERE),
            COE_ADMIN_KEY=ADMIN,
            COE_KEY_PEPPER=PEPPER,
        )
        self.port = self.router.port
        other = ask(self.port, "POST", CHAT, [("authorization", f"Bearer {made['other'].secret}")], ASK)
        assert other.status == 200
        self.theirs = other.headers["x-coe-decision-id"]
        self.fill = {"decision_id": self.theirs, "model_id": "alpha-model"}
        self.quiet()

    def state(self):
        """What a request that is refused must not change: calls, and every file but the log."""
        files = sorted(one for one in self.router.data_dir.rglob("*") if one.is_file() and one != self.router.log)
        return len(self.simulator.log), {
            str(one): hashlib.sha256(one.read_bytes()).hexdigest() for one in files if not one.name.endswith("-shm")
        }

    def quiet(self):
        """Wait until the index has followed the journal."""
        due, before = time.monotonic() + WAIT_S, None
        while (now := self.state()) != before:
            assert time.monotonic() < due
            before = now
            time.sleep(0.4)


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """One for the module; whatever was refused is not in its log."""
    home = tmp_path_factory.mktemp("access")
    with SimulatorThread({"alpha": Script()}) as simulator:
        one = Stand(home, simulator)
        yield one
        log = one.router.log.read_text()
        assert "Traceback" not in log
        assert not [secret for secret in vars(one.keys).values() if secret in log]
        assert one.router.stop() == 0


def test_every_route_refuses_who_it_is_not_for(stand):
    """401 or 403 in the protocol's shape; no call, and not a byte of any file changed."""
    before = stand.state()
    assert wrong_answers(stand.port, stand.keys, stand.fill, ASK) == []
    assert stand.state() == before
    assert all(
        set(EXPECTED[For.CALLERS]) ^ set(EXPECTED[whom]) <= {"the admin key", "a caller's key"} for whom in EXPECTED
    )


def test_every_route_serves_who_it_is_for(stand):
    """Positive control: the same requests with the right key are answered."""
    right = {For.CALLERS: stand.keys.good, For.OPERATOR: stand.keys.admin, For.EVERYBODY: "", For.NOBODY: ADMIN}
    for (method, path), whom in ROUTES.items():
        headers = [("authorization", f"Bearer {right[whom]}")] if right[whom] else []
        judges = path == "/v1/feedback"
        told = json.dumps({"decision_id": stand.theirs, "score": 1}).encode() if judges else ASK
        reply = ask(stand.port, method, path.format_map(stand.fill), headers, told if method == "POST" else b"")
        theirs = whom is For.NOBODY or "decision_id" in path or judges
        assert reply.status == (404 if theirs else 200), (path, reply)
    for path in ("/docs/oauth2-redirect", "/redoc", "/console", "/admin/keys"):
        assert ask(stand.port, "GET", path, [("authorization", f"Bearer {ADMIN}")]).code == "unknown_url"
    stand.quiet()


def test_a_route_that_lets_anybody_in_is_found(tmp_path, vendors, monkeypatch):
    """Positive control: where nobody asks who calls, the table says so for each route."""
    simulator = vendors({"alpha": Script()})
    app = start_app(tmp_path / "data", registry(tmp_path / "providers.yaml", simulator), admin_key=ADMIN)
    monkeypatch.setattr(openai, "admit", lambda *_: ANONYMOUS)
    secret = app.house.keys.create("k").secret
    keys = Keys(secret, "coe-revoked", "coe-expired", ADMIN)
    fill = {"decision_id": "dec_1", "model_id": "alpha-model"}
    found = wrong_answers(app.books.port, keys, fill, ASK, lambda name: name == "no key")
    app.stop()
    assert len(found) == 7, "five of callers, and the two of the operator that loopback leaves open"
    assert not [one for one in found if CHAT in one or "/metrics" in one]


def test_what_is_another_tenants_is_not_there(stand):
    """404 with the words that an id has which nobody was ever given."""
    mine = [("authorization", f"Bearer {stand.keys.good}")]
    before = stand.state()
    theirs = ask(stand.port, "GET", f"/v1/decisions/{stand.theirs}", mine)
    nobodys = ask(stand.port, "GET", f"/v1/decisions/{stand.theirs[:-4]}zzzz", mine)
    assert (theirs.status, theirs.code) == (404, "decision_not_found")
    assert (nobodys.status, nobodys.body) == (theirs.status, theirs.body)
    assert stand.state() == before


def test_other_methods_are_no_way_in(stand):
    """405 or 404 without a key, whatever the method; none of them answers."""
    before = stand.state()
    for _, path in ROUTES:
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "GET", "POST", "HEAD"):
            if (method, path) in ROUTES:
                continue
            reply = ask(stand.port, method, path.format_map(stand.fill), body=b"" if method == "HEAD" else ASK)
            assert reply.status in {404, 405}, (method, path, reply)
            assert "access-control-allow-origin" not in reply.headers
    assert stand.state() == before


PATHS = [
    "{0}/",
    "/{0}",
    "//{1}",
    "/./{1}",
    "{0}/.",
    "/healthz/..{0}",
    "/healthz/..;{0}",
    "/healthz/%2e%2e{0}",
    "/healthz%2f..{0}",
    "/healthz/%2e%2e/%2e%2e{0}",
    "/healthz\\..{0}",
    "/readyz/..%252f{1}",
    "/v1/models/..{0}",
    "/v1/models/%2e%2e/%2e%2e{0}",
    "{0};x",
    "{0};/healthz",
    "{0}%00",
    "{0}%20",
    "{0}%0d%0ahost:127.0.0.1",
    "{0}?x=/healthz",
    "{0}/healthz",
    "{0}%3f/healthz",
    "{0}#/healthz",
    "{0}.json",
    "{0}%2e",
    "{upper}",
    "{escaped}",
    "http://127.0.0.1:{port}{0}",
    "HTTP://127.0.0.1:{port}{0}",
    "http://127.0.0.1:{port}//{1}",
    "http://healthz@127.0.0.1:{port}{0}",
    "http://evil.example{0}",
]
"""`{0}` is a path, `{1}` the same without its first slash."""

HEADERS = [
    ("x-original-url", "/healthz"),
    ("x-rewrite-url", "/healthz"),
    ("x-original-uri", "/healthz"),
    ("x-forwarded-uri", "/healthz"),
    ("x-forwarded-path", "/healthz"),
    ("x-forwarded-prefix", "/healthz"),
    ("x-forwarded-host", "127.0.0.1"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=127.0.0.1;host=localhost;proto=https"),
    ("x-host", "127.0.0.1"),
    ("x-http-method-override", "GET"),
    ("x-http-method", "GET"),
    ("x-method-override", "GET"),
    ("host", "localhost"),
    ("host", "evil.example"),
    ("origin", "https://evil.example"),
    ("referer", "http://127.0.0.1/admin"),
    ("x-coe-simulated", "true"),
    ("x-coe-key-id", "key_0000000000000000"),
]


def spelt(path, port):
    """A path in every odd way."""
    escaped = "".join(f"%{ord(one):02x}" if one.isalpha() else one for one in path)
    return [
        way.format(path, path[1:], upper=path.upper(), escaped=escaped, port=port).encode("latin-1").decode("latin-1")
        for way in PATHS
    ]


def test_no_spelling_of_a_path_gets_around_its_key(stand):
    """Without a key nothing but a refusal; a caller's key never opens the operator's page."""
    before = stand.state()
    caller = [("authorization", f"Bearer {stand.keys.good}")]
    guarded = [(way, path) for (way, path), whom in ROUTES.items() if whom in (For.CALLERS, For.OPERATOR)]
    for method, path in guarded:
        for target in spelt(path.format_map(stand.fill), stand.port):
            body = ASK if method == "POST" else b""
            assert ask(stand.port, method, target, body=body).status in REFUSED, target
            if path == "/metrics":
                assert ask(stand.port, method, target, caller).status in REFUSED, target
    assert stand.state() == before


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_no_header_changes_who_may_call_what(stand, name, value):
    """The same answers with it and without it: refusals without a key, and the route that was asked with one."""
    before = stand.state()
    for (method, path), whom in ROUTES.items():
        if whom in EXPECTED:
            body = ASK if method == "POST" else b""
            reply = ask(stand.port, method, path.format_map(stand.fill), [(name, value)], body)
            assert (reply.status, reply.code) == EXPECTED[whom]["no key"], path
    assert stand.state() == before
    good = [("authorization", f"Bearer {stand.keys.good}"), (name, value)]
    assert b'"object":"list"' in ask(stand.port, "GET", "/v1/models", good).body.replace(b" ", b"")


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ([("host", "evil.example")], "{0}"),
        ([("host", "evil.example"), ("x-forwarded-host", "127.0.0.1")], "{0}"),
        ([("host", "evil.example"), ("forwarded", "host=127.0.0.1")], "{0}"),
        ([("host", "127.0.0.1.evil.example")], "{0}"),
        ([("host", "evil.example:{port}")], "http://evil.example:{port}{0}"),
        ([("host", "evil.example")], "http://127.0.0.1:{port}{0}"),
        ([("origin", "https://evil.example")], "{0}"),
        ([("origin", "null")], "{0}"),
        ([("origin", "http://127.0.0.1.evil.example")], "{0}"),
    ],
)
def test_without_keys_a_web_page_gets_nowhere(keyless, headers, target):
    """On loopback: a foreign Host or Origin is refused on every route that is not for everybody, whatever a proxy says."""
    simulator, app = keyless
    port, calls, rows = app.books.port, len(simulator.log), len(app.books.rows())
    sent = [(name, value.format(port=port)) for name, value in headers]
    for (method, path), whom in ROUTES.items():
        if whom in EXPECTED:
            where = target.format(path.format(decision_id="dec_1", model_id="alpha-model"), port=port)
            reply = ask(port, method, where, sent, ASK if method == "POST" else b"")
            assert reply.status in {400, 403}, (path, reply)
            assert b"evil" not in reply.body
    assert (len(simulator.log), len(app.books.rows())) == (calls, rows)


@pytest.fixture(scope="module")
def keyless(tmp_path_factory):
    """A router on loopback that never had a key."""
    home = tmp_path_factory.mktemp("keyless")
    with SimulatorThread({"alpha": Script()}) as simulator:
        app = start_app(home / "data", registry(home / "providers.yaml", simulator))
        assert ask(app.books.port, "POST", CHAT, body=ASK).status == 200
        yield simulator, app
        app.stop()


def test_a_revoked_key_ends_within_a_second_everywhere(tmp_path, routers, vendors):
    """By another process, on a running router, in each of two workers."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    store = open_keys(Settings(data_dir=tmp_path / "data", key_pepper=PEPPER))
    key, kept = store.create("k"), store.create("kept")
    router = routers(file, "--workers", "2", data_dir=tmp_path / "data", COE_KEY_PEPPER=PEPPER)
    mine = [("authorization", f"Bearer {key.secret}")]

    def statuses(count):
        with ThreadPoolExecutor(count) as pool:
            return set(pool.map(lambda _: ask(router.port, "POST", CHAT, mine, ASK).status, range(count)))

    due = time.monotonic() + WAIT_S
    while sum(b'"open"' in one.read_bytes() for one in (tmp_path / "data" / "journal").glob("*.jsonl")) < 2:
        assert time.monotonic() < due, "not every worker was met"
        assert statuses(16) == {200}
    store.revoke(key.id)
    revoked = time.monotonic()
    last = 0.0
    while (began := time.monotonic() - revoked) < 1.2:
        if 200 in statuses(8):
            last = began
    assert last < 1.0, f"answered {last:.2f} s after the revocation"
    assert statuses(16) == {401}
    assert ask(router.port, "GET", "/v1/models", [("authorization", f"Bearer {kept.secret}")]).status == 200
