"""The fault matrix: every way a vendor can be dead before its first content, and what must come of a request then.

`tests/faults/test_fallback.py` plays all of it; `make chaos` plays it too, and writes down what was seen.

A case is a fault, how many deployments have it (they are asked first), and whether the caller streams. The promise is
always the same: the official SDK gets the whole answer of the first that is not dead, nobody is asked more often than
the rules say, every call a vendor saw is one row of the ledger with one end, and it takes no longer than the deadlines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import openai
from stage import RunningRouter, registry

from service.simulator import ErrorShape, Fault, Script, SimulatorThread, http_error

VENDORS = ("alpha", "beta", "gamma")
QUICK = "{connect_s: 0.5, first_token_s: 1, idle_s: 1, total_s: 1.5}"
SILENCE_S = 1.5
FAST_S = 1.5
"""How long anything else may take; the routers and vendors of a busy machine are slow, the sums of deadlines are not."""

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@dataclass(frozen=True, slots=True)
class Death:
    """A way to be dead. `state` and `cause` are those of its row; of two states the instant decides.

    `address` replaces the vendor's; `whole` is the script of a whole answer where it differs, `silent` says that it
    takes a deadline to notice.
    """

    script: Script
    state: str
    cause: str
    address: str | None = None
    whole: Script | None = None
    silent: bool = False


DEATHS: Mapping[str, Death] = MappingProxyType(
    {
        "refused": Death(Script(fault=Fault.REFUSE), "refused", "connect_refused"),
        # Not to be found, or not to be found in time: that is the resolver's to choose.
        "no such name": Death(Script(), "refused", "", address="http://no-such-host.invalid/v1", silent=True),
        "no TLS there": Death(Script(), "refused", "timeout_connect", address="https", silent=True),
        "reset": Death(Script(fault=Fault.RESET), "estimated", "hung_up"),
        "reset on accept": Death(Script(fault=Fault.RESET_ON_ACCEPT), "refused or estimated", ""),
        "hang up": Death(Script(fault=Fault.HANG_UP), "estimated", "hung_up"),
        "401": Death(http_error(401, error_message="bad key sk-canary"), "refused", "auth_failed"),
        "402": Death(http_error(402), "refused", "payment_required"),
        "403": Death(http_error(403), "refused", "auth_failed"),
        "404": Death(http_error(404), "refused", "model_not_found"),
        "408": Death(http_error(408), "refused", "timeout_upstream"),
        "429": Death(http_error(429, retry_after="1"), "refused", "rate_limited"),
        "500": Death(http_error(500), "refused", "http_500"),
        "502": Death(http_error(502, shape=ErrorShape.TEXT), "refused", "http_502"),
        "503": Death(http_error(503), "refused", "http_503"),
        "503 with a time": Death(http_error(503, retry_after="99999999"), "refused", "http_503"),
        "529": Death(http_error(529), "refused", "overloaded"),
        "redirect": Death(Script(fault=Fault.REDIRECT), "refused", "http_302"),
        "a web page": Death(Script(fault=Fault.HTML), "estimated", ""),
        "nothing under a 200": Death(Script(fault=Fault.EMPTY), "estimated", ""),
        "an error under a 200": Death(
            Script(fault=Fault.HTTP_ERROR, status=200, error_shape=ErrorShape.CODE_MSG), "refused", "error_in_200"
        ),
        "no choices": Death(Script(fault=Fault.NO_CHOICES), "estimated", ""),
        "no HTTP": Death(Script(fault=Fault.RAW, raw=b"\x16\x03\x01\x00\x02go away\r\n\r\n"), "estimated", ""),
        "cut after the role": Death(Script(fault=Fault.CUT, fault_after=0), "estimated", ""),
        "broken JSON": Death(Script(fault=Fault.BROKEN_JSON, fault_after=0), "estimated", ""),
        "silence": Death(Script(fault=Fault.SILENCE), "estimated", "timeout", silent=True),
        "silence after the head": Death(Script(fault=Fault.SILENCE_AFTER_HEADERS), "estimated", "timeout", silent=True),
        "comments only": Death(
            Script(fault=Fault.ONLY_COMMENTS), "estimated", "timeout", silent=True, whole=Script(fault=Fault.SILENCE)
        ),
    }
)


@dataclass(slots=True)
class Outcome:
    """What came of a case: calls by vendor, pauses between calls and the whole time in ms, rows, and what was wrong."""

    fault: str
    dead: int
    stream: bool
    calls: Mapping[str, int] = field(default_factory=dict)
    gaps_ms: Sequence[float] = ()
    took_ms: float = 0.0
    rows: Sequence[str] = ()
    wrong: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Note what is not as promised."""
        if found != wanted:
            self.wrong.append(f"{what}: {found!r}, not {wanted!r}")


