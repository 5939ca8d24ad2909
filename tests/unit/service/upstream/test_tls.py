"""What a connection to a vendor trusts, whatever the environment says."""

from __future__ import annotations

import ssl

import certifi
import pytest

from service.upstream.tls import tls_context
from service.upstream.transport_httpx import HttpxTransport
from service.upstream.transport_native import NativeTransport


def bundled():
    """How many authorities come with the router."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    return context.cert_store_stats()["x509_ca"]


def test_certificates_and_names_are_checked():
    """Against the bundled authorities; who says so may switch it off."""
    context = tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509_ca"] == bundled() > 50
    assert tls_context(verify=False).verify_mode == ssl.CERT_NONE


def test_the_environment_adds_no_authority(monkeypatch, tmp_path):
    """Neither a file nor a folder of certificates."""
    (tmp_path / "ca.pem").write_text("no certificate", encoding="utf-8")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert tls_context().cert_store_stats()["x509_ca"] == bundled()


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_no_secret_of_a_connection_is_written_down(monkeypatch, tmp_path, proxy):
    """Not by any transport, nor on the way to a proxy. Python's own context would: that is the control."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    assert ssl.create_default_context().keylog_filename == str(tmp_path / "keys.log")
    assert tls_context().keylog_filename is None
    assert NativeTransport()._tls.keylog_filename is None
    pool = HttpxTransport(proxy=proxy)._client._pool
    assert pool._ssl_context.keylog_filename is None
    if proxy is not None and proxy.startswith("https"):
        assert pool._proxy_ssl_context.keylog_filename is None
