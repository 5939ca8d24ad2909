"""A quality model on disk: `weights.npz`, `manifest.json`, `CARD.md` in one directory.

Where on the path: the service reads it once at start-up, `train` writes it. NumPy and the standard library only.

Invariants:
1. Nothing of `weights.npz` is parsed before its SHA-256 equals the manifest's.
2. No pickles, see `archive`; only the named arrays with the shapes that the manifest's counts imply are accepted,
   finite and within bounds.
3. The same arrays give the same bytes.
4. It holds weights, counts, names of models and ids of anchor rows; no prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from classifiers.archive import ArchiveError, npz_bytes, read_file, read_npz
from classifiers.artefact import (
    CARD_FILE,
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    NAME,
    NPZ_BYTES_MAX,
    SHORT_HASH,
    WEIGHTS_FILE,
    ArtefactError,
)
from classifiers.features import ROWS, fingerprint
from classifiers.kernel import COLUMNS_MAX
from classifiers.language import LANGUAGES
from classifiers.quality.scorer import Arrays, QualityModel, Shape
from classifiers.quality.signals import FAMILIAR
from classifiers.taxonomy import INTENTS

FORMAT: Final = 1
KIND: Final = "quality"
NUMBER_MAX: Final = 1e9
COUNT_MAX: Final = 100_000
"""No count of a manifest may be larger: shapes are made of them before anything is read."""

CELLS_MAX: Final = 16 * 1024 * 1024
"""Numbers of the largest array that is worked out of an artefact: what bounds memory and time at start-up."""

_KINDS: Final[Mapping[str, type[np.generic]]] = {
    **dict.fromkeys((one.name for one in fields(Arrays)), np.float32),
    "buckets": np.int32,
    "codes": np.int8,
}

_AGAIN: Final = "restore the artefact or train it again with `coe train --outcomes`"
_COUNTS: Final = ("topics", "linear", "dense", "clusters")


def write(
    directory: Path, model: QualityModel, name: str, more: Mapping[str, object], card: str
) -> tuple[str, dict[str, object]]:
    """Write the three files; returns the artefact's id and the manifest. `more` goes into the manifest.

    Raises `ArtefactError` when a file would be larger than the reader accepts.
    """
    arrays = {one.name: getattr(model.arrays, one.name) for one in fields(Arrays)}
    content = npz_bytes(arrays)
    digest = hashlib.sha256(content).hexdigest()
    manifest: dict[str, object] = {
        "format": FORMAT,
        "kind": KIND,
        "name": name,
        "features": fingerprint(),
        "rows": ROWS,
        "intents": list(INTENTS),
        "languages": list(LANGUAGES),
        "models": list(model.models),
        "shape": asdict(model.shape),
        **more,
        "sha256": digest,
        "bytes": len(content),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    if len(content) > NPZ_BYTES_MAX or len(text.encode()) > MANIFEST_BYTES_MAX:
        raise ArtefactError(
            f"the weights take {len(content)} bytes (limit {NPZ_BYTES_MAX}) and the manifest {len(text.encode())} "
            f"(limit {MANIFEST_BYTES_MAX}): train on fewer models"
        )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS_FILE).write_bytes(content)
    (directory / MANIFEST_FILE).write_text(text, encoding="utf-8")
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    return f"{name}@{digest[:SHORT_HASH]}", manifest


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except OSError as error:
        raise ArtefactError(f"{path}: can't be read ({error.strerror}); {_AGAIN}") from error
    except ArchiveError as error:
        raise ArtefactError(f"{path}: {error}; {_AGAIN}") from error


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(path, MANIFEST_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: not JSON; {_AGAIN}") from error
    if not isinstance(manifest, dict):
        raise ArtefactError(f"{path}: not an object; {_AGAIN}")
    wanted = {
        "format": FORMAT,
        "kind": KIND,
        "features": fingerprint(),
        "rows": ROWS,
        "intents": list(INTENTS),
        "languages": list(LANGUAGES),
    }
    for field, value in wanted.items():
        if manifest.get(field) != value:
            raise ArtefactError(f"{path}: {field!r} is not what this version reads; train it again")
    if not isinstance(manifest.get("name"), str) or NAME.fullmatch(manifest["name"]) is None:
        raise ArtefactError(f"{path}: 'name' must be up to 64 letters, digits, dots and dashes; {_AGAIN}")
    models = manifest.get("models")
    if not isinstance(models, list) or not models or not all(isinstance(name, str) for name in models):
        raise ArtefactError(f"{path}: 'models' must be a list of names; {_AGAIN}")
    if len(set(models)) != len(models):
        raise ArtefactError(f"{path}: 'models' names one twice; {_AGAIN}")
    return manifest


def _shape(manifest: Mapping[str, Any], path: Path) -> Shape:
    values = manifest.get("shape")
    names = {one.name for one in fields(Shape)}
    if not isinstance(values, dict) or set(values) != names:
        raise ArtefactError(f"{path}: 'shape' must hold {', '.join(sorted(names))}; {_AGAIN}")
    for name, value in values.items():
        is_count = name in _COUNTS
        if isinstance(value, bool) or not isinstance(value, int if is_count else int | float):
            raise ArtefactError(f"{path}: {name!r} must be {'a whole number' if is_count else 'a number'}; {_AGAIN}")
        if abs(value) > NUMBER_MAX or not math.isfinite(value) or (is_count and not 0 <= value <= COUNT_MAX):
            raise ArtefactError(f"{path}: {name!r} is out of bounds; {_AGAIN}")
    return Shape(**values)


def _arrays(content: bytes, path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_npz(content, _KINDS)
    except ArchiveError as error:
        raise ArtefactError(f"{path}: {error}; {_AGAIN}") from error


def _check(found: Mapping[str, npt.NDArray[Any]], shape: Shape, models: Sequence[str], path: Path) -> None:
    known = found["buckets"].shape[0] if found["buckets"].ndim else -1
    width = found["codes"].shape[1] if found["codes"].ndim == 2 else -1
    outputs = shape.topics + shape.linear + shape.dense
    if max((known + 1) * max(outputs, width), shape.count * len(models)) > CELLS_MAX:
        raise ArtefactError(f"{path}: unpacks to more than {CELLS_MAX} cells; {_AGAIN}")
    if max(outputs, shape.count - (len(LANGUAGES) - 1) * len(INTENTS)) > COLUMNS_MAX:
        raise ArtefactError(f"{path}: a prompt has more than {COLUMNS_MAX} outputs or signals; {_AGAIN}")
    wanted: dict[str, tuple[int, ...]] = {
        "buckets": (known,),
        "codes": (known, width),
        "scales": (known,),
        "mixing": (width, outputs),
        "topic_prior": (shape.topics,),
        "topic_typical": (shape.topics,),
        "familiar": (FAMILIAR + 1,),
        "centroids": (shape.clusters, shape.dense),
        "table": (shape.count, len(models)),
        "base": (len(models),),
        "labels": (len(models),),
    }
    for name, size in wanted.items():
        array = found[name]
        if array.shape != size:
            raise ArtefactError(f"{path}: {name} is {array.shape}, wanted {size}; {_AGAIN}")
        if not np.isfinite(array).all() or (array.size and np.abs(array.astype(np.float64)).max() > NUMBER_MAX):
            raise ArtefactError(f"{path}: {name} holds values that are not finite, or out of bounds; {_AGAIN}")
    buckets = found["buckets"]
    if len(buckets) and (buckets.min() < 0 or buckets.max() >= ROWS or len(np.unique(buckets)) != len(buckets)):
        raise ArtefactError(f"{path}: buckets are out of bounds or named twice; {_AGAIN}")
    if (found["topic_typical"] <= 0.0).any() or (found["labels"] < 0.0).any():
        raise ArtefactError(f"{path}: typical scores and label counts must not be negative; {_AGAIN}")


def load(directory: Path) -> QualityModel:
    """Read and verify a directory. Raises `ArtefactError`."""
    manifest_path, weights_path = directory / MANIFEST_FILE, directory / WEIGHTS_FILE
    manifest = _manifest(manifest_path)
    shape = _shape(manifest, manifest_path)
    content = _read(weights_path, NPZ_BYTES_MAX)
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.get("sha256"):
        raise ArtefactError(
            f"{weights_path}: SHA-256 is {digest[:SHORT_HASH]}…, "
            f"the manifest says {str(manifest.get('sha256'))[:SHORT_HASH]}…; {_AGAIN}"
        )
    found = _arrays(content, weights_path)
    _check(found, shape, manifest["models"], weights_path)
    identity = f"{manifest['name']}@{digest[:SHORT_HASH]}"
    return QualityModel(manifest["models"], shape, Arrays(**found), identity)
