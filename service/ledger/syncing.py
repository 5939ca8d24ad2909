"""When written bytes are forced to disk: one background thread that shares each sync among all who wait.

Where on the path: `writer` marks a file after each write; in mode `always` the journal waits for the round after it.

Invariants
1. A round starts at most `gather_s` after the first unsynced write, and covers every write marked before it starts.
2. Who waits is told the outcome of a round that began after its write: never of an earlier one.
3. A failed sync is reported to all who waited for it and to `on_error`: the kernel may have dropped those pages, so a
   later success on the same file proves nothing, and is told as a failure.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

JOIN_S = 30.0
"""How long `stop` waits for the last round; a disk that needs longer is broken."""


class Syncable(Protocol):
    """Something with a descriptor that can be synced."""

    @property
    def fd(self) -> int:
        """An open descriptor."""
        ...

    @property
    def forgets(self) -> bool:
        """Whether what a failed sync did not save is gone for good, so that a later success proves nothing."""
        ...


Done = Callable[[OSError | None], None]


class Syncer:
    """The thread and its queue. `mark` and `retire` may be called from any thread."""

    def __init__(self, gather_s: float, on_error: Callable[[OSError], None]) -> None:
        """`gather_s`: seconds to gather writes before a round; 0 syncs at once. `on_error` runs in the thread."""
        self._gather_s = gather_s
        self._on_error = on_error
        self._changed = threading.Condition()
        self._dirty: dict[int, Syncable] = {}
        self._retired: list[Syncable] = []
        self._waiting: list[Done] = []
        self._broken: dict[int, OSError] = {}  # by descriptor, until it is closed: of the thread alone
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="coe-journal-sync", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def mark(self, target: Syncable, done: Done | None = None) -> None:
        """Note that `target` was written to; `done`, if given, gets the outcome of the round that covers this write.

        `done` runs in the thread, with None or the error. It is taken in the same step as the mark: a round that ends
        in between would leave its failure untold.
        """
        with self._changed:
            idle = not self._dirty
            self._dirty[target.fd] = target
            if done is not None:
                self._waiting.append(done)
            if idle:
                self._changed.notify()

    def retire(self, target: Syncable) -> None:
        """Sync `target` once more and close its descriptor: nobody will write to it again."""
        with self._changed:
            self._retired.append(target)
            self._changed.notify()

    def stop(self) -> None:
        """Sync what is left, close what was retired and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(JOIN_S)

    def force(self, descriptor: int) -> None:
        """Have the kernel write a file to its disk; raises OSError."""
        os.fdatasync(descriptor)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._retired or self._stopping)
                if not self._dirty and not self._retired:
                    return
                if self._gather_s and not self._stopping:
                    self._wait_for_company()
                dirty, retired, waiting = self._dirty, self._retired, self._waiting
                self._dirty, self._retired, self._waiting = {}, [], []
            failure = self._sync(dirty, retired)
            for done in waiting:
                done(failure)

    def _wait_for_company(self) -> None:
        due = time.monotonic() + self._gather_s
        while not self._stopping and (left := due - time.monotonic()) > 0:
            self._changed.wait(left)

    def _sync(self, dirty: dict[int, Syncable], retired: list[Syncable]) -> OSError | None:
        failure: OSError | None = None
        for target in {**dirty, **{target.fd: target for target in retired}}.values():
            try:
                self.force(target.fd)
            except OSError as error:
                failure = error
                if target.forgets:
                    self._broken[target.fd] = error
                self._on_error(error)
        for target in retired:
            os.close(target.fd)
        # Written after a failure, before the writer heard of it: what stands before it is gone, and so is it.
        failure = next((self._broken[fd] for fd in dirty if fd in self._broken), failure)
        for target in retired:
            self._broken.pop(target.fd, None)
        return failure
