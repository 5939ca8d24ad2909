"""The reserve for when the disk is full."""

from __future__ import annotations

import os

import pytest

from service.errors import LedgerUnavailable
from service.ledger.lines import LineError, encode
from service.ledger.segments import try_lock
from service.ledger.spill import Spill, spilled_lines


def line(name: str) -> bytes:
    return encode("terminal", {"attempt_id": name})


def names(path) -> list[object]:
    return [one if isinstance(one, LineError) else one.body["attempt_id"] for _, one in spilled_lines(path)]


@pytest.fixture
def spill(tmp_path):
    made = Spill.create(tmp_path / "w.spill", 256)
    yield made
    os.close(made.fd)


def test_a_spill_owns_its_room_from_the_start(spill):
    """The file has its full size and real blocks, and nobody else can lock it."""
    status = spill.path.stat()
    assert status.st_size == 256
    assert status.st_blocks > 0
    assert try_lock(spill.path) is None
    assert names(spill.path) == []


def test_lines_are_on_disk_in_order_before_append_returns(spill, monkeypatch):
    """Each append writes in place, forces it to disk, and never makes the file longer."""
    forced = []
    monkeypatch.setattr(os, "fdatasync", forced.append)
    for name in ("a", "b"):
        spill.append(line(name))
    assert names(spill.path) == ["a", "b"]
    assert [raw for raw, _ in spilled_lines(spill.path)] == [line("a"), line("b")]
    assert forced == [spill.fd, spill.fd]
    assert spill.path.stat().st_size == 256


def test_a_full_spill_says_so_and_keeps_what_it_has(spill):
    """No half line at the end, and the lines before it stay."""
    room = 256 // len(line("n1"))
    for number in range(room):
        spill.append(line(f"n{number}"))
    with pytest.raises(LedgerUnavailable, match="its reserve"):
        spill.append(line("last"))
    assert names(spill.path) == [f"n{number}" for number in range(room)]


def test_wiping_forgets_everything_and_makes_room(spill):
    """A shorter second life shows nothing of the first."""
    for name in ("first", "second"):
        spill.append(line(name))
    spill.wipe()
    assert names(spill.path) == []
    assert spill.lines == []
    spill.append(line("c"))
    assert names(spill.path) == ["c"]


def test_bytes_of_an_append_that_failed_are_not_read_later(spill, monkeypatch):
    """What a failed append may have left behind doesn't follow the next line."""
    with monkeypatch.context() as broken:

        def fail(_descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(LedgerUnavailable):
            spill.append(line("a-much-longer-name"))
    spill.append(line("b"))
    assert names(spill.path) == ["b"]


def test_damage_is_reported_line_by_line(spill):
    """A changed line and a torn end are named; the others are read."""
    for name in ("a", "b", "c"):
        spill.append(line(name))
    size = len(line("a"))
    os.pwrite(spill.fd, b"#", size + 30)
    os.pwrite(spill.fd, bytes(10), 3 * size - 10)
    first, second, third = names(spill.path)
    assert first == "a"
    assert "checksum" in str(second)
    assert "torn" in str(third)
