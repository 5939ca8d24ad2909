"""Going on with a stream that broke, where its caller asked for that: who may, how, and what the caller is told.

Pure. Where on the path: `pipeline` asks when a stream breaks after its first content; `attempting` makes the attempts.

An answer is gone on with in one of two manners, and in no other:

| manner | who may | what happens |
|---|---|---|
| continue | whoever takes the beginning of an answer (quirk `prefill`) | it is sent along and gone on with |
| repeat | the same model, when the request says `temperature: 0` | it answers anew; what was told already is left out |

Invariants
1. Never without `coe.resume`, never in silence: an event with `coe.resumed` stands where the second stream begins.
2. Nothing but plain text is gone on with: no tool calls, no thinking, no log probabilities, one choice, no JSON answer.
3. The caller's output cap counts for both parts together, by an estimate of the first one.
4. All attempts together stay within the attempts, the deadline and the cost ceiling of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from service.domain.catalog import Deployment
from service.domain.chat import ChatRequest, count_characters, estimate_tokens
from service.domain.decision import Candidate, Ranked
from service.domain.ports import WireProtocol
from service.upstream.splice import Splice

OTHER_THAN_TEXT: Final = frozenset({"json_object", "json_schema", "logprobs"})
"""Needs of a request whose answer can't be gone on with: constraints begin anew, what is beside the text is lost."""


class Manner(StrEnum):
    """How an answer is gone on with."""

    CONTINUE = "continue"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True)
class Resuming:
    """A stream that broke at a deployment, and the text that its caller has of it.

    `pieces` is in how many events it came, `authors` are the models that it is of, `barred` the ids of deployments that
    were silent or called twice.
    """

    chat: ChatRequest
    text: str
    pieces: int
    broke: Candidate
    protocols: Mapping[str, WireProtocol]
    authors: frozenset[str]
    barred: frozenset[str]

    def manner(self, deployment: Deployment) -> Manner | None:
        """How a deployment may go on, or `None`."""
        if deployment.id in self.barred:
            return None
        if "prefill" in deployment.provider.quirks and self.text.strip():
            left = self.chat.output_tokens_max
            return Manner.CONTINUE if left is None or left > self.told_tokens else None
        repeats = self.authors == {deployment.model} and self.chat.body.get("temperature") == 0
        return Manner.REPEAT if repeats else None

    @property
    def told_tokens(self) -> int:
        """An estimate of what the caller has, in tokens: at least one in each event."""
        return max(self.pieces, estimate_tokens(*count_characters(self.text)))

    def order(self, ranks: Iterator[int], ranked: Ranked) -> Iterator[int]:
        """Of these ranks those who may go on; who broke comes last."""
        last: list[int] = []
        for rank in ranks:
            deployment = ranked.deployment(rank)
            if deployment.id == self.broke.deployment.id:
                last.append(rank)
            elif self.manner(deployment) is not None:
                yield rank
        yield from (rank for rank in last if self.manner(ranked.deployment(rank)) is not None)

    def chat_for(self, deployment: Deployment) -> ChatRequest:
        """The request that a deployment gets."""
        if self.manner(deployment) is not Manner.CONTINUE:
            return self.chat
        sizes, own = self.chat.sizes, self.chat.output_tokens_max
        characters, cjk_characters = count_characters(self.text)
        longer = replace(
            sizes,
            characters=sizes.characters + characters,
            cjk_characters=sizes.cjk_characters + cjk_characters,
            messages=sizes.messages + 1,
        )
        left = None if own is None else own - self.told_tokens
        return replace(self.chat, prefill=self.text, sizes=longer, output_tokens_max=left)

    def splice_for(self, deployment: Deployment) -> Splice:
        """What of its stream goes to the caller."""
        echoes = deployment.provider.quirks.get("prefill", "").endswith("_echoed")
        repeated = self.manner(deployment) is Manner.REPEAT or echoes
        edit: Callable[[bytes, int], bytes] = self.protocols[deployment.provider.protocol].without_beginning
        return Splice(self.text if repeated else "", edit)

    def announcement(self, candidate: Candidate, cause: str, attempt_number: int) -> dict[str, object]:
        """What the caller is told where the second stream begins."""
        return {
            "manner": self.manner(candidate.deployment),
            "cause": cause,
            "from": self.broke.deployment.id,
            "to": candidate.deployment.id,
            "characters": len(self.text),
            "attempt": attempt_number,
        }


def may_be_resumed(chat: ChatRequest) -> bool:
    """Whether a request asks for it, and its answer is of a kind that can be gone on with.

    One that begins its answer itself has a last message where ours would have to be.
    """
    if not chat.steering.resume or not chat.stream or chat.n != 1 or chat.needs & OTHER_THAN_TEXT:
        return False
    return bool(chat.body["messages"][-1]["role"] != "assistant")
