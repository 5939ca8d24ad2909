"""One key file, many readers and writers: changes are noticed, damage lets nobody in, nothing is lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

import service
from service.domain.limits import NO_LIMITS, Limits
from service.errors import ConfigurationError, RouterError, Unauthenticated
from service.guard import keyfile
from service.guard import keys as keys_module
from service.guard.keys import KEYS_FILE, KeyStore

PEPPER = bytes(range(1, 33))
NOW_MS = 1_800_000_000_000


class Ticker:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def refusal(store, secret, **more):
    """The 401 that a secret gets."""
    with pytest.raises(Unauthenticated) as caught:
        store.authenticate(secret, now_ms=more.pop("now_ms", NOW_MS), **more)
    assert caught.value.status == 401
    assert caught.value.headers["www-authenticate"] == "Bearer"
    return caught.value


def test_a_revocation_elsewhere_counts_within_the_recheck_interval(path):
    """Another process's store: not looked at before `RECHECK_S`, seen when it has passed (invariant 3)."""
    ticker = Ticker()
    server = KeyStore(path, PEPPER, monotonic=ticker)
    command_line = KeyStore(path, PEPPER)
    new = command_line.create("alice")
    assert server.authenticate(new.secret, now_ms=NOW_MS).key_id == new.id
    command_line.revoke("alice")
    ticker.now_s += keys_module.RECHECK_S * 0.99
    assert server.authenticate(new.secret, now_ms=NOW_MS).key_id == new.id
    ticker.now_s += keys_module.RECHECK_S * 0.01
    assert "revoked" in refusal(server, new.secret).message
    assert keys_module.RECHECK_S < 1


def test_limits_that_change_elsewhere_count_within_the_recheck_interval(path):
    """As a revocation does: the caller of the next request after `RECHECK_S` carries them."""
    ticker = Ticker()
    server = KeyStore(path, PEPPER, monotonic=ticker)
    command_line = KeyStore(path, PEPPER)
    new = command_line.create("alice")
    assert server.authenticate(new.secret, now_ms=NOW_MS).limits == NO_LIMITS
    for limits in (Limits(day_pusd=5), Limits(day_pusd=5, concurrency=1), NO_LIMITS):
        before = server.authenticate(new.secret, now_ms=NOW_MS).limits
        command_line.limit("alice", lambda _, limits=limits: limits)
        ticker.now_s += keys_module.RECHECK_S * 0.99
        assert server.authenticate(new.secret, now_ms=NOW_MS).limits == before
        ticker.now_s += keys_module.RECHECK_S * 0.01
        assert server.authenticate(new.secret, now_ms=NOW_MS).limits == limits


def test_changes_of_limits_at_the_same_time_lose_nothing(path):
    """Eight writers, each with stores of its own, each raising by one what it finds under the lock."""
    KeyStore(path, PEPPER).create("alice", limits=Limits(concurrency=0))

    def raise_often():
        store = KeyStore(path, PEPPER)
        for _ in range(5):
            store.limit("alice", lambda limits: Limits(concurrency=limits.concurrency + 1))

    threads = [threading.Thread(target=raise_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (record,) = KeyStore(path, PEPPER).list()
    assert record.limits == Limits(concurrency=40)


def test_between_rechecks_the_file_is_not_touched(path, monkeypatch):
    """One `stat` per interval, however many requests."""
    ticker = Ticker()
    server = KeyStore(path, PEPPER, monotonic=ticker)
    new = server.create("alice")
    looked = []
    real = server._refresh
    monkeypatch.setattr(server, "_refresh", lambda: (looked.append(ticker.now_s), real()))
    for _ in range(50):
        server.authenticate(new.secret, now_ms=NOW_MS)
        ticker.now_s += keys_module.RECHECK_S / 10
    assert 4 <= len(looked) <= 6


def test_only_new_lines_are_read_when_the_file_grows(store, path, monkeypatch):
    """A revocation in a file of many keys costs one line, not all of them."""
    made = [KeyStore(path, PEPPER).create(f"k{number}") for number in range(30)]
    store.list()
    applied = []
    real = keyfile.KeyBook._apply
    monkeypatch.setattr(keyfile.KeyBook, "_apply", lambda book, line: (applied.append(book), real(book, line)))
    KeyStore(path, PEPPER).revoke("k7")
    applied.clear()
    refusal(store, made[7].secret)
    assert applied == [store._book]


def test_an_edit_that_keeps_the_size_is_noticed(store, path):
    """Same inode, same length, another content: the whole file is read again and refused."""
    new = store.create("alice")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"alice"', b'"mallo"'))
    os.utime(path, ns=(1, 1))
    with pytest.raises(RouterError):
        store.authenticate(new.secret, now_ms=NOW_MS)


def lose(path):
    """The file is gone."""
    path.unlink()


def empty(path):
    """The file is cut to nothing."""
    os.truncate(path, 0)


def forget_last(path):
    """An older copy is put in its place: the last event (a revocation) is undone."""
    older = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])
    path.with_name("older").write_bytes(older)
    path.with_name("older").rename(path)


