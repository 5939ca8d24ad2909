"""Power cuts on paper: what the journal asked of the disk is recorded call by call, and cut off anywhere.

`recording` has what a journal at work asked of its disk. A cut takes the calls up to some point and decides, from a
seed, what of them had reached the disk: what was forced there is there; of the rest, each write is there, torn, or not,
in any order; a file may have its length and not its bytes; a name may be there or not. A new journal starts on what is
left.

After each cut: the start works; every row that was forced to disk is there; in mode `always` that is every row that was
acknowledged; each attempt has one end; and a second start adds nothing.

A sync that fails is played as kernels do it: what it should have saved is gone, and a later success does not save it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final
from unittest import mock

from recording import SPILL_BYTES, Call, Recording

from service.ledger.recovery import recover
from service.ledger.writer import JournalWriter

SECTOR: Final = 512
MOODS: Final = ("all", "none", "prefix", "any", "any", "any")
"""What of the calls that were not forced is on the disk: all of it (as after a kill), nothing, or as it comes."""


@dataclass(slots=True)
class _File:
    """`forced` is on disk; `loose` are the calls that may be. `doomed` are those that a failed sync has lost."""

    forced: bytearray = field(default_factory=bytearray)
    loose: list[tuple[int, Call]] = field(default_factory=list)
    doomed: set[int] = field(default_factory=set)


class Disk:
    """The disk at a cut: what is forced, what is loose, after the first `until` calls of a recording."""

    def __init__(self, recording: Recording, until: int) -> None:
        self.files: dict[int, _File] = {}
        self.names: dict[str, int] = {}
        self.loose: list[tuple[int, Call]] = []
        for number, (name, content) in enumerate(recording.before.items(), 1):
            self.files[-number] = _File(bytearray(content))
            self.names[name] = -number
        for number, call in enumerate(recording.calls[:until]):
            self._take(number, call)

    def _take(self, number: int, call: Call) -> None:
        if call.what in {"write", "truncate"}:
            self.files.setdefault(call.file, _File()).loose.append((number, call))
        elif call.what in {"create", "rename", "unlink"}:
            if call.what == "create":
                self.files[call.file] = _File()
            self.loose.append((number, call))
        elif call.what == "failed sync" and call.file in self.files:
            file = self.files[call.file]
            file.doomed |= {at for at, _ in file.loose if at < call.begun}
        elif call.what == "sync":
            self._force(call)

    def _force(self, call: Call) -> None:
        file = self.files.get(call.file)
        if file is None:  # the directory
            for at, change in self.loose:
                if at < call.begun:
                    _renamed(self.names, change)
            self.loose = [(at, change) for at, change in self.loose if at >= call.begun]
            return
        for at, change in file.loose:
            if at < call.begun and at not in file.doomed:
                _changed(file.forced, change)
        file.loose = [(at, change) for at, change in file.loose if at >= call.begun or at in file.doomed]

    def certain(self) -> dict[str, bytes]:
        """What is there whatever happens: forced bytes under forced names that no loose call takes away."""
        gone = {change.name for _, change in self.loose if change.what in {"unlink", "rename"}}
        return {name: bytes(self.files[file].forced) for name, file in self.names.items() if name not in gone}

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """What a start finds: forced, and of the loose calls what chance left."""
        mood = chance.choice(MOODS)
        names = dict(self.names)
        for change in _left([change for _, change in self.loose], mood, chance, shuffled=False):
            _renamed(names, change)
        found = {}
        for name, number in names.items():
            file = self.files[number]
            content = bytearray(file.forced)
            for change in _left([change for _, change in file.loose], mood, chance, shuffled=True):
                _changed(content, change if mood == "all" else _torn(change, chance))
            if mood == "any" and file.loose and chance.random() < 0.3:
                end = max(change.offset + len(change.data) for _, change in file.loose)
                content.extend(bytes(max(0, end - len(content))))  # its length, and not its bytes
            found[name] = bytes(content)
        return found


def _left(calls: list[Call], mood: str, chance: random.Random, *, shuffled: bool) -> list[Call]:
    if mood == "all":
        return calls
    if mood == "none" or not calls:
        return []
    if mood == "prefix":
        return calls[: chance.randrange(len(calls) + 1)]
    kept = [call for call in calls if chance.random() < 0.6]
    if shuffled:
        chance.shuffle(kept)
    return kept


def _torn(call: Call, chance: random.Random) -> Call:
    """A write as it may be when the power goes: whole, its beginning, or some of its sectors."""
    how = chance.random()
    if call.what != "write" or how < 0.6:
        return call
    if how < 0.8:
        return call._replace(data=call.data[: chance.randrange(len(call.data) + 1)])
    first = SECTOR - call.offset % SECTOR
    if len(call.data) <= first:
        return call
    return call._replace(data=call.data[first:], offset=call.offset + first)


def _changed(content: bytearray, call: Call) -> None:
    if call.what == "truncate":
        del content[call.offset :]
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.data)] = call.data


def _renamed(names: dict[str, int], call: Call) -> None:
    if call.what == "create":
        names[call.name] = call.file
    elif call.what == "unlink":
        names.pop(call.name, None)
    elif call.name in names:
        names[call.other] = names.pop(call.name)


Rows = Counter[tuple[str, str]]


def rows_in(files: dict[str, bytes]) -> tuple[Rows, dict[str, str]]:
    """Intact rows of all segments: how many by (kind, attempt), and the state of each end. Reads on its own."""
    found: Rows = Counter()
    states: dict[str, str] = {}
    for name, content in files.items():
        if name.endswith(".jsonl"):
            for row in filter(None, map(_row, content.split(b"\n")[:-1])):
                kind, attempt, state = row
                found[kind, attempt] += 1
                if kind == "terminal":
                    states[attempt] = state
    return found, states


@lru_cache(maxsize=4_096)
def _row(raw: bytes) -> tuple[str, str, str] | None:
    """(kind, attempt, state) of an intact row; the same rows come in cut after cut."""
    payload, mark, seal = raw.rpartition(b',"c":"')
    if not mark or seal != b'%08x"}' % zlib.crc32(payload):
        return None
    line = json.loads(raw)
    row = line["e"]
    return (line["t"], row["attempt_id"], row.get("state", "")) if line["t"] in {"open", "terminal"} else None


@dataclass(slots=True)
class Cuts:
    """What many cuts came to."""

    sync: str
    played: int = 0
    lost: int = 0
    """Acknowledged rows that were lost, over all cuts."""
    cuts_with_loss: int = 0
    oldest_ms: float = 0.0
    """The oldest row that was lost: how long before the cut it was written."""
    told: int = 0
    """Cuts after which the start reported damage."""
    wrong: list[str] = field(default_factory=list)


def played(
    recording: Recording,
    home: Path,
    cuts: int,
    seed: int,
    *,
    first: int = 0,
    disk: Callable[[Recording, int], Disk] = Disk,
) -> Cuts:
    """So many cuts of one recording. `disk` may be another model of it: for a control."""
    result = Cuts(recording.sync)
    place = home / "cut"
    for number in range(first, first + cuts):
        chance = random.Random(f"{seed}:{recording.sync}:{number}")
        until = chance.randrange(len(recording.calls) + 1)
        state = disk(recording, until)
        left = state.cut(chance)
        _laid_out(place, left)
        wrong = _judged(recording, until, state, place, result, twice=number % 8 == 0)
        result.wrong += [f"{recording.sync}, cut {number} after {until} calls: {one}" for one in wrong]
        result.played += 1
    shutil.rmtree(place, ignore_errors=True)
    return result


def _laid_out(place: Path, files: dict[str, bytes]) -> None:
    journal = place / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    for path in journal.iterdir():
        path.unlink()
    for name, content in files.items():
        (journal / name).write_bytes(content)


def _judged(recording: Recording, until: int, state: Disk, place: Path, result: Cuts, *, twice: bool) -> list[str]:
    problems, wrong = _started(place)
    if wrong:
        return wrong
    result.told += bool(problems)
    after = {path.name: path.read_bytes() for path in (place / "journal").iterdir()}
    found, states = rows_in(after)
    for (kind, attempt), count in found.items():
        if count != 1:
            wrong.append(f"{attempt}: {count} {kind} rows")
        if kind == "open" and not found["terminal", attempt]:
            wrong.append(f"{attempt}: no end")
    certain, ends = rows_in(state.certain())
    wrong += [
        f"{attempt}: its {kind} row was on disk, and is gone" for kind, attempt in certain if not found[kind, attempt]
    ]
    wrong += [
        f"{attempt}: was {ends[attempt]}, is {states[attempt]}"
        for attempt in ends
        if ends[attempt] != states.get(attempt)
    ]
    lost = []
    for call in recording.calls[:until]:
        if call.what != "ack":
            continue
        # An end that is a guess of recovery's is not the end that was acknowledged.
        kept = found[call.other, call.name] and (call.other == "open" or states.get(call.name) == "settled")
        if not kept:
            lost.append(call)
    if lost:
        cut_at = recording.calls[min(until, len(recording.calls) - 1)].at
        result.lost += len(lost)
        result.cuts_with_loss += 1
        result.oldest_ms = max(result.oldest_ms, (cut_at - lost[0].at) * 1_000)
        if recording.sync == "always":
            wrong.append(f"acknowledged and lost: {[(one.name, one.other) for one in lost]}")
    if twice:
        problems, again = _started(place)
        wrong += again
        second, _ = rows_in({path.name: path.read_bytes() for path in (place / "journal").iterdir()})
        if second != found:
            wrong.append(f"a second start changed rows: {sorted((second - found) + (found - second))[:3]}")
    return wrong


def _started(place: Path) -> tuple[list[str], list[str]]:
    """(what a start reported, why there was none)."""
    writer = JournalWriter(place, sync="always", spill_bytes=SPILL_BYTES)  # which gathers nothing, so waits for nothing
    try:
        with mock.patch.object(os, "fsync", _at_once), mock.patch.object(os, "fdatasync", _at_once):
            writer.start()
            try:
                return recover(writer).problems, []
            finally:
                writer.close()
    except Exception as problem:  # whatever stops a start is what is looked for
        return [], [f"the start failed: {problem!r}"]


def _at_once(_descriptor: int) -> None:
    """The second start is not cut: to wait for the disk would prove nothing."""
