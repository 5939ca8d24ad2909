"""From the journal to a sink: reads what was appended since last time, in batches, and moves the checkpoint with it.

Where on the path: beside it, in a thread of the server (`run`), or in `coe costs` (`catch_up`).

Invariants
1. One indexer fills a data directory's sink at a time: it holds the lock of `index.lock`.
2. Only whole lines are indexed. A last line without a newline is left for the next look: its writer may be at it.
3. A damaged line becomes a problem in the sink, and the lines after it are indexed: nothing is skipped in silence.
4. Indexing twice, from the start or from a checkpoint, gives the same rows.
5. What the index has and the journal no longer holds (`pruning`) is given up only when somebody says so.
6. An index that is damaged is put aside and built again: the journal holds all of it. One that only seems so, since a
   read failed once, is kept: it is looked through before.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from service import telemetry
from service.errors import ConfigurationError
from service.ledger import pruning
from service.ledger.lines import MAX_LINE_BYTES, Line, LineError, skim
from service.ledger.segments import (
    FILE_MODE,
    SegmentFile,
    journal_dir,
    list_segments,
    read_lines,
    swept_path,
)
from service.ledger.sinks.port import Batch, Problem, Sink, SinkDamaged, SinkFault, SinkMissing

BATCH_LINES = 2_000
"""Lines per transaction: about 1 MiB of journal and a few tens of milliseconds."""

POLL_S = 0.2
"""How far the index lags behind the journal at rest."""

RETRY_S = 2.0
"""Pause after a failure, and between two tries for a lock that another process holds."""

CHECK_S = 300.0
"""An index that is suspected is looked through for so long at most; building a large one again takes longer. Questions
are answered meanwhile, by what can be read; new rows wait."""

SUSPECTED_AGAIN_S = 600.0
"""Suspected a second time within so many seconds, it is built again, whatever was found: looking is not asking."""

IRREPLACEABLE = (
    "the journal was pruned, so the index can't be built again without losing what only it has: restore the index, or "
    "give that up with `coe ledger rebuild --without-pruned`"
)

Progress = Callable[[int, int], None]
"""Called with (bytes indexed by this call, bytes to index) after each batch."""


OnDiscard = Callable[[str, str], None]
"""Called with (what is wrong with the index, the name of the file that it was put aside as)."""


class IndexBusy(Exception):
    """Another process fills this data directory's index."""


