"""Nothing secret is seen anywhere (I17): keys, pepper, prompts and answers as canaries through every way to go wrong."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from access import WAIT_S, ask
from canaries import Canary, Search, post
from stage import ROOT, clean_environment, registry, start_router

from service.simulator import ErrorShape, Fault, Script, SimulatorThread, http_error

PROVIDER = Canary("the vendor's key", "sk-proj/canaryVendorKey7f3a+Qz9=_Xw4", "canaryVendorKey7f3a+Qz9")
SECOND = Canary("its other key", "canarySecondKey5e1b/Lr8=Mk2~tt", "canarySecondKey5e1b/Lr8")
ADMIN = Canary("the admin key", "adm1n-canaryAdminKey9c2d-Vt8Kx5Lr9Nw3", "canaryAdminKey9c2d-Vt8")
PEPPER = Canary("the pepper", "canaryKeySpice4b6e-Hd1Jc6Zp4Sg8Wq2Lm7", "canaryKeySpice4b6e-Hd1")
PROXY = Canary("the proxy's login", "canaryProxyLogin3a8c", "canaryProxyLogin3a8c")
PROMPT = Canary("the prompt", "canaryprompt6d0f zephyr quokka", "canaryprompt6d0f")
ANSWER = Canary("the answer", "canaryanswer2e7b marmalade", "canaryanswer2e7b")
WRONG = Canary("a wrong key", "coe-canaryWrongKey1f9eAAAAAAAAAAAAAAAAAAAAAA", "canaryWrongKey1f9e")
IN_FILE = Canary("a key in a file", "sk-canaryFileKey8a5dBBBBBBBBBBBBBBBB", "canaryFileKey8a5d")
FIXED = (PROVIDER, SECOND, ADMIN, PEPPER, PROXY, PROMPT, ANSWER, WRONG, IN_FILE)
TEXT = frozenset({PROMPT.name, ANSWER.name})
"""What a caller may read in its own answer."""

CRASHES = ("answer", "chain", "group", "task", "callback", "thread", "decide", "tell")
ECHO = f"key {PROVIDER.text} and {SECOND.text} for {PROMPT.text}: {ANSWER.text}"
MESSAGES = [{"role": "system", "content": PROMPT.text}, {"role": "user", "content": f"say {PROMPT.text}"}]


def body(word="", **more):
    """A chat full of canaries; `word` names a fault."""
    told = [*MESSAGES, {"role": "user", "content": f"{word} {PROMPT.text}"}]
    tool = {"name": "f", "description": PROMPT.text, "parameters": {"type": "object"}}
    extra = {"tools": [{"type": "function", "function": tool}], "stop": [PROMPT.text], "metadata": {"x": PROMPT.text}}
    return {"model": "auto", "messages": told, "user": PROMPT.text, **extra, **more}


SHAPES = {400: tuple(ErrorShape), 401: tuple(ErrorShape), 500: (ErrorShape.CODE_MSG, ErrorShape.TEXT)}
FAILURES = {
    **{
        f"{status} {shape}": http_error(
            status, error_message=ECHO, error_code=PROVIDER.text, error_type=ECHO, shape=shape
        )
        for status in (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 529)
        for shape in SHAPES.get(status, (ErrorShape.OPENAI,))
    },
    "an error in a 200": http_error(200, error_message=ECHO, error_code=PROVIDER.text),
    "a login page": Script(fault=Fault.HTML, header_lines=(f"x-echo: {PROVIDER.text}", f"set-cookie: k={SECOND.text}")),
    "no HTTP": Script(fault=Fault.RAW, raw=f"HTTP/9 {ECHO}\r\n\r\n{ECHO}".encode()),
    "a head that is none": Script(fault=Fault.RAW, raw=f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n".encode()),
    "a redirect": Script(fault=Fault.REDIRECT, location=f"http://127.0.0.1:9/?key={quote(PROVIDER.text)}"),
    "a wait that is none": http_error(429, error_message=ECHO, retry_after=PROVIDER.text),
    "half its JSON": Script(fault=Fault.BROKEN_JSON, answer=ANSWER.text),
    "a cut": Script(fault=Fault.CUT, answer=ANSWER.text),
    "an error in the stream": Script(fault=Fault.ERROR_EVENT, fault_after=0, error_message=ECHO, error_code=ECHO),
    "an error behind content": Script(fault=Fault.ERROR_EVENT, answer=ANSWER.text, error_message=ECHO, error_code=ECHO),
}
"""What a vendor may say that quotes our key and the prompt."""

MALFORMED = {
    "cut": b'{"model":"auto","messages":[{"role":"user","content":"%s',
    "not UTF-8": b'{"model":"auto","messages":[{"role":"user","content":"%s\xff"}]}',
    "a lone surrogate": b'{"model":"auto","messages":[{"role":"user","content":"%s\\ud800"}]}',
    "trailing": b'{"model":"auto","messages":[{"role":"user","content":"%s"}]} %s',
    "content of a wrong kind": b'{"model":"auto","messages":[{"role":"user","content":{"%s":"%s"}}]}',
    "a part of a wrong kind": b'{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":["%s"]}]}]}',
    "a wrong number": b'{"model":"auto","messages":[{"role":"user","content":"%s"}],"temperature":"%s"}',
    "no messages": b'{"model":"auto","messages":"%s"}',
    "a bad image": b'{"model":"auto","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///%s"}}]}]}',
    "an array": b'["%s"]',
    "a text": b'"%s"',
    "not JSON": b"%s",
}


COMMANDS = """
import json, sys
from service.cli import main
for arguments in json.load(sys.stdin):
    sys.argv = ["coe", *arguments]
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code, flush=True)
"""


class Stand:
    """A router at DEBUG, with canaries for secrets, faults to force, and a search."""

    def __init__(self, home, simulator):
        self.home, self.simulator = home, simulator
        self.secrets = {"ALPHA_KEY": PROVIDER.text, "SECOND_KEY": SECOND.text, "COE_KEY_PEPPER": PEPPER.text}
        self.secrets |= {"COE_ADMIN_KEY": ADMIN.text, "COE_UPSTREAM_PROXY": f"http://u:{PROXY.text}@127.0.0.1:9"}
        self.data = home / "data"
        self.search = Search(FIXED)
        self.file = home / "providers.yaml"
        made, told = self.commands(("keys", "create", "--name", "k"))
        self.key = made.split()[0].decode()
        self.search.canaries = (*FIXED, Canary("the caller's key", self.key, self.key[10:30]))
        self.search.look("coe keys create, its messages", told)
        written = registry(self.file, simulator).read_text(encoding="utf-8")
        keys = "api_key: ['${env:ALPHA_KEY}', '${env:SECOND_KEY}']\n    protocol: openai_chat"
        self.file.write_text(written.replace("protocol: openai_chat", keys), encoding="utf-8")
        self.crash_reload = home / "crash-reload"
        self.router = self.start()

    def start(self):
        """`sitecustomize` comes first on the path."""
        crashing = os.pathsep.join((str(ROOT / "tests" / "crashing"), str(ROOT)))
        env = {
            "COE_LOG_LEVEL": "DEBUG",
            "COE_COST_LOG": "stdout",
            "PYTHONPATH": crashing,
            "CRASH_RELOAD": str(self.crash_reload),
            **self.secrets,
        }
        return start_router(self.data, self.file, **env)

    def commands(self, *commands, **env):
        """Commands with the router's settings, one after the other in one process; a look at all they say."""
        env = {"COE_DATA_DIR": str(self.data), "COE_PROVIDERS": str(self.file), "COE_PORT": "0", **self.secrets, **env}
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS],
            input=json.dumps(commands).encode(),
            capture_output=True,
            env=clean_environment(**env),
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr, done.stderr
        for arguments in commands:
            self.search.look(f"coe {arguments[0]} {arguments[1:2]}", b"")
        self.search.look("what these commands said", done.stdout + done.stderr)
        return done.stdout, done.stderr

    def say(self, place, given, *headers, path="/v1/chat/completions", allowed=frozenset()):
        """A request of the caller's, and a look at what came back."""
        mine = (("authorization", f"Bearer {self.key}"), *headers)
        reply = post(self.router.port, given, mine, path)
        self.search.look_at_reply(place, reply, allowed=allowed)
        return reply

    def reload(self, word):
        """SIGHUP, until the log has said a word once more."""
        before = self.router.log.read_text().count(word)
        self.router.process.send_signal(signal.SIGHUP)
        due = time.monotonic() + WAIT_S
        while self.router.log.read_text().count(word) == before:
            assert time.monotonic() < due, self.router.log.read_text()[-2000:]
            time.sleep(0.02)


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """One for the module."""
    home = tmp_path_factory.mktemp("secrets")
    failing = {f"{kind}{number}": script for kind in "ws" for number, script in enumerate(FAILURES.values())}
    with SimulatorThread({"alpha": Script(answer=ANSWER.text), **failing}) as simulator:
        one = Stand(home, simulator)
        yield one
        if one.router.process.poll() is None:
            one.router.kill()


