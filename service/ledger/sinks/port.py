"""What a sink is: the Protocol, and the values that go in and come out.

Where on the path: beside it. `indexer` fills a sink, `reports` and `decisions` ask it.

Every sink
1. stores a batch and its checkpoint in one transaction: after a crash it goes on where it stands;
2. is idempotent by attempt id, in any order: an end may arrive before its open row;
3. can be emptied and filled again from the journal, with the same result;
4. adds up money exactly, as integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.domain.lengths import AnswerLength
from service.ledger.lines import Line

GROUPINGS = (
    "model",
    "provider",
    "intent",
    "language",
    "key",
    "tag",
    "day",
    "policy",
    "plan",
    "requested",
    "simulated",
)
"""What costs can be grouped by. Days are UTC. An attempt with two tags stands in the group of each."""


def check_grouping(by: Iterable[str]) -> None:
    """Raise ValueError for an unknown grouping."""
    for name in by:
        if name not in GROUPINGS:
            raise ValueError(f"costs can't be grouped by {name!r}; choose from {', '.join(GROUPINGS)}")


TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_in_tokens",
    "audio_out_tokens",
    "image_tokens",
)
"""The usage buckets as columns: a bucket's name and its unit. Each is added up over the attempts of a group."""


class Baseline(NamedTuple):
    """What a request is compared with: `column`, of a terminal row, is what it would have cost so, in pico-USD."""

    name: str
    column: str


BASELINES = (
    Baseline("baseline", "baseline_pusd"),
    Baseline("baseline_assumed", "baseline_assumed_pusd"),
    Baseline("strongest", "strongest_pusd"),
    Baseline("strongest_assumed", "strongest_assumed_pusd"),
    Baseline("cheapest", "cheapest_pusd"),
    Baseline("cheapest_assumed", "cheapest_assumed_pusd"),
    Baseline("random", "random_pusd"),
    Baseline("random_assumed", "random_assumed_pusd"),
)
"""One line here is one baseline more: every sink derives its columns and its sums from this table.

The field must be in `TerminalEntry`, too. The first one is the configured baseline. `<name>_assumed` is what of a
baseline's cost is for answers whose length was assumed (`domain.rivals`).
"""

LAYOUT = 7 * 1_000 + len(TOKEN_COLUMNS) + len(BASELINES)
"""The version of every sink's tables. It rises with each measure; raise the first figure for any other change."""


ANSWERS_MAX = 1_000_000
"""Answers that lengths are learned from at once: months of a busy router, some hundred megabytes of memory."""


class SinkMissing(Exception):
    """The sink was never filled: no attempt was indexed here."""


class SinkFault(Exception):
    """The sink can't be asked or filled at the moment: it is locked, or out of room."""


OLDER = (
    "the ledger's index is of an older version, and the journal no longer holds all that is in it: keep the older "
    "program, or give up the reports of what was pruned with `coe ledger rebuild --without-pruned`"
)
"""Why an index is not emptied."""


