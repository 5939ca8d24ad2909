"""Which base urls may be dialled: the web, one's own network, never a metadata service in any spelling."""

from __future__ import annotations

import pytest

from service.catalog.hosts import url_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://api.example.com:8443/openai/v1/",
        "http://127.0.0.1:11434/v1",
        "http://localhost:8000/v1",
        "http://[::1]:8000/v1",
        "http://10.0.0.7:8000/v1",
        "https://xn--80ak6aa92e.example/v1",
        "http://vllm:8000/v1",
        "https://169.254.example.com/v1",
    ],
)
def test_good_urls(url: str) -> None:
    """Vendors, engines on this machine and engines on one's own network."""
    assert url_problem(url) is None


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
    ],
)
@pytest.mark.parametrize("shape", ["http://{}/v1", "https://{}:443/", "http://{}"])
def test_metadata_in_every_spelling(host: str, shape: str) -> None:
    """Cloud credentials can't be reached by decimal, octal, hex, mapped or embedded addresses."""
    problem = url_problem(shape.format(host))
    assert problem is not None
    assert "metadata" in problem


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com", "must begin with https://"),
        ("file:///etc/passwd", "no usable host"),
        ("javascript:alert(1)", "no usable host"),
        ("https://", "no usable host"),
        ("https:///v1", "no usable host"),
        ("example.com/v1", "no usable host"),
        ("https://example.com:0/v1", "host or port"),
        ("https://example.com:99999/v1", "not a url"),
        ("https://[::1/v1", "not a url"),
        ("https://user:pw@example.com", "user name or password"),
        ("https://example.com/v1?x=1", "query or fragment"),
        ("https://example.com/v1#x", "query or fragment"),
        ("https://exa mple.com", "spaces"),
        ("https://example.com\n", "spaces"),
        ("https://169。254。169。254/", "punycode"),
        ("https://${env:HOST}/v1", "takes no ${env:…}"),
        ("http://0.0.0.0:8000", "is no host"),
        ("http://[::]:8000", "is no host"),
        ("http://224.0.0.1", "is no host"),
    ],
)
def test_urls_that_are_refused(url: str, words: str) -> None:
    """Each says what is wrong with it."""
    problem = url_problem(url)
    assert problem is not None
    assert words in problem