def test_successes(stand):
    """Whole, streamed, explained, dry, stored: the answer is the caller's, and all else tells nothing."""
    whole = stand.say("an answer", body(), allowed=TEXT)
    assert ANSWER.mark.encode() in whole.body
    stand.say("a stream", body(stream=True), allowed=TEXT)
    stand.say("an explained answer", body(coe={"explain": True, "tags": ["t"]}), allowed=TEXT)
    stand.say("a dry run", body(), path="/v1/route", allowed=TEXT)
    decision = whole.headers["x-coe-decision-id"]
    mine = [("authorization", f"Bearer {stand.key}")]
    for path in (f"/v1/decisions/{decision}", "/v1/models", "/v1/models/alpha-model"):
        reply = ask(stand.router.port, "GET", path, mine)
        assert reply.status == 200
        stand.search.look_at_reply(path, reply)
    seen = stand.simulator.log[0]
    assert PROMPT.mark.encode() in seen.body
    assert seen.headers["authorization"].removeprefix("Bearer ") in (PROVIDER.text, SECOND.text)
    assert stand.key not in json.dumps(dict(seen.headers))


@pytest.mark.parametrize("stream", [False, True])
def test_vendors_that_quote_what_they_refuse(stand, stream):
    """Every status in three shapes, pages, garbage, redirects, broken streams: our keys stay here, whoever may read."""
    for number, name in enumerate(FAILURES):
        vendor = f"{'s' if stream else 'w'}{number}"
        given = body(stream=stream, model=f"{vendor}-model")
        stand.say(f"{name} of a vendor (stream: {stream})", given, allowed=TEXT)
        assert [one for one in stand.simulator.log if one.vendor == vendor], f"{name} was not played"


