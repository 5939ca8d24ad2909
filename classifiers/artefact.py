"""A trained classifier on disk: `weights.npz`, `manifest.json`, `CARD.md` in one directory.

Where on the path: `scorer` reads it once at start-up, `train` writes it.

Invariants:
1. Nothing of `weights.npz` is parsed before its SHA-256 equals the manifest's.
2. No pickles, see `archive`; only the named arrays with the named types and shapes are accepted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from classifiers.archive import ArchiveError, Arrays, npz_bytes, read_file, read_npz
from classifiers.features import ROWS, fingerprint
from classifiers.language import LANGUAGES
from classifiers.taxonomy import HEADS, INTENTS

FORMAT: Final = 3
WEIGHTS_FILE: Final = "weights.npz"
MANIFEST_FILE: Final = "manifest.json"
CARD_FILE: Final = "CARD.md"

NPZ_BYTES_MAX: Final = 8 * 1024 * 1024
MANIFEST_BYTES_MAX: Final = 256 * 1024
SHORT_HASH: Final = 12

WEIGHT_MIN: Final = 0.05
"""A row without a larger weight is left out: a third of them, and not one prediction in a thousand differs."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of artefacts stand in logs and records."""

NUMBER_MIN: Final = 0.05
NUMBER_MAX: Final = 20.0
"""Temperatures and thresholds of any use lie between these."""

LEVELS: Final = 127
KEPT_MAX: Final = 1 << 19
"""Rows an artefact may hold: what bounds the memory it takes once it is unpacked."""

_RETRAIN: Final = "restore the artefact from version control or train it again with `coe train`"


class ArtefactError(Exception):
    """The artefact is missing, damaged, or made for another version; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A verified artefact.

    `rows` (k,) int64 ascending are the rows of the features that have weights, `weights` (k, 19) float32 what they are,
    `bias` (19,) float32; columns in the order of `INTENTS`, then `HEADS`.
    `temperatures` and `thresholds` map each language of `LANGUAGES` to what divides its logits, and to the confidence
    below which it abstains.
    """

    name: str
    sha256: str
    rows: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    temperatures: Mapping[str, float]
    thresholds: Mapping[str, float]

    @property
    def id(self) -> str:
        """`intent-v2@<first characters of the hash>`: what a decision record names."""
        return f"{self.name}@{self.sha256[:SHORT_HASH]}"


def packed(weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> Arrays:
    """What is stored of (ROWS, 19) weights: the rows that have some, in 255 levels each, and the scale of each row.

    `steps` (k,) int32 are the distances from row to row: they take a third of the room of the rows themselves.
    """
    largest = np.abs(weights).max(axis=1)
    rows = np.flatnonzero(largest >= WEIGHT_MIN)
    scales = (largest[rows] / LEVELS).astype(np.float16)
    levels = np.rint(weights[rows] / scales.astype(np.float32)[:, None])
    return {
        "steps": np.diff(rows, prepend=0).astype(np.int32),
        "scales": scales,
        "levels": np.clip(levels, -LEVELS, LEVELS).astype(np.int8),
        "bias": bias.astype(np.float32),
    }


def write(directory: Path, arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, object], card: str) -> str:
    """Write the three files; returns the SHA-256 of the npz. The manifest gets `sha256` and `bytes` added.

    Raises `ArtefactError` when the npz would be over `NPZ_BYTES_MAX`.
    """
    content = npz_bytes(arrays)
    if len(content) > NPZ_BYTES_MAX:
        raise ArtefactError(f"the weights take {len(content)} bytes, the limit is {NPZ_BYTES_MAX}: lower BUCKET_BITS")
    digest = hashlib.sha256(content).hexdigest()
    full = {**manifest, "sha256": digest, "bytes": len(content)}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS_FILE).write_bytes(content)
    (directory / MANIFEST_FILE).write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    return digest


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except OSError as error:
        raise ArtefactError(f"{path}: can't be read ({error.strerror}); {_RETRAIN}") from error
    except ArchiveError as error:
        raise ArtefactError(f"{path}: {error}; {_RETRAIN}") from error


