"""How long one answer was: what the ledger, or a file of outcomes, tells of it to whoever learns lengths.

Where on the path: beside it. `ledger` sinks and `cli.train` make these, `routing.learning` adds them up.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """One complete answer, in tokens over all its `choices`, without a word of it.

    `effort` is one of `features.EFFORTS`, `default` or `other`. `reasoning_tokens` are the hidden ones, `None` where
    the source does not tell them apart: then `visible_tokens` are all that were said and thought. `last_user_tokens` is
    the size of the newest user message: a translation is as long as its source. `cut`: it ended at its cap, so it would
    have been longer.
    """

    model: str
    intent: str
    effort: str
    visible_tokens: int
    reasoning_tokens: int | None
    last_user_tokens: int
    choices: int = 1
    cut: bool = False
