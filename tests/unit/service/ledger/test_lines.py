"""One line of the journal: nothing but what was written is ever read back."""

from __future__ import annotations

import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger.lines import MAX_LINE_BYTES, LineError, decode, encode, skim

BODY = {"attempt_id": "a1", "cost_pusd": 2**63 - 1, "ended": "complete", "tags": ["人事", "a\nb", '"}', ',"c":"']}


def sealed(payload: bytes) -> bytes:
    return payload[:-1] + b',"c":"%08x"}' % zlib.crc32(payload[:-1])


def test_what_is_encoded_is_decoded():
    """Kind and body come back, on one line, as plain JSON that other tools can read."""
    line = encode("terminal", BODY)
    read = decode(line[:-1])
    assert (read.kind, read.body) == ("terminal", BODY)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert orjson.loads(line) == {"v": 1, "t": "terminal", "e": BODY, "c": read.seal}


VALUES = st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1))


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_any_text_survives(body):
    """Separators, quotes and line ends inside text never break a line."""
    line = encode("decision", body)
    assert b"\n" not in line[:-1]
    assert decode(line[:-1]).body == body


RECORD = {"id": "dec_1", "request_id": "req-1", "key_id": "key_1", "created_ms": 1_795_000_000_000, "more": ["人", '"']}


@pytest.mark.parametrize("key_id", ["key_1", None])
def test_a_record_is_skimmed(key_id):
    """What an index needs is read from its beginning, the rest is handed on as it stands."""
    raw = encode("decision", RECORD | {"key_id": key_id})[:-1]
    whole, found = decode(raw), skim(raw)
    assert found.body == {"id": "dec_1", "key_id": key_id, "created_ms": 1_795_000_000_000}
    assert orjson.loads(found.text) == whole.body
    assert (found.kind, found.seal) == (whole.kind, whole.seal)


@pytest.mark.parametrize(
    "body",
    [
        {"created_ms": 1, **{name: RECORD[name] for name in ("id", "key_id", "request_id")}},
        RECORD | {"id": 'a"b'},
        RECORD | {"key_id": "人"},
        RECORD | {"created_ms": -1},
        RECORD | {"created_ms": 1.5},
        {"id": "dec_1"},
    ],
)
def test_what_begins_otherwise_is_read_whole(body):
    """Records of older versions, and whatever else stands there."""
    raw = encode("decision", body)[:-1]
    assert skim(raw) == decode(raw)
    other = encode("open", RECORD)[:-1]
    assert skim(other) == decode(other)


def test_skimming_looks_at_the_checksum():
    """A record that was changed behind its beginning is damaged, too."""
    raw = encode("decision", RECORD)[:-1]
    with pytest.raises(LineError, match="checksum"):
        skim(raw.replace(b"more", b"less"))


def test_no_prefix_is_a_line():
    """A line torn anywhere is refused."""
    line = encode("open", BODY)[:-1]
    for cut in range(len(line)):
        with pytest.raises(LineError):
            decode(line[:cut])


def test_no_changed_byte_goes_unseen():
    """Every byte of a line is covered: content, checksum and frame."""
    line = encode("open", BODY)[:-1]
    for place in range(len(line)):
        for flip in (0x01, 0x20, 0x80):
            changed = line[:place] + bytes([line[place] ^ flip]) + line[place + 1 :]
            with pytest.raises(LineError):
                decode(changed)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"v":2,"t":"open","e":{}}', "format 2"),
        (b'{"v":1,"t":"close","e":{}}', "unknown kind"),
        (b'{"v":1,"t":"open","e":[]}', "unknown kind"),
        (b'{"v":1,"t":"open"}', "not a journal line"),
        (b"[1]", "not a journal line"),
        (b'{"v":1,"t":"open","e":{}', "not a journal line"),
    ],
)
def test_a_whole_line_of_another_make_is_refused(payload, why):
    """A good checksum is not enough: format, kind and shape must be ours."""
    with pytest.raises(LineError, match=why):
        decode(sealed(payload))


def test_a_line_has_a_longest_length():
    """Too long is refused on the way in and on the way out, without the content in the message."""
    with pytest.raises(ValueError, match="the limit is 1048576") as refused:
        encode("decision", {"id": "d1", "secret": "x" * MAX_LINE_BYTES})
    assert "xxx" not in str(refused.value)
    with pytest.raises(LineError, match="longer than"):
        decode(b"x" * MAX_LINE_BYTES)
    fits = MAX_LINE_BYTES - len(encode("decision", {"id": ""}))
    assert len(encode("decision", {"id": "x" * fits})) == MAX_LINE_BYTES
    assert decode(encode("decision", {"id": "x" * fits})[:-1]).kind == "decision"


@pytest.mark.parametrize("value", [object(), {1: "x"}, 2**64, "\ud800"])
def test_what_is_not_json_is_refused(value):
    """A body that can't be written says so before anything is."""
    with pytest.raises(ValueError, match="not JSON"):
        encode("decision", {"id": "d1", "value": value})