def test_bodies_and_headers_that_are_wrong(stand):
    """What a caller sent is not sent back, but for names that it made up itself; a wrong key never."""
    for name, given in MALFORMED.items():
        reply = stand.say(f"a body that is {name}", given.replace(b"%s", PROMPT.text.encode()))
        assert reply.status in {400, 415}, (name, reply)
    for name, headers in {
        "a wrong key": (("authorization", f"Bearer {WRONG.text}"),),
        "another scheme": (("authorization", f"Basic {base64.b64encode(WRONG.text.encode()).decode()}"),),
        "a wrong id": (("x-request-id", f"{PROMPT.text}\t"),),
        "a policy": (("x-coe-policy", f"{PROMPT.mark}\x7f"),),
        "a number": (("x-coe-max-cost-usd", PROMPT.mark),),
        "cookies": (("cookie", f"k={WRONG.text}"), ("x-api-key", WRONG.text)),
    }.items():
        reply = post(stand.router.port, body(), headers)
        assert reply.status in {400, 401, 404}, name
        stand.search.look_at_reply(f"a header that is {name}", reply)
    stand.search.look_at_reply("a path", ask(stand.router.port, "GET", f"/v1/decisions/{stand.key}"))
    for path in ("/metrics", "/admin"):
        reply = ask(stand.router.port, "GET", path, [("authorization", f"Bearer {WRONG.text}")])
        stand.search.look_at_reply(f"{path} with a wrong key", reply)


def test_faults_of_ours(stand):
    """Forced in every layer: handled, lost in a task, a callback or a thread, in the middle of a stream."""
    for word in CRASHES:
        stand.say(f"a crash in {word}", body(f"crash-{word}"), allowed=frozenset({ANSWER.name}))
    stand.say("a crash in a dry run", body("crash-decide"), path="/v1/route")
    with pytest.raises(http.client.IncompleteRead) as cut:
        stand.say("a crash in a stream", body("crash-stream", stream=True))
    stand.search.look("a stream cut by a crash", cut.value.partial)
    mine, admin = ([("authorization", f"Bearer {one}")] for one in (stand.key, ADMIN.text))
    assert ask(stand.router.port, "GET", "/metrics", admin).status == 500
    for path, who in {"/metrics": admin, "/readyz": (), "/healthz": (), "/v1/decisions/dec_crash": mine}.items():
        stand.search.look_at_reply(path, ask(stand.router.port, "GET", path, who))
    log = stand.router.log.read_text()
    assert log.count('"internal_error"') >= 8
    assert '"server":"event loop: Task exception was never retrieved"' in log
    assert '"server":"event loop: Exception in callback' in log
    assert "Traceback" not in log


