"""Requests made up from the OpenAPI document, against a real router over simulated vendors: I21.

    .venv/bin/python tests/documented.py --cases 20000 [--seed 20261122]      # goes on in .venv-fuzz by itself

schemathesis makes up requests that fit the document and requests that do not; it lives in `.venv-fuzz`, an environment
of its own (`make .venv-fuzz/.done`). As promised means, for each of them:

- the status, the media type, the headers and the body of the answer are those of the document;
- no 500, and another 5xx only where the request itself asks for it: a time limit that nobody can keep;
- an error is OpenAI's object with nothing of our insides in it, its code one of docs/http.md;
- what breaks the document is refused; a chat is refused with 400 exactly when the rules, written down once more in
  `bodies`, find a fault in it, and `param` names it.

Ends with 1 when anything is not so, and shows each kind of it once, with a line for `curl`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / ".venv-fuzz" / "bin" / "python"
DONE = ROOT / ".venv-fuzz" / ".done"
UNAVAILABLE = 69
SEED = 20261122
CASES = 20_000
SHOWN_MAX = 20
PATIENT = "{connect_s: 10, first_token_s: 15, idle_s: 15, total_s: 60}"
"""Deadlines that a busy machine keeps: a stream that breaks is to be the router's doing."""

SHARES = {
    "POST /v1/chat/completions": 0.3,
    "POST /v1/route": 0.15,
    "GET /v1/models/{model_id}": 0.2,
    "GET /v1/decisions/{decision_id}": 0.2,
}
"""Of the cases; the others, which take nothing but headers, share the rest."""

INSIDES = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|object at 0x|<class |/tmp/|/home/|KeyError|TypeError|ValueError|"
    r"AttributeError|AssertionError|IndexError|pydantic|starlette|uvicorn|orjson"
)
"""What would tell of our insides. A name that the request itself holds is no leak."""

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


@dataclass
class Tried:
    """What came of the cases of one operation."""

    operation: str
    fitting: int = 0
    breaking: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """All of them."""
        return self.fitting + self.breaking

    def note(self, fault: str, how: str) -> None:
        """Count a fault; show each kind of it once."""
        kind = re.sub(r"\d+", "N", fault)[:120]
        self.wrong[kind] += 1
        if self.wrong[kind] == 1 and len(self.shown) < SHOWN_MAX:
            self.shown.append(f"{self.operation}: {fault}\n  {how}")

    def row(self) -> str:
        """As a line of a table."""
        told = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        return f"| `{self.operation}` | {self.fitting:,} | {self.breaking:,} | {told} | {self.wrong.total()} |"


TITLE = "| operation | fit the document | break it | answers | not as promised |\n|---|--:|--:|---|--:|"


def codes() -> set[str]:
    """The error codes of docs/http.md."""
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \| \d{3} \|", page, re.MULTILINE))


