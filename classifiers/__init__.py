"""Which of fifteen things a person wants, in English and Chinese: the intent classifier, its training and judging.

It stands beside the service and imports nothing of it; the service calls `IntentClassifier.predict` once per request.

At run time (NumPy and the standard library):
    scorer       `IntentClassifier.load().predict(turns)` gives a `Prediction`, `parts(turns)` the steps of a compound
    turns        which turns and which part of them are read
    harness      what agents and apps wrap around a person's words, taken off
    dressing, sayings, courtesy    what makes a prompt look dearer, or like small talk, taken off for another reading
    judging      one text to a posterior, and why to doubt it
    features     text to sparse vector: hashed words, pairs, stems, Han n-grams, anchors
    scanning, kernel    what a text holds, by NumPy and by the compiled kernel
    folding, anchors, alphabet, language, structure    what the features are made of
    terms        which pieces spoke for an intent
    compound     where one wish ends and the next begins
    personal     personal data that can be told by its form
    artefact, archive    reading and verifying weights.npz and manifest.json
    taxonomy     the names of the intents and of the other columns, in order
    quality/     how well each model would do on a request, learned from outcomes

Beside the path (scikit-learn, only in `model`, `quality` fitting and what imports them):
    corpus, rows, evaluate, controls, calibration, model, train, card, timing

Data: `intents.yaml` (the taxonomy in words), `cues.yaml` and `lexicon.yaml` (what words hint at, what they are about),
`corpus/` (the project's own prompts, with a second reading of a tenth of them), `artefacts/<name>/` (weights, manifest,
card).
"""

from classifiers.artefact import ArtefactError
from classifiers.scorer import IntentClassifier, Prediction
from classifiers.taxonomy import INTENTS

__all__ = ["INTENTS", "ArtefactError", "IntentClassifier", "Prediction"]
