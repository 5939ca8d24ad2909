"""Intent classification (being filled in)."""

from classifiers.scorer import ArtefactError, IntentClassifier, Prediction

__all__ = ["ArtefactError", "IntentClassifier", "Prediction"]
