"""What servers do to those who call them, by name, and what a transport must make of each: its contract, row by row.

A row is played on the first connection of a `HostileServer`. The caller asks once per outcome of `wants`, and once more
in the end, which the server answers politely: nothing that happened may spoil that. tests/contract/test_transports.py
holds every transport to it. Where a standard leaves something to the client, or two good parsers differ, a row lists each
outcome that is safe: never one that books a billed request as free, or gives an answer to whom it does not belong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostile import Play
from plays import (
    FLOOD,
    OK,
    breaks_tls,
    closes,
    courtesy,
    deafness,
    dribbles,
    early,
    floods,
    greets,
    idle,
    leaves_tls,
    on_reuse,
    repeats,
    says,
    silence,
)

from service.errors import Broken, NoReply, NotSent, UpstreamError

SECRET = "Bearer key-canary-0123456789"
BODY = b'{"canary-prompt":"hi"}'
LARGE = b"canary-prompt " * (8 * 1024 * 1024 // 14)


@dataclass(frozen=True)
class Outcome:
    """What a caller sees. An answer: `status`, the whole `body`. An error: its class and any of `causes`.

    The class says the phase: `NotSent` and `NoReply` come from `send`, `Broken` from reading, after `status` and no more
    than `body` were seen. `hangs`: nothing more comes until the caller goes. `reused`: whether the connection is used for
    the next request; `None` leaves it open. After an error, a hang, and an answer left unread it is closed at once.
    """

    status: int | None = None
    body: bytes = b""
    error: type[UpstreamError] | None = None
    causes: tuple[str, ...] = ()
    hangs: bool = False
    reused: bool | None = False


Wants = Outcome | tuple[Outcome, ...]


@dataclass(frozen=True)
class Row:
    """One behaviour. `url` has places for the server's port and for a `closed` one; `tls` is a field of `Certificates`.

    `manner` is how the caller takes an answer: `reads` it, `leaves` it unread, has a `taste`, or `pauses` in it and
    expects the server to be held back. `has` are header fields of the first answer. `but` names transports that do
    otherwise: what they do, and why that can be borne.
    """

    name: str
    play: Play
    wants: tuple[Wants, ...]
    url: str = ""
    tls: str | None = None
    body: bytes = BODY
    headers: tuple[tuple[str, str], ...] = ()
    connect_s: float = 4.0
    manner: str = "reads"
    has: Mapping[str, str] = field(default_factory=dict)
    server_name: str | None = None
    but: Mapping[str, tuple[Wants, str]] = field(default_factory=dict)

    def wanted(self, transport: str) -> tuple[Wants, ...]:
        """What this transport does: by the contract, or by its exception for the first request."""
        if transport not in self.but:
            return self.wants
        return (self.but[transport][0], *self.wants[1:])


def row(name: str, play: Play, *wants: Wants, **more: object) -> Row:
    """A row; `more` are its other fields."""
    return Row(name, play, wants, **more)  # type: ignore[arg-type] # dataclass fields by name


def good(body: bytes = b"ok", status: int = 200, *, reused: bool | None = True) -> Outcome:
    """A whole answer."""
    return Outcome(status, body, reused=reused)


def broken(body: bytes = b"", status: int = 200) -> Outcome:
    """An answer that began."""
    return Outcome(status, body, Broken, ("cut",))


def not_sent(*causes: str) -> Outcome:
    """The vendor saw nothing of the request."""
    return Outcome(error=NotSent, causes=causes)


def no_reply(name: str, said: bytes, end: str = "") -> Row:
    """A row for what is no HTTP answer: the request was sent, and nothing that was said is an answer to it."""
    return row(name, says(said, end), NO_REPLY)


def cut(name: str, said: bytes, body: bytes = b"", end: str = "") -> Row:
    """A row for an answer that begins well and is not whole."""
    return row(name, says(said, end), broken(body))


NO_REPLY = Outcome(error=NoReply, causes=("hung_up",))
HANGS = Outcome(hangs=True)
ONCE = good(reused=False)
EITHER = (good(reused=None), NO_REPLY)
TWO = b"content-length: 2\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
CHUNKS = CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
TO_THE_END = OK + b"connection: close\r\n\r\n"
POISON = OK + b"content-length: 6\r\n\r\npoison"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlong"
MUCH = good(b"long", 413, reused=False)
HERE = "https://localhost:{port}/v1/chat"

CONNECTING = (
    row("refused", courtesy, not_sent("connect_refused"), url="http://127.0.0.1:{closed}/"),
    row("refused_by_name", courtesy, not_sent("connect_refused"), url="http://localhost:{closed}/"),
    row("no_such_name", courtesy, not_sent("dns", "timeout_connect"), url="http://no-such-host.invalid/"),
    row("no_url", courtesy, not_sent("invalid_request", "connect_failed"), url="http://[::1/"),
    row("no_such_port", courtesy, not_sent("invalid_request", "connect_failed"), url="http://127.0.0.1:99999999/"),
    row("no_http_url", courtesy, not_sent("invalid_request", "connect_failed"), url="ftp://127.0.0.1:{port}/"),
    row("key_with_line_feed", courtesy, not_sent("invalid_request"), headers=(("x-key", SECRET + "\r\nx: y"),)),
    row("key_with_nul", courtesy, not_sent("invalid_request"), headers=(("x-key", SECRET + "\0"),)),
    row("key_with_surrogate", courtesy, not_sent("invalid_request"), headers=(("x-key", SECRET + "\udcff"),)),
    row("name_with_blank", courtesy, not_sent("invalid_request"), headers=(("x key", SECRET),)),
    row("connecting_takes_too_long", silence, not_sent("timeout_connect"), url=HERE, connect_s=0.2),
    row("tls_at_a_plain_port", greets(b"HTTP/1.1 400 Bad Request\r\n\r\n"), not_sent("tls"), url=HERE),
    row("tls_end_in_greeting", greets(b"", "fin"), not_sent("tls", "connect_failed"), url=HERE),
    row("tls_reset_in_greeting", greets(b"", "rst"), not_sent("tls", "connect_failed"), url=HERE),
    row("tls_expired", courtesy, not_sent("tls"), tls="expired"),
    row("tls_other_name", courtesy, not_sent("tls"), tls="other_name"),
    row("tls_self_signed", courtesy, not_sent("tls"), tls="self_signed"),
    row("tls_good", says(OK + TWO + b"ok"), good(), tls="good", server_name="localhost"),
)

SECURED = (
    row("tls_end_without_goodbye", says(TO_THE_END + b"ok", "fin"), broken(b"ok"), tls="good"),
    row("tls_end_with_goodbye", leaves_tls(TO_THE_END + b"ok"), ONCE, tls="good"),
    row("tls_goodbye_before_length", leaves_tls(OK + b"content-length: 3\r\n\r\nok"), broken(b"ok"), tls="good"),
    row("tls_reset_in_body", says(TO_THE_END + b"ok", "rst"), broken(b"ok"), tls="good"),
    row("tls_broken_before_head", breaks_tls(b""), NO_REPLY, tls="good"),
    row("tls_broken_in_body", breaks_tls(OK + b"content-length: 3\r\n\r\nok"), broken(b"ok"), tls="good"),
    row("tls_end_before_head", says(b"", "fin"), NO_REPLY, tls="good"),
    row("tls_wants_a_certificate", courtesy, NO_REPLY, tls="asks_back"),
    row("tls_end_while_idle", idle("fin"), ONCE, tls="good"),
    row("tls_goodbye_while_idle", leaves_tls(OK + TWO + b"ok"), ONCE, tls="good"),
    row("tls_unasked_while_idle", idle(unasked=POISON), ONCE, tls="good"),
    row("tls_left_while_it_comes", floods(), good(b"", reused=False), tls="good", manner="taste"),
    row("tls_held_back", floods(FLOOD // 4), good(bytes(FLOOD // 4)), tls="good", manner="pauses"),
)

BEFORE_THE_HEAD = (
    row("close_on_accept", closes("close"), NO_REPLY),
    row("reset_on_accept", closes("rst"), NO_REPLY),
    row("close_after_head", closes("close", "head"), NO_REPLY, body=LARGE),
    row("close_after_request", closes("close", "request"), NO_REPLY),
    row("end_after_request", closes("fin", "request"), NO_REPLY),
    row("reset_after_request", closes("rst", "request"), NO_REPLY),
    row("silence", silence, HANGS),
    row("deafness", deafness, HANGS, body=LARGE),
    no_reply("ssh_banner", b"SSH-2.0-OpenSSH_9.9\r\n", "fin"),
    row("ssh_banner_and_patience", says(b"SSH-2.0-OpenSSH_9.9\r\n"), (NO_REPLY, HANGS)),
    no_reply("nuls", bytes(99)),
    no_reply("tls_record", b"\x15\x03\x03\x00\x02\x02\x28\r\n\r\n"),
    no_reply("http2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    no_reply("http2_settings", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"),
    no_reply("http09", b"<html>hello</html>", "fin"),
    no_reply("quotes_the_key", SECRET.encode() + b"\r\n\r\n"),
    no_reply("status_of_five_digits", b"HTTP/1.1 99999 x\r\n\r\n"),
    no_reply("status_zero", b"HTTP/1.1 000 x\r\n" + TWO + b"ok"),
    no_reply("status_of_two_digits", b"HTTP/1.1 20 OK\r\n" + TWO + b"ok"),
    no_reply("status_missing", b"HTTP/1.1\r\n" + TWO + b"ok"),
    no_reply("lower_case_http", b"http/1.1 200 OK\r\n" + TWO + b"ok"),
    no_reply("cut_in_status_line", b"HTTP/1.1 200", "fin"),
    no_reply("cut_in_head", OK + b"content-length: 2\r\n", "fin"),
    no_reply("reset_in_head", OK + b"content-length: 2\r\n", "rst"),
    no_reply("no_colon", OK + b"no colon\r\n" + TWO + b"ok"),
    no_reply("blank_in_name", OK + b"x y: z\r\n" + TWO + b"ok"),
    no_reply("blank_before_colon", OK + b"content-length : 2\r\n\r\nok"),
    no_reply("nul_in_value", OK + b"x: a\0b\r\n" + TWO + b"ok"),
    no_reply("carriage_return_in_value", OK + b"x: a\rb: c\r\n" + TWO + b"ok"),
    no_reply("switching_protocols", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    no_reply("two_lengths", OK + b"content-length: 3\r\n" + TWO + b"ok\n"),
    no_reply("negative_length", OK + b"content-length: -2\r\n\r\nok"),
    no_reply("length_in_words", OK + b"content-length: two\r\n\r\nok"),
    no_reply("length_with_plus", OK + b"content-length: +2\r\n\r\nok"),
    no_reply("length_beyond_all", OK + b"content-length: " + b"9" * 40 + b"\r\n\r\nok"),
    no_reply("gzip_and_chunked", OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    no_reply("unknown_coding", OK + b"transfer-encoding: x-ours\r\n\r\nok", "fin"),
    no_reply("line_too_long", OK + b"x: " + b"y" * 512 * 1024 + b"\r\n" + TWO + b"ok"),
    no_reply("too_many_fields", OK + b"x-a: b\r\n" * 20_000 + TWO + b"ok"),
    row("endless_line", repeats(OK + b"x: ", b"y" * 4096), NO_REPLY),
    row("endless_head", repeats(OK, b"x: y\r\n" * 512), NO_REPLY),
    row("endless_status_line", repeats(b"HTTP/1.1 200 ", b"y" * 4096), NO_REPLY),
    row(
        "endless_interim",
        repeats(b"", b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" * 99, 16 * FLOOD),
        NO_REPLY,
        but={"httpx": (HANGS, "httpcore takes them one by one, in no memory; a deadline of the caller ends it")},
    ),
)

ODD_HEADS = (
    row("plain", says(OK + b"content-type: a/b\r\n" + TWO + b"ok"), good(), has={"content-type": "a/b"}),
    row("no_reason", says(b"HTTP/1.1 200\r\n" + TWO + b"ok"), good()),
    row("empty_reason", says(b"HTTP/1.1 200 \r\n" + TWO + b"ok"), good()),
    row("names_in_capitals", says(OK + b"X-A: B\r\nCONTENT-LENGTH: 2\r\n\r\nok"), good(), has={"x-a": "B"}),
    row("repeated_names", says(OK + b"x-a: 1\r\nX-A: 2\r\n" + TWO + b"ok"), good(), has={"x-a": "1, 2"}),
    row("value_with_blanks", says(OK + b"x-a: \t b c \t\r\n" + TWO + b"ok"), good(), has={"x-a": "b c"}),
    row("value_empty", says(OK + b"x-a:\r\n" + TWO + b"ok"), good(), has={"x-a": ""}),
    row("value_beyond_ascii", says(OK + b"x-a: \xe4\xb8\xad \xff\r\n" + TWO + b"ok"), good()),
    row("control_in_value", says(OK + b"x-a: \x01\r\n" + TWO + b"ok"), EITHER),
    row("folded_line", says(OK + b"x-a: b\r\n c\r\n" + TWO + b"ok"), EITHER),
    row("bare_line_feeds", says(b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok"), EITHER),
    row("hundred_fields", says(OK + b"".join(b"x-%d: y\r\n" % n for n in range(98)) + TWO + b"ok"), good()),
    row("same_length_twice", says(OK + b"content-length: 2\r\n" + TWO + b"ok"), EITHER),
    row("length_and_chunks", says(OK + b"content-length: 9\r\n" + CHUNKS[len(OK) :]), EITHER),
    row("chunks_and_length", says(OK + b"transfer-encoding: chunked\r\n" + TWO + b"2\r\nok\r\n0\r\n\r\n"), EITHER),
    row("chunked_twice", says(OK + b"transfer-encoding: chunked\r\n" + CHUNKS[len(OK) :]), EITHER),
    row("continue_first", says(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + TWO + b"ok"), good()),
    row("hints_first", says(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + OK + TWO + b"ok"), good()),
    row("hints_apart", dribbles(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + TWO + b"ok", 40), good()),
    row("no_content", says(b"HTTP/1.1 204 No Content\r\n\r\n"), good(b"", 204)),
    row("not_modified", says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), good(b"", 304)),
    row("not_modified_with_length", says(b"HTTP/1.1 304 Not Modified\r\n" + TWO), good(b"", 304, reused=None)),
    row("redirect", says(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\n" + TWO + b"ok"), good(status=302)),
    row(
        "redirect_to_nowhere",
        says(b"HTTP/1.1 302 Found\r\nlocation: http://h:port/\r\n" + TWO + b"ok"),
        good(status=302),
    ),
    row("cookie", says(OK + b"set-cookie: tenant=a; path=/\r\n" + TWO + b"ok"), good()),
    row("unavailable", says(b"HTTP/1.1 503 x\r\nretry-after: 7\r\n" + TWO + b"ok"), good(status=503)),
)

BODIES = (
    row("empty", says(OK + b"content-length: 0\r\n\r\n"), good(b"")),
    row("to_the_end", says(TO_THE_END + b"ok", "fin"), ONCE),
    row("to_the_end_unsaid", says(OK + b"\r\nok", "fin"), ONCE),
    row("http10", says(b"HTTP/1.0 200 OK\r\n\r\nok", "fin"), ONCE),
    row("http10_with_length", says(b"HTTP/1.0 200 OK\r\n" + TWO + b"ok"), ONCE),
    row("reset_instead_of_end", says(TO_THE_END + b"ok", "rst"), broken(b"ok")),
    row("http10_reset", says(b"HTTP/1.0 200 OK\r\n\r\nok", "rst"), broken(b"ok")),
    cut("short_of_length", OK + b"content-length: 3\r\n\r\nok", b"ok", "fin"),
    cut("reset_short_of_length", OK + b"content-length: 3\r\n\r\nok", b"ok", "rst"),
    row(
        "length_of_2_to_64",
        says(OK + b"content-length: 18446744073709551616\r\n\r\nok", "fin"),
        (NO_REPLY, broken(b"ok")),
    ),
    row("beyond_length", says(OK + TWO + b"ok and more"), ONCE),
    row("answer_beyond_length", says(OK + TWO + b"ok" + POISON), ONCE),
    row("answer_beyond_chunks", says(CHUNKS + POISON), ONCE),
    row("body_of_no_content", says(b"HTTP/1.1 204 No Content\r\n\r\n" + POISON), good(b"", 204, reused=False)),
    row("chunks", says(CHUNKS), good()),
    row("chunks_coded_in_capitals", says(OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n"), good()),
    row("chunk_extensions", says(CHUNKED + b'2;a=b;c="d"\r\nok\r\n0;e\r\n\r\n'), good()),
    row("chunk_trailers", says(CHUNKED + b"2\r\nok\r\n0\r\nx-sum: 7\r\nstatus: 500\r\n\r\n"), good()),
    row("chunk_size_in_capitals", says(CHUNKED + b"00A\r\n0123456789\r\n0\r\n\r\n"), good(b"0123456789")),
    cut("chunk_size_is_no_number", CHUNKED + b"2\r\nok\r\nxyz\r\nok\r\n0\r\n\r\n", b"ok"),
    cut("chunk_size_negative", CHUNKED + b"2\r\nok\r\n-2\r\nok\r\n0\r\n\r\n", b"ok"),
    cut("chunk_size_beyond_all", CHUNKED + b"F" * 40 + b"\r\nok\r\n0\r\n\r\n"),
    cut("chunk_size_of_2_to_68", CHUNKED + b"F" * 17 + b"\r\nok\r\n0\r\n\r\n", b"ok\r\n0\r\n\r\n", "fin"),
    cut("chunk_cut", CHUNKED + b"9\r\nok", b"ok", "fin"),
    cut("chunk_reset", CHUNKED + b"9\r\nok", b"ok", "rst"),
    cut("chunk_longer_than_said", CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", b"ok"),
    cut("last_chunk_missing", CHUNKED + b"2\r\nok\r\n", b"ok", "fin"),
    cut("last_chunk_cut", CHUNKED + b"2\r\nok\r\n0\r\n", b"ok", "fin"),
    row("endless_chunk_line", repeats(CHUNKED + b"2;", b"y" * 4096), broken(b"")),
    row("endless_trailers", repeats(CHUNKED + b"2\r\nok\r\n0\r\n", b"x: y\r\n" * 512), broken(b"ok")),
    row("dribbled", dribbles(OK + TWO + b"ok"), good()),
    row("dribbled_chunks", dribbles(CHUNKED + b"2;x=y\r\nok\r\n0\r\nx: y\r\n\r\n"), good()),
    row("pieces_of_three", dribbles(CHUNKS, 3), good()),
    row("pieces_of_seven", dribbles(CHUNKS, 7), good()),
    row("stalls_in_body", says(OK + b"content-length: 9\r\n\r\npart"), Outcome(200, b"part", hangs=True)),
    row("held_back", floods(), good(bytes(FLOOD)), manner="pauses"),
    row("left_unread", says(OK + TWO + b"ok"), good(b"", reused=False), manner="leaves"),
    row("left_while_it_comes", floods(), good(b"", reused=False), manner="taste"),
)

CONNECTIONS = (
    row("close_said", says(OK + b"connection: close\r\n" + TWO + b"ok"), ONCE),
    row("close_said_among_others", says(OK + b"Connection: x, Close\r\n" + TWO + b"ok"), ONCE),
    row("close_said_with_chunks", says(OK + b"connection: close\r\n" + CHUNKS[len(OK) :]), ONCE),
    row("end_while_idle", idle("fin"), ONCE),
    row("close_while_idle", idle("close"), ONCE),
    row("reset_while_idle", idle("rst"), ONCE),
    row("unasked_answer_while_idle", idle(unasked=POISON), ONCE),
    row("unasked_words_while_idle", idle(unasked=b"\r\n"), ONCE),
    row("timeout_said_while_idle", idle("fin", b"HTTP/1.1 408 x\r\nconnection: close\r\n\r\n"), ONCE),
    row("end_on_reuse", on_reuse("fin"), good(), NO_REPLY),
    row("close_on_reuse", on_reuse("close"), good(), NO_REPLY),
    row("reset_on_reuse", on_reuse("rst"), good(), NO_REPLY),
    row("garbage_on_reuse", on_reuse("fin", b"SSH-2.0-x\r\n"), good(), NO_REPLY),
    row("cut_on_reuse", on_reuse("fin", OK + b"content-length: 3\r\n\r\nok"), good(), broken(b"ok")),
    row("early_and_drained", early(TOO_LARGE, "drain"), MUCH, body=LARGE),
    row("early_and_kept", early(OK + TWO + b"ok", "drain"), good(reused=None), body=LARGE),
    row("early_and_closed", early(TOO_LARGE, "close"), (MUCH, broken(b"long", 413), NO_REPLY), body=LARGE),
    row(
        "early_and_deaf",
        early(TOO_LARGE, "stop"),
        MUCH,
        body=LARGE,
        but={"httpx": (HANGS, "httpcore reads nothing before all is written; a deadline of the caller ends it")},
    ),
)

GROUPS = (CONNECTING, SECURED, BEFORE_THE_HEAD, ODD_HEADS, BODIES, CONNECTIONS)
ROWS = {one.name: one for group in GROUPS for one in group}
