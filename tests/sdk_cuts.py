"""Answers that end too early, seen through the official SDKs: whole with a finish reason, or raised, never less (I8).

`tests/faults/test_sdks.py` plays a few, `tests/chaos_sdks.py` thousands. A trial is a request of some `SHAPES` through
one of `sdks.SURFACES`, and one thing that goes wrong: the vendor's connection, or the line between SDK and router, ends
after so many bytes by FIN or RST, at once or after a silence; or the vendor itself breaks off (`FAULTS`). What is whole
is not taken from the router: both vendors are asked directly. What must come of a trial:

- an SDK that does not raise has the whole answer of one vendor: every choice, every tool call, every finish reason;
- one that raises has the beginning of one vendor's answer, and raises an error of its own kind;
- it raises only when something went wrong, and not while another vendor can still answer instead;
- it does not ask the router again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from cuts import FAILURES_AT_MOST, SETTLED_S, CuttingProxy, Tail
from sdks import JAVASCRIPT, PYTHON, Ask, Choice, Said, Sdks, streams
from stage import RunningRouter, registry, start_router

from service.simulator import ErrorShape, Fault, Script, SimulatorThread

VENDORS = ("alpha", "beta")
IDLE_S = 1.0
TIMEOUTS = f"{{connect_s: 2, first_token_s: 5, idle_s: {IDLE_S}, total_s: 15}}"
WHOLE_BYTES_MAX = 1_500
"""A little more than an answer that is no stream has."""

PROMPTLY_S = 5.0
"""How long a trial may take: the silences that are played, and a busy machine."""

UNFINISHED = "null"
"""How some vendors say that there is no finish reason yet."""

THOUGHTS = "Paris has been the capital for centuries, and nobody has moved it since. That settles the question."
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 40},
        "country": {"type": "string"},
        "rivers": {"type": "array", "items": {"type": "string"}, "minItems": 3},
    },
    "required": ["city", "country", "rivers"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": SCHEMA}}
    for name in ("look_up_city", "look_up_river")
]


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of answer: what its request says besides the question, and what the vendors are told to do.

    `bytes_max` is a little more than its stream has, so that some trials are not cut at all.
    """

    bytes_max: int
    body: Mapping[str, Any] = field(default_factory=dict)
    script: Script = field(default_factory=Script)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "words": Shape(10_000),
        "tools": Shape(12_000, {"tools": TOOLS, "tool_choice": "required"}, Script(tool_calls=2)),
        "two choices": Shape(26_000, {"n": 2}),
        "usage": Shape(10_000, {"stream_options": {"include_usage": True}}),
        "schema": Shape(
            5_500,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "strict": True, "schema": SCHEMA},
                }
            },
        ),
        "thinking": Shape(15_000, {}, Script(reasoning=THOUGHTS)),
    }
)

GAP_S = 0.03
"""Between two pieces of an answer, so that the first is with the caller before the next goes wrong."""


def _after_content(fault: Fault, **more: Any) -> Script:
    return Script(fault=fault, fault_after=3, chunk_delay_s=GAP_S, **more)


FAULTS: Mapping[str, Script] = MappingProxyType(
    {
        "error event": _after_content(Fault.ERROR_EVENT),
        "error event of two numbers": _after_content(Fault.ERROR_EVENT, error_shape=ErrorShape.CODE_MSG),
        "error event beside a choice": _after_content(Fault.ERROR_EVENT, error_shape=ErrorShape.CHUNK),
        "error event in words": _after_content(Fault.ERROR_EVENT, error_shape=ErrorShape.TEXT),
        "broken JSON": _after_content(Fault.BROKEN_JSON),
        "a clean end without a finish reason": _after_content(Fault.END_EARLY),
        "[DONE] without a finish reason": Script(finish_reason=UNFINISHED, chunks=4, chunk_delay_s=GAP_S),
        "cut": _after_content(Fault.CUT),
        "cut by a reset": _after_content(Fault.CUT_RESET),
        "silence": _after_content(Fault.STALL),
    }
)
"""What a vendor does after its first content. Only streams show any of it: a whole answer is another vendor's then."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cut means something: the vendor's stream of a shape ends before the first such bytes.

    `usage` and `source` are for a stream that is whole there: whether the caller has the usage, and whose it is in the
    ledger; elsewhere its end is still to come.
    """

    shape: str
    before: bytes
    usage: bool = False
    source: str = ""

    @property
    def whole(self) -> bool:
        """Whether a stream that ends here is a whole answer."""
        return bool(self.source)


