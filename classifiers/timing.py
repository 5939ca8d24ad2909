"""How long one prediction takes: the figures of the card. Measures, asserts nothing.

Where on the path: beside it; `coe train` asks once, benches may ask again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from classifiers.scorer import IntentClassifier

ROUNDS: Final = 600
WARM_UP_ROUNDS: Final = 60

_ENGLISH: Final = (
    "Please have a look at the notes below (they are from Tuesday, sorry for the mess!) and tell me what we agreed on; "
    "I can't make sense of half of it. Anna wants 3 more people, Raj says no, and nobody wrote down the date. "
)
_CHINESE: Final = (
    "请帮我看一下下面的会议记录（周二的，写得有点乱，抱歉），告诉我最后大家同意了什么。小安想再要3个人，小陈说不行，"
    "而且没有人写下日期，我自己看了两遍也没弄明白。"
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds per prediction of one prompt, on one thread.

    `p50_us` and `p99_us` are what a caller waits; `cpu_p50_us` and `cpu_p99_us` leave out the time in which the machine
    ran something else, so they compare between a busy machine and an idle one.
    """

    language: str
    characters: int
    p50_us: float
    p99_us: float
    cpu_p50_us: float
    cpu_p99_us: float


def measure(classifier: IntentClassifier, *, rounds: int = ROUNDS) -> tuple[Timing, ...]:
    """Time `predict` on prompts of 20, 200, 2,000 and 10,000,000 characters in English and Chinese."""
    results = []
    for language, unit in (("en", _ENGLISH), ("zh", _CHINESE)):
        for characters in (20, 200, 2_000, 10_000_000):
            turns = [("user", (unit * (characters // len(unit) + 1))[:characters])]
            for _ in range(WARM_UP_ROUNDS):
                classifier.predict(turns)
            taken, computed = [], []
            for _ in range(rounds):
                begin, begin_cpu = time.perf_counter_ns(), time.thread_time_ns()
                classifier.predict(turns)
                computed.append(time.thread_time_ns() - begin_cpu)
                taken.append(time.perf_counter_ns() - begin)
            p50, p99 = np.percentile(np.array(taken) / 1_000.0, [50, 99]).tolist()
            cpu_p50, cpu_p99 = np.percentile(np.array(computed) / 1_000.0, [50, 99]).tolist()
            results.append(Timing(language, characters, p50, p99, cpu_p50, cpu_p99))
    return tuple(results)
