"""SIGTERM with many streams: those that can end do, the others get an error event, all are settled, and the exit is 0 (I12)."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from stage import registry, start_router

from service.simulator import Fault, Script, SimulatorThread

STREAMS = 200
DRAIN_S = 3
SPARE_S = 2.0
"""How much longer than the drain the end may take."""

PATIENCE_S = 30.0


class Listener(threading.Thread):
    """A caller that reads its stream to the end."""

    def __init__(self, port, model):
        super().__init__(daemon=True)
        self.begun = threading.Event()
        self.text = b""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
        self._asked = f"{head}content-type: application/json\r\n\r\n".encode() + body
        self._port = port

    def run(self):
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE_S) as raw:
            raw.sendall(self._asked)
            while piece := raw.recv(65_536):
                self.text += piece
                if b"content" in self.text:
                    self.begun.set()


@pytest.fixture
def streams(tmp_path):
    """A router with streams that end within the drain, and as many that never do."""
    ends = Script(chunks=20, chunk_delay_s=0.1)
    with SimulatorThread({"alpha": ends, "beta": Script(fault=Fault.ENDLESS, chunk_delay_s=0.2)}) as simulator:
        router = start_router(tmp_path / "data", registry(tmp_path / "p.yaml", simulator), COE_DRAIN_S=str(DRAIN_S))
        callers = [Listener(router.port, ("alpha-model", "beta-model")[number % 2]) for number in range(STREAMS)]
        for one in callers:
            one.start()
        yield router, callers
        if router.process.poll() is None:
            router.kill()


def test_a_router_that_is_told_to_stop_settles_two_hundred_streams(streams):
    """Nobody is left with something that looks complete and is not, and no attempt without its end."""
    router, callers = streams
    assert all(one.begun.wait(PATIENCE_S) for one in callers)
    begun = time.monotonic()
    assert router.stop() == 0
    assert time.monotonic() - begun <= DRAIN_S + SPARE_S
    for one in callers:
        one.join(PATIENCE_S)
        assert not one.is_alive()
    short, endless = callers[::2], callers[1::2]
    assert all(b"[DONE]" in one.text and b'"error"' not in one.text for one in short)
    assert not any(b"[DONE]" in one.text for one in endless)
    assert all(b'"error"' in one.text and b"stopping" in one.text for one in endless)
    books = router.attempts()
    assert len(books) == STREAMS
    assert all(len(ends) == 1 for _, ends in books)
    told = [(opened["provider"], ends[0]["ended"], ends[0]["state"]) for opened, ends in books]
    assert told.count(("alpha", "complete", "settled")) == STREAMS // 2
    assert told.count(("beta", "router_stopping", "estimated")) == STREAMS // 2


def test_a_caller_that_comes_while_the_router_stops_is_not_left_waiting(streams):
    """Refused at once, by the system or with a 503: another instance takes the request."""
    router, callers = streams
    assert all(one.begun.wait(PATIENCE_S) for one in callers)
    stopping = threading.Thread(target=router.stop)
    stopping.start()
    time.sleep(0.5)
    begun = time.monotonic()
    late = Listener(router.port, "alpha-model")
    try:
        late.run()
    except OSError:
        late.text = b"HTTP/1.1 503"
    assert late.text.startswith(b"HTTP/1.1 503")
    assert time.monotonic() - begun < 1
    stopping.join(PATIENCE_S)
