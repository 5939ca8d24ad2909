"""A model file can't run anything (I19): named attacks on what each loader reads, in a process that watches itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from malicious import ATTACKS, HARMLESS, Target
from stage import ROOT, clean_environment

from classifiers import artefact
from classifiers.features import ROWS, fingerprint
from classifiers.language import LANGUAGES
from classifiers.quality import artefact as quality
from classifiers.quality.scorer import Arrays, QualityModel, Shape
from classifiers.quality.signals import FAMILIAR
from classifiers.taxonomy import HEADS, INTENTS

LOADERS = ("intent", "quality")
PEAK_MAX = 40 * 1024 * 1024
"""What all arrays together may take, and what they are read from."""


def an_intent_artefact(directory):
    """A small one that is in order."""
    columns = len(INTENTS) + len(HEADS)
    arrays = {
        "steps": np.array([3, 5], np.int32),
        "scales": np.array([0.5, 0.25], np.float16),
        "levels": np.ones((2, columns), np.int8),
        "bias": np.zeros(columns, np.float32),
    }
    half = dict.fromkeys(LANGUAGES, 0.5)
    made_for = {"format": artefact.FORMAT, "features": fingerprint(), "rows": ROWS}
    labels = {"labels": list(INTENTS), "heads": list(HEADS)}
    manifest = {"name": "small", **made_for, **labels, "temperatures": half, "thresholds": half}
    artefact.write(directory, arrays, manifest, "")


def a_quality_artefact(directory):
    """A small one that is in order."""
    count = 1 + 1 + 2 + len(LANGUAGES) * len(INTENTS)

    def ones(*size):
        return np.ones(size, np.float32)

    arrays = Arrays(
        buckets=np.arange(3, dtype=np.int32),
        codes=np.ones((3, 2), np.int8),
        scales=ones(3),
        mixing=ones(2, 4),
        topic_prior=ones(1),
        topic_typical=ones(1),
        familiar=ones(FAMILIAR + 1),
        centroids=ones(2, 2),
        table=ones(count, 2),
        base=ones(2),
        labels=ones(2),
    )
    shape = Shape(1, 1, 2, 2, *(1.0,) * 7)
    quality.write(directory, QualityModel(["a", "b"], shape, arrays), "small", {}, "")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Every attack on every loader, loaded in one child: (loader, attack) -> what it said, and whether anything ran."""
    home = tmp_path_factory.mktemp("malicious")
    good = {"intent": home / "intent-good", "quality": home / "quality-good"}
    an_intent_artefact(good["intent"])
    a_quality_artefact(good["quality"])
    targets = {}
    for loader in LOADERS:
        for number, (name, attack) in enumerate({**HARMLESS, **ATTACKS}.items()):
            place = home / loader / str(number) / "artefact"
            shutil.copytree(good[loader], place)
            targets[loader, name] = Target(place, place.parent / "canary")
            attack(targets[loader, name])
    naive = Target(home / "naive", home / "naive-canary")
    shutil.copytree(good["quality"], naive.directory)
    ATTACKS["an array of pickled objects"](naive)
    targets["naive", "an array of pickled objects"] = naive
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "malicious.py")],
        input="".join(f"{loader} {it.directory}\n" for (loader, _), it in targets.items()),
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=home,
        timeout=120,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(targets), f"it ended in {list(targets)[len(lines)]}: {done.stderr[-2000:]}"
    return {
        key: {**line, "canary": it.canary.exists(), "place": str(it.directory)}
        for (key, it), line in zip(targets.items(), lines, strict=True)
    }


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_in_one_clear_line(played, loader, name):
    """Which file, what is wrong and what to do; nothing ran, nothing was unpacked beyond the limit, nobody waited."""
    found = played[loader, name]
    assert (found["kind"], found["ran"], found["canary"]) == ("ArtefactError", [], False), found
    assert found["told"].startswith(f"{found['place']}/")
    assert "train" in found["told"]
    assert "root:" not in found["told"]
    assert "\n" not in found["told"]
    assert len(found["told"]) < 1_000
    assert found["peak"] < PEAK_MAX
    assert found["s"] < 5


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", HARMLESS)
def test_a_good_one_loads_and_nothing_beside_it_runs(played, loader, name):
    """Positive control of all refusals."""
    found = played[loader, name]
    # The first load of each imports what it takes, from the standard library and this project.
    ran = found["ran"] if name == "nothing" else []
    assert (found["kind"], found["ran"], found["canary"]) == ("loaded", ran, False)


def test_there_are_enough():
    """At least twenty for each loader."""
    assert len(ATTACKS) >= 20


def test_a_naive_reader_is_caught(played):
    """Positive control: one that takes pickles runs the attack, and both the canary and the watching say so."""
    found = played["naive", "an array of pickled objects"]
    assert found["canary"]
    assert {"os.system", "pickle.find_class"} <= set(found["ran"])
