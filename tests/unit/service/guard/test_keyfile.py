"""The sealed chain of key events, and writing it."""

from __future__ import annotations

import fcntl
import os
import stat

import orjson
import pytest

from service.domain.limits import NO_LIMITS, Limits
from service.errors import ConfigurationError, RouterError
from service.guard import keyfile
from service.guard.keyfile import KeyBook, KeyRecord, append, create_line, limit_line, locked, revoke_line

PEPPER = bytes(range(32))


def record(number: int, **changes: object) -> KeyRecord:
    """A key whose fields are told apart by its number."""
    fields = {
        "id": f"key_{number:016x}",
        "name": f"name{number}",
        "digest": number.to_bytes(32, "big"),
        "hint": "coe-abcd",
        "tags": ("hr",),
        "models": (),
        "policies": (),
        "created_ms": 1000 + number,
        "expires_ms": None,
        "note": "",
    }
    return KeyRecord(**(fields | changes))


def lines_of(*bodies: bytes) -> list[bytes]:
    """Sealed lines of a new file with these bodies."""
    book = KeyBook("keys.jsonl", PEPPER)
    lines = []
    for body in bodies:
        line = book.sealed(body)
        book.absorb(line)
        lines.append(line)
    return lines


def read(content: bytes, pepper: bytes = PEPPER) -> KeyBook:
    """A new reading."""
    book = KeyBook("keys.jsonl", pepper)
    book.absorb(content)
    return book


TIGHT = Limits(day_pusd=5 * 10**12, requests_per_minute=60, soft=True)

LINES = lines_of(
    create_line(record(1)), create_line(record(2, expires_ms=5000)), revoke_line("key_0000000000000001", 2000)
)


def test_what_is_written_is_read_again():
    """Create and revoke survive the file; every line is JSON of its own."""
    book = read(b"".join(LINES))
    assert book.by_id["key_0000000000000001"] == record(1, revoked_ms=2000)
    assert book.by_digest[record(2).digest] == record(2, expires_ms=5000)
    assert book.offset == sum(map(len, LINES))
    assert [orjson.loads(line)["event"] for line in LINES] == ["create", "create", "revoke"]


def test_status_over_time():
    """Expiry is the first refused instant; revocation beats it."""
    key = record(1, expires_ms=5000)
    assert [key.status(at) for at in (0, 4999, 5000, 9000)] == ["active", "active", "expired", "expired"]
    assert record(1, expires_ms=5000, revoked_ms=1).status(9000) == "revoked"


def test_a_torn_tail_is_left_for_later_at_every_byte():
    """Whole lines count, the rest waits; reading on gives the same as reading at once."""
    content = b"".join(LINES)
    for cut in range(len(content)):
        book = read(content[:cut])
        assert len(book.seals) == content[:cut].count(b"\n")
        book.absorb(content[book.offset :])
        assert book.by_id == read(content).by_id


def test_a_changed_byte_anywhere_is_an_error():
    """No flipped byte is taken for a good line, and none makes a line vanish silently."""
    content = b"".join(LINES)
    for position in range(len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 0x01
        with pytest.raises(ConfigurationError, match=r"keys\.jsonl line"):
            read(bytes(changed))


@pytest.mark.parametrize(
    "content",
    [
        LINES[0] + LINES[2],
        LINES[1] + LINES[2],
        LINES[1] + LINES[0] + LINES[2],
        LINES[0] + LINES[0],
        LINES[0] + b"\n" + LINES[1],
        b"".join(LINES) + b"\xff\xfe garbage\n",
        b"\x00" * 200 + b"\n",
        b'{"v":1,"event":"create"}\n',
        b"x" * (keyfile.LINE_BYTES_MAX + 1),
    ],
)
def test_removed_moved_and_foreign_lines_are_errors(content):
    """The chain shows what is missing as well as what was added."""
    with pytest.raises(ConfigurationError, match="no key is accepted"):
        read(content)


def test_another_pepper_is_an_error_that_names_it():
    """Server and command line with different peppers would otherwise make keys that never work."""
    with pytest.raises(ConfigurationError, match="COE_KEY_PEPPER"):
        read(LINES[0], pepper=bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"models": None},
        {"models": "gpt-6"},
        {"models": [1]},
        {"digest": "00"},
        {"digest": "zz" * 32},
        {"created_ms": 1.5},
        {"created_ms": True},
        {"expires_ms": "never"},
        {"id": 7},
        {"event": "grant"},
        {"v": 2},
        {"v": None},
    ],
)
def test_well_sealed_nonsense_is_an_error(change):
    """A field of the wrong type, an unknown event or version is never read as `no limit`."""
    body = orjson.dumps(orjson.loads(create_line(record(1))) | change)
    with pytest.raises(ConfigurationError, match="line 1"):
        lines_of(body)


