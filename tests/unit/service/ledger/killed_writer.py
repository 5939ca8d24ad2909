"""Writers to kill: run as a program, it forks one writer after the other and kills each at a random instant.

    killed_writer.py DATA_DIR ORACLE CYCLES SEED VARIANT

Each writer opens and ends attempts from many tasks. What it was promised it notes in the file ORACLE, one short line
in one write each, as a vendor's own log would: `O id` once an open row was acknowledged, `T id` once an end was.
VARIANT is `real`, or a deliberately broken journal that the check must catch: `buffered` keeps rows in its own memory
for a while, `forgetful` skips the sweep at start.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger import journal as journal_module
from service.ledger import segments
from service.ledger.journal import Journal
from service.ledger.recovery import RecoveryReport

TASKS = 12
EARLY_S = 0.03
"""Every fourth life ends within this time after its birth: in the start, or in the sweep of those before it."""

PROMISES = 150
"""The others end when they have noted some number of promises up to this one, and a moment later."""

PATIENCE_S = 20.0

MODES = ("group", "always", "interval")


def opening(attempt: str) -> OpenEntry:
    return OpenEntry(attempt, attempt, attempt, 1, 1, None, "auto", "m", "p", "w", "coding", "en", "balanced", None, 7)


def ending(attempt: str) -> TerminalEntry:
    return TerminalEntry(attempt, EntryState.SETTLED, 2, "complete", cost_pusd=5)


async def write(data_dir: Path, oracle: int, cycle: int) -> None:
    journal = Journal(data_dir, sync=MODES[cycle % 3], max_segment_bytes=12_000, spill_bytes=4_096)
    await journal.start()

    async def attempts(task: int) -> None:
        for number in range(1_000_000):
            attempt = f"c{cycle}-{task}-{number}"
            await journal.append_open(opening(attempt))
            os.write(oracle, f"O {attempt}\n".encode())
            await asyncio.sleep(0)
            await journal.append_terminal(ending(attempt))
            os.write(oracle, f"T {attempt}\n".encode())
            await asyncio.sleep(0)

    await asyncio.gather(*(attempts(task) for task in range(TASKS)))


def break_it(variant: str) -> None:
    if variant == "buffered":
        real, held = segments.write_at, []

        def late(descriptor: int, content: bytes, offset: int) -> None:
            held.append((descriptor, content, offset))
            if len(held) > 8 or held[0][0] != descriptor:  # Not beyond a rotation: that file is closed.
                while held:
                    real(*held.pop(0))

        segments.write_at = late
    elif variant == "forgetful":
        journal_module.recover = lambda _writer: RecoveryReport()


def wait_to_kill(chance: random.Random, oracle: int, *, early: bool) -> None:
    if early:
        time.sleep(chance.uniform(0, EARLY_S))
        return
    wanted = os.fstat(oracle).st_size + len("O c10-10-10\n") * chance.randrange(PROMISES)
    due = time.monotonic() + PATIENCE_S
    while os.fstat(oracle).st_size < wanted and time.monotonic() < due:
        time.sleep(0.0005)
    time.sleep(chance.uniform(0, 0.002))


def main() -> None:
    data_dir, oracle_path, cycles, seed, variant = sys.argv[1:]
    chance = random.Random(int(seed))
    oracle = os.open(oracle_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    break_it(variant)
    for cycle in range(int(cycles)):
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(write(Path(data_dir), oracle, cycle))
            finally:
                os._exit(1)
        wait_to_kill(chance, oracle, early=cycle % 4 == 3)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"the writer of cycle {cycle} ended by itself")

    async def last_start() -> None:
        journal = Journal(Path(data_dir))
        await journal.start()
        await journal.close()

    asyncio.run(last_start())


if __name__ == "__main__":
    main()