def forget_in_place(path):
    """The last event is cut off in place."""
    os.truncate(path, len(b"".join(path.read_bytes().splitlines(keepends=True)[:-1])))


def spoil(path):
    """Garbage is appended as a whole line."""
    with path.open("ab") as file:
        file.write(b"garbage\n")


def become_directory(path):
    """Something unreadable stands in its place."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [lose, empty, forget_last, forget_in_place, spoil, become_directory])
def test_a_damaged_file_lets_nobody_in(store, path, damage):
    """Invariant 4, also for anonymous callers; the caller learns no path, the operator learns the cause."""
    good, dead = store.create("good"), store.create("dead")
    store.revoke("dead")
    assert store.authenticate(good.secret, now_ms=NOW_MS).key_id == good.id
    damage(path)
    for secret in (good.secret, dead.secret, None):
        for _ in range(2):
            with pytest.raises(RouterError) as caught:
                store.authenticate(secret, now_ms=NOW_MS, allow_anonymous=True)
            assert caught.value.status == 503
            assert caught.value.code == "keys_unavailable"
            assert str(path) not in caught.value.message
    for question in (store.list, store.keys_exist):
        with pytest.raises(ConfigurationError, match=re.escape(str(path))):
            question()
    with pytest.raises((ConfigurationError, RouterError)):
        store.create("more")


def test_a_repaired_file_is_trusted_again(store, path):
    """Failing closed ends when the cause does, without a restart."""
    new = store.create("alice")
    content = path.read_bytes()
    spoil(path)
    with pytest.raises(RouterError):
        store.authenticate(new.secret, now_ms=NOW_MS)
    path.write_bytes(content)
    assert store.authenticate(new.secret, now_ms=NOW_MS).key_id == new.id
    path.unlink()
    with pytest.raises(RouterError):
        store.authenticate(new.secret, now_ms=NOW_MS)
    path.write_bytes(content)
    assert store.authenticate(new.secret, now_ms=NOW_MS).key_id == new.id


def test_a_torn_last_line_is_ignored_and_written_over(store, path):
    """A writer died in the middle of a line: the others work on, and the next writer mends the file."""
    new = store.create("alice")
    with path.open("ab") as file:
        file.write(b'{"v":1,"event":"revoke","id":"' + new.id.encode())
    assert store.authenticate(new.secret, now_ms=NOW_MS).key_id == new.id
    store.revoke("alice")
    assert "revoked" in refusal(store, new.secret).message
    events = [orjson.loads(line)["event"] for line in path.read_bytes().splitlines()]
    assert events == ["create", "revoke"]


def test_a_full_disk_makes_no_key(store, path, monkeypatch):
    """The half line is cut off; the key that was there works on."""
    old = store.create("old")
    before = path.read_bytes()
    whole_write = os.write
    monkeypatch.setattr(keyfile.os, "write", lambda descriptor, line: whole_write(descriptor, line[:9]))
    with pytest.raises(RouterError) as caught:
        store.create("new")
    assert caught.value.code == "keys_unwritable"
    assert path.read_bytes() == before
    assert store.authenticate(old.secret, now_ms=NOW_MS).name == "old"


def test_processes_that_create_together_lose_nothing(tmp_path):
    """8 processes x 5 keys with one start: 40 keys in one whole chain, and every secret works."""
    program = (
        "import pathlib, sys; from service.guard.keys import KeyStore, load_pepper; sys.stdin.read(1);"
        "data = pathlib.Path(sys.argv[1]);"
        "store = KeyStore(data / 'keys.jsonl', load_pepper(data, None));"
        "[print(store.create(f'p{sys.argv[2]}-{number}').secret) for number in range(5)]"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(service.__file__).parents[1],
            text=True,
        )
        for number in range(8)
    ]
    for process in started:
        process.stdin.write("x")
        process.stdin.flush()
    secrets = [line for process in started for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in started] == [0] * 8
    store = KeyStore(tmp_path / KEYS_FILE, keys_module.load_pepper(tmp_path, None))
    assert len(store.list()) == len(set(secrets)) == 40
    assert len({store.authenticate(secret, now_ms=NOW_MS).name for secret in secrets}) == 40


def test_threads_share_one_store(store):
    """Requests go on while keys are made and revoked: no error, no key lost."""
    steady = store.create("steady")
    failures = []

    def churn(number):
        try:
            for turn in range(5):
                new = store.create(f"t{number}-{turn}")
                store.authenticate(new.secret, now_ms=NOW_MS)
                store.revoke(new.id)
                store.authenticate(steady.secret, now_ms=NOW_MS)
        except Exception as problem:  # whatever it is, the main thread shows it
            failures.append(problem)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert sorted(record.status(NOW_MS) for record in store.list()) == ["active", *["revoked"] * 20]