class Indexer:
    """Fills one sink from one data directory; `problem` is why the thread of `run` can't at the moment.

    `catch_up`, `rebuild` and `run` may be called from different threads.
    """

    def __init__(
        self, data_dir: Path, sink: Sink, on_discard: OnDiscard | None = None, *, without_pruned: bool = False
    ) -> None:
        """Nothing is opened before the first use. `on_discard` is told of a damaged index; by default the log is.

        `without_pruned`: the index may be emptied although the journal lacks segments that are in it.
        """
        self._without_pruned = without_pruned
        self._directory = journal_dir(data_dir)
        self._lock_path = data_dir / "index.lock"
        self._sink = sink
        self._turn = threading.RLock()
        self._lock_fd: int | None = None
        self._offsets: dict[str, int] = {}
        self._finished: set[str] = set()
        self._suspect: SinkDamaged | None = None
        self._kept_at: float | None = None  # when it was suspected last, and found whole
        self._on_discard = on_discard or _log_discard
        self.problem: str | None = None

    def open(self) -> None:
        """Take the index lock and prepare the sink, if not done; raises IndexBusy, OSError or ConfigurationError."""
        with self._turn:
            if self._lock_fd is not None:
                return
            self._lock_fd = self._take_lock()
            self._suspect = None  # of another's index: whoever had it may have built it again
            try:
                try:
                    self._begin()
                except SinkDamaged as damage:
                    self._look_through(damage)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sink for filling and release the index lock. Using the indexer again takes it anew."""
        with self._turn:
            if self._lock_fd is not None:
                self._sink.close()
                os.close(self._lock_fd)
                self._lock_fd = None
                self._finished.clear()

    def catch_up(self, progress: Progress | None = None) -> int:
        """Index every whole line that is in the journal now; the number of bytes indexed.

        Opens when needed and stays open. Raises IndexBusy, OSError or SinkFault; what was stored stays.
        """
        with self._turn:
            self.open()
            try:
                if self._suspect is not None:
                    raise self._suspect
                return self._catch_up(progress)
            except SinkDamaged as damage:
                self._look_through(damage)
                return self._catch_up(progress)

    def suspect(self, damage: SinkDamaged) -> None:
        """Somebody who asked found the index damaged: whoever fills it looks it through before its next batch."""
        self._suspect = damage

    def _begin(self) -> None:
        self._sink.prepare(keep=self._irreplaceable())
        self._offsets = dict(self._sink.checkpoints())

    def _look_through(self, damage: SinkDamaged) -> None:
        """Keep an index that only seemed damaged; begin with an empty one otherwise."""
        began = time.monotonic()
        if self._kept_at is None or began - self._kept_at > SUSPECTED_AGAIN_S:
            try:
                found = self._sink.damage(CHECK_S)
            except SinkFault as fault:
                found = f"{damage}; {fault}"  # nobody can tell: it is not to be trusted
            if found is None:
                self._keep(damage, time.monotonic() - began)
                return
            damage = SinkDamaged(found)
        self._discard(damage)

    def _keep(self, damage: SinkDamaged, took_s: float) -> None:
        """Begin anew with what is there."""
        self._kept_at, self._suspect = time.monotonic(), None
        self._sink.close()  # with what its connection remembers
        telemetry.logger().warning(telemetry.INDEX_KEPT, error=str(damage), took_s=round(took_s, 3))
        try:
            self._begin()
        except SinkDamaged as again:
            self._discard(again)

    def _discard(self, damage: SinkDamaged) -> None:
        """Begin with an empty index; raises SinkFault when it can't be filled again."""
        if self._irreplaceable():
            raise SinkFault(f"{damage}; {IRREPLACEABLE}")
        moved = self._sink.discard()
        self._on_discard(str(damage), Path(moved).name)
        self._suspect = self._kept_at = None
        self._finished.clear()
        self._begin()

    def _catch_up(self, progress: Progress | None) -> int:
        work = self._unfinished()
        total = sum(max(0, size - self._offsets.get(segment.name, 0)) for segment, size, _ in work)
        done = 0
        for segment, size, swept in work:
            for batch in self._batches(segment, self._offsets.get(segment.name, 0), size):
                self._sink.store(batch)
                done += batch.end - self._offsets.get(segment.name, 0)
                self._offsets[segment.name] = batch.end
                if progress is not None:
                    progress(done, total)
            if swept:
                self._finished.add(segment.name)
        return done

    def rebuild(self, progress: Progress | None = None) -> int:
        """Empty the sink and index the whole journal again; otherwise as `catch_up`.

        Raises ConfigurationError when the journal lacks segments that the index has.
        """
        with self._turn:
            if self._irreplaceable():
                raise ConfigurationError(IRREPLACEABLE)
            self.open()
            self._sink.clear()
            self._offsets.clear()
            self._finished.clear()
            if pruning.lacks_some(self._directory):
                pruning.forget(self._directory)
            return self.catch_up(progress)

    def _irreplaceable(self) -> bool:
        """Whether the index has what nothing could fill it with again."""
        return not self._without_pruned and pruning.lacks_some(self._directory)

    def run(self, stop: threading.Event, poll_s: float = POLL_S) -> None:
        """Keep the sink up to date until `stop` is set; for a thread.

        While another process holds the lock, it waits to take over. A failure (disk full, say) is logged and tried
        again: the journal goes on without its index, and nothing is lost.
        """
        log = telemetry.logger()
        while not stop.is_set():
            try:
                self.catch_up()
            except IndexBusy:
                stop.wait(RETRY_S)
            except (OSError, SinkFault, ConfigurationError) as error:
                if self.problem is None:
                    log.warning(telemetry.INDEXER_FAILED, error=str(error), retry_s=RETRY_S)
                self.problem = str(error)
                self.close()  # what is mended meanwhile (a file moved away) is opened afresh
                stop.wait(RETRY_S)
            else:
                self.problem = None
                stop.wait(poll_s)
        self.close()

    def _take_lock(self) -> int:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise IndexBusy("another process fills the ledger index; wait for it, or ask it") from error
        return descriptor

    def _unfinished(self) -> list[tuple[SegmentFile, int, bool]]:
        """Segments that may have bytes to index, with their size now, and whether nobody will write to them again."""
        found = []
        for segment in list_segments(self._directory):
            if segment.name not in self._finished:
                # The mark first, then the size: what was written before the mark is in the size.
                swept = swept_path(self._directory, segment.writer).exists()
                found.append((segment, segment.path.stat().st_size, swept))
        return found

    def _batches(self, segment: SegmentFile, start: int, size: int) -> Iterator[Batch]:
        """The whole lines of a segment between two offsets, in batches; a segment that shrank is one problem."""
        if size < start:
            what = f"the segment has {size} bytes, {start} were indexed: it was replaced; rebuild the index"
            yield Batch(segment.name, start, (), (Problem(segment.name, start, what),))
            return
        lines: list[Line] = []
        problems: list[Problem] = []
        end = start
        for raw in read_lines(segment.path, start):
            if raw.offset >= size or (not raw.whole and len(raw.data) < MAX_LINE_BYTES):
                break
            end = raw.end
            try:
                lines.append(skim(raw.data))
            except LineError as error:
                problems.append(Problem(segment.name, raw.offset, str(error)))
            if len(lines) + len(problems) >= BATCH_LINES:
                yield Batch(segment.name, end, lines, problems)
                lines, problems = [], []
        if lines or problems:
            yield Batch(segment.name, end, lines, problems)


def _log_discard(error: str, moved_to: str) -> None:
    telemetry.logger().warning(telemetry.INDEX_DISCARDED, error=error, moved_to=moved_to)


def wait_until_indexed(data_dir: Path, sink: Sink, timeout_s: float) -> bool:
    """Wait until another process's indexer has what the journal holds now; false when the time is over first."""
    wanted = {segment.name: _whole_bytes(segment.path) for segment in list_segments(journal_dir(data_dir))}
    due = time.monotonic() + timeout_s
    while True:
        try:
            have = dict(sink.checkpoints())
        except SinkMissing:
            have = {}
        if all(have.get(name, 0) >= size for name, size in wanted.items()):
            return True
        if time.monotonic() >= due:
            return False
        time.sleep(POLL_S / 4)


def _whole_bytes(path: Path) -> int:
    """The size of a segment without a torn or unfinished last line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - MAX_LINE_BYTES)
        file.seek(start)
        return start + file.read(size - start).rfind(b"\n") + 1
