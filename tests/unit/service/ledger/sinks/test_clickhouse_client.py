"""Asking ClickHouse: what a URL may say, how a server's errors are told, that answers have limits."""

from __future__ import annotations

import ssl

import pytest

from service.errors import ConfigurationError
from service.ledger.sinks import clickhouse_client as module
from service.ledger.sinks.clickhouse_client import Client, Unknown, listed, place_of, quoted
from service.ledger.sinks.port import SinkDamaged, SinkFault


@pytest.mark.parametrize(
    ("url", "origin", "auth", "database"),
    [
        ("clickhouse://me:a%25b%40@db:8123/l", "http://db:8123/", ("me", "a%b@"), "l"),
        ("clickhouse://db", "http://db:8123/", ("default", ""), "default"),
        ("clickhouse://[::1]:9/l?secure=0", "http://[::1]:9/", ("default", ""), "l"),
        ("clickhouses://me@db/l", "https://db:8443/", ("me", ""), "l"),
        ("clickhouse://db:443/l?secure=1&verify=0", "https://db/", ("default", ""), "l"),
    ],
)
def test_a_url_says_where(url, origin, auth, database):
    """With TLS the certificate is checked unless it says otherwise."""
    place = place_of(url)
    assert (place.origin, place.auth, place.database) == (origin, auth, database)
    assert isinstance(place.verify, ssl.SSLContext) is (origin.startswith("https") and "verify=0" not in url)
    assert "me" not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "clickhouse://me:geheim@/l",
        "clickhouse://me:geheim@db:x/l",
        "clickhouse://me:geheim@db/l?nosuch=geheim",
        "clickhouse://me:geheim@db/l/geheim",
        "clickhouse://me:geheim@db/l?geheim",
        "clickhouses://me:geheim@db/l?ca=/nosuch/geheim",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as refused:
        place_of(url)
    assert "geheim" not in str(refused.value)


@pytest.fixture
def client(clickhouse):
    with Client(place_of(clickhouse.url())) as made:
        yield made


@pytest.mark.parametrize("text", ["", "'", "\\", "\\'", "a\x00b", "\n\t", "人", "\\0", "{x:String}", "-- x", "%s"])
def test_a_text_stays_what_it_is(client, text):
    """Also in a list; no text ends its literal."""
    assert client.rows(f"SELECT {quoted(text)}, {quoted(text)} IN {listed([text, 'other'])}") == [[text, 1]]


def test_an_error_is_told_by_its_number(client):
    """The server's own words hold the statement, and so the values in it."""
    with pytest.raises(Unknown, match=r"^ClickHouse: error 60 \(no such table\)$"):
        client.rows("SELECT 'geheim' FROM nosuch")
    with pytest.raises(SinkFault, match=r"^ClickHouse: error \d+$"):
        client.rows("SELECT geheim(1)")
    with pytest.raises(SinkFault, match=r"^ClickHouse: error \d+$"):
        client.rows("SELECT throwIf(number = 3000000) FROM numbers(5000000)")


@pytest.mark.parametrize(("code", "kind"), [(40, SinkDamaged), (81, Unknown), (241, SinkFault), (999, SinkFault)])
@pytest.mark.parametrize(
    "form", ["Code: {}, e.displayText() = DB::Exception: geheim", "Code: {}. DB::Exception: geheim"]
)
def test_errors_of_old_and_new_servers_are_read(code, kind, form):
    """By their number, wherever it stands."""
    found = module._fault(f'{{"data": [["x"], {form.format(code)}'.encode(), 500)
    assert type(found) is kind
    assert str(found).startswith(f"ClickHouse: error {code}")
    assert "geheim" not in str(found)


def test_an_answer_has_its_limits(client, monkeypatch):
    """In bytes and in seconds."""
    monkeypatch.setattr(module, "ANSWER_MAX_BYTES", 1_000)
    with pytest.raises(SinkFault, match="more than 1,000 bytes"):
        client.rows("SELECT number FROM numbers(10000)")
    with pytest.raises(SinkFault, match="error 159"):
        client.rows("SELECT sum(sipHash64(number)) FROM numbers(100000000000)", 1.0)


def test_many_rows_go_in_several_pieces(client, monkeypatch):
    """Each is no larger than what the server stores at once."""
    sent = []
    send = Client._send
    monkeypatch.setattr(module, "INSERT_MAX_BYTES", 60)
    monkeypatch.setattr(Client, "_send", lambda self, body, *more: sent.append(body) or send(self, body, *more))
    client.run("DROP TABLE IF EXISTS pieces")
    client.run("CREATE TABLE pieces (x Int64) ENGINE = Memory")
    client.insert("pieces", [b'{"x":%d}' % number for number in range(20)])
    client.insert("pieces", [])
    assert len(sent) == 2 + 3
    assert client.rows("SELECT sum(x), count() FROM pieces") == [[190, 20]]
