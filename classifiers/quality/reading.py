"""What the router can see of each prompt: features, language, intent posterior, size. For fitting and judging.

Where on the path: beside it; `fit` and `evaluate` see prompts only through `Reading`.

Invariant: a prompt is read exactly as the service would read it: the same selection, the same features, the same
intent classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import scipy.sparse as sp

from classifiers.features import ROWS, Features, extract
from classifiers.quality.metrics import Floats, Index
from classifiers.taxonomy import INTENTS
from classifiers.turns import select

PROGRESS_EVERY: Final = 500

Progress = Callable[[int, int, str], None]
"""progress(done, total, label)"""


class Posterior(Protocol):
    """What is read of an intent prediction."""

    @property
    def posterior(self) -> Mapping[str, float]: ...


class Intents(Protocol):
    """Anything that reads a conversation once for both models; `IntentClassifier` does."""

    def read(self, turns: Sequence[tuple[str, str]]) -> tuple[Posterior, Features | None]:
        """What (role, text) turns are about, and the features of the last user turn; `None` without one."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """n prompts as read: `features`, `posteriors` (n, 15), and `sizes` (n,) in characters of the whole prompt."""

    features: tuple[Features, ...]
    posteriors: Floats
    sizes: Floats

    def __len__(self) -> int:
        return len(self.features)

    def take(self, index: Index) -> Reading:
        """The prompts at these places."""
        kept = tuple(self.features[place] for place in index.tolist())
        return Reading(kept, self.posteriors[index], self.sizes[index])

    def matrix(self) -> sp.csr_matrix:
        """(n, ROWS) float64 feature values; what occurs twice is added up."""
        ends = np.cumsum([0, *(len(one.buckets) for one in self.features)])
        matrix = sp.csr_matrix(
            (
                np.concatenate([one.values for one in self.features]).astype(np.float64),
                np.concatenate([one.buckets for one in self.features]),
                ends,
            ),
            shape=(len(self.features), ROWS),
        )
        matrix.sum_duplicates()
        return matrix


def read_prompts(
    prompts: Sequence[str], intents: Intents | None = None, progress: Progress | None = None, label: str = "reading"
) -> Reading:
    """Read prompts as one-turn conversations. Without a classifier every intent is equally likely."""
    features, posteriors = [], []
    even = [1.0 / len(INTENTS)] * len(INTENTS)
    for done, prompt in enumerate(prompts, start=1):
        judged, read = intents.read([("user", prompt)]) if intents is not None else (None, None)
        features.append(read if read is not None else extract(select(prompt)))
        posteriors.append(list(judged.posterior.values()) if judged is not None else even)
        if progress is not None and (done % PROGRESS_EVERY == 0 or done == len(prompts)):
            progress(done, len(prompts), label)
    return Reading(
        features=tuple(features),
        posteriors=np.array(posteriors, dtype=np.float64).reshape(-1, len(INTENTS)),
        sizes=np.array([len(prompt) for prompt in prompts], dtype=np.float64),
    )
