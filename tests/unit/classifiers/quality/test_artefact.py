"""The artefact on disk: verified before it is parsed, no pickles, bounds on everything that shapes are made of."""

import dataclasses
import hashlib
import io
import json

import numpy as np
import pytest

from classifiers.artefact import npz_bytes
from classifiers.quality import artefact as a
from classifiers.quality import fit


@pytest.fixture
def saved(learned, tmp_path):
    """The planted model, written."""
    model = learned.router.fitted.model
    identity, _ = a.write(tmp_path / "q", model, "planted", {"seed": 7}, "# card\n")
    return tmp_path / "q", model, identity


def _edit(directory, change):
    """Change the manifest as somebody with write access could."""
    path = directory / a.MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _replace(directory, **arrays):
    """Put other arrays in place, with a manifest that agrees."""
    with np.load(io.BytesIO((directory / a.WEIGHTS_FILE).read_bytes()), allow_pickle=False) as archive:
        kept = {name: archive[name] for name in archive.files}
    content = npz_bytes({name: value for name, value in {**kept, **arrays}.items() if value is not None})
    (directory / a.WEIGHTS_FILE).write_bytes(content)
    _edit(directory, lambda manifest: manifest.update(sha256=hashlib.sha256(content).hexdigest()))


def test_what_is_written_is_read(saved, learned):
    """The same qualities to the bit, and an id that names the bytes."""
    directory, model, identity = saved
    loaded = a.load(directory)
    assert loaded.id == identity
    assert loaded.models == model.models
    assert loaded.shape == model.shape
    asked = learned.asked.take(np.arange(20))
    assert np.array_equal(fit.qualities(loaded, asked), fit.qualities(model, asked))


def test_the_same_model_gives_the_same_bytes(saved, tmp_path):
    """Written twice, anywhere."""
    directory, model, _ = saved
    a.write(tmp_path / "again", model, "planted", {"seed": 7}, "other card")
    assert (tmp_path / "again" / a.WEIGHTS_FILE).read_bytes() == (directory / a.WEIGHTS_FILE).read_bytes()


def test_no_prompt_is_inside(saved, learned):
    """Neither in the manifest nor in the arrays."""
    directory, _, _ = saved
    for prompt in learned.stage.train.prompts[:50]:
        assert prompt not in (directory / a.MANIFEST_FILE).read_text()


def test_a_changed_byte_is_refused(saved):
    """Before anything is parsed."""
    directory, _, _ = saved
    content = bytearray((directory / a.WEIGHTS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / a.WEIGHTS_FILE).write_bytes(bytes(content))
    with pytest.raises(a.ArtefactError, match="SHA-256"):
        a.load(directory)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(kind="intent"), "'kind'"),
        (lambda m: m.update(features="other"), "'features'"),
        (lambda m: m.update(models=[]), "'models'"),
        (lambda m: m.update(models=["a", "a", "b"]), "twice"),
        (lambda m: m["shape"].update(topics=-1), "out of bounds"),
        (lambda m: m["shape"].update(clusters=10**9), "out of bounds"),
        (lambda m: m["shape"].update(dense=2.5), "whole number"),
        (lambda m: m["shape"].update(margin=10**400), "out of bounds"),
        (lambda m: m["shape"].update(dense=100_000), "cells"),
        (lambda m: m.update(name="a\nlog line"), "'name'"),
        (lambda m: m.pop("name"), "'name'"),
        (lambda m: m["shape"].update(temperature="hot"), "a number"),
        (lambda m: m["shape"].update(gate_low=float("nan")), "out of bounds"),
        (lambda m: m["shape"].pop("margin"), "'shape'"),
        (lambda m: m["shape"].update(topics=m["shape"]["topics"] + 1), "wanted"),
        (lambda m: m["shape"].update(topics=600), "more than 512"),
        (lambda m: m["shape"].update(clusters=500), "more than 512"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(saved, change, words):
    """The field is named."""
    directory, _, _ = saved
    _edit(directory, change)
    with pytest.raises(a.ArtefactError, match=words):
        a.load(directory)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("table", lambda m: m.arrays.table[:-1], "table"),
        ("base", lambda m: m.arrays.base.astype(np.float64), "base"),
        ("scales", lambda m: np.full_like(m.arrays.scales, np.inf), "finite"),
        ("mixing", lambda m: np.full_like(m.arrays.mixing, 3e38), "out of bounds"),
        ("buckets", lambda m: np.zeros_like(m.arrays.buckets), "named twice"),
        ("buckets", lambda m: m.arrays.buckets + np.int32(10**7), "out of bounds"),
        ("topic_typical", lambda m: -m.arrays.topic_typical, "negative"),
        ("codes", lambda m: m.arrays.codes[0], "codes"),
        ("extra", lambda m: m.arrays.base, "holds"),
        ("labels", lambda _: None, "holds"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, name, make, words):
    """Shape, type, bounds, names."""
    directory, model, _ = saved
    _replace(directory, **{name: make(model)})
    with pytest.raises(a.ArtefactError, match=words):
        a.load(directory)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04]", b"x" * 100])
def test_what_is_no_npz_is_refused(saved, content):
    """Not a zip, cut off, a pickle: one clear error."""
    directory, _, _ = saved
    (directory / a.WEIGHTS_FILE).write_bytes(content)
    _edit(directory, lambda manifest: manifest.update(sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(a.ArtefactError, match="npz"):
        a.load(directory)


def test_a_pickle_inside_is_refused(saved):
    """An object array never gets to run."""
    directory, _, _ = saved
    buffer = io.BytesIO()
    np.savez(buffer, base=np.array([{"a": 1}], dtype=object))
    (directory / a.WEIGHTS_FILE).write_bytes(buffer.getvalue())
    _edit(directory, lambda manifest: manifest.update(sha256=hashlib.sha256(buffer.getvalue()).hexdigest()))
    with pytest.raises(a.ArtefactError, match="npz"):
        a.load(directory)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_manifest_is_refused(saved, content):
    """Not JSON, not an object; missing files are named."""
    directory, _, _ = saved
    (directory / a.MANIFEST_FILE).write_text(content)
    with pytest.raises(a.ArtefactError, match=r"manifest\.json"):
        a.load(directory)
    (directory / a.MANIFEST_FILE).unlink()
    with pytest.raises(a.ArtefactError, match="can't be read"):
        a.load(directory)


def test_too_large_is_said_before_it_is_written(learned, tmp_path, monkeypatch):
    """Nothing is left on disk that the reader would refuse."""
    monkeypatch.setattr(a, "NPZ_BYTES_MAX", 1_000)
    with pytest.raises(a.ArtefactError, match="fewer models"):
        a.write(tmp_path / "q", learned.router.fitted.model, "planted", {}, "")
    assert not (tmp_path / "q").exists()


def test_every_array_is_checked(learned):
    """A new field of `Arrays` can't be forgotten by the reader."""
    arrays = learned.router.fitted.model.arrays
    names = {field.name for field in dataclasses.fields(arrays)}
    found = {name: getattr(arrays, name) for name in names}
    for name in names:
        broken = {**found, name: np.zeros((1, 1, 1, 1))}
        with pytest.raises(a.ArtefactError):
            a._check(broken, learned.router.fitted.model.shape, learned.router.fitted.model.models, a.Path("w.npz"))