class Trial:
    """All operations of one router."""

    def __init__(self, url: str, document: dict[str, Any]) -> None:
        """`document` is what the router serves, or a broken variant of it."""
        import schemathesis
        from schemathesis.config import SchemathesisConfig

        told = {
            # What fits and is refused with 400 nevertheless, `_faults` looks at more closely.
            # What breaks the document may be too large as well.
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["2xx", 400, 404, 422, 504]},
                "negative_data_rejection": {"expected-statuses": [400, 404, 413, 422]},
            },
            "max-stream-events": 1_000_000,  # it would leave a long stream before its end
            "output": {"sanitization": {"enabled": False}},
        }
        schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict(told))
        self._url = url
        self._codes = codes()
        self._operations = {one.ok().label: one.ok() for one in schema.get_all_operations()}

    def play(self, cases: int, seed: int, only: str | None = None) -> list[Tried]:
        """So many cases, shared out among the operations."""
        rest = (1 - sum(SHARES.values())) / (len(self._operations) - len(SHARES))
        found = []
        for label in self._operations if only is None else [only]:
            begun, share = time.monotonic(), max(2, round(cases * SHARES.get(label, rest)))
            found.append(self._operation(label, share, seed))
            sys.stderr.write(f"{label}: {found[-1].cases} cases, {time.monotonic() - begun:.0f} s\n")
        return found

    def _operation(self, label: str, cases: int, seed: int) -> Tried:
        import requests
        from schemathesis import GenerationMode

        tried = Tried(label)
        with requests.Session() as session:
            session.trust_env = False
            tried.fitting = self._tried(
                tried, session, GenerationMode.POSITIVE, cases - cases // 2 * label.startswith("POST"), seed
            )
            if label.startswith("POST"):  # the others take nothing that could be broken
                tried.breaking = self._tried(tried, session, GenerationMode.NEGATIVE, cases // 2, seed)
        return tried

    def _tried(self, tried: Tried, session: Any, mode: Any, cases: int, seed: int) -> int:
        """Play cases of one kind; how many there were, which are fewer where there is little to choose."""
        import hypothesis
        from hypothesis import HealthCheck, Phase

        how = hypothesis.settings(
            max_examples=cases,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        before = tried.statuses.total()

        def one(case: Any) -> None:
            if mode.is_positive:
                _name_what_exists(case)
            self._case(case, tried, session, fits=mode.is_positive)

        strategy = self._operations[tried.operation].as_strategy(generation_mode=mode)
        hypothesis.seed(seed)(how(hypothesis.given(strategy)(one)))()
        return tried.statuses.total() - before

    def _case(self, case: Any, tried: Tried, session: Any, *, fits: bool) -> None:
        from schemathesis.core.failures import FailureGroup

        response = case.call(base_url=self._url, session=session, allow_redirects=False, timeout=20)
        tried.statuses[response.status_code] += 1
        sent = case.as_curl_command()[:2_000]
        for fault in self._faults(case.operation.label, response, fits=fits):
            tried.note(fault, sent)
        try:
            case.validate_response(response, checks=conformance())
        except FailureGroup as group:
            for failure in group.exceptions:
                tried.note(f"{type(failure).__name__}: {failure!s} ({response.status_code})", sent)

    def _faults(self, label: str, response: Any, *, fits: bool) -> Iterator[str]:
        """What our own rules find."""
        status, text = response.status_code, response.content.decode("utf-8", "replace")
        if not response.headers.get("x-request-id"):
            yield "no x-request-id"
        if status == 200:
            if "event-stream" in response.headers["content-type"][0] and not text.endswith("data: [DONE]\n\n"):
                yield f"a stream without its end: {text[-200:]}"
            if label in CHATS and self._body_faults(response.request.body):
                yield f"accepted with a fault in {self._body_faults(response.request.body)}"
            return
        error = json.loads(text)["error"]
        if error["code"] is not None and error["code"] not in self._codes:
            yield f"the code {error['code']} is not documented"
        if INSIDES.search(error["message"]):
            yield f"our insides are told: {error['message']}"
        if status >= 500 and not (status == 504 and error["code"] == "max_latency_exceeded"):
            yield f"a {status} that nothing explains: {error['code']}"
        # Headers are made up too: `Transfer-Encoding: N.` gets no further than the door, which ends the connection.
        at_the_door = (error["code"], error["param"], *response.headers.get("connection", [])) == (None, None, "close")
        if status == 400 and label.startswith("POST") and not at_the_door:
            if label in CHATS:
                yield from self._refused(error, self._body_faults(response.request.body))
            if fits and not is_beyond(error):
                yield f"refused although it fits the document: {error['param']}, {error['message']}"

    @staticmethod
    def _refused(error: dict[str, Any], faults: set[str] | None) -> Iterator[str]:
        from bodies import is_beside

        param = error["param"]
        beside = is_beside(param) or (param or "").startswith("x-coe-") or error["code"] == "unknown_name"
        if faults is None and error["code"] not in ("invalid_json", "empty_body"):
            yield f"no JSON is refused as {error['code']}: {error['message']}"
        if faults is not None and not beside and param not in faults:
            yield f"refused for {param}, which is no fault: {error['message']}"

    @staticmethod
    def _body_faults(body: bytes | str | None) -> set[str] | None:
        """The fields at fault; `None` when it is no JSON object."""
        from bodies import NotJson, faults, strict

        try:
            return faults(strict(body.encode() if isinstance(body, str) else body or b""))
        except NotJson:
            return None


def is_beyond(error: dict[str, Any]) -> bool:
    """Whether a refusal is about what a schema can't say.

    That is hosts, names that must exist, characters that can't be seen, and `1.0`, which a schema calls an integer.
    """
    from bodies import is_link

    told = error["message"]
    return is_link(error["param"]) or error["code"] == "unknown_name" or "printable" in told or "be an integer" in told


CHATS = ("POST /v1/chat/completions", "POST /v1/route")
"""Operations whose body is a chat."""

NAMES = ("auto", "auto:cheap", "alpha-model", "beta/beta-model")


def _name_what_exists(case: Any) -> None:
    """Have most requests name a model that is there: the document can't say which, and made-up names get no further."""
    if isinstance(case.body, dict) and case.operation.label in CHATS:
        chance = random.Random(zlib.crc32(repr(case.body).encode("utf-8", "replace")))
        if chance.random() < 0.8:
            case.body = {**case.body, "model": chance.choice(NAMES)}
        if chance.random() < 0.7:
            case.body = {name: value for name, value in case.body.items() if name != "coe"}


def conformance() -> list[Any]:
    """The checks of schemathesis that apply: all about conformance, and about what is refused."""
    from schemathesis.specs.openapi import checks

    return [
        checks.status_code_conformance, checks.content_type_conformance, checks.response_headers_conformance,
        checks.response_schema_conformance, checks.negative_data_rejection, checks.positive_data_acceptance,
    ]  # fmt: skip


LIES_CASES = 24


def _believed(url: str, document: dict[str, Any], seed: int) -> list[str]:
    """The positive control: operations about which the document may lie without anybody noticing."""
    paths, schemas = document["paths"], document["components"]["schemas"]
    del paths["/v1/models/{model_id}"]["get"]["responses"]["404"]  # an error that it does not name
    lost = {"required": True, "schema": {"type": "string"}}
    paths["/healthz"]["get"]["responses"]["200"]["headers"]["x-lost"] = lost  # a header that nobody sends
    schemas["Ready"]["required"].append("lost")  # a field that is not there
    schemas["ChatRequest"] = {  # a body that nobody takes
        "type": "object",
        "properties": {"model": {"type": "string"}, "messages": {"type": "string"}},
        "required": ["model", "messages"],
    }
    lied_about = ("GET /v1/models/{model_id}", "GET /healthz", "GET /readyz", "POST /v1/route")
    trial = Trial(url, document)
    return [label for label in lied_about if not any(one.wrong for one in trial.play(LIES_CASES, seed, label))]


@contextmanager
def a_router() -> Iterator[str]:
    """A router over two vendors; it must end well, with nothing of a fault in its log."""
    from stage import registry, start_router

    from service.simulator import SimulatorThread

    with (
        tempfile.TemporaryDirectory(prefix="coe-documented-") as scratch,
        SimulatorThread(["alpha", "beta"]) as simulator,
    ):
        home = Path(scratch)
        file = registry(home / "providers.yaml", simulator, timeouts=PATIENT)
        router = start_router(home / "data", file)
        try:
            yield router.url
        finally:
            code, log = router.stop(), router.log.read_text(encoding="utf-8")
        assert code == 0
        assert "internal_error" not in log
        assert "Traceback" not in log


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", help="one operation alone, as `POST /v1/route`")
    parser.add_argument("--control", action="store_true", help="then have the document lie, which must be found out")
    asked = parser.parse_args()
    try:
        import schemathesis as _  # noqa: F401 # whether it is there
    except ModuleNotFoundError:
        if not DONE.exists():
            sys.stderr.write("schemathesis is not installed here: run `make .venv-fuzz/.done`\n")
            return UNAVAILABLE
        return subprocess.run([str(OWN), *sys.argv], check=False).returncode
    import requests

    with a_router() as url:
        document = requests.get(f"{url}/openapi.json", timeout=10).json()
        found = Trial(url, document).play(asked.cases, asked.seed, asked.only)
        believed = _believed(url, document, asked.seed) if asked.control else []
    sys.stdout.write("\n".join([TITLE, *(one.row() for one in found)]) + "\n")
    for one in found:
        sys.stdout.writelines(f"\n{text}\n" for text in one.shown)
    sys.stdout.writelines(f"a lie about {label} was believed\n" for label in believed)
    return int(any(one.wrong for one in found) or bool(believed))


if __name__ == "__main__":
    sys.exit(main())
