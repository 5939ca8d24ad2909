"""The able of a shortlist as columns of numbers: qualities and costs of all of them in a few sums over columns.

Where on the path: `entrants` asks it where a shortlist is long; the loop over single deployments there, and the
functions of `quality`, `estimate` and `money` that it calls, are what the numbers mean, and a property holds both to
the same figures. A thousand deployments cost little more than ten.

Invariants
1. Every figure is the one that the functions for a single deployment give, to the last step and pico-USD: floats are
   added in their order, and whole numbers are never rounded but where `money.divide_half_even` rounds.
2. What might not fit into 64 bits, and a prior that is no share, is not reckoned here: then there is no answer (`None`)
   and the loop gives it.
3. Columns that are kept are read-only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from service.domain.catalog import Model
from service.domain.decision import QUALITY_STEPS
from service.domain.experience import Experience
from service.domain.imagined import imagined
from service.routing.capable import Demands, context_of, output_limit
from service.routing.estimate import INPUT_MARGIN_PERCENT, Forecast
from service.routing.lengths import REASONING_HIGH_FACTOR, WHOLE, Lengths, cell
from service.routing.policies.bounds import UNPRICED
from service.routing.prefixes import BLOCK_TOKENS, split
from service.routing.quality import LIFT_MAX_STEPS, Priors, Standards
from service.routing.quotes import SUM_MOST, Able, Flags, Quotes, Whole, column_of

Shares = npt.NDArray[np.float64]
Key = TypeVar("Key")
Value = TypeVar("Value")

TOKENS_MOST: Final = 2**36
"""Tokens of one choice, and choices, beyond which nothing is reckoned in columns: more than any vendor takes."""

COLUMNS_MAX: Final = 128
"""Columns of one kind that are kept: intents and efforts are a few dozen."""


class Answers(NamedTuple):
    """What is expected of every model's answer, as `estimate.Answer`: a number where it is the same for all."""

    visible: int | Whole
    hidden: int | Whole
    wanted: int | Whole


Cell = tuple[Whole, Whole, Whole, Whole]
"""What the table of lengths says of every row: shares of the priors (expected, high), hidden tokens, most of them."""