STOPS = b'"finish_reason":"stop"'
SECOND_STOPS = b'"index":1,"delta":{},"logprobs":null,' + STOPS
PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "in the words": Place("words", b'" built-in"'),
        "before the finish reason": Place("words", STOPS),
        "in the thinking": Place("thinking", b'" nobody"'),
        "between thinking and words": Place("thinking", b'"content":"[simulated"'),
        "in the JSON": Place("schema", b'"country'),
        "in the arguments of a call": Place("tools", b'"arguments":" rivers"'),
        "between two calls": Place("tools", b'"tool_calls":[{"index":1,"id"'),
        "after all arguments": Place("tools", b'"finish_reason":"tool_calls"'),
        "before either choice has ended": Place("two choices", STOPS),
        "when one of two choices has ended": Place("two choices", SECOND_STOPS),
        "between finish reason and usage": Place("usage", b'"choices":[],', source="estimated"),
        "between usage and [DONE]": Place("usage", b"data: [DONE]", usage=True, source="provider"),
        "behind [DONE]": Place("usage", b"0\r\n\r\n", usage=True, source="provider"),
    }
)


@dataclass(frozen=True, slots=True)
class Trial:
    """A request and what goes wrong. `side` is whose connection is cut: `vendor`, `line` (to the router) or nobody's.

    It is cut after so many bytes, or at one of `PLACES`.
    """

    surface: str
    shape: str = "words"
    side: str = ""
    after_bytes: int | None = None
    reset: bool = False
    pause_s: float = 0.0
    fault: str = ""
    number: int = 0
    place: str = ""

    @classmethod
    def drawn(cls, seed: int, number: int, surfaces: tuple[str, ...] = (*JAVASCRIPT, *PYTHON)) -> Trial:
        """The cut of a number: the same for the same seed and surfaces, half of them JavaScript's."""
        chance = random.Random(f"{seed}:{number}")  # a reproducible draw
        group = chance.choice([found for one in (JAVASCRIPT, PYTHON) if (found := [s for s in one if s in surfaces])])
        surface = chance.choice(group)
        shape = chance.choice(list(SHAPES))
        return cls(
            surface,
            shape,
            chance.choice(("vendor", "vendor", "line")),
            1 + chance.randrange(SHAPES[shape].bytes_max if streams(surface) else WHOLE_BYTES_MAX),
            chance.random() < 0.5,
            chance.choice((0.0,) * 9 + (0.2,)),
            number=number,
        )

    @classmethod
    def at(cls, place: str, surface: str, *, reset: bool = False) -> Trial:
        """The cut of a place."""
        return cls(surface, PLACES[place].shape, "vendor", reset=reset, place=place)

    def body(self) -> dict[str, Any]:
        """What the SDK is given; the surface says whether it is to be a stream."""
        question = {"role": "user", "content": f"What is the capital of France? ({self.number})"}
        body = {"model": "auto", "messages": [question], **SHAPES[self.shape].body}
        if not streams(self.surface):
            body.pop("stream_options", None)
        return body


@dataclass(slots=True)
class Verdict:
    """What came of a trial."""

    trial: Trial
    kind: str = ""
    said: Said = field(default_factory=Said)
    wrong: list[str] = field(default_factory=list)


Whole = Mapping[str, Mapping[int, Choice]]
"""The whole answers to a request, by vendor."""


def judge(trial: Trial, said: Said, whole: Whole, *, spoilt: bool) -> Verdict:
    """What an SDK said, held against the whole answers. `spoilt` is whether anything had gone wrong by then."""
    found = Verdict(trial, said=said)
    if said.raised is None:
        by = next((vendor for vendor, choices in whole.items() if choices == said.choices), None)
        found.kind = f"whole answer of {by}" if by else "truncated shown as complete"
        if by is None:
            found.wrong.append(f"{found.kind}: {said.choices}")
        if not all(choice.finish not in {None, UNFINISHED} for choice in said.choices.values()):
            found.wrong.append("complete without a finish reason")
        return found
    found.kind = f"raised {said.raised.name}"
    if not any(_begins(said.choices, choices) for choices in whole.values()):
        found.wrong.append(f"what came before the error is nobody's beginning: {said.choices}")
    if not spoilt:
        found.wrong.append("raised though nothing had gone wrong")
    if trial.side != "line":
        if not said.raised.official:
            found.wrong.append(f"{said.raised.name} is no API error of the SDK")
        if not any(choice.begun for choice in said.choices.values()):
            found.wrong.append("raised before any content, while another vendor could answer")
    return found


def _begins(said: Mapping[int, Choice], whole: Mapping[int, Choice]) -> bool:
    """Whether what was said is the beginning of a whole answer, or all of it."""
    return all(index in whole and _choice_begins(choice, whole[index]) for index, choice in said.items())


def _choice_begins(said: Choice, whole: Choice) -> bool:
    calls = zip(said.calls, whole.calls, strict=False)
    return (
        whole.text.startswith(said.text)
        and whole.thinking.startswith(said.thinking)
        and len(said.calls) <= len(whole.calls)
        and all(name == real and told.startswith(args) for (name, args), (real, told) in calls)
        and said.finish in {None, UNFINISHED, whole.finish}
    )