@pytest.mark.parametrize("missing", ["models", "policies", "tags", "expires_ms", "digest", "id", "name"])
def test_a_missing_field_is_an_error(missing):
    """A key without its limits would be a key without limits."""
    event = orjson.loads(create_line(record(1)))
    del event[missing]
    with pytest.raises(ConfigurationError, match="lacks a field"):
        lines_of(orjson.dumps(event))


def test_impossible_histories_are_errors():
    """The same id or digest twice, a revocation of nobody."""
    with pytest.raises(ConfigurationError, match="already exists"):
        lines_of(create_line(record(1)), create_line(record(1, digest=bytes(32))))
    with pytest.raises(ConfigurationError, match="already exists"):
        lines_of(create_line(record(1)), create_line(record(2, digest=record(1).digest)))
    with pytest.raises(ConfigurationError, match="never created"):
        lines_of(revoke_line("key_1", 1))


def test_the_first_revocation_counts():
    """A second one does not move the time."""
    again = revoke_line("key_0000000000000001", 3000)
    book = read(b"".join(lines_of(create_line(record(1)), revoke_line("key_0000000000000001", 2000), again)))
    assert book.by_id["key_0000000000000001"].revoked_ms == 2000


def test_limits_survive_the_file_and_the_last_ones_count():
    """Those of the creation, then those of each event, whole: nothing is left of what was there before."""
    tightest = Limits(month_pusd=4_000_000 * 10**12, tokens_per_minute=10**9, concurrency=0)
    bodies = [
        create_line(record(1, limits=TIGHT)),
        create_line(record(2)),
        limit_line(record(2).id, 1500, TIGHT),
        limit_line(record(1).id, 1600, tightest),
        limit_line(record(2).id, 1700, NO_LIMITS),
    ]
    lines = lines_of(*bodies)
    found = [[book.by_id[record(number).id].limits for number in (1, 2)] for book in (read(b"".join(lines)),)]
    assert found == [[tightest, NO_LIMITS]]
    three = read(b"".join(lines[:3]))
    assert three.by_id[record(2).id] == three.by_digest[record(2).digest] == record(2, limits=TIGHT)
    assert three.by_id[record(1).id].caller().limits == TIGHT


def test_a_revoked_key_stays_revoked_whatever_its_limits():
    """An event that comes after the revocation changes nothing about it."""
    bodies = create_line(record(1)), revoke_line(record(1).id, 2000), limit_line(record(1).id, 3000, TIGHT)
    assert read(b"".join(lines_of(*bodies))).by_id[record(1).id].revoked_ms == 2000


def test_a_file_without_limits_is_as_it_always_was():
    """A router from before limits reads it, and this one reads what that one wrote."""
    before = b'{"v":1,"event":"create","id":"key_0000000000000001","name":"name1","digest":"%s","hint":"coe-abcd",'
    before += b'"tags":["hr"],"models":[],"policies":[],"created_ms":1001,"expires_ms":null,"note":""}'
    before %= record(1).digest.hex().encode()
    assert create_line(record(1)) == before
    assert read(b"".join(lines_of(before))).by_id[record(1).id] == record(1)


def test_what_carries_limits_is_of_a_version_that_says_so():
    """A router from before limits takes no version but 1, so it never takes such a key for an unlimited one."""
    for body in (create_line(record(1, limits=TIGHT)), limit_line("key_1", 1, NO_LIMITS)):
        assert orjson.loads(body)["v"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"limits": None},
        {"limits": {}},
        {"limits": [1]},
        {"limits": {"day_pusd": 5, "soft": False}},
        {"day_pusd": -1},
        {"day_pusd": 1.5},
        {"day_pusd": "5"},
        {"concurrency": True},
        {"requests_per_minute": 10**9 + 1},
        {"soft": None},
        {"soft": 1},
        {"usd_per_year": 5},
    ],
    ids=str,
)
def test_limits_that_are_none_are_an_error(change):
    """Wrong, missing and unknown fields alike: a key must not lose its limits without a word."""
    first, *_ = lines_of(create_line(record(1)))
    for body in (create_line(record(2, limits=TIGHT)), limit_line(record(1).id, 1, TIGHT)):
        event = orjson.loads(body)
        event |= change if "limits" in change else {"limits": event["limits"] | change}
        book = read(first)
        with pytest.raises(ConfigurationError, match="line 2"):
            book.absorb(book.sealed(orjson.dumps(event)))