class Columns:
    """See the module. Rows are in the order of the shortlist."""

    def __init__(self, able: Able, priors: Priors) -> None:
        self._able = able
        self._models = [model for _, model in able]
        self._priors_of = priors
        self._names = [model.name for model in self._models]
        self._rows = {deployment.id: row for row, (deployment, _) in enumerate(able)}
        self._thinks = any(model.reasoning_tokens for model in self._models)
        self._priors: dict[str, Shares] = {}
        self._steps: dict[str, Whole] = {}
        self._hidden: dict[str, Whole] = {}
        self._cells: tuple[Lengths | None, dict[tuple[str, str], Cell]] = (None, {})
        contexts = [context_of(deployment, model) for deployment, model in able]
        limits = [output_limit(deployment, model) for deployment, model in able]
        self._contexts = column_of([_limit(one) for one in contexts])
        self._limits = column_of([_limit(one) for one in limits])
        self._limit_least = int(self._limits.min()) if able else 0
        self._sound = priors.sound and all(
            0 <= tokens < TOKENS_MOST for model in self._models for tokens in model.reasoning_tokens.values()
        )

    def qualities(self, by: Standards, known: Experience) -> Whole | None:
        """`quality.judged` of every row."""
        if not by.spread:
            return self._worst(by.intents)
        learned = known.qualities
        if by.plain is not None and not learned:
            return self._of_intent(by.plain)
        found = self._expected(by)
        if learned:
            said = [learned.get(name, -1) for name in self._names]
            if max(said) > QUALITY_STEPS or min(learned.values()) < 0:
                return None
            steps = np.array(said, dtype=np.int64)
            found = np.where(steps < 0, found, steps)
        return np.minimum(found, self._worst(by.bounds)) if by.bounds else found

    def _worst(self, intents: Sequence[str]) -> Whole:
        found = self._of_intent(intents[0])
        for name in intents[1:]:
            found = np.minimum(found, self._of_intent(name))
        return found

    def _of_intent(self, intent: str) -> Whole:
        """The prior of every row in steps. The nearest step never falls as a prior rises: the worst keeps its place."""
        found = self._steps.get(intent)
        if found is None:
            found = _kept(self._steps, intent, column_of(self._priors_of.steps(intent)))
        return found

    def _prior(self, intent: str) -> Shares:
        found = self._priors.get(intent)
        if found is None:
            column = np.array(self._priors_of.of(intent), dtype=np.float64)
            column.flags.writeable = False
            found = _kept(self._priors, intent, column)
        return found

    def _expected(self, by: Standards) -> Whole:
        """`quality._expected`, in the same order of the same additions. At the ends, 0 and 1, odds move nothing."""
        name, share = by.spread[0]
        odds, single = by.odds, len(by.spread) == 1
        prior = self._prior(name)
        if not single:
            prior = share * prior
            for name, share in by.spread[1:]:
                prior += share * self._prior(name)
        if odds == 1.0:
            return self._of_intent(name) if single else _steps(prior)
        raised = odds * prior
        moved = _steps(raised / (raised + 1.0 - prior))
        if odds < 1.0:
            return moved  # harder than is typical: nothing is lifted
        most = (self._of_intent(name) if single else _steps(prior)) + LIFT_MAX_STEPS
        return np.minimum(moved, most, out=moved)

    def answers(self, expected: Forecast) -> Answers | None:
        """`estimate.answer_of` of every row; `None` where a registry or a request is too odd for columns."""
        cap = expected.cap
        if not self._sound or max(expected.high, expected.plain.most, expected.plain.visible, cap or 0) >= TOKENS_MOST:
            return None
        if expected.lengths is None:
            if not self._thinks:
                return Answers(expected.plain.visible, 0, expected.plain.wanted)
            visible: int | Whole = expected.plain.visible
            hidden = self._most_hidden(expected)
            wanted = expected.high + REASONING_HIGH_FACTOR * hidden
        else:
            visible, high, hidden, more = self._measured(expected, expected.lengths)
            visible = np.maximum(visible, expected.least)
            wanted = np.maximum(high, visible) + more
            visible = visible if cap is None else np.minimum(visible, cap)
        return Answers(visible, hidden, wanted if cap is None else np.minimum(wanted, cap))

    def _most_hidden(self, expected: Forecast) -> Whole:
        """The most hidden tokens over the groups, of each the sum of its steps."""
        sums = [sum([self._thought(step.intent) for step in group[1:]], self._thought(group[0].intent))
                for group in expected.groups]  # fmt: skip
        found = sums[0]
        for one in sums[1:]:
            found = np.maximum(found, one)
        return found

    def _thought(self, intent: str) -> Whole:
        found = self._hidden.get(intent)
        if found is None:
            tokens = [model.reasoning_for(intent) for model in self._models]
            found = _kept(self._hidden, intent, column_of(tokens))
        return found

    def _measured(self, expected: Forecast, lengths: Lengths) -> tuple[Whole, Whole, Whole, Whole]:
        """`estimate._measured` of every row; who has no cell has the prior and the registry's figure."""
        of, held = self._cells
        if of is not lengths:
            held = {}
            self._cells = (lengths, held)
        nothing = np.zeros(len(self._models), dtype=np.int64)
        most = [nothing] * 4
        for group in expected.groups:
            sums = [nothing] * 4
            for step in group:
                said, high, hidden, more = self._cell(step.intent, expected.effort, lengths, held)
                figures = (step.expected * said // WHOLE, step.high * high // WHOLE, hidden, more)
                sums = [one + another for one, another in zip(sums, figures, strict=True)]
            most = [np.maximum(one, another) for one, another in zip(most, sums, strict=True)]
        return most[0], most[1], most[2], most[3]

    def _cell(self, intent: str, effort: str, lengths: Lengths, held: dict[tuple[str, str], Cell]) -> Cell:
        found = held.get((intent, effort))
        if found is None:
            rows = [self._length(model, intent, effort, lengths) for model in self._models]
            said, high, hidden, more = (column_of(column) for column in zip(*rows, strict=True))
            found = _kept(held, (intent, effort), (said, high, hidden, more))
        return found

    @staticmethod
    def _length(model: Model, intent: str, effort: str, lengths: Lengths) -> tuple[int, int, int, int]:
        cells = lengths.of(model.name)
        length = None if cells is None else cell(cells, intent, effort)
        said, high = (WHOLE, WHOLE) if length is None else (length.visible, length.high)
        if length is None or length.reasoning is None or length.reasoning_high is None:
            hidden = model.reasoning_for(intent)
            return said, high, hidden, REASONING_HIGH_FACTOR * hidden
        return said, high, length.reasoning, length.reasoning_high

    def holds(self, demands: Demands) -> Flags:
        """The rows for which a request is not `capable.too_large`."""
        output = demands.output_tokens
        return (self._contexts >= demands.input_tokens + output) & (self._limits >= output)

    def costs(self, expected: Forecast, answers: Answers, known: Experience, quotes: Quotes) -> Whole | None:
        """The expected cost of every row in pico-USD, `UNPRICED` where no price is known."""
        tokens, choices = expected.input_tokens, expected.choices
        visible, hidden = answers.visible, answers.hidden
        if not isinstance(visible, int) or visible > self._limit_least:
            visible = np.minimum(visible, self._limits)
        sheet = quotes.sheet(tokens)
        if sheet is None or not sheet.holds(2 * tokens + choices * (_most(visible) + _most(hidden))):
            return None
        total = tokens * sheet.fresh
        total += sheet.fee
        total += sheet.said * (visible * choices)
        if not isinstance(hidden, int) or hidden:
            total += sheet.thought * (hidden * choices)
        if tokens >= BLOCK_TOKENS:
            writes = sheet.marked_writes if known.marked else sheet.writes
            if writes is not None:
                total += writes * (tokens // BLOCK_TOKENS * BLOCK_TOKENS)
        total = sheet.rounded(total)
        if tokens >= BLOCK_TOKENS and known.warm_tokens:
            for row, warm in self._warm(known):
                output, thought = (one if isinstance(one, int) else int(one[row]) for one in (visible, hidden))
                quote = quotes.each[row]
                if quote is not None and sheet.priced(row):
                    read, written = split(quote, self._able[row][0], tokens, warm, marked=known.marked)
                    cost = imagined(quote, tokens, output * choices, thought * choices, read, written)
                    total[row] = cost or 0
        if int(total.max()) >= UNPRICED // 2:
            return None
        if sheet.unpriced is not None:
            total[sheet.unpriced] = UNPRICED
        return total

    def _warm(self, known: Experience) -> Iterator[tuple[int, int]]:
        """(row, tokens that are warm there) of the rows that hold something of the prompt: a few at most."""
        for name, warm in known.warm_tokens.items():
            row = self._rows.get(name)
            if row is not None:
                yield row, warm

    def worst(self, expected: Forecast, answers: Answers, quotes: Quotes, *, marked: bool) -> Whole | None:
        """`estimate.worst_cost` of every row for the answer that a limit must leave room for; `SUM_MOST`: unknown."""
        padded, choices = expected.input_tokens * INPUT_MARGIN_PERCENT // 100, expected.choices
        wanted = np.maximum(np.minimum(answers.wanted, self._limits), 1)
        sheet = quotes.sheet(padded)
        if sheet is None or not sheet.holds(padded + choices * _most(wanted)):
            return None
        dearest = sheet.marked_dearest if marked else sheet.dearest
        total = padded * (sheet.fresh if padded < BLOCK_TOKENS else dearest)
        total += sheet.fee
        total += sheet.dear * (wanted * choices)
        total = sheet.rounded(total)
        if sheet.unpriced is not None:
            total[sheet.unpriced] = SUM_MOST
        return total


def _steps(shares: Shares) -> Whole:
    """`decision.quality_steps` of shares from 0 to 1: to the nearest, halves to the even one, as `round` has it."""
    return np.rint(shares * QUALITY_STEPS).astype(np.int64)


def _most(tokens: int | Whole) -> int:
    return tokens if isinstance(tokens, int) else int(tokens.max())


def _limit(tokens: int | None) -> int:
    return SUM_MOST if tokens is None else min(tokens, SUM_MOST)


def _kept(held: dict[Key, Value], key: Key, value: Value) -> Value:
    """Remember a column while there is room: names are those of the taxonomy but in a record that somebody changed."""
    if len(held) < COLUMNS_MAX:
        held[key] = value
    return value
