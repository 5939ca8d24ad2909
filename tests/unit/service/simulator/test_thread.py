"""The blocking variant."""

import threading
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from service.simulator.request_log import Outcome
from service.simulator.script import Script
from service.simulator.thread import SimulatorThread


def test_blocking_client(ask):
    """The SDK without an event loop; the log is final when the answer has been read, every time."""
    with (
        SimulatorThread(["a"]) as simulator,
        openai.OpenAI(api_key="k", base_url=simulator.base_url("a"), max_retries=0) as client,
    ):
        for number in range(1, 21):
            stream = client.chat.completions.create(**ask(stream=True))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            assert text.startswith("[simulated")
            assert [seen.outcome for seen in simulator.log] == [Outcome.ANSWERED] * number
        assert simulator.vendors == ("a",)


def test_control_from_outside(ask):
    """Scripts, port and log from another thread."""
    with SimulatorThread(["a"]) as simulator:
        url = f"{simulator.base_url('a')}/chat/completions"
        simulator.push("a", Script(answer="once"))
        assert "once" in httpx.post(url, json=ask()).text
        simulator.set_script("a", Script(answer="always"))
        assert "always" in httpx.post(url, json=ask()).text
        with pytest.raises(KeyError):
            simulator.push("b", Script())
        simulator.refuse("a")
        with pytest.raises(httpx.ConnectError):
            httpx.post(url, json=ask())
        simulator.accept("a")
        assert httpx.post(url, json=ask()).status_code == 200
        assert len(simulator.take_ended()) == 3
        assert simulator.take_ended() == []
        assert simulator.log_dropped == 0
        simulator.clear_log()
        assert simulator.log == []
        assert simulator.accepted == 3


def test_stop_ends_the_thread():
    """Nothing is left; stopping twice is harmless; calls afterwards say what is wrong."""
    before = threading.active_count()
    simulator = SimulatorThread(["a"])
    simulator.start()
    assert threading.active_count() == before + 1
    simulator.stop()
    simulator.stop()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="not running"):
        simulator.push("a", Script())


def test_start_reports_a_taken_port():
    """In the caller's thread, and the other thread is gone."""
    with SimulatorThread(["a"], port=0) as simulator:
        before = threading.active_count()
        with pytest.raises(OSError, match="in use"):
            SimulatorThread(["a"], port=urlsplit(simulator.base_url("a")).port).start()
        assert threading.active_count() == before
