"""Prices that change under load: no stored row changes, and every row says for itself what it cost and why (I3).

    .venv/bin/python tests/price_changes.py [--seed 20261122] [--changes 200]

Each change is another registry file: another output price, under the same version. The journal is measured while that
goes on: what was written once has to be there, byte for byte, at the end. Then every row is computed again, from itself
and from what the file of its number said. The small size of it runs with every test.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import reloads
from reloads import CALLERS, Reloading, Seen, judge

from service.ledger.reproduced import difference

SEED = 20261122
CHANGES = 200
MEASURED_EVERY = 5


class PriceChanges(Reloading):
    """A router under load whose prices change again and again; `measured` is what the journal was on the way."""

    def __init__(self, home: Path, seed: int) -> None:
        super().__init__(home, seed)
        self.measured: list[tuple[Path, int, str]] = []

    def change(self, times: int) -> Seen:
        """So many changes of the price, each of them good."""
        self.begin(*CALLERS)
        for number in range(1, times + 1):
            self._file.write_text(self._numbered(number), encoding="utf-8")
            self._reload(None)
            if number % MEASURED_EVERY == 0:
                self._measure()
        self.end()
        self.seen.answers = self.answered
        books = self.router.attempts()
        judge(self.router.rows(), books, self.seen)
        self.seen.wrong += unlike(books)
        self.seen.wrong += self.changed()
        return self.seen

    def _measure(self) -> None:
        for path in (self.router.data_dir / "journal").glob("*.jsonl"):
            raw = path.read_bytes()
            whole = raw[: raw.rfind(b"\n") + 1]
            self.measured.append((path, len(whole), hashlib.sha256(whole).hexdigest()))

    def changed(self) -> list[str]:
        """What stood in the journal on the way and does not stand there any more."""
        found = []
        for path, size, before in self.measured:
            if hashlib.sha256(path.read_bytes()[:size]).hexdigest() != before:
                found.append(f"{path.name}: its first {size} bytes are not what they were")
        return found


def unlike(books: reloads.Books) -> list[str]:
    """Rows that do not come to their cost again, and lists of one name that say different things."""
    wrong: list[str] = []
    lists: dict[tuple[str, str], Any] = {}
    costs: Counter[int] = Counter()
    for opened, ends in books:
        for ended in ends:
            problem = difference(opened, ended)
            if problem is not None:
                wrong.append(f"{opened['attempt_id']}: {problem}")
            price = ended["price"]
            if price["version"] != opened["price_version"]:
                wrong.append(
                    f"{opened['attempt_id']}: opened at {opened['price_version']}, ended at {price['version']}"
                )
            said = lists.setdefault((price["version"], price["list"]), price["rates"])
            if said != price["rates"]:
                wrong.append(f"{price['version']}, list {price['list']}: {said} and {price['rates']}")
            costs[ended["cost_pusd"]] += 1
    rates = [str(one) for one in lists.values()]
    if len(set(rates)) != len(rates):
        wrong.append("one price has several lists")
    if not all(costs):
        wrong.append("a row that costs nothing")
    return wrong


def played(home: Path, seed: int, changes: int) -> tuple[Seen, int]:
    """(what came of it, how often the journal was measured), on a router of its own."""
    changing = PriceChanges(home, seed)
    try:
        return changing.change(changes), len(changing.measured)
    finally:
        changing.close()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--changes", type=int, default=CHANGES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coe-prices-") as scratch:
        seen, measured = played(Path(scratch), asked.seed, asked.changes)
    sys.stdout.write(f"{seen}\njournal measured {measured} times, {len(seen.wrong)} wrong\n")
    return int(bool(seen.wrong))


if __name__ == "__main__":
    sys.exit(main())
