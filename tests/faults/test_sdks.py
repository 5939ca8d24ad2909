"""The official SDKs, on answers that end too early: whole with a finish reason, or raised; never less as if whole (I8).

A few on every commit; `tests/chaos_sdks.py` plays thousands. The last tests are controls: a router that lies is found.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from dataclasses import replace

import pytest
from sdk_cuts import FAULTS, PLACES, SHAPES, Trial, a_trial_stage, judge
from sdks import JAVASCRIPT, PYTHON, Ask, Choice, Raised, Said, Sdks, must_have_javascript, streams, why_no_javascript
from stage import ROOT

SEED = 20261122
CUTS = 20
"""Of each SDK."""

QUICK = {
    "javascript": ("javascript stream", "javascript helper", "javascript helper_iterated", "javascript with_response"),
    "python": ("python stream", "python helper", "python async stream", "python response stream"),
}
"""As many as may fail at once before a vendor rests."""


@pytest.fixture(scope="module")
def sdks():
    """Both SDKs where JavaScript's is installed."""
    with Sdks(javascript=why_no_javascript() is None) as found:
        yield found


@pytest.fixture(scope="module")
def trials(tmp_path_factory, sdks):
    """A router between proxies that cut."""
    with a_trial_stage(tmp_path_factory.mktemp("sdks") / "home", sdks) as found:
        yield found


@pytest.fixture(params=["javascript", "python"])
def sdk(request):
    """The name of an SDK; the JavaScript one may be missing outside of CI."""
    missing = why_no_javascript() if request.param == "javascript" else None
    if missing:
        if must_have_javascript():
            pytest.fail(missing)
        pytest.skip(missing)
    return request.param


def test_what_is_not_cut_is_whole(trials, sdk):
    """Every way to ask, every kind of answer."""
    surfaces = JAVASCRIPT if sdk == "javascript" else PYTHON
    for shape in SHAPES:
        found = trials.play_all([Trial(surface, shape) for surface in surfaces])
        assert [one.wrong for one in found] == [[]] * len(surfaces), found
        assert {one.kind for one in found} == {"whole answer of alpha"}


def test_a_cut_at_any_byte(trials, sdk):
    """Of the vendor's connection or the line to the router, for every kind of answer."""
    surfaces = JAVASCRIPT if sdk == "javascript" else PYTHON
    found = [trials.play(Trial.drawn(SEED, number, surfaces)) for number in range(CUTS)]
    wrong = [one for one in found if one.wrong]
    assert not wrong, wrong[:3]
    kinds = Counter("raised" if one.said.raised else one.kind for one in found)
    assert kinds["raised"] >= 5, kinds
    assert kinds["whole answer of alpha"] + kinds["whole answer of beta"] >= 3, kinds


@pytest.mark.parametrize("fault", FAULTS)
def test_a_vendor_that_breaks_off_after_its_first_content(trials, sdk, fault):
    """However it does, every way to stream raises the SDK's own error."""
    found = trials.play_all([Trial(surface, fault=fault) for surface in QUICK[sdk]])
    assert [one.wrong for one in found] == [[]] * len(found), found
    assert "raised APIError" in {one.kind for one in found}, found  # one may fall over when the machine is busy


def test_a_vendor_that_is_silent_and_then_cut(trials, sdk):
    """The silence is shorter than the deadline; the cut is told at once."""
    asked = [replace(Trial.at("in the words", surface), pause_s=0.3) for surface in QUICK[sdk]]
    found = trials.play_all(asked)
    assert [one.wrong for one in found] == [[]] * len(found), found
    assert all(one.said.raised and one.said.raised.code == "stream_cut" for one in found), found
    assert all(one.said.took_ms >= 300 for one in found), found


@pytest.mark.parametrize("place", PLACES)
def test_a_cut_where_it_means_something(trials, sdk, place):
    """In a call's arguments, between two choices' ends, before the usage: whole once every choice has ended."""
    there = PLACES[place]
    found = trials.play_all([Trial.at(place, surface) for surface in QUICK[sdk]])
    assert [one.wrong for one in found] == [[]] * len(found), found
    kind = "whole answer of alpha" if there.whole else "raised APIError"
    assert {(one.kind, one.said.usage) for one in found} == {(kind, there.usage)}
    booked = ("complete", there.source) if there.whole else ("cut", "estimated")
    assert {(row["ended"], row["usage_source"]) for row in trials.rows()} == {booked}


# Controls: what the judge must find.

WORDS = "Paris is the capital of France."
WHOLE = {"a liar": {0: Choice(WORDS, finish="stop")}}
SELF_CHECKING = ("javascript helper", "javascript helper_iterated")
"""These look for a finish reason themselves; no other surface does."""

