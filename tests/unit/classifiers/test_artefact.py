"""The artefact on disk: verified before it is parsed, no pickles, same arrays same bytes."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import classifiers
from classifiers import artefact as a
from classifiers.archive import UNPACKED_BYTES_MAX
from classifiers.features import ROWS, fingerprint
from classifiers.language import LANGUAGES
from classifiers.taxonomy import HEADS, INTENTS

SHIPPED = Path(classifiers.__file__).parent / "artefacts" / "intent-v2"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(SHIPPED, tmp_path / "intent-v2"))


def _arrays():
    columns = len(INTENTS) + len(HEADS)
    return {
        "steps": np.array([3, 5], np.int32),
        "scales": np.array([0.5, 0.25], np.float16),
        "levels": np.ones((2, columns), np.int8),
        "bias": np.zeros(columns, np.float32),
    }


def _manifest(**changes):
    per_language = dict.fromkeys(LANGUAGES, 0.5)
    base = {"format": a.FORMAT, "name": "t", "features": fingerprint(), "rows": ROWS}
    base |= {"labels": list(INTENTS), "heads": list(HEADS)}
    return {**base, "temperatures": per_language, "thresholds": per_language, **changes}


def _replace_weights(directory, content):
    """Put other bytes in place and make the manifest agree, as somebody with write access could."""
    (directory / a.WEIGHTS_FILE).write_bytes(content)
    manifest = json.loads((directory / a.MANIFEST_FILE).read_text())
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    (directory / a.MANIFEST_FILE).write_text(json.dumps(manifest))


def test_the_shipped_artefact_loads(copy):
    """Positive control: an untouched copy passes every check that the tests below trip."""
    found = a.load(copy)
    assert found.id == f"intent-v2@{found.sha256[: a.SHORT_HASH]}"
    assert (SHIPPED / a.WEIGHTS_FILE).stat().st_size <= a.NPZ_BYTES_MAX


@pytest.mark.parametrize("place", [0, 1_000, -1])
def test_one_changed_byte_is_refused(copy, place):
    """Anywhere in the file, before anything of it is parsed."""
    path = copy / a.WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(a.ArtefactError, match="SHA-256"):
        a.load(copy)


def test_packing_keeps_what_weights_say():
    """Every weight comes back within a level of its row; rows that say next to nothing are left out."""
    generator = np.random.default_rng(3)
    columns = len(INTENTS) + len(HEADS)
    weights = np.zeros((ROWS, columns), np.float32)
    rows = np.sort(generator.choice(ROWS, 500, replace=False))
    weights[rows] = generator.normal(0.0, 1.0, (500, columns))
    weights[7 if 7 not in rows else 8] = a.WEIGHT_MIN / 2
    stored = a.packed(weights, np.zeros(columns, np.float32))
    assert np.cumsum(stored["steps"]).tolist() == rows.tolist()
    restored = stored["levels"] * stored["scales"].astype(np.float32)[:, None]
    level = np.abs(weights[rows]).max(axis=1, keepdims=True) / a.LEVELS
    assert (np.abs(restored - weights[rows]) <= level).all()


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(copy):
    """Deflate makes a thousand zeros of one byte: the sizes are added up before anything is unpacked."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **(_arrays() | {"bias": np.zeros(UNPACKED_BYTES_MAX // 4 + 1, np.float32)}))
    assert len(buffer.getvalue()) < a.NPZ_BYTES_MAX
    _replace_weights(copy, buffer.getvalue())
    with pytest.raises(a.ArtefactError, match="unpacks"):
        a.load(copy)


def test_a_pickled_array_is_refused_even_with_a_matching_hash(copy, tmp_path):
    """An object array would run code on loading; the reader refuses the type, and the code doesn't run."""
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (trap.write_text, ("x",))

    buffer = io.BytesIO()
    np.savez(buffer, **(_arrays() | {"bias": np.array([Trap()], dtype=object)}))
    _replace_weights(copy, buffer.getvalue())
    with pytest.raises(a.ArtefactError, match=r"header that is not read|pickles"):
        a.load(copy)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays | {"extra": np.zeros(1)}, "holds"),
        (lambda arrays: arrays | {"levels": np.zeros((4, 15), np.int8)}, "levels is"),
        (lambda arrays: arrays | {"scales": np.ones((2, 2), np.float16)}, "scales is"),
        (lambda arrays: arrays | {"scales": np.array([0.5, np.inf], np.float16)}, "not finite"),
        (lambda arrays: arrays | {"steps": np.array(3, np.int32)}, "scales is"),
        (lambda arrays: arrays | {"steps": np.zeros(0, np.int32)}, "steps has"),
        (lambda arrays: arrays | {"steps": np.array([3, 0], np.int32)}, "steps leads"),
        (lambda arrays: arrays | {"steps": np.array([-1, 5], np.int32)}, "steps leads"),
        (lambda arrays: arrays | {"steps": np.array([3, ROWS], np.int32)}, "steps leads"),
        (lambda arrays: arrays | {"steps": np.array([3, 2**31 - 1], np.int32)}, "steps leads"),
        (lambda arrays: arrays | {"bias": np.zeros(15, np.float64)}, "bias is"),
        (lambda arrays: arrays | {"bias": np.full(len(INTENTS) + len(HEADS), np.nan, np.float32)}, "not finite"),
    ],
)
def test_other_arrays_are_refused(tmp_path, change, words):
    """Names, shapes, types and finite values are part of the format."""
    a.write(tmp_path, change(_arrays()), _manifest(), "")
    with pytest.raises(a.ArtefactError, match=words):
        a.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": "0" * 16}, "'features'"),
        ({"labels": list(reversed(INTENTS))}, "'labels'"),
        ({"rows": 5}, "'rows'"),
        ({"format": 1}, "'format'"),
        ({"heads": []}, "'heads'"),
        ({"temperatures": {"en": 1.0}}, "'temperatures'"),
        ({"temperatures": dict.fromkeys(LANGUAGES, 10**400)}, "'temperatures'"),
        ({"temperatures": dict.fromkeys(LANGUAGES, 1e-320)}, "'temperatures'"),
        ({"temperatures": dict.fromkeys(LANGUAGES, "1.0")}, "'temperatures'"),
        ({"name": "../../etc"}, "'name'"),
        ({"thresholds": dict.fromkeys(LANGUAGES, float("nan"))}, "'thresholds'"),
    ],
)
def test_another_version_is_refused(tmp_path, change, words):
    """The message names the field and says what to do."""
    a.write(tmp_path, _arrays(), _manifest(**change), "")
    with pytest.raises(a.ArtefactError, match=words) as caught:
        a.load(tmp_path)
    assert "train" in str(caught.value)


@pytest.mark.parametrize("name", [a.WEIGHTS_FILE, a.MANIFEST_FILE])
def test_a_missing_file_is_said(copy, name):
    """With the path and what to do."""
    (copy / name).unlink()
    with pytest.raises(a.ArtefactError, match="can't be read") as caught:
        a.load(copy)
    assert name in str(caught.value)


def test_a_manifest_that_is_no_object_is_refused(copy):
    """Neither broken JSON nor a list."""
    for content in ("{", "[]"):
        (copy / a.MANIFEST_FILE).write_text(content)
        with pytest.raises(a.ArtefactError, match="not"):
            a.load(copy)


def test_too_large_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """The limit holds for writing and for reading."""
    monkeypatch.setattr(a, "NPZ_BYTES_MAX", 100)
    with pytest.raises(a.ArtefactError, match="limit"):
        a.write(tmp_path / "out", _arrays(), _manifest(), "")
    assert not (tmp_path / "out").exists()