def _per_language(manifest: Mapping[str, Any], field: str, path: Path) -> dict[str, float]:
    values = manifest.get(field)
    if not isinstance(values, dict) or set(values) != set(LANGUAGES):
        raise ArtefactError(f"{path}: {field!r} must name exactly {', '.join(LANGUAGES)}; {_RETRAIN}")
    if not all(type(value) in (int, float) for value in values.values()):
        raise ArtefactError(f"{path}: {field!r} must be positive numbers; {_RETRAIN}")
    if not all(NUMBER_MIN <= value <= NUMBER_MAX for value in values.values()):
        raise ArtefactError(f"{path}: {field!r} must be positive numbers of {NUMBER_MIN} to {NUMBER_MAX}; {_RETRAIN}")
    return {language: float(values[language]) for language in LANGUAGES}


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(path, MANIFEST_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: not JSON; {_RETRAIN}") from error
    if not isinstance(manifest, dict):
        raise ArtefactError(f"{path}: not an object; {_RETRAIN}")
    wanted = {"format": FORMAT, "features": fingerprint(), "rows": ROWS, "labels": list(INTENTS), "heads": list(HEADS)}
    for field, value in wanted.items():
        if manifest.get(field) != value:
            raise ArtefactError(
                f"{path}: {field!r} is not what this version reads; train the artefact again with `coe train`"
            )
    if not isinstance(manifest.get("name"), str) or NAME.fullmatch(manifest["name"]) is None:
        raise ArtefactError(f"{path}: 'name' must be up to 64 letters, digits, dots and dashes; {_RETRAIN}")
    return manifest


def _arrays(content: bytes, path: Path) -> Arrays:
    """The arrays that `packed` names, each with its type and shape. Raises `ArtefactError`."""
    columns = len(INTENTS) + len(HEADS)
    try:
        found = read_npz(content, {"steps": np.int32, "scales": np.float16, "levels": np.int8, "bias": np.float32})
    except ArchiveError as error:
        raise ArtefactError(f"{path}: {error}; {_RETRAIN}") from error
    kept = found["steps"].size
    if not 0 < kept <= KEPT_MAX:
        raise ArtefactError(f"{path}: steps has {kept} rows, wanted 1 to {KEPT_MAX}; {_RETRAIN}")
    wanted = {"steps": (kept,), "scales": (kept,), "levels": (kept, columns), "bias": (columns,)}
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise ArtefactError(f"{path}: {name} is {found[name].shape}, wanted {shape}; {_RETRAIN}")
        if not np.isfinite(found[name]).all():
            raise ArtefactError(f"{path}: {name} holds values that are not finite; {_RETRAIN}")
    steps = found["steps"]
    if (steps[1:] <= 0).any() or steps[0] < 0 or int(steps.sum(dtype=np.int64)) >= ROWS:
        raise ArtefactError(f"{path}: steps leads out of the {ROWS} rows, or back; {_RETRAIN}")
    return found


def load(directory: Path) -> Artefact:
    """Read and verify a directory. Raises `ArtefactError`."""
    manifest_path, weights_path = directory / MANIFEST_FILE, directory / WEIGHTS_FILE
    manifest = _manifest(manifest_path)
    content = _read(weights_path, NPZ_BYTES_MAX)
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.get("sha256"):
        raise ArtefactError(
            f"{weights_path}: SHA-256 is {digest[:SHORT_HASH]}…, "
            f"the manifest says {str(manifest.get('sha256'))[:SHORT_HASH]}…; "
            f"{_RETRAIN}"
        )
    arrays = _arrays(content, weights_path)
    return Artefact(
        name=manifest["name"],
        sha256=digest,
        rows=np.cumsum(arrays["steps"], dtype=np.int64),
        weights=arrays["levels"] * arrays["scales"].astype(np.float32)[:, None],
        bias=arrays["bias"],
        temperatures=_per_language(manifest, "temperatures", manifest_path),
        thresholds=_per_language(manifest, "thresholds", manifest_path),
    )
