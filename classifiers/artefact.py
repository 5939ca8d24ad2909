"""A trained classifier on disk: `weights.npz`, `manifest.json`, `CARD.md` in one directory.

Where on the path: `scorer` reads it once at start-up, `train` writes it.

Invariants:
1. Nothing of `weights.npz` is parsed before its SHA-256 equals the manifest's.
2. No pickles: arrays are read with `allow_pickle=False`, and only the named arrays with the named shapes are accepted.
3. The same arrays give the same bytes: members are stored in a fixed order under a fixed date.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from classifiers.features import ROWS, fingerprint
from classifiers.language import LANGUAGES
from classifiers.taxonomy import HEADS, INTENTS

FORMAT: Final = 2
WEIGHTS_FILE: Final = "weights.npz"
MANIFEST_FILE: Final = "manifest.json"
CARD_FILE: Final = "CARD.md"

NPZ_BYTES_MAX: Final = 8 * 1024 * 1024
MANIFEST_BYTES_MAX: Final = 256 * 1024
SHORT_HASH: Final = 12

_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_RETRAIN: Final = "restore the artefact from version control or train it again with `coe train`"


class ArtefactError(Exception):
    """The artefact is missing, damaged, or made for another version; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A verified artefact.

    `weights` (ROWS, 19) float16, `bias` (19,) float32, columns in the order of `INTENTS`, then `HEADS`.
    `temperatures` and `thresholds` map each language of `LANGUAGES` to what divides its logits, and to the confidence
    below which it abstains.
    """

    name: str
    sha256: str
    weights: npt.NDArray[np.float16]
    bias: npt.NDArray[np.float32]
    temperatures: Mapping[str, float]
    thresholds: Mapping[str, float]

    @property
    def id(self) -> str:
        """`intent-v2@<first characters of the hash>`: what a decision record names."""
        return f"{self.name}@{self.sha256[:SHORT_HASH]}"


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz file with fixed dates and sorted members. `np.savez` would stamp the time of writing into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue(), compresslevel=9)
    return buffer.getvalue()


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
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise ArtefactError(f"{path}: can't be read ({error.strerror}); {_RETRAIN}") from error
    if len(content) > limit:
        raise ArtefactError(f"{path}: over {limit} bytes; {_RETRAIN}")
    return content


def _per_language(manifest: Mapping[str, Any], field: str, path: Path) -> dict[str, float]:
    values = manifest.get(field)
    if not isinstance(values, dict) or set(values) != set(LANGUAGES):
        raise ArtefactError(f"{path}: {field!r} must name exactly {', '.join(LANGUAGES)}; {_RETRAIN}")
    numbers = {language: float(values[language]) for language in LANGUAGES}
    if not all(np.isfinite(value) and value > 0.0 for value in numbers.values()):
        raise ArtefactError(f"{path}: {field!r} must be positive numbers; {_RETRAIN}")
    return numbers


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(path, MANIFEST_BYTES_MAX))
    except ValueError as error:
        raise ArtefactError(f"{path}: not JSON; {_RETRAIN}") from error
    if not isinstance(manifest, dict):
        raise ArtefactError(f"{path}: not an object; {_RETRAIN}")
    wanted = {"format": FORMAT, "features": fingerprint(), "rows": ROWS, "labels": list(INTENTS), "heads": list(HEADS)}
    for field, value in wanted.items():
        if manifest.get(field) != value:
            raise ArtefactError(
                f"{path}: {field!r} is not what this version reads; train the artefact again with `coe train`"
            )
    return manifest


def _arrays(content: bytes, path: Path) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
    columns = len(INTENTS) + len(HEADS)
    wanted = {"weights": ((ROWS, columns), np.float16), "bias": ((columns,), np.float32)}
    stream = io.BytesIO(content)
    try:
        with np.load(stream, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"{path}: not an npz without pickles ({type(error).__name__}); {_RETRAIN}") from error
    if set(found) != set(wanted):
        raise ArtefactError(f"{path}: holds {sorted(found)}, wanted {sorted(wanted)}; {_RETRAIN}")
    for name, (shape, kind) in wanted.items():
        if found[name].shape != shape or found[name].dtype != kind:
            raise ArtefactError(f"{path}: {name} is {found[name].dtype}{found[name].shape}, wanted {shape}; {_RETRAIN}")
        if not np.isfinite(found[name]).all():
            raise ArtefactError(f"{path}: {name} holds values that are not finite; {_RETRAIN}")
    return found["weights"], found["bias"]


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
    weights, bias = _arrays(content, weights_path)
    return Artefact(
        name=str(manifest.get("name", directory.name)),
        sha256=digest,
        weights=weights,
        bias=bias,
        temperatures=_per_language(manifest, "temperatures", manifest_path),
        thresholds=_per_language(manifest, "thresholds", manifest_path),
    )
