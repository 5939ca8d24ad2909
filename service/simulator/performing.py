"""Carrying out a screenplay on a connection, and writing down how it went.

Where on the path: `server` hands over a connection and the `Answer` that `replies` chose.

Invariants
1. The log entry is final before the last bytes are sent, so that whoever read a whole answer finds it complete.
2. Whatever happens (the client leaves, the simulator stops), the entry ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.domain.money import Usage
from service.simulator.connection import ClientLeft, Connection
from service.simulator.play import End, Ending, Pause, Send, Step
from service.simulator.request_log import Outcome, RequestLog
from service.simulator.script import Fault


@dataclass(frozen=True, slots=True)
class Answer:
    """Steps, and what the log should know of them. `rejected`: the vendor refuses the request by its own rules."""

    steps: Iterator[Step]
    rejected: bool = False
    fault: Fault | None = None
    model: str = ""
    stream: bool = False
    write_bytes: int | None = None


class _Progress:
    """What was done so far of one answer."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.billed: Usage | None = None
        self.sent_bytes = 0

    def begin(self, step: Send) -> None:
        self.status = step.status or self.status
        self.billed = step.usage or self.billed
        self.sent_bytes += len(step.data)


async def perform(connection: Connection, answer: Answer, log: RequestLog, number: int) -> Ending:
    """Play the steps; the connection's fate is returned, for the caller to carry out."""
    log.update(number, fault=answer.fault, model=answer.model, stream=answer.stream)
    connection.write_bytes = answer.write_bytes
    progress = _Progress()
    outcome = Outcome.STOPPED
    ending = Ending.CLOSE
    try:
        step: Step | None = next(answer.steps, None)
        while step is not None:
            following = next(answer.steps, None)
            if isinstance(step, Pause):
                if step.seconds:
                    await connection.pause(step.seconds)
            elif isinstance(step, Send):
                progress.begin(step)
                if isinstance(following, End) and following.how is not Ending.HOLD:
                    _write(log, number, progress, _outcome(answer, following))
                await connection.send(step.data)
            elif step.how is Ending.HOLD:
                await connection.hold()
            else:
                ending = step.how
                outcome = _outcome(answer, step)
            step = following
    except ClientLeft:
        outcome = Outcome.CLIENT_LEFT
    finally:
        connection.write_bytes = None
        _write(log, number, progress, outcome)
    return ending


def _outcome(answer: Answer, end: End) -> Outcome:
    if answer.rejected:
        return Outcome.REJECTED
    return Outcome.FAILED if end.failed else Outcome.ANSWERED


def _write(log: RequestLog, number: int, progress: _Progress, outcome: Outcome) -> None:
    log.update(number, status=progress.status, billed=progress.billed, sent_bytes=progress.sent_bytes)
    log.end(number, outcome)
