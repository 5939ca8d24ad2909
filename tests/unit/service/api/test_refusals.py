"""What the door says: which status, and nothing of its insides."""

from __future__ import annotations

import httptools
import orjson
import pytest

from service.api.errors import render
from service.api.refusals import (
    HEADER_BYTES_MAX,
    RETRY_AFTER_S,
    header_too_large,
    malformed,
    overloaded,
    shed,
    with_status,
)


def test_each_says_what_was_wrong():
    """Status, words, and when to come again."""
    assert header_too_large().status == 431
    assert str(HEADER_BYTES_MAX) in header_too_large().message
    told = overloaded("too many of them")
    assert (told.status, told.code, told.headers) == (503, "overloaded", {"retry-after": str(RETRY_AFTER_S)})
    assert told.message == f"too many of them; try again in {RETRY_AFTER_S} s"
    assert with_status(414, "too long").body()["error"]["message"] == "too long"


def test_a_fault_of_ours_in_the_parser_is_no_fault_of_the_caller(capsys):
    """What is not HTTP is a 400, an exception in a callback a 500 whose text stays in here."""
    assert malformed(httptools.HttpParserInvalidMethodError("x")).status == 400

    class Faulty:
        def on_message_begin(self):
            raise ZeroDivisionError("sk-canary")

    with pytest.raises(httptools.HttpParserCallbackError) as raised:
        httptools.HttpRequestParser(Faulty()).feed_data(b"GET / HTTP/1.1\r\n\r\n")
    told = malformed(raised.value)
    assert (told.status, told.code) == (500, "internal_error")
    assert "canary" not in told.message + "".join(capsys.readouterr())


def test_what_is_made_in_advance_is_what_would_be_made_now():
    """Field by field; only the id differs."""
    made = render(overloaded("there are too many requests"), "req_7")
    head, _, body = shed("req_7").partition(b"\r\n\r\n")
    assert [tuple(line.split(b": ")) for line in head.split(b"\r\n")] == made.raw_headers
    assert body == bytes(made.body)
    assert orjson.loads(body)["error"]["code"] == "overloaded"
