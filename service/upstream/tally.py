"""What is known of an attempt: the vendor's numbers when they can be true, and what to book when they are missing.

Where on the path: `upstream.client` fills a `Tally` while an attempt runs; `settling` reads it when it is over.

Invariant: what `usage_or_estimate` calls the provider's own number came with a complete answer and passed
`beyond_belief`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from service.domain.chat import ChatRequest, estimate_tokens
from service.domain.decision import Candidate
from service.domain.money import Usage, UsageSource
from service.domain.ports import Answer
from service.upstream.splice import Splice, Told
from service.upstream.stop import Stop
from service.upstream.usage import Bounds, as_lasting, beyond_belief, over_count
from service.upstream.yardstick import OURS, Yardstick

UNFINISHED: Final = "no_finish_reason"
"""A whole answer that does not say how it ended. It is paid and it may be whole, so it is passed on as it came, and its
row says so; the caller reads the same in the answer."""


@dataclass(slots=True)
class Tally:
    """What is known of an attempt so far: the one mutable thing, owned by one attempt, read at its settlement.

    `sent` is whether the request may have reached the vendor, `key` the place of the key it went with. Times are
    monotonic seconds. `told` notes the text that the caller gets, `splice` lets a second stream go on where one broke;
    `stop` is where a stream is to end that may not cost more than was reserved.
    """

    started: float
    sent: bool = False
    key: int = 0
    status: int | None = None
    first_content: float | None = None
    usage: Usage | None = None
    usage_flags: tuple[str, ...] = ()
    model: str | None = None
    upstream_id: str | None = None
    output_characters: int = 0
    cjk_characters: int = 0
    waited_s: float = 0.0
    whole: bool = False
    seen: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    told: Told | None = None
    splice: Splice | None = None
    stop: Stop | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was ended by us where what was reserved for it was used up."""
        return self.stop is not None and self.stop.reached

    @property
    def complete(self) -> bool:
        """Whether the whole answer came, or every choice of a stream that began has ended."""
        return self.whole or (bool(self.seen) and self.seen <= self.finished)

    @property
    def estimated_output(self) -> tuple[int, bool]:
        """(tokens of what arrived by its characters alone, whether most of these are Chinese, Japanese or Korean)."""
        return estimate_tokens(
            self.output_characters, self.cjk_characters
        ), 2 * self.cjk_characters > self.output_characters

    def usage_or_estimate(self, input_tokens: int, yardstick: Yardstick = OURS, *, attached: bool = False) -> Usage:
        """The vendor's numbers, or an estimate from what was sent and what came back, marked so.

        `yardstick` turns an estimate of ours into what the vendor would count. Numbers from the middle of a stream that
        did not end say what was used so far at most: the larger of them and the estimate is booked, as an estimate.
        Those of a whole answer are booked as they are; where they are far over our own count, they are marked. A prompt
        with attachments (`attached`) is not counted.
        """
        tokens, cjk = self.estimated_output
        output = yardstick.output_tokens(tokens, cjk=cjk)
        asked = yardstick.input_tokens(input_tokens)
        if self.usage is not None and self.complete:
            doubts = over_count(self.usage, None if attached else asked, output)
            return replace(self.usage, flags=(*self.usage.flags, *doubts)) if doubts else self.usage
        if self.usage is None:
            flags = self.usage_flags
            if not flags or flags == (UNFINISHED,):
                flags = ("usage_missing", *flags)
            return Usage(input=asked, output=output, source=UsageSource.ESTIMATED, flags=flags)
        visible = max(0, output - self.usage.reasoning)
        return replace(
            self.usage,
            output=max(self.usage.output, visible),
            source=UsageSource.ESTIMATED,
            flags=(*self.usage_flags, "stream_unfinished"),
        )

    def note_usage(self, read: Usage | None, flags: tuple[str, ...], bounds: Bounds) -> None:
        """Take the vendor's numbers when they can be true.

        Who counts more than once in a stream counts what was used so far, so the last count is the bill. One that is
        lower than the one before is no such count (a placeholder, or the last piece alone): the higher one stays.
        """
        doubt = None if read is None else beyond_belief(read, bounds)
        if doubt is not None:
            self.usage, self.usage_flags = None, (doubt,)
        elif read is not None:
            read, before = as_lasting(read) if bounds.lasting else read, self.usage
            if before is not None and read.input_total + read.output_total < before.input_total + before.output_total:
                marks = dict.fromkeys((*before.flags, "usage_went_down"))
                read = replace(before, source=UsageSource.ESTIMATED, flags=tuple(marks))
            self.usage, self.usage_flags = read, ()
        elif flags:
            self.usage_flags = flags

    def _flag(self, flag: str) -> None:
        self.usage_flags = (*self.usage_flags, flag)
        if self.usage is not None:
            self.usage = replace(self.usage, flags=(*self.usage.flags, flag))

    def note_answer(self, answer: Answer, bounds: Bounds) -> None:
        """Take what a whole answer says of itself."""
        self.whole = True
        self.note_usage(answer.usage, answer.usage_flags, bounds)
        if not answer.finished:
            self._flag(UNFINISHED)
        self.model, self.upstream_id = answer.model, answer.id
        self.output_characters, self.cjk_characters = answer.output_characters, answer.cjk_characters


def bounds_of(chat: ChatRequest, candidate: Candidate) -> Bounds:
    """What no honest usage of this request can exceed."""
    output: int | None = None
    for cap in (chat.output_tokens_max, candidate.output_tokens_cap or None, candidate.deployment.output_tokens_max):
        if cap is not None and (output is None or cap < output):
            output = cap
    return Bounds(
        None if chat.sizes.attached else len(chat.raw.body),
        None if output is None else output * chat.n,
        b'"ttl"' in chat.raw.body and _LASTING.search(chat.raw.body) is not None,
    )


_LASTING: Final = re.compile(rb'"ttl"\s*+:\s*+"(?!5m"|30m")[^"\\]++"')
"""A time to live in `cache_control` or `prompt_cache_options` that is not the usual one: `1h`, `12h`. In a text that is
quoted each of these quotes would stand behind a backslash."""