class Trials:
    """Two vendors, the first behind a proxy that cuts; a router; and a proxy that cuts between it and the SDKs."""

    def __init__(
        self, router: RunningRouter, simulator: SimulatorThread, vendor: CuttingProxy, line: CuttingProxy, sdks: Sdks
    ) -> None:
        self._router = router
        self._simulator = simulator
        self._sdks = sdks
        self._tail = Tail(router.data_dir)
        self._played = 0
        self._rows: list[tuple[str, dict[str, Any]]] = []
        self._direct = httpx.Client(trust_env=False)
        self.vendor = vendor
        self.line = line

    def play(self, trial: Trial) -> Verdict:
        """One trial."""
        (found,) = self.play_all([trial])
        return found

    def play_all(self, trials: Sequence[Trial]) -> list[Verdict]:
        """Trials that differ in their surface alone, as many at once as may fail before the vendor would rest."""
        some = [trials[at : at + FAILURES_AT_MOST] for at in range(0, len(trials), FAILURES_AT_MOST)]
        return [found for few in some for found in self._play_few(few)]

    def _play_few(self, trials: Sequence[Trial]) -> list[Verdict]:
        first = trials[0]
        self._played += len(trials)
        if self._played > FAILURES_AT_MOST:
            self._router.reload()  # or the vendor that is cut would rest
            self._played = len(trials)
        self._prepare(first)
        retries = {"retries": 0} if first.side == "line" else {}  # an SDK may well ask again who hung up
        url = f"http://127.0.0.1:{self.line.port}/v1"
        told = self._sdks.ask_all([Ask(one.surface, url, one.body(), **retries) for one in trials])
        spoilt = bool(first.fault) or self.vendor.cut or self.line.cut
        found = [judge(one, said, self._whole(one), spoilt=spoilt) for one, said in zip(trials, told, strict=True)]
        for one in found:
            if one.said.took_ms > PROMPTLY_S * 1_000:
                one.wrong.append(f"took {one.said.took_ms:.0f} ms")
        self._check_rows(found)
        return found

    def close(self) -> None:
        """Ask no vendor any more."""
        self._direct.close()

    def rows(self) -> list[dict[str, Any]]:
        """The last rows of the attempts that were made since the last trial began."""
        return [row for kind, row in self._rows if kind == "terminal"]

    def _prepare(self, trial: Trial) -> None:
        healthy = SHAPES[trial.shape].script
        for name in VENDORS:
            self._simulator.set_script(name, healthy)
        if trial.fault:
            self._simulator.set_script("alpha", FAULTS[trial.fault])
        for side, proxy in (("vendor", self.vendor), ("line", self.line)):
            proxy.drop()
            proxy.after_bytes = trial.after_bytes if trial.side == side else None
            proxy.before = PLACES[trial.place].before if trial.side == side and trial.place else b""
            proxy.reset = trial.reset and trial.side == side
            proxy.pause_s = trial.pause_s if trial.side == side else 0.0
        self._tail.rows()

    def _whole(self, trial: Trial) -> Whole:
        """What each vendor says when it is asked directly, for a whole answer."""
        found = {}
        for name in VENDORS:
            self._simulator.set_script(name, SHAPES[trial.shape].script)
            body = {**trial.body(), "model": f"{name}-wire"}
            body.pop("stream_options", None)
            answer = self._direct.post(f"{self._simulator.base_url(name)}/chat/completions", json=body)
            choices = answer.raise_for_status().json()["choices"]
            found[name] = {
                one["index"]: Choice(
                    one["message"]["content"] or "",
                    one["message"].get("reasoning_content") or "",
                    [list(call["function"].values()) for call in one["message"].get("tool_calls") or ()],
                    one["finish_reason"],
                )
                for one in choices
            }
        return found

    def _check_rows(self, found: list[Verdict]) -> None:
        """Each attempt ended once, and each request was made once."""
        self._rows = []
        due = time.monotonic() + SETTLED_S
        while True:
            self._rows += self._tail.rows()
            opened = [row for kind, row in self._rows if kind == "open"]
            ended = [row["attempt_id"] for kind, row in self._rows if kind == "terminal"]
            if len(ended) >= len(opened) >= len(found) or time.monotonic() > due:
                break
            time.sleep(0.005)
        if sorted(row["attempt_id"] for row in opened) != sorted(ended):
            found[0].wrong.append(f"{len(opened)} attempts have {len(ended)} ends")
        if len({row["decision_id"] for row in opened}) != len(found):
            found[0].wrong.append("an SDK asked the router again")


@contextmanager
def a_trial_stage(home: Path, sdks: Sdks, **env: str) -> Iterator[Trials]:
    """A stage for trials; its files go to a new directory. `env` is the router's."""
    home.mkdir()
    with SimulatorThread(VENDORS) as simulator:
        direct = int(simulator.base_url("alpha").split(":")[2].split("/")[0])
        with CuttingProxy(direct) as vendor:
            file = registry(home / "providers.yaml", simulator, timeouts=TIMEOUTS)
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(f":{direct}/", f":{vendor.port}/"), encoding="utf-8")
            router = start_router(home / "data", file, **env)  # type: ignore[arg-type] # none of them is a port
            with CuttingProxy(router.port) as line:
                trials = Trials(router, simulator, vendor, line, sdks)
                yield trials
                trials.close()
            assert router.stop() == 0
