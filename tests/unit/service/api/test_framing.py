"""One reading of every request: what two servers could read in two ways is refused."""

from __future__ import annotations

import pytest

from service.api.framing import check_coding, origin_form, the_host
from service.errors import InvalidRequest


def test_pure_parts():
    """Hosts, codings and targets without a socket."""
    assert the_host([], "1.0") is None
    for good in (b"x", b"a_b.c-d:8000", b"127.0.0.1:1", b"[::1]:8000"):
        assert the_host([(b"host", good)], "1.1") == good
    for bad in (b"", b"x:", b"x:123456", b"[::1", b"a b", b"x\x00"):
        with pytest.raises(InvalidRequest):
            the_host([(b"host", bad)], "1.1")
    check_coding([(b"transfer-encoding", b"Chunked")], "1.1")
    assert origin_form(b"//evil/x", b"x") == b"//evil/x"
    assert origin_form(b"http://x", b"X") == b"/"
    for target, host in ((b"http://x/", None), (b"http://x/", b"x:80"), (b"*", b"x"), (b"", b"x")):
        with pytest.raises(InvalidRequest):
            origin_form(target, host)
