"""Which of fifteen things a person wants, in English and Chinese: the intent classifier, its training and judging.

It stands beside the service and imports nothing of it; the service calls `IntentClassifier.predict` once per request.

At run time (NumPy and the standard library):
    scorer       `IntentClassifier.load().predict(turns)` gives a `Prediction`
    features     text to sparse vector: bounded selection, hashed words and n-grams
    alphabet, language, structure    what the features are made of
    artefact     reading and verifying weights.npz and manifest.json
    taxonomy     the names of the intents, in order

Beside the path (scikit-learn, only in `model` and what imports it):
    rows, evaluate, controls, calibration, model, train, card, timing

Data: `intents.yaml` (the taxonomy in words), `cues.yaml` (cue words), `corpus/` (the project's own prompts),
`artefacts/<name>/` (weights, manifest, card).
"""

from classifiers.artefact import ArtefactError
from classifiers.scorer import IntentClassifier, Prediction
from classifiers.taxonomy import INTENTS

__all__ = ["INTENTS", "ArtefactError", "IntentClassifier", "Prediction"]
