"""What a router without keys may serve."""

from __future__ import annotations

import pytest

from service.errors import Forbidden
from service.guard.exposure import check_host_header, check_origin, refuse_exposure

LOOPBACK = [
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "[::1]",
    "::ffff:127.0.0.1",
    "localhost",
    "LocalHost",
]
EXPOSED = [
    "0.0.0.0",  # noqa: S104  # the address that must be refused
    "::",
    "[::]",
    "",
    "192.168.1.7",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "fe80::1",
    "router.internal",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "127.1",
    "2130706433",
    "0x7f000001",
    "128.0.0.1",
    "unix:/run/coe.sock",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_open_without_keys(host):
    """A listener only for its own machine needs no key."""
    assert refuse_exposure(host, keys_exist=False) is None


@pytest.mark.parametrize("host", EXPOSED)
def test_anything_else_needs_a_key_first(host):
    """Whatever is not surely loopback is refused, and the refusal says what to do."""
    message = refuse_exposure(host, keys_exist=False)
    assert message is not None
    assert "coe keys create" in message
    assert refuse_exposure(host, keys_exist=True) is None


@pytest.mark.parametrize(
    "header", ["localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "127.5.5.5", "[::1]", "[::1]:8000"]
)
def test_names_of_this_machine_are_good_hosts(header):
    """The port is free: tunnels change it."""
    check_host_header(header, 8000)
    check_host_header(header, 9999)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example:8000",
        "127.0.0.1.evil.example",
        "0.0.0.0:8000",
        "192.168.1.7:8000",
        "localhost:99999",
        "localhost:",
        "localhost:8000:8000",
        "user@localhost",
        "localhost/evil",
        "::1",
        "[::1",
        " localhost",
        "localhost\n",
        "127.0.0.1\u0661",
        "unix:80",
        "a" * 300,
    ],
)
def test_foreign_hosts_are_refused_and_not_repeated(header):
    """A rebinding page reaches 127.0.0.1 under its own name: 403 with what to do."""
    with pytest.raises(Forbidden) as caught:
        check_host_header(header, 8000)
    assert caught.value.status == 403
    assert caught.value.code == "foreign_host"
    assert "http://127.0.0.1:8000" in caught.value.message
    if header and "localhost" not in header and "127" not in header and len(header) > 3:
        assert header not in caught.value.message


@pytest.mark.parametrize(
    "origin", [None, "http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443", "HTTP://LOCALHOST"]
)
def test_no_origin_and_pages_of_this_machine_may_call(origin):
    """Programs send no Origin; local pages are the user's own."""
    check_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://user@localhost",
        "null",
        "",
        "localhost",
        "file://localhost",
        "chrome-extension://localhost",
        "http://[::1",
        "http://localhost:99999",
    ],
)
def test_web_pages_of_other_sites_are_refused(origin):
    """A page could otherwise spend money with a blind POST."""
    with pytest.raises(Forbidden) as caught:
        check_origin(origin)
    assert caught.value.code == "foreign_origin"
    assert not origin or origin not in caught.value.message
