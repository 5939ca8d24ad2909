"""How many tokens a vendor counts where we estimate one: learned from its whole answers, for those that were cut.

Where on the path: `settling` learns from answers whose numbers are the vendor's own, and asks when it must estimate.
A tokenizer is the model's own, and our estimate knows only characters: it may be a sixth off on the text of one vendor,
but always in the same direction.

Invariants
1. Nothing is learned from a number that is ours, that was doubted, or that counts what nobody could see.
2. A vendor nobody knows yet is taken at our word; one that lies moves an estimate by `FACTOR_MAX` at most.
3. Bounded: two pairs of sums for each deployment, of `DEPLOYMENTS_MAX`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from service.domain.money import Usage, UsageSource

FACTOR_MAX: Final = 2.5
"""No tokenizer counts so much more, or less, than a quarter of the characters."""

TRUST_TOKENS: Final = 200.0
"""How much an estimate of ours counts beside what was learned: a few short answers must not move it much."""

FORGET: Final = 0.995
"""What one more answer leaves of the weight of those before: some two hundred count, so a new tokenizer is noticed."""

DEPLOYMENTS_MAX: Final = 1_024


class _Sums:
    """Tokens as they were counted and as they were estimated, of one kind of text."""

    __slots__ = ("counted", "estimated")

    def __init__(self) -> None:
        self.counted = self.estimated = TRUST_TOKENS

    def learn(self, counted: int, estimated: int) -> None:
        self.counted = TRUST_TOKENS + (self.counted - TRUST_TOKENS) * FORGET + counted
        self.estimated = TRUST_TOKENS + (self.estimated - TRUST_TOKENS) * FORGET + estimated

    def scaled(self, estimated: int) -> int:
        factor = min(max(self.counted / self.estimated, 1 / FACTOR_MAX), FACTOR_MAX)
        return round(estimated * factor)


class Yardstick:
    """What one deployment counts. Texts that are mostly Chinese, Japanese or Korean are a kind of their own."""

    __slots__ = ("_input", "_output", "_output_cjk")

    def __init__(self) -> None:
        self._input, self._output, self._output_cjk = _Sums(), _Sums(), _Sums()

    def learn(self, usage: Usage, input_tokens: int, output_tokens: int, *, cjk: bool) -> None:
        """Take the vendor's numbers for what we would have estimated at so many tokens; 0 where we can't tell."""
        if usage.source is not UsageSource.PROVIDER or usage.flags:
            return
        if input_tokens and not (usage.audio_in or usage.image):
            self._input.learn(usage.input_total, input_tokens)
        if output_tokens and not (usage.reasoning or usage.audio_out or usage.image):
            (self._output_cjk if cjk else self._output).learn(usage.output, output_tokens)

    def input_tokens(self, estimated: int) -> int:
        """An estimate of a prompt as this vendor would count it."""
        return self._input.scaled(estimated)

    def output_tokens(self, estimated: int, *, cjk: bool) -> int:
        """An estimate of an answer as this vendor would count it."""
        return (self._output_cjk if cjk else self._output).scaled(estimated)


class Yardsticks:
    """Those of all deployments that answered of late."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Yardstick] = OrderedDict()

    def of(self, deployment: str) -> Yardstick:
        """The one of a deployment."""
        found = self._known.get(deployment)
        if found is None:
            found = self._known[deployment] = Yardstick()
            if len(self._known) > DEPLOYMENTS_MAX:
                self._known.popitem(last=False)
        return found


OURS: Final = Yardstick()
"""One that has learned nothing: our own word."""