class SinkDamaged(SinkFault):
    """What the sink holds can't be read any more: `discard` it, and fill it again from the journal."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage found while indexing: where (a segment and a byte) and what, without content."""

    segment: str
    offset: int
    what: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines of one segment, what was wrong among them, and the byte up to which the segment is then indexed."""

    segment: str
    end: int
    lines: Sequence[Line]
    problems: Sequence[Problem] = ()


class Compared(NamedTuple):
    """Requests whose cost under a baseline is known, what they would have cost so, and what they cost; pico-USD.

    A request is compared when its baseline is known and every attempt of it is priced. Its baseline counts once;
    `cost_pusd` is what all attempts of these requests cost, plus what crashed attempts of any request were charged:
    those bought nothing, so they count against the savings.
    """

    requests: int
    baseline_pusd: int
    cost_pusd: int


@dataclass(frozen=True, slots=True)
class CostSums:
    """One group of attempts, added up; money in pico-USD, `keys` in the order asked for.

    `billable_attempts` have ended and may stand on an invoice (all but `refused` ones and answers from the cache);
    `guessed_attempts` are those of them whose usage is not the provider's own number. `unpriced_attempts` have ended
    with an unknown cost. `baselines` has an entry for each of `BASELINES`, by name.
    """

    keys: tuple[str | None, ...]
    requests: int
    attempts: int
    open_attempts: int
    simulated_attempts: int
    billable_attempts: int
    guessed_attempts: int
    unpriced_attempts: int
    tokens: Mapping[str, int]
    cost_pusd: int
    baselines: Mapping[str, Compared]

    @property
    def configured(self) -> Compared:
        """What came of the configured baseline."""
        return self.baselines[BASELINES[0].name]


class Spent(NamedTuple):
    """What a key spent on a UTC day with a set of tags, in pico-USD, in attempts that one writer of the journal opened.

    `key_id` is `None` for anonymous callers. `simulated`: at simulated vendors, whom nobody pays; it is told apart.
    """

    writer: str
    key_id: str | None
    tags: tuple[str, ...]
    day: str
    pusd: int
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Audit:
    """What an index says of itself, all of one moment.

    `attempts` are its rows; of `opened` and `ended` many the beginning and the end is known. `running` counts, by who
    wrote it (the empty name: nobody knows), those that have begun and not ended. `differences` are rollups that are not
    the sums of the rows, told for people.
    """

    checkpoints: Mapping[str, int]
    attempts: int
    opened: int
    ended: int
    running: Mapping[str, int]
    cost_pusd: int
    differences: tuple[str, ...]


class Sink(Protocol):
    """An index of the journal. Filling is for one thread at a time; asking is safe from any thread.

    Every method but `close` may raise SinkFault or SinkDamaged.
    """

    def prepare(self, *, keep: bool = False) -> None:
        """Make ready for filling; raises ConfigurationError for a newer layout.

        One of an older layout is emptied, or with `keep` refused with ConfigurationError.
        """
        ...

    def damage(self, within_s: float) -> str | None:
        """Look all of it through: what is damaged, or `None` when it is whole.

        For whoever fills it. Raises SinkFault when that took longer than `within_s` seconds, or could not be done.
        """
        ...

    def discard(self) -> str:
        """Put damaged content out of the way, and say where it lies now. `prepare` comes next; raises OSError."""
        ...

    def checkpoints(self) -> Mapping[str, int]:
        """Segment name -> byte up to which it is indexed; raises SinkMissing."""
        ...

    def store(self, batch: Batch) -> None:
        """Index a batch and move the checkpoint, all or nothing."""
        ...

    def clear(self) -> None:
        """Forget everything, checkpoints too."""
        ...

    def sums(
        self, by: Sequence[str], since_ms: int | None, until_ms: int | None, compared: int = len(BASELINES)
    ) -> list[CostSums]:
        """Attempts dispatched in [since, until) by group; with no grouping, one row.

        With the first `compared` of the baselines, one at least. Raises SinkMissing.
        """
        ...

    def decision(self, decision_id: str) -> Mapping[str, object] | None:
        """A decision record as it was written, or `None`; raises SinkMissing."""
        ...

    def attempts(self, decision_id: str) -> list[dict[str, object]]:
        """Every attempt of a decision, by number, with all its columns; raises SinkMissing."""
        ...

    def answers(self, since_ms: int | None, until_ms: int | None) -> list[AnswerLength]:
        """The lengths of answers dispatched in [since, until): whole, counted by the vendor, not simulated.

        The newest `ANSWERS_MAX`, in no order that means anything. Raises SinkMissing.
        """
        ...

    def spent(self, since_ms: int) -> list[Spent]:
        """What was spent in attempts dispatched since an instant (Unix ms) and ended since. Raises SinkMissing."""
        ...

    def problems(self) -> list[Problem]:
        """All damage found so far; raises SinkMissing."""
        ...

    def audit(self, progress: Callable[[int, int], None] | None = None) -> Audit:
        """Hold what the sink adds up against its rows; `progress` is told (done, total). Raises SinkMissing."""
        ...

    def close(self) -> None:
        """Release what filling holds."""
        ...