def test_events_of_another_version_are_an_error():
    """A change of limits is none of version 1, and what a newer version says is not guessed."""
    made = create_line(record(1))
    for body, version in ((limit_line(record(1).id, 1, TIGHT), 1), (limit_line(record(1).id, 1, TIGHT), 3), (made, 3)):
        with pytest.raises(ConfigurationError, match="line 2 is of a kind"):
            lines_of(made, orjson.dumps(orjson.loads(body) | {"v": version}))


def test_limits_of_nobody_are_an_error():
    """As is a revocation of nobody."""
    with pytest.raises(ConfigurationError, match="limits a key that was never created"):
        lines_of(limit_line("key_1", 1, TIGHT))


def test_continues_is_a_matter_of_history():
    """Longer with the same start continues; shorter or different does not."""
    whole, part = read(b"".join(LINES)), read(LINES[0])
    other = read(b"".join(lines_of(create_line(record(9)), create_line(record(8)), create_line(record(7)))))
    assert whole.continues(part)
    assert whole.continues(whole)
    assert whole.continues(read(b""))
    assert not part.continues(whole)
    assert not other.continues(part)
    assert not read(b"").continues(part)


def test_append_writes_behind_what_was_read_and_cuts_a_torn_tail(tmp_path):
    """The torn half line of a crashed writer does not spoil the next one."""
    path = tmp_path / "keys.jsonl"
    path.write_bytes(LINES[0] + LINES[1][:40])
    path.chmod(0o644)
    book = read(LINES[0])
    with locked(path) as descriptor:
        append(descriptor, path, book, create_line(record(2, expires_ms=5000)))
    assert path.read_bytes() == LINES[0] + LINES[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_file_is_private_before_anything_is_in_it(tmp_path):
    """It is made with 0600, not tightened afterwards."""
    with locked(tmp_path / "keys.jsonl") as descriptor:
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600


def test_a_short_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """A full disk takes half a line: it is cut off again and the writer hears of it."""
    path = tmp_path / "keys.jsonl"
    path.write_bytes(LINES[0])
    whole_write = os.write
    monkeypatch.setattr(keyfile.os, "write", lambda descriptor, line: whole_write(descriptor, line[:50]))
    with locked(path) as descriptor, pytest.raises(OSError, match="No space"):
        append(descriptor, path, read(LINES[0]), create_line(record(2)))
    assert path.read_bytes() == LINES[0]


def test_every_append_is_synced(tmp_path, monkeypatch):
    """The line, and for a new file its name, reach the disk before `append` returns."""
    synced = []
    real_fsync = os.fsync
    monkeypatch.setattr(
        keyfile.os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_mode), real_fsync(descriptor))
    )
    path = tmp_path / "keys.jsonl"
    with locked(path) as descriptor:
        append(descriptor, path, read(b""), create_line(record(1)))
    assert [stat.S_ISDIR(mode) for mode in synced] == [False, True]


def test_the_file_size_is_limited(tmp_path, monkeypatch):
    """A key file that would pass its limit is refused before it is written."""
    path = tmp_path / "keys.jsonl"
    monkeypatch.setattr(keyfile, "FILE_BYTES_MAX", 10)
    with locked(path) as descriptor, pytest.raises(OSError, match="size limit"):
        append(descriptor, path, read(b""), create_line(record(1)))
    assert path.read_bytes() == b""


def test_a_lock_that_is_held_is_waited_for_a_bounded_time(tmp_path, monkeypatch):
    """Then the writer gives up with a code that means `try again`."""
    path = tmp_path / "keys.jsonl"
    path.touch()
    monkeypatch.setattr(keyfile, "LOCK_WAIT_S", 0.05)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RouterError) as caught, locked(path):
            pytest.fail("entered a lock that somebody else holds")
    assert caught.value.code == "keys_busy"
    with locked(path) as descriptor:
        assert os.fstat(descriptor).st_ino == path.stat().st_ino


def test_a_file_replaced_while_waiting_is_not_written(tmp_path, monkeypatch):
    """The lock of a file that lost its name protects nothing: the new one is taken."""
    path = tmp_path / "keys.jsonl"
    path.touch()
    replaced = []
    real_lock = keyfile._lock

    def replace_first(descriptor, at, deadline):
        if not replaced:
            replaced.append(os.fstat(descriptor).st_ino)
            (tmp_path / "new").touch()
            (tmp_path / "new").rename(path)
        real_lock(descriptor, at, deadline)

    monkeypatch.setattr(keyfile, "_lock", replace_first)
    with locked(path) as descriptor:
        assert os.fstat(descriptor).st_ino == path.stat().st_ino != replaced[0]