LIES = {
    "says stop, and [DONE]": ["stop", "[DONE]"],
    "says stop": ["stop"],
    "says [DONE]": ["[DONE]"],
    "says nothing": [],
}


def _event(delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def _lie(ends: list[str], *, stream: bool) -> bytes:
    """Half of the words, with the end of an answer that is whole."""
    half = WORDS[: len(WORDS) // 2]
    if stream:
        events = [_event({"role": "assistant", "content": ""}), _event({"content": half})]
        events += [end if end == "[DONE]" else _event({}, end) for end in ends]
        kind, body = "text/event-stream", "".join(f"data: {event}\n\n" for event in events)
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": half}, "finish_reason": "stop"}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        kind, body = "application/json", json.dumps(answer)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return (head + body).encode()


class Liar:
    """A server that says half an answer to everybody, with `ends` as if it were whole."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Say nothing more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # it is closed
            with connection, connection.makefile("rb") as asked:
                length = 0
                while (line := asked.readline().strip().lower()) != b"":
                    length = int(line[15:]) if line.startswith(b"content-length:") else length
                body = json.loads(asked.read(length))
                connection.sendall(_lie(self.ends, stream=body.get("stream", False)))


@pytest.fixture(scope="module")
def liar():
    """A server that lies."""
    found = Liar()
    yield found
    found.close()


@pytest.mark.parametrize("lie", LIES)
def test_a_truncated_answer_shown_as_complete_is_found(sdks, sdk, liar, lie):
    """Whoever hands half an answer over as if it were whole: the SDK believes it, the judge does not."""
    liar.ends = ends = LIES[lie]
    for surface in JAVASCRIPT if sdk == "javascript" else PYTHON:
        if ends != ["stop", "[DONE]"] and not streams(surface):
            continue
        said = sdks.ask(Ask(surface, liar.url, Trial(surface).body()))
        found = judge(Trial(surface), said, WHOLE, spoilt=True)
        if surface in SELF_CHECKING and "stop" not in ends:
            assert found.kind == "raised OpenAIError", found
            continue
        assert found.kind == "truncated shown as complete", found
        assert ("complete without a finish reason" in found.wrong) == ("stop" not in ends)


BROKEN = "from service import stream_reply\nstream_reply.error_event = lambda problem: b'data: [DONE]\\n\\n'\n"


@pytest.fixture(scope="module")
def broken_trials(tmp_path_factory, sdks):
    """The real router with one line changed: it says [DONE] where it should say an error."""
    place = tmp_path_factory.mktemp("broken")
    (place / "sitecustomize.py").write_text(BROKEN, encoding="utf-8")
    with a_trial_stage(place / "home", sdks, PYTHONPATH=f"{place}:{ROOT}") as found:
        yield found


def test_a_router_that_says_done_after_a_cut_is_found(broken_trials, sdk):
    """The trials that pass elsewhere fail here."""
    for place in ("in the words", "when one of two choices has ended"):
        for one in broken_trials.play_all([Trial.at(place, surface) for surface in QUICK[sdk]]):
            if one.trial.surface in SELF_CHECKING:
                assert one.kind == "raised OpenAIError", one
            else:
                assert one.kind == "truncated shown as complete", one
            assert one.wrong, one


@pytest.mark.parametrize(
    ("said", "spoilt", "wrong"),
    [
        (Said({0: Choice("Paris", finish="stop")}), True, "truncated shown as complete"),
        (Said({0: Choice(WORDS)}), True, "complete without a finish reason"),
        (Said({0: Choice("Paris lies")}, raised=Raised("APIError", True, None, None, "")), True, "nobody's beginning"),
        (Said({0: Choice("Paris")}, raised=Raised("APIError", True, None, None, "")), False, "nothing had gone wrong"),
        (Said({0: Choice("Paris")}, raised=Raised("TypeError", False, None, None, "")), True, "no API error"),
        (Said({}, raised=Raised("APIError", True, 502, None, "")), True, "before any content"),
    ],
)
def test_the_judge(said, spoilt, wrong):
    """Each thing that it is there to find."""
    found = judge(Trial("python stream"), said, WHOLE, spoilt=spoilt)
    assert any(wrong in one for one in found.wrong), found.wrong
    good = Said({0: Choice("Paris")}, raised=Raised("APIError", True, None, None, ""))
    assert judge(Trial("python stream"), good, WHOLE, spoilt=True).wrong == []
    assert judge(Trial("python stream"), Said({0: Choice(WORDS, finish="stop")}), WHOLE, spoilt=False).wrong == []
