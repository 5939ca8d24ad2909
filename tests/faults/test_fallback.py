"""The first candidate is dead, in many ways: the caller notices nothing, the ledger has both attempts (I7, I1)."""

from __future__ import annotations

import httpx
import openai
import pytest
from matrix import DEATHS, VENDORS, Death, Matrix
from stage import registry, start_router

from service.simulator import Fault, Script, SimulatorThread, http_error

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
QUICK = "{connect_s: 1, first_token_s: 1, idle_s: 1, total_s: 2}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """One router over two vendors for the whole module, with short deadlines; the tests change what the vendors do."""
    home = tmp_path_factory.mktemp("fallback")
    with SimulatorThread(["alpha", "beta"]) as simulator:
        router = start_router(home / "data", registry(home / "providers.yaml", simulator, timeouts=QUICK))
        yield router, simulator
        assert router.stop() == 0


@pytest.fixture
def play(stage):
    """Set what alpha and beta do; both are healthy again afterwards."""
    router, simulator = stage
    refusing = []

    def start(alpha, beta=None):
        for vendor, script in (("alpha", alpha), ("beta", beta or Script())):
            if script.fault is Fault.REFUSE:
                simulator.refuse(vendor)
                refusing.append(vendor)
            else:
                simulator.set_script(vendor, script)
        return router

    yield start
    for vendor in refusing:
        simulator.accept(vendor)
    for vendor in ("alpha", "beta"):
        simulator.set_script(vendor, Script())
    router.reload()


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """A router over three vendors, for the whole matrix."""
    home = tmp_path_factory.mktemp("matrix")
    with SimulatorThread(list(VENDORS)) as simulator:
        router = start_router(home / "data", Matrix.registry(home, simulator))
        yield Matrix(home, simulator, router)
        assert router.stop() == 0
        assert "sk-canary" not in router.log.read_text()


CASES = [
    (name, dead, stream)
    for name, death in DEATHS.items()
    for dead in (1, 2)
    for stream in (False, True)
    if stream or dead == 1 or not death.silent  # two silences one after the other take three seconds
]


@pytest.mark.parametrize(
    ("name", "dead", "stream"), CASES, ids=[f"{name}-{dead}-{'stream' if s else 'whole'}" for name, dead, s in CASES]
)
def test_dead_candidates_are_invisible(matrix, name, dead, stream):
    """I7, I1: the official SDK gets the whole answer of the first that lives; each call is one row with one end."""
    outcome = matrix.play(name, dead, stream=stream)
    assert not outcome.wrong, outcome


def test_the_matrix_sees_what_is_not_as_promised(matrix, monkeypatch):
    """Its own control: another promise, and every check of it says so."""
    monkeypatch.setattr("matrix.DEATHS", {**DEATHS, "500": Death(http_error(500), "estimated", "cut")})
    told = " ".join(matrix.play("500", 1, stream=False).wrong)
    assert "state" in told
    assert "cause" in told


@pytest.mark.parametrize(
    "fault", [Fault.CUT, Fault.CUT_RESET, Fault.END_EARLY, Fault.ERROR_EVENT, Fault.STALL, Fault.BROKEN_JSON]
)
def test_after_the_first_content_a_cut_is_an_error(fault, play):
    """No second model's text, no [DONE]: an error event, the official SDK raises, one row, estimated (I8)."""
    # Without the delay the fault may come in one read with the first content, while another model may still answer.
    router = play(Script(fault=fault, fault_after=3, chunk_delay_s=0.05))
    with httpx.stream(
        "POST", f"{router.url}/v1/chat/completions", json={"model": "auto", "messages": QUESTION, "stream": True}
    ) as response:
        text = b"".join(response.iter_raw()).decode()
        decision = response.headers["x-coe-decision-id"]
    assert "[DONE]" not in text
    assert '"error"' in text.strip().splitlines()[-1]
    ((_, (end,)),) = router.attempts(decision)
    assert end["state"] == "estimated"
    assert end["cost_pusd"] > 0
    client = openai.OpenAI(base_url=f"{router.url}/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="auto", messages=QUESTION, stream=True))


def test_everybody_dead_is_one_clear_error(play):
    """502 with every attempt and its cause; nothing of the vendors' text; rows for each."""
    router = play(http_error(500, error_message="secret words"), Script(fault=Fault.REFUSE))
    answer = httpx.post(f"{router.url}/v1/chat/completions", json={"model": "auto", "messages": QUESTION})
    assert answer.status_code == 502
    assert "alpha/alpha-model: http_500" in answer.json()["error"]["message"]
    assert "beta/beta-model: connect_refused" in answer.json()["error"]["message"]
    assert "secret words" not in answer.text
    assert len(router.attempts(answer.headers["x-coe-decision-id"])) in (2, 3)


def test_no_fallback_and_a_pinned_model_stay_where_they_were_told(play):
    """`no_fallback` makes one attempt; a named model is never replaced by another."""
    router = play(http_error(500))
    once = httpx.post(
        f"{router.url}/v1/chat/completions",
        json={"model": "auto", "messages": QUESTION, "coe": {"no_fallback": True}},
    )
    assert once.status_code == 502
    assert len(router.attempts(once.headers["x-coe-decision-id"])) == 1
    pinned = httpx.post(f"{router.url}/v1/chat/completions", json={"model": "alpha-model", "messages": QUESTION})
    assert pinned.status_code == 502
    assert {open_["model"] for open_, _ in router.attempts(pinned.headers["x-coe-decision-id"])} == {"alpha-model"}
