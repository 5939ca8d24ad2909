"""How well each model would do on a request, learned from outcomes: the quality model, its fitting and its judging.

It stands beside the service and imports nothing of it. At run time NumPy and the standard library suffice:
    scorer       `QualityModel.qualities(features, posterior, language, priors)` gives p(acceptable) of every model
    signals      the formulas that fitting and serving share
    artefact     `load(directory)` reads and verifies weights.npz and manifest.json

Beside the path (SciPy, and scikit-learn in `views`, `ground` and `controls`):
    outcomes, prices, reading     rows, costs and prompts as matrices
    ridge, views, blend, ground   what can be learned, how much of it to believe, and where not to
    fit, costs, anchors           the fitted model, expected costs, models added later
    metrics, judge, controls      what a router is worth, and what it has to beat
    evaluate, train, card         `coe evaluate --outcomes` and `coe train --outcomes`
"""

from classifiers.quality.artefact import load
from classifiers.quality.scorer import QualityModel

__all__ = ["QualityModel", "load"]