def test_registries_that_are_wrong(stand):
    """A key in the file, in an address, in a line that is no YAML: the old one serves, and nobody repeats it."""
    good, wrong = stand.file.read_text(encoding="utf-8"), []
    try:
        for old, new in (
            ("'${env:ALPHA_KEY}'", f"'{IN_FILE.text}'"),
            ("'${env:ALPHA_KEY}'", f"'${{env:{IN_FILE.text}}}'"),
            ("http://127", f"http://{IN_FILE.text}@127"),
            ("/v1\n", f"/v1?k={IN_FILE.text}\n"),
            ("    protocol: openai_chat", f"    api_key: {IN_FILE.text}: [\n    protocol: openai_chat"),
            ("    protocol: openai_chat", f"    apikey: {IN_FILE.text}\n    protocol: openai_chat"),
            ("    region: eu", f"    region: {{eu: {IN_FILE.text}}}"),
        ):
            assert old in good
            stand.file.write_text(good.replace(old, new, 1), encoding="utf-8")
            stand.reload('"registry_refused"')
            wrong.append(stand.home / f"wrong{len(wrong)}.yaml")
            wrong[-1].write_bytes(stand.file.read_bytes())
    finally:
        stand.file.write_text(good, encoding="utf-8")
    told, _ = stand.commands(
        *(("check", "--providers", str(one)) for one in wrong), ("serve", "--providers", str(wrong[0]))
    )
    assert told.split() == b"ended with 78".split() * 8
    stand.crash_reload.touch()
    stand.router.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    stand.crash_reload.unlink()
    stand.reload('"registry_reloaded"')


def test_what_is_left_behind(stand):
    """Files, log, process table, commands, after a kill and a second start; then every place together."""
    stand.say("one more", body(stream=True), allowed=TEXT)
    for name in ("cmdline", "comm"):
        stand.search.look(f"/proc {name}", Path(f"/proc/{stand.router.process.pid}/{name}").read_bytes())
    stand.router.kill()
    stand.router = stand.start()
    for path, who in {"/readyz": (), "/metrics": [("authorization", f"Bearer {ADMIN.text}")]}.items():
        stand.search.look_at_reply(f"{path} after a kill", ask(stand.router.port, "GET", path, who))
    commands = [("costs", "--by", by, "--format", form) for by, form in (("key,tag", "csv"), ("model", "json"))]
    commands += [("costs",), ("route", "hello"), ("check",), ("keys", "list"), ("replay", "--verify")]
    stand.commands(*commands, ("keys", "revoke", stand.key), ("keys", "list", "--format", "json"), ("serve",))
    weak = {"COE_ADMIN_KEY": f"changeme{IN_FILE.text}", "COE_DATA_DIR": str(stand.home / "other")}
    assert stand.commands(("serve",), **weak)[0].split() == [b"ended", b"with", b"78"]
    stand.search.look_into(stand.data)
    assert stand.search.found == []
    assert len(stand.search.places) > 150
    assert stand.search.bytes_read > 100_000


def test_what_leaks_is_found(stand):
    """Positive control: a line that logs a prompt, and every form of every canary in a file."""
    hidden, made = Search(stand.search.canaries), len(stand.router.log.read_bytes())
    stand.key = stand.commands(("keys", "create", "--name", "again"))[0].split()[0].decode()
    time.sleep(0.3)
    stand.say("a leak", body("crash-leak"), allowed=TEXT)
    hidden.look("log", stand.router.log.read_bytes()[made:])
    assert {PROMPT.name, ADMIN.name, PEPPER.name} <= {one.partition(" as it is")[0] for one in hidden.found}
    for canary in stand.search.canaries:
        for around in ("", "x", "xy"):
            raw = f"{around}{canary.text}{around}".encode()
            for written in (
                raw,
                raw.upper(),
                raw.hex().encode(),
                base64.b64encode(raw),
                base64.urlsafe_b64encode(raw),
                quote(raw).encode(),
            ):
                one = Search((canary,))
                one.look("here", b"before " + written + b" behind")
                assert one.found, (canary.name, written)
