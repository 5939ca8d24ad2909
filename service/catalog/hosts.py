"""Which base urls may be dialled: web addresses, but never a machine's own metadata service.

Where on the path: `schema` asks for every provider. Only hosts of providers.yaml are ever dialled, so this is where
a typing error or a hostile edit of the file is stopped from reading cloud credentials.

Invariant: no look-up is made; a name that resolves to such an address is the operator's own DNS.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "metadata", "instance-data"})
"""Names under which clouds serve machine credentials."""

METADATA_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in ("169.254.0.0/16", "fe80::/10", "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128")
)
"""Link-local addresses, and the metadata services of Alibaba, Azure and AWS (IPv6)."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def url_problem(url: str) -> str | None:
    """Why a base url can't be used and what to do, or `None` when it can.

    Never repeats the url: it may hold a password.
    """
    if "${" in url:
        return "base_url takes no ${env:…}; write the address out, or set enabled: false with a reason"
    if not all(33 <= ord(character) < 127 for character in url):
        return "base_url holds spaces or letters beyond ASCII; write the host in punycode (xn--…)"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "base_url is not a url; write something like https://api.example.com/v1"
    if not host or port == 0:
        return "base_url has no usable host or port; write something like https://api.example.com/v1"
    return _parts_problem(parts) or _host_problem(host)


def _parts_problem(parts: SplitResult) -> str | None:
    if parts.scheme not in {"http", "https"}:
        return "base_url must begin with https:// (or http:// on your own network)"
    if parts.username is not None or parts.password is not None:
        return "base_url holds a user name or password; put the key in api_key: ${env:NAME}"
    if parts.query or parts.fragment or parts.geturl().endswith(("?", "#")):
        return "base_url holds a query or fragment; end it before '?' or '#'"
    return None


def is_loopback(url: str) -> bool:
    """Whether a good url stays on this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _host_problem(host: str) -> str | None:
    name = host.rstrip(".").lower()
    if name in METADATA_NAMES:
        return f"base_url points at a metadata service ({name}); it serves this machine's credentials, not a model"
    address = _address(name)
    if address is None:
        return None
    for seen in _faces(address):
        if any(seen.version == network.version and seen in network for network in METADATA_NETWORKS):
            return f"base_url points at a link-local or metadata address ({address}); use the API's own host"
        if seen.is_unspecified or seen.is_multicast:
            return f"base_url points at {address}, which is no host; use 127.0.0.1 for this machine"
    return None


def _address(host: str) -> Address | None:
    """The address that a host spells, also in the old forms (`2852039166`, `0xa9.254.0xa9.254`); `None` for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _faces(address: Address) -> list[Address]:
    """The address, and the IPv4 address that it carries inside."""
    faces: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            faces.append(inner)
        if address in _NAT64:
            faces.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return faces
