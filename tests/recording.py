"""A recording of what the journal asks of its disk, call by call: what `powercut` cuts off.

A real journal at work, from its start after a crash to its end, with a full disk and a failed sync on the way. Every
write, truncate, sync, create, rename and unlink that it asks of the kernel is made, and written down.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from unittest import mock

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.errors import LedgerUnavailable
from service.ledger.journal import Journal
from service.ledger.writer import JournalWriter, SyncMode

TASKS: Final = 4
ATTEMPTS: Final = 14
SEGMENT_BYTES: Final = 9_000
SPILL_BYTES: Final = 4_096


class Call(NamedTuple):
    """One call, or an acknowledgement (`ack`): `what` says which, `file` whose inode; the others by kind.

    Of a sync, `begun` is how many calls there were when it began: it covers those and no later ones.
    """

    what: str
    at: float
    file: int = 0
    offset: int = 0
    data: bytes = b""
    name: str = ""
    other: str = ""
    begun: int = 0


@dataclass(slots=True)
class Recording:
    """What happened in one directory: the files that were there before, then the calls."""

    sync: str
    before: dict[str, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Keep it: which thread was where when is in no seed, so a cut is played again from its recording."""
        before = {name: content.decode("latin-1") for name, content in self.before.items()}
        calls = [call._replace(data=call.data.decode("latin-1")) for call in self.calls]  # type: ignore[arg-type] # JSON
        path.write_text(json.dumps([self.sync, before, calls]), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` kept."""
        sync, before, calls = json.loads(path.read_text(encoding="utf-8"))
        every = (Call(*values) for values in calls)
        return cls(
            sync,
            {name: content.encode("latin-1") for name, content in before.items()},
            [call._replace(data=str(call.data).encode("latin-1")) for call in every],
        )


class _Recorder:
    """Stands in for the calls of `os` that change a directory, makes them, and writes them down."""

    def __init__(self, directory: Path, recording: Recording) -> None:
        self._directory = directory
        self.calls = self._calls = recording.calls
        self._lock = threading.Lock()
        self._files: dict[int, int] = {}
        self.fail_writes = self.fail_syncs = False

    def note(self, what: str, **more: Any) -> None:
        with self._lock:
            self._calls.append(Call(what, time.monotonic(), **more))

    def _is_ours(self, path: Any) -> bool:
        return Path(os.fsdecode(path)).parent == self._directory

    @contextmanager
    def at_work(self) -> Iterator[None]:
        names = ("open", "pwrite", "write", "ftruncate", "fsync", "fdatasync", "rename", "unlink")
        self._real = {name: getattr(os, name) for name in names}
        with mock.patch.multiple(os, **{name: getattr(self, f"_{name}") for name in names}):
            yield

    def _open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        creates = flags & os.O_CREAT and self._is_ours(path) and not Path(path).exists()
        descriptor: int = self._real["open"](path, flags, *rest, **more)
        if creates or self._is_ours(path) or Path(path) == self._directory:
            number = os.fstat(descriptor).st_ino
            self._files[descriptor] = number
            if creates:
                self.note("create", file=number, name=Path(path).name)
        else:
            self._files.pop(descriptor, None)
        return descriptor

    def _pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if descriptor not in self._files:
            return int(self._real["pwrite"](descriptor, data, offset))
        if self.fail_writes and b'"t":' in data and os.fstat(descriptor).st_size != SPILL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._lock:
            done: int = self._real["pwrite"](descriptor, data, offset)
            file = self._files[descriptor]
            self._calls.append(Call("write", time.monotonic(), file=file, offset=offset, data=bytes(data[:done])))
        return done

    def _write(self, descriptor: int, data: bytes) -> int:
        if descriptor not in self._files:
            return int(self._real["write"](descriptor, data))
        with self._lock:
            end = os.fstat(descriptor).st_size  # such files are only ever appended to
            done: int = self._real["write"](descriptor, data)
            file = self._files[descriptor]
            self._calls.append(Call("write", time.monotonic(), file=file, offset=end, data=bytes(data[:done])))
        return done

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._real["ftruncate"](descriptor, size)
        if descriptor in self._files:
            self.note("truncate", file=self._files[descriptor], offset=size)

    def _fsync(self, descriptor: int) -> None:
        self._forced("fsync", descriptor)

    def _fdatasync(self, descriptor: int) -> None:
        self._forced("fdatasync", descriptor)

    def _forced(self, how: str, descriptor: int) -> None:
        """A sync covers what was asked before it began, and is done when it returns."""
        begun = len(self._calls)
        if descriptor in self._files and self.fail_syncs:
            self.note("failed sync", file=self._files[descriptor], begun=begun)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real[how](descriptor)
        if descriptor in self._files:
            self.note("sync", file=self._files[descriptor], begun=begun)

    def _rename(self, old: Any, new: Any, **more: Any) -> None:
        self._real["rename"](old, new, **more)
        if self._is_ours(new):
            self.note("rename", name=Path(old).name, other=Path(new).name)

    def _unlink(self, path: Any, **more: Any) -> None:
        self._real["unlink"](path, **more)
        if self._is_ours(path):
            self.note("unlink", name=Path(path).name)


def recorded(home: Path, sync: SyncMode, seed: int) -> Recording:
    """A journal that begins after a crash, works, meets a full disk and a failed sync, rotates, and is closed."""
    data_dir = home / "data"
    directory = data_dir / "journal"
    _crashed(data_dir)
    recording = Recording(sync, {path.name: path.read_bytes() for path in directory.iterdir()})
    recorder = _Recorder(directory, recording)
    with recorder.at_work():
        asyncio.run(_at_work(data_dir, sync, recorder, random.Random(f"{seed}:{sync}")))
    return recording


def _crashed(data_dir: Path) -> None:
    """What a writer leaves that was killed with attempts open, one of whose ends is in the spill."""
    writer = JournalWriter(data_dir, spill_bytes=SPILL_BYTES, max_segment_bytes=SEGMENT_BYTES)
    writer.start()
    for number in range(6):
        writer.write_open(opening(f"old{number}"))
    writer.write_terminal(ending("old0"))
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if writer._segment is not None and descriptor == writer._segment.fd:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    with mock.patch.object(os, "pwrite", full):
        writer.write_terminal(ending("old1"))
    writer.syncer.stop()
    for holder in (writer._segment, writer._spill, writer._names):
        assert holder is not None
        os.close(holder.fd)


async def _at_work(data_dir: Path, sync: SyncMode, recorder: _Recorder, chance: random.Random) -> None:
    journal = Journal(data_dir, sync=sync, max_segment_bytes=SEGMENT_BYTES, spill_bytes=SPILL_BYTES)
    await journal.start()

    over = asyncio.Event()

    async def attempts(task: int) -> None:
        for number in itertools.count():
            if number >= ATTEMPTS and (over.is_set() or number >= 50 * ATTEMPTS):
                return  # on a quick machine all would be done before the first trouble
            name = f"{task}.{number}"
            if await _taken(journal.append_open(opening(name))):
                recorder.note("ack", name=name, other="open")
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.008)))
                if await _taken(journal.append_terminal(ending(name))):
                    recorder.note("ack", name=name, other="terminal")
            await asyncio.sleep(chance.choice((0, 0.001)))

    async def troubles() -> None:
        await asyncio.sleep(0.03)
        recorder.fail_writes = True
        await asyncio.sleep(0.01)
        recorder.fail_writes = False
        await asyncio.sleep(0.02)
        recorder.fail_syncs = True
        for _ in range(1 if sync == "interval" else 100):  # until one came, however slow the machine is
            await asyncio.sleep(0.008)
            if any(call.what == "failed sync" for call in recorder.calls):
                break
        recorder.fail_syncs = False
        over.set()

    await asyncio.gather(troubles(), *(attempts(task) for task in range(TASKS)))
    await journal.close()


async def _taken(appending: Any) -> bool:
    """Whether a row was acknowledged: on a full or broken disk it is not, and that is said."""
    try:
        await appending
    except LedgerUnavailable:
        return False
    return True


def opening(name: str) -> OpenEntry:
    """An open row."""
    return OpenEntry(name, name, name, 1, 1, None, "auto", "m", "p", "w", "coding", "en", "balanced", None, 7)


def ending(name: str) -> TerminalEntry:
    """Its end."""
    return TerminalEntry(name, EntryState.SETTLED, 2, "complete", cost_pusd=5)
