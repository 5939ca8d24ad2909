"""What a host name or address means, however it is spelled: this machine, a link-local or a metadata service. Pure.

Where on the path: `guard` asks who may listen and call without keys, `catalog` which base urls may be dialled, `api`
which links may be passed on, `upstream` where local engines may be looked for.

Invariants
1. No look-up is made: a name is judged as a name. One that resolves to such an address is its owner's DNS.
2. `is_loopback` is for opening doors, so doubt is a no. `is_this_machine` and `is_metadata_or_link_local` are for
   closing them, so every spelling that some parser might take for such an address is one.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from functools import lru_cache

HOSTS_REMEMBERED = 256
"""Names whose meaning is remembered: the same few are asked about with every request."""

METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "metadata", "instance-data"})
"""Names under which clouds serve machine credentials."""

METADATA_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in ("169.254.0.0/16", "fe80::/10", "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128")
)
"""Link-local addresses, and the metadata services of Alibaba, Azure and AWS (IPv6)."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=HOSTS_REMEMBERED)
def is_loopback(host: str) -> bool:
    """Whether a host is surely this machine alone.

    True for 127.0.0.0/8, ::1 (bare or in brackets), the same mapped into IPv6, and `localhost`. An empty host is every
    interface when listened on, and spellings such as `127.1` are names to some: both are False.
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if host.casefold() in {"localhost", "localhost."}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address.is_loopback if mapped is None else mapped.is_loopback


def is_this_machine(host: str) -> bool:
    """Whether a host may be this machine, in any spelling: loopback, `*.localhost`, the unspecified address."""
    name = plain(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return any(face.is_loopback or face.is_unspecified for face in faces(name))


def is_metadata_or_link_local(host: str) -> bool:
    """Whether a host may be a metadata service or a link-local address, in any spelling."""
    name = plain(host)
    if name in METADATA_NAMES:
        return True
    return any(
        face in network for face in faces(name) for network in METADATA_NETWORKS if face.version == network.version
    )


def plain(host: str) -> str:
    """A host as name resolution reads it: width variants and ideographic stops folded, no final dot, lower case."""
    return unicodedata.normalize("NFKC", host).replace("。", ".").rstrip(".").lower()


def faces(host: str) -> tuple[Address, ...]:
    """The address that a host spells and the IPv4 address that it carries inside; nothing for a name.

    Old forms count: `2852039166` and `0xa9.254.0xa9.254` are 169.254.169.254 to many a client.
    """
    name = plain(host).removeprefix("[").removesuffix("]")
    try:
        address: Address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            return (ipaddress.IPv4Address(socket.inet_aton(name)),)
        except OSError:
            return ()
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return (address,) if inner is None else (address, inner)
