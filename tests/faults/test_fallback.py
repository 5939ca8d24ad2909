"""The first candidate is dead, in many ways: the caller notices nothing, the ledger has both attempts (I7, I1)."""

from __future__ import annotations

import httpx
import openai
import pytest
from stage import registry, start_router

from service.simulator import ErrorShape, Fault, Script, SimulatorThread, http_error

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
QUICK = "{connect_s: 1, first_token_s: 1, idle_s: 1, total_s: 2}"

TRIED_TWICE = {"500", "503", "529"}
"""A vendor that says that it failed is asked once more before the next one is."""

DEAD = {
    "refused": (Script(fault=Fault.REFUSE), "refused", "connect_refused"),
    "reset": (Script(fault=Fault.RESET), "estimated", "hung_up"),
    "hang_up": (Script(fault=Fault.HANG_UP), "estimated", "hung_up"),
    "500": (http_error(500), "refused", "http_500"),
    "503": (http_error(503), "refused", "http_503"),
    "429": (http_error(429, retry_after="1"), "refused", "rate_limited"),
    "529": (http_error(529), "refused", "overloaded"),
    "401": (http_error(401, error_message="bad key sk-canary"), "refused", "auth_failed"),
    "404": (http_error(404), "refused", "model_not_found"),
    "silence": (Script(fault=Fault.SILENCE), "estimated", "timeout"),
    "silence_after_headers": (Script(fault=Fault.SILENCE_AFTER_HEADERS), "estimated", "timeout"),
    "html_200": (Script(fault=Fault.HTML), "estimated", ""),
    "empty_200": (Script(fault=Fault.EMPTY), "estimated", ""),
    "error_in_200": (
        Script(fault=Fault.HTTP_ERROR, status=200, error_shape=ErrorShape.CODE_MSG),
        "refused",
        "error_in_200",
    ),
    "no_choices": (Script(fault=Fault.NO_CHOICES), "estimated", ""),
    "cut_after_role": (Script(fault=Fault.CUT, fault_after=0), "estimated", ""),
    "redirect": (Script(fault=Fault.REDIRECT), "refused", "http_302"),
    "comments_only": (Script(fault=Fault.ONLY_COMMENTS), "estimated", ""),
}


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


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", DEAD)
def test_a_dead_first_candidate_is_invisible(name, stream, play):
    """The official SDK gets the second candidate's whole answer; two attempts, one terminal row each."""
    script, state, cause = DEAD[name]
    if name == "comments_only" and not stream:
        script = Script(fault=Fault.SILENCE)
    router = play(script)
    client = openai.OpenAI(base_url=f"{router.url}/v1", api_key="x", max_retries=0)
    if stream:
        with client.chat.completions.with_streaming_response.create(
            model="auto", messages=QUESTION, stream=True
        ) as response:
            headers = response.headers
            chunks = list(response.parse())
        words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        response = client.chat.completions.with_raw_response.create(model="auto", messages=QUESTION)
        headers = response.headers
        words = response.parse().choices[0].message.content
    assert "imulat" in words
    assert headers["x-coe-provider"] == "beta"
    tries = 2 if name in TRIED_TWICE else 1
    assert headers["x-coe-attempts"] == str(tries + 1)
    *failed, (last, (last_end,)) = router.attempts(headers["x-coe-decision-id"])
    assert [opened["provider"] for opened, _ in failed] == ["alpha"] * tries
    for _, (end,) in failed:
        assert end["state"] == state, end
        assert cause in end["ended"]
        assert state != "refused" or end["cost_pusd"] == 0
    assert (last["provider"], last_end["state"]) == ("beta", "settled")
    assert "sk-canary" not in router.log.read_text()


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
