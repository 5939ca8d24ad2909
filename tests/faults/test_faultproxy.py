"""The proxy that the soak puts before vendors does to a connection what it says, and nothing else."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter

import pytest
from faultproxy import SHARES, FaultProxy, Kind, Trouble

from service.simulator import Script

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Who is there?"}]}).encode()
ASKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: v\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
ANSWER = "Nobody. " * 200
SILENCE_S = 0.3


@pytest.fixture
def proxied(vendors):
    """A vendor behind a proxy."""
    simulator = vendors({"v": Script(answer=ANSWER)})
    port = int(simulator.base_url("v").split(":")[2].split("/")[0])
    with FaultProxy(port, "seed") as proxy:
        yield simulator, proxy


def said(port, *, hear_out=False):
    """(what was said, how it ended, how long it took): `whole`, `closed` before that, `reset`, or `silent`."""
    data, begun = b"", time.monotonic()
    with socket.socket() as raw:
        raw.settimeout(SILENCE_S if hear_out else 5)
        try:
            raw.connect(("127.0.0.1", port))
            raw.sendall(ASKED)
            while b"\r\n\r\n" not in data or len(data) < wanted(data):
                piece = raw.recv(65_536)
                if not piece:
                    return data, "closed", time.monotonic() - begun
                data += piece
        except TimeoutError:
            return data, "silent", time.monotonic() - begun
        except ConnectionRefusedError:
            raise
        except ConnectionError:  # as late as now, or as early as the first byte
            return data, "reset", time.monotonic() - begun
    return data, "whole", time.monotonic() - begun


def wanted(data):
    """How long the answer is, head and all."""
    head, _, _ = data.partition(b"\r\n\r\n")
    return len(head) + 4 + int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


@pytest.mark.parametrize(
    ("trouble", "bytes_", "end", "least_s"),
    [
        (Trouble(Kind.NONE, after=10**6), None, "whole", 0),
        (Trouble(Kind.SLOW, seconds=0.2), None, "whole", 0.1),
        (Trouble(Kind.NARROW, seconds=1.0), None, "whole", 0.1),
        (Trouble(Kind.FIN, after=100), 100, "closed", 0),
        (Trouble(Kind.RST, after=100), 100, "reset", 0),
        (Trouble(Kind.HALF_CLOSE, after=100), 100, "closed", 0),
        (Trouble(Kind.BLACKHOLE, after=100), 100, "silent", SILENCE_S),
        (Trouble(Kind.RESET_ON_ACCEPT), 0, "reset", 0),
        (Trouble(Kind.CUT_ASKING, after=50), 0, "reset", 0),
        (Trouble(Kind.SLOW_ACCEPT, seconds=0.2), None, "whole", 0.2),
        (Trouble(Kind.PAUSE, after=100, seconds=0.2), None, "whole", 0.2),
    ],
    ids=lambda one: one.kind.value if isinstance(one, Trouble) else "",
)
def test_a_connection_bears_what_was_drawn(proxied, trouble, bytes_, end, least_s):
    """So many bytes, that end, no sooner; and the vendor saw the request, or none of it."""
    simulator, proxy = proxied
    proxy.forced = trouble
    data, ended, took_s = said(proxy.port, hear_out=end == "silent")
    assert ended == end
    if bytes_ is not None:  # a reset may overtake what was said before it
        assert len(data) <= bytes_ if end == "reset" else len(data) == bytes_
    assert took_s >= least_s
    unseen = trouble.kind in {Kind.RESET_ON_ACCEPT, Kind.CUT_ASKING}
    assert [one.path for one in simulator.log if one.path] == ([] if unseen else ["/v1/chat/completions"])
    assert proxy.drawn == Counter({trouble.kind: 1})


@pytest.mark.parametrize("after", [0, 300, 700])
def test_a_corrupted_byte_is_one_and_in_the_body(proxied, after):
    """And what it belongs to is no UTF-8 any more; an untouched answer is plain ASCII."""
    _, proxy = proxied
    proxy.forced = Trouble(Kind.NONE, after=10**6)
    assert said(proxy.port)[0].isascii()
    proxy.forced = Trouble(Kind.CORRUPT, after=after)
    answer, end, _ = said(proxy.port)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert end == "whole"
    assert head.isascii()
    assert sum(byte > 127 for byte in body) == 1
    with pytest.raises(UnicodeDecodeError):
        body.decode()


def test_a_port_that_refuses_takes_calls_again(proxied):
    """As a vendor that is down and comes back."""
    _, proxy = proxied
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        said(proxy.port)
    proxy.accept()
    assert said(proxy.port)[1] == "whole"


def test_draws_are_the_same_for_the_same_seed_and_of_every_kind():
    """None without any weather, all kinds in a storm."""
    chance = random.Random("s")
    drawn = [Trouble.drawn(chance, 1.0) for _ in range(500)]
    assert {one.kind for one in drawn} == set(SHARES)
    again = random.Random("s")
    assert drawn == [Trouble.drawn(again, 1.0) for _ in range(500)]
    assert {Trouble.drawn(chance, 0.0).kind for _ in range(50)} == {Kind.NONE}
