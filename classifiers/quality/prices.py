"""What a call costs when the rows don't say: a price file, an assumed answer length, and a rule for prompt tokens.

Where on the path: beside it; `evaluate` fills the missing costs of both parts before anything is fitted.

A price file is JSON or YAML, USD per 1M tokens:

    output_tokens: 200                        # assumed answer length; default 200
    models:
      big-model: {input: 30, output: 60}
      small-model: [2, 2]                     # input, output
      flat-model: 0.24                        # both

`models:` may be left out, so a plain mapping of models works too. `null` means unknown.

Invariants:
1. Measured costs win; a price only fills what is missing.
2. An unknown price is unknown, never 0: a model without any cost takes no part in routing by cost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from classifiers.quality.outcomes import Floats, Outcomes
from classifiers.rows import RowError

PRICES_BYTES_MAX: Final = 4 * 1024 * 1024
OUTPUT_TOKENS: Final = 200
"""Answer length assumed when neither the rows nor the price file name one."""

CHARACTERS_PER_TOKEN: Final = 4.0
"""For alphabets; a Han character, kana or hangul counts as one token."""

_WIDE_FROM: Final = "\u2e80"
_PER: Final = 1e6
_LENGTH_FIELDS: Final = ("output_tokens", "assumed_output_tokens")
_FORMS: Final = "write {input: 30, output: 60}, [30, 60] or one number, in USD per 1M tokens"


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per 1M tokens as (input, output) by model, and the assumed answer length in tokens."""

    by_model: Mapping[str, tuple[float, float]]
    output_tokens: float = OUTPUT_TOKENS


def _amount(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise RowError(f"{where}: {_FORMS}")
    return float(value)


def _price(value: object, where: str) -> tuple[float, float]:
    if isinstance(value, dict):
        if set(value) != {"input", "output"}:
            raise RowError(f"{where}: {_FORMS}")
        return _amount(value["input"], where), _amount(value["output"], where)
    if isinstance(value, list):
        if len(value) != 2:
            raise RowError(f"{where}: {_FORMS}")
        return _amount(value[0], where), _amount(value[1], where)
    both = _amount(value, where)
    return both, both


def read_prices(path: Path) -> Prices:
    """Read a price file. Raises `RowError` naming the entry that can't be used, and `OSError` when unreadable."""
    with path.open("rb") as stream:
        content = stream.read(PRICES_BYTES_MAX + 1)
    if len(content) > PRICES_BYTES_MAX:
        raise RowError(f"{path.name}: over {PRICES_BYTES_MAX} bytes; is this a price file?")
    try:
        text = content.decode("utf-8")
        table: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise RowError(f"{path.name}: neither JSON nor YAML ({type(error).__name__})") from None
    if not isinstance(table, dict):
        raise RowError(f"{path.name}: write a mapping of models to prices")
    lengths = [table.pop(name) for name in _LENGTH_FIELDS if name in table]
    entries = table.pop("models", None) if isinstance(table.get("models"), dict) else table
    if entries is not table and table:
        raise RowError(f"{path.name}: unknown field {next(iter(table))!r} beside 'models' and 'output_tokens'")
    prices = {
        str(model): _price(value, f"{path.name}: {model}")
        for model, value in (entries or {}).items()
        if value is not None
    }
    if not prices:
        raise RowError(f"{path.name}: no prices; {_FORMS} for each model")
    length = _amount(lengths[0], f"{path.name}: output_tokens") if lengths else float(OUTPUT_TOKENS)
    return Prices(prices, length)


def prompt_tokens(prompt: str) -> float:
    """Tokens of a prompt by the character rule."""
    wide = sum(character >= _WIDE_FROM for character in prompt)
    return max(1.0, wide + (len(prompt) - wide) / CHARACTERS_PER_TOKEN)


def listed_costs(outcomes: Outcomes, prices: Prices) -> Floats:
    """(n, m) USD by list price: recorded tokens where there are any, else the rule and the assumed length."""
    sizes = np.array([prompt_tokens(prompt) for prompt in outcomes.prompts])[:, None]
    incoming = np.where(np.isnan(outcomes.input_tokens), sizes, outcomes.input_tokens)
    outgoing = np.where(np.isnan(outcomes.output_tokens), prices.output_tokens, outcomes.output_tokens)
    rates = np.array([prices.by_model.get(model, (np.nan, np.nan)) for model in outcomes.models])
    result: Floats = (incoming * rates[:, 0] + outgoing * rates[:, 1]) / _PER
    return result


def priced(outcomes: Outcomes, prices: Prices | None) -> Outcomes:
    """The outcomes with missing costs filled from the price list, where it knows the model."""
    if prices is None:
        return outcomes
    return replace(outcomes, costs=np.where(np.isnan(outcomes.costs), listed_costs(outcomes, prices), outcomes.costs))


def complete(outcomes: Outcomes, typical: Floats) -> Floats:
    """(n, m) costs with the gaps of a model that has costs elsewhere filled.

    A gap gets the model's `typical` cost (m,), scaled by how dear the row is for the models that have one: a gap in a
    dear row must not look like a bargain. Models without any cost stay NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = outcomes.costs / typical
        known = np.isfinite(ratio)
        count = known.sum(axis=1)
        scale = np.where(count > 0, np.where(known, ratio, 0.0).sum(axis=1) / np.maximum(count, 1), 1.0)
    return np.where(np.isnan(outcomes.costs), typical[None, :] * scale[:, None], outcomes.costs)
