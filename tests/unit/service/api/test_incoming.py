"""What is read of a request's head, and bodies piece by piece."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from service.api import incoming
from service.api.incoming import CallerLeft, read_body, read_head
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMedia


def test_the_fields_that_matter_are_kept():
    """Every authorization and host, since two of them are refused; the steering by name."""
    head = read_head(
        [
            (b"host", b"a"),
            (b"host", b"b"),
            (b"authorization", b"Bearer x"),
            (b"x-coe-policy", b"cheap"),
            (b"content-type", b"application/json"),
            (b"content-length", b"7"),
            (b"cookie", b"nobody's business"),
            (b"x-request-id", b"caller-id.0001"),
        ]
    )
    assert (head.hosts, head.authorization) == ([b"a", b"b"], [b"Bearer x"])
    assert (head.steering, head.content_length) == ({"x-coe-policy": "cheap"}, b"7")
    assert head.request_id == "caller-id.0001"


@pytest.mark.parametrize("given", [b"", b"short", b"x" * 65, b"with blank", b"caf\xc3\xa9-caf\xc3\xa9", b"line\nfeed"])
def test_an_odd_id_is_replaced(given):
    """Nothing of a caller's that could write our log."""
    made = read_head([(b"x-request-id", given)]).request_id
    assert made.startswith("req_")
    assert len(made) == 28


def receiving(*messages):
    """An ASGI receive that hands these out."""
    left = list(messages)

    async def receive():
        return left.pop(0)

    return receive


def piece(body, *, more=False):
    """One message of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    "messages",
    [
        [piece(b"{}")],
        [piece(b"{", more=True), piece(b"}")],
        [piece(b"", more=True), piece(b"{}", more=True), piece(b"")],
        [piece(b"{", more=True), piece(b"", more=True), piece(b"}", more=True), piece(b"")],
    ],
)
async def test_a_body_is_put_together(messages):
    """However it was cut."""
    assert await read_body(read_head([]), receiving(*messages), 10) == b"{}"


@pytest.mark.parametrize(
    ("fields", "messages", "error"),
    [
        ([(b"content-encoding", b"gzip")], [], UnsupportedMedia),
        ([(b"content-type", b"text/plain")], [], UnsupportedMedia),
        ([(b"content-length", b"11")], [], BodyTooLarge),
        ([], [piece(b"x" * 11)], BodyTooLarge),
        ([], [piece(b"x" * 6, more=True), piece(b"x" * 5, more=True)], BodyTooLarge),
        ([(b"content-length", b"3")], [piece(b"{}")], InvalidRequest),
        ([], [piece(b"{", more=True), GONE], CallerLeft),
        ([], [GONE], CallerLeft),
    ],
)
async def test_a_body_that_is_not_taken(fields, messages, error):
    """Compressed, no JSON, too large before and while it is read, cut short, left."""
    with pytest.raises(error):
        await read_body(read_head(fields), receiving(*messages), 10)


async def test_a_late_body_is_refused(monkeypatch):
    """With 408, and the connection ends."""
    monkeypatch.setattr(incoming, "BODY_S", 0.01)

    async def never():
        await asyncio.Event().wait()

    with pytest.raises(InvalidRequest) as late:
        await read_body(read_head([]), never, 10)
    assert (late.value.status, late.value.headers) == (408, {"connection": "close"})


class Cycle:
    """The server's side of one request: `more_body` says whether all of its body is there."""

    def __init__(self, *, more_body):
        self.more_body = more_body

    async def receive(self):
        await asyncio.sleep(0.05 if self.more_body else 0)
        return piece(b"{}")


async def test_only_a_body_that_is_not_whole_is_waited_for(monkeypatch):
    """One that the server has needs no clock; one that it does not have has its deadline."""
    monkeypatch.setattr(incoming, "BODY_S", 0.0)
    assert await read_body(read_head([]), Cycle(more_body=False).receive, 10) == b"{}"
    with pytest.raises(InvalidRequest, match="did not arrive"):
        await read_body(read_head([]), Cycle(more_body=True).receive, 10)


@pytest.mark.parametrize("zeros", [0, 30, 5_000])
async def test_a_length_with_zeros_before_it_is_a_length(zeros):
    """However many: a number that Python would not read must not be a fault of ours."""
    head = read_head([(b"content-length", b"0" * zeros + b"2")])
    assert await read_body(head, receiving(piece(b"{}")), 10) == b"{}"


@pytest.mark.parametrize("length", [b"9" * 19, b"1" + b"0" * 18, b"9" * 5_000, b"0" * 9 + b"1" + b"0" * 20])
async def test_a_length_beyond_everything_is_too_large(length):
    """Not its last digits."""
    with pytest.raises(BodyTooLarge):
        await read_body(read_head([(b"content-length", length)]), receiving(piece(b"")), 10)


@pytest.mark.parametrize(
    "name", [b"content-type", b"content-encoding", b"origin", b"x-request-id", b"x-coe-max-cost-usd"]
)
def test_what_may_stand_once_and_stands_twice_is_refused(name):
    """A limit that is quietly replaced by a higher one is none."""
    head = read_head([(name, b"application/json"), (name, b"application/json")])
    house = SimpleNamespace(settings=SimpleNamespace(admin_key=None, host="127.0.0.1", port=1))
    for admitted in (incoming.admit, incoming.admit_operator):
        with pytest.raises(InvalidRequest, match="more than once"):
            admitted(head, house)
