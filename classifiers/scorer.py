"""Skeleton, being filled in: the names and signatures below are final."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one request is about."""

    label: str
    confidence: float
    posterior: Mapping[str, float]
    language: str
    abstained: bool
    terms: tuple[tuple[str, float], ...]
    artefact: str


class ArtefactError(Exception):
    """The artefact is missing, damaged or of another version; the message says what to do."""


class IntentClassifier:
    """A loaded artefact."""

    @classmethod
    def load(cls, directory: Path | None = None) -> IntentClassifier:
        """Read, verify and unpack an artefact."""
        raise ArtefactError(f"no artefact in {directory}")

    def predict(self, turns: Sequence[tuple[str, str]]) -> Prediction:
        """Classify (role, text) turns, oldest first."""
        raise NotImplementedError

    def explain(self, turns: Sequence[tuple[str, str]], label: str | None = None) -> tuple[tuple[str, float], ...]:
        """The strongest evidence for a label."""
        raise NotImplementedError
