"""What a host is, however it is spelled: doors open only when it is sure, and close whenever it may be."""

from __future__ import annotations

import ipaddress

import pytest

from service.domain.hosts import faces, is_loopback, is_metadata_or_link_local, is_this_machine, plain

LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "LocalHost", "localhost."]

THIS_MACHINE_ODDLY = [
    "",
    "0.0.0.0",  # noqa: S104  # an address that must be recognised, nobody listens here
    "::",
    "[::]",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "ｌｏｃａｌｈｏｓｔ",
    "x.localhost",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]

METADATA = [
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "::ffff:169.254.169.254",
    "[::ffff:a9fe:a9fe]",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata",
    "instance-data",
]

ELSEWHERE = [
    "192.168.1.7",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "fd00::1",
    "router.internal",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "169.254.example.com",
    "metadata.example.com",
    "128.0.0.1",
    "100.100.100.201",
    "93.184.216.34",
    "2606:2800::1",
    "bücher.example",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_surely_this_machine(host):
    """Both for opening and for closing a door."""
    assert is_loopback(host)
    assert is_this_machine(host)
    assert not is_metadata_or_link_local(host)


@pytest.mark.parametrize("host", THIS_MACHINE_ODDLY)
def test_perhaps_this_machine(host):
    """Odd spellings and the unspecified address: never sure enough to open a door, but enough to close one."""
    assert not is_loopback(host)
    assert is_this_machine(host) is bool(host)


@pytest.mark.parametrize("host", METADATA)
def test_metadata_in_every_spelling(host):
    """Decimal, octal, hex, mapped or embedded: where cloud credentials are."""
    assert is_metadata_or_link_local(host)
    assert not is_loopback(host)
    assert not is_this_machine(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_anything_else_is_elsewhere(host):
    """The web and one's own networks; names that only look alike."""
    assert not is_loopback(host)
    assert not is_this_machine(host)
    assert not is_metadata_or_link_local(host)


def test_faces():
    """The address and the one inside; a name has none."""
    inner = ipaddress.IPv4Address("1.2.3.4")
    assert faces("[::ffff:1.2.3.4]") == (ipaddress.IPv6Address("::ffff:102:304"), inner)
    assert faces("0x01.2.3.4") == (inner,)
    assert faces("example.com") == faces("") == ()


def test_plain():
    """As name resolution reads it."""
    assert plain("ＥＸＡＭＰＬＥ。Com.") == "example.com"
