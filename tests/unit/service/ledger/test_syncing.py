"""When written bytes are forced to disk."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass

import pytest

from service.ledger.syncing import Syncer

WAIT_S = 10.0


@dataclass
class File:
    """Something to sync."""

    fd: int
    forgets: bool = True


@pytest.fixture
def file(tmp_path):
    made = File(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    yield made
    with contextlib.suppress(OSError):  # the syncer may have closed it
        os.close(made.fd)


@pytest.fixture
def disk(monkeypatch):
    """The real fdatasync, counted, and holdable: rounds wait while `gate` is cleared."""

    class Disk:
        gate = threading.Event()
        begun = threading.Semaphore(0)
        error: OSError | None = None

        def __init__(self) -> None:
            self.synced: list[int] = []

    disk = Disk()
    disk.gate.set()
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        disk.begun.release()
        assert disk.gate.wait(WAIT_S)
        if disk.error is not None:
            raise disk.error
        real(descriptor)
        disk.synced.append(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return disk


class Outcome:
    """Collects what the syncer says."""

    def __init__(self) -> None:
        self.said = threading.Event()
        self.error: OSError | None = None

    def __call__(self, error: OSError | None) -> None:
        self.error = error
        self.said.set()


def test_writes_share_a_sync(file, disk):
    """Many marks within the gathering time cost one sync."""
    syncer = Syncer(0.05, pytest.fail)
    syncer.start()
    outcomes = [Outcome() for _ in range(100)]
    for outcome in outcomes:
        syncer.mark(file, outcome)
    assert all(outcome.said.wait(WAIT_S) and outcome.error is None for outcome in outcomes)
    assert len(disk.synced) == 1
    syncer.stop()


def test_a_write_waits_for_a_round_that_began_after_it(file, disk):
    """The round under way may have missed the write, so its end is not told to it."""
    syncer = Syncer(0.0, pytest.fail)
    syncer.start()
    disk.gate.clear()
    first, second = Outcome(), Outcome()
    syncer.mark(file, first)
    assert disk.begun.acquire(timeout=WAIT_S)
    syncer.mark(file, second)
    disk.gate.set()
    assert first.said.wait(WAIT_S)
    assert second.said.wait(WAIT_S)
    assert len(disk.synced) == 2
    syncer.stop()


def test_a_failed_sync_is_told_to_those_who_wait_and_to_the_owner(file, disk):
    """Nobody takes a failed round for a good one; the next round is told apart, where the file remembers."""
    file.forgets = False
    failures = []
    syncer = Syncer(0.0, failures.append)
    syncer.start()
    disk.error = OSError(5, "Input/output error")
    bad = Outcome()
    syncer.mark(file, bad)
    assert bad.said.wait(WAIT_S)
    assert bad.error is disk.error
    assert failures == [disk.error]
    disk.error = None
    good = Outcome()
    syncer.mark(file, good)
    assert good.said.wait(WAIT_S)
    assert good.error is None
    syncer.stop()


def test_a_retired_file_is_synced_and_closed(file, disk):
    """Rotation loses nothing and leaks no descriptor."""
    syncer = Syncer(0.0, pytest.fail)
    syncer.start()
    syncer.mark(file)
    syncer.retire(file)
    syncer.stop()
    assert file.fd in disk.synced
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fd)


def test_stop_syncs_what_is_left_at_once(file, disk):
    """Closing doesn't sit out the gathering time, and nothing unsynced stays behind."""
    syncer = Syncer(3600.0, pytest.fail)
    syncer.start()
    outcome = Outcome()
    syncer.mark(file, outcome)
    syncer.stop()
    assert outcome.said.is_set()
    assert disk.synced == [file.fd]


@pytest.mark.parametrize("forgets", [True, False])
def test_a_success_after_a_failure_is_none_for_a_file_that_forgets(file, disk, forgets):
    """Written after the failure, before anybody heard of it: what stands before it is gone. Names are no such file."""
    file.forgets = forgets
    errors = []
    syncer = Syncer(0.0, errors.append)
    syncer.start()
    disk.error = OSError(5, "Input/output error")
    first, second, other = Outcome(), Outcome(), Outcome()
    syncer.mark(file, first)
    assert first.said.wait(WAIT_S)
    disk.error = None
    syncer.mark(file, second)
    assert second.said.wait(WAIT_S)
    assert isinstance(first.error, OSError)
    assert isinstance(second.error, OSError) is forgets
    assert len(errors) == 1
    twin = File(os.dup(file.fd))
    syncer.mark(twin, other)
    assert other.said.wait(WAIT_S)
    assert other.error is None
    os.close(twin.fd)
    syncer.stop()


def test_a_descriptor_that_was_closed_may_be_that_of_a_sound_file(tmp_path, file, disk):
    """The system gives the same number to the next part."""
    syncer = Syncer(0.0, lambda _error: None)
    syncer.start()
    disk.error = OSError(5, "Input/output error")
    first, second = Outcome(), Outcome()
    syncer.mark(file, first)
    assert first.said.wait(WAIT_S)
    disk.error = None
    syncer.retire(file)  # which is nobody's failure: no row of it waits
    with contextlib.suppress(OSError):
        while os.fstat(file.fd):
            pass
    fresh = File(os.open(tmp_path / "fresh", os.O_RDWR | os.O_CREAT))
    assert fresh.fd == file.fd
    syncer.mark(fresh, second)
    assert second.said.wait(WAIT_S)
    assert second.error is None
    syncer.stop()