class Matrix:
    """A router over three simulated vendors, `home/providers.yaml` and the vendors' scripts changed for every case."""

    def __init__(self, home: Path, simulator: SimulatorThread, router: RunningRouter) -> None:
        self._file = home / "providers.yaml"
        self._healthy = self._file.read_text(encoding="utf-8")
        self._simulator = simulator
        self._router = router

    @staticmethod
    def registry(home: Path, simulator: SimulatorThread) -> Path:
        """The file that the router is to be started with."""
        return registry(home / "providers.yaml", simulator, timeouts=QUICK)

    def play(self, name: str, dead: int, *, stream: bool) -> Outcome:
        """One case: the first `dead` vendors are dead."""
        death = DEATHS[name]
        outcome = Outcome(name, dead, stream)
        self._kill(death, VENDORS[:dead], stream=stream)
        try:
            self._ask(outcome, death)
        finally:
            for vendor in VENDORS[:dead]:
                if death.script.fault is Fault.REFUSE:
                    self._simulator.accept(vendor)
                self._simulator.set_script(vendor, Script())
        return outcome

    def _kill(self, death: Death, vendors: Sequence[str], *, stream: bool) -> None:
        text = self._healthy
        script = death.script if stream or death.whole is None else death.whole
        for vendor in vendors:
            if death.address is not None:
                base = self._simulator.base_url(vendor)
                other = base.replace("http:", "https:") if death.address == "https" else death.address
                text = text.replace(f"base_url: {base}\n", f"base_url: {other}\n")
            elif script.fault is Fault.REFUSE:
                self._simulator.refuse(vendor)
            else:
                self._simulator.set_script(vendor, script)
        self._file.write_text(text, encoding="utf-8")
        self._router.reload()  # and nobody rests from the case before
        self._simulator.clear_log()

    def _ask(self, outcome: Outcome, death: Death) -> None:
        client = openai.OpenAI(base_url=f"{self._router.url}/v1", api_key="x", max_retries=0)
        begun = time.monotonic()
        headers, words, model, finish = _answer(client, stream=outcome.stream)
        outcome.took_ms = (time.monotonic() - begun) * 1_000
        alive = VENDORS[outcome.dead]
        outcome.expect("answer", ("imulat" in words, model, finish), (True, f"{alive}-wire", "stop"))
        outcome.expect("x-coe-provider", headers["x-coe-provider"], alive)
        seen = [one for one in self._simulator.log if one.path.endswith("/chat/completions")]
        outcome.calls = {vendor: sum(one.vendor == vendor for one in seen) for vendor in VENDORS}
        outcome.gaps_ms = [(b.at_monotonic - a.at_monotonic) * 1_000 for a, b in pairwise(seen)]
        wanted = dict.fromkeys(VENDORS, 0) | {alive: 1}
        if death.script.fault is Fault.RESET_ON_ACCEPT:  # a connection that is open already gets its request through
            wanted |= {vendor: min(1, outcome.calls[vendor]) for vendor in VENDORS[: outcome.dead]}
        elif death.address is None and death.script.fault is not Fault.REFUSE:
            wanted |= dict.fromkeys(VENDORS[: outcome.dead], 1)
        outcome.expect("calls", outcome.calls, wanted)
        self._check_rows(outcome, death, headers["x-coe-decision-id"])
        most_s = FAST_S + (SILENCE_S * outcome.dead if death.silent else 0)
        outcome.expect("in time", outcome.took_ms <= most_s * 1_000, True)

    def _check_rows(self, outcome: Outcome, death: Death, decision: str) -> None:
        books = self._router.attempts(decision)
        outcome.rows = [f"{opened['provider']} {end['state']} {end['ended']}" for opened, ends in books for end in ends]
        outcome.expect("ends of each attempt", {len(ends) for _, ends in books}, {1})
        *failed, (last, (last_end,)) = books
        outcome.expect("who failed", tuple(opened["provider"] for opened, _ in failed), VENDORS[: outcome.dead])
        for _, (end,) in failed:
            outcome.expect("state", end["state"] in death.state.split(" or "), True)
            outcome.expect("cause", death.cause in end["ended"], True)
            outcome.expect("free when refused", end["state"] != "refused" or end["cost_pusd"] == 0, True)
        outcome.expect("last row", (last["provider"], last_end["state"]), (VENDORS[outcome.dead], "settled"))


def _answer(client: openai.OpenAI, *, stream: bool) -> tuple[Mapping[str, str], str, str, str | None]:
    """Headers, words, model and finish reason of an answer, by the official SDK."""
    if stream:
        with client.chat.completions.with_streaming_response.create(
            model="auto",
            messages=QUESTION,  # type: ignore[arg-type] # plain dictionaries, as people write them
            stream=True,
        ) as response:
            headers = response.headers
            chunks = [chunk for chunk in response.parse() if chunk.choices]
        words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return headers, words, chunks[-1].model, chunks[-1].choices[0].finish_reason
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=QUESTION,  # type: ignore[arg-type] # as above
    )
    answer = raw.parse()
    choice = answer.choices[0]
    return raw.headers, choice.message.content or "", answer.model, choice.finish_reason
