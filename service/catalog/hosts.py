"""Which base urls may be dialled: web addresses, but never a machine's own metadata service.

Where on the path: `schema` asks for every provider. Only hosts of providers.yaml are ever dialled, so this is where
a typing error or a hostile edit of the file is stopped from reading cloud credentials.

Invariant: no look-up is made; a name that resolves to such an address is the operator's own DNS.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from service.domain.hosts import faces, is_metadata_or_link_local


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


def _host_problem(host: str) -> str | None:
    if is_metadata_or_link_local(host):
        return f"base_url points at a link-local or metadata address ({host}); use the API's own host"
    if any(face.is_unspecified or face.is_multicast for face in faces(host)):
        return f"base_url points at {host}, which is no host; use 127.0.0.1 for this machine"
    return None
