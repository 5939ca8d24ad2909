"""What was learned, as files: written whole, refused when not in order, held against the registry's names."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import numpy as np
import pytest
from scenery import a_catalog, a_model, an_intent

from classifiers import INTENTS
from classifiers.features import extract
from classifiers.quality import QualityModel, artefact
from classifiers.quality.scorer import Arrays, Shape
from classifiers.quality.signals import FAMILIAR
from classifiers.turns import select
from service.config import Settings
from service.errors import ConfigurationError
from service.learned import (
    LENGTHS_FILE,
    PREVIOUS,
    ArtefactJudge,
    read_judge,
    read_learned,
    read_lengths,
    registry_names,
    write_lengths,
)
from service.routing import lengths as table
from service.routing.lengths import Length, Lengths
from service.simulator import Script

LENGTHS = Lengths({("m", None, None): Length(1_200, 1_100, None, None, 50)})
CATALOG = a_catalog(
    a_model("small", quality={"default": 0.8, "coding": 0.3}),
    a_model("large", quality=0.9),
    a_model("other", quality=0.7),
)
TEXT = "simmer the onion slowly with butter"


def a_quality_model(*models, labels=1_000.0, known=(-1e9, -1e8)):
    """An artefact that knows the words of one text and has a base for each model: 0.5, 1.5, 2.5, … logits."""
    shape = Shape(1, 0, 1, 0, 1.0, 1.0, -1e9, -1e8, *known, 0.0)
    buckets = np.unique(extract(TEXT).buckets).astype(np.int32)
    arrays = Arrays(
        buckets=buckets,
        codes=np.zeros((len(buckets), 1), dtype=np.int8),
        scales=np.ones(len(buckets), dtype=np.float32),
        mixing=np.zeros((1, 2), dtype=np.float32),
        topic_prior=np.zeros(1, dtype=np.float32),
        topic_typical=np.ones(1, dtype=np.float32),
        familiar=np.zeros(FAMILIAR + 1, dtype=np.float32),
        centroids=np.zeros((0, 1), dtype=np.float32),
        table=np.zeros((shape.count, len(models)), dtype=np.float32),
        base=np.arange(len(models), dtype=np.float32) + np.float32(0.5),
        labels=np.full(len(models), labels, dtype=np.float32),
    )
    return QualityModel(models, shape, arrays)


def written(directory, model):
    """The artefact's directory."""
    artefact.write(directory, model, "quality-t", {}, "a card")
    return directory


def judged(judge, text=TEXT, label="coding"):
    """What a judge makes of a text."""
    return judge.judge(extract(select(text)), an_intent(label).posterior, "en")


def test_a_table_survives_its_file(tmp_path):
    """Private, and the same bytes for the same table."""
    path = tmp_path / LENGTHS_FILE
    write_lengths(path, LENGTHS, {"answers": 50})
    first = path.read_bytes()
    assert read_lengths(tmp_path).version == LENGTHS.version
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_lengths(path, LENGTHS, {"answers": 50})
    assert path.read_bytes() == first
    assert [one.name for one in tmp_path.iterdir()] == [LENGTHS_FILE]


def test_the_table_before_stays(tmp_path):
    """One step back is a `mv`; writing the same again pushes nothing out."""
    path, other = tmp_path / LENGTHS_FILE, Lengths({})
    for table_now in (LENGTHS, other, other):
        write_lengths(path, table_now, {})
    assert read_lengths(tmp_path).version == other.version
    assert sorted(one.name for one in tmp_path.iterdir()) == [LENGTHS_FILE, LENGTHS_FILE + PREVIOUS]
    (tmp_path / (LENGTHS_FILE + PREVIOUS)).replace(path)
    assert read_lengths(tmp_path).version == LENGTHS.version


def test_no_table_is_no_fault(tmp_path):
    """The priors stand."""
    assert read_lengths(tmp_path) is None


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    """Nor does it leave a draft."""
    path = tmp_path / LENGTHS_FILE
    write_lengths(path, LENGTHS, {})

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.learned.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_lengths(path, Lengths({}), {})
    assert read_lengths(tmp_path).version == LENGTHS.version
    assert [one.name for one in tmp_path.iterdir()] == [LENGTHS_FILE]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("1200", "1201"),
        lambda _: "[]",
        lambda _: "",
        lambda _: "\udcff",
    ],
)
def test_a_damaged_table_stops_the_start(tmp_path, spoil):
    """With the file and what to do; nothing of it is taken."""
    path = tmp_path / LENGTHS_FILE
    write_lengths(path, LENGTHS, {})
    path.write_text(spoil(path.read_text()), errors="surrogateescape")
    with pytest.raises(ConfigurationError, match=r"lengths\.json.*coe train --lengths"):
        read_lengths(tmp_path)


def test_a_table_is_read_up_to_a_size(tmp_path, monkeypatch):
    """Whatever lies there under that name."""
    monkeypatch.setattr("service.learned.LENGTHS_BYTES_MAX", 100)
    (tmp_path / LENGTHS_FILE).write_bytes(b" " * 101)
    with pytest.raises(ConfigurationError, match="over 100 bytes"):
        read_lengths(tmp_path)
    assert table.LENGTHS_BYTES_MAX > table.CELLS_MAX * 200


def test_a_table_that_can_not_be_read_is_said(tmp_path):
    """A directory in its place, say."""
    (tmp_path / LENGTHS_FILE).mkdir()
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_lengths(tmp_path)


def test_names_of_an_artefact_find_their_models():
    """As the registry has them, as a deployment, or by the one name on the wire; the first of two counts."""
    names = ("small", "p/large", "other-wire", "large-wire", "gone")
    assert registry_names(names, CATALOG) == {"small": "small", "p/large": "large", "other-wire": "other"}


def test_a_wire_name_of_two_models_means_neither():
    """It can't be told which one was measured."""
    models = [a_model(name) for name in ("a", "b")]
    same = [replace(one, deployments=(replace(one.deployments[0], wire_name="x"),)) for one in models]
    assert registry_names(("x",), a_catalog(*same)) == {}


def test_a_judge_tells_of_registry_models_only(tmp_path):
    """In steps, by the base of each; what the registry does not have is left out."""
    judge = read_judge(written(tmp_path, a_quality_model("small", "gone", "large-wire", labels=1e9)), CATALOG)
    known = judged(judge)
    logit = {"small": 0.5, "large": 2.5}
    assert known.qualities == {name: round(10_000 / (1 + np.exp(-value))) for name, value in logit.items()}
    assert known.artefact == judge.artefact
    assert judge.artefact.startswith("quality-t@")
    assert not known.unknown_ground


def test_the_registrys_prior_counts_where_labels_are_few(tmp_path):
    """No label at all: the prior for what the text is about, and nothing else."""
    judge = read_judge(written(tmp_path, a_quality_model("small", "large", labels=0.0)), CATALOG)
    assert judged(judge, label="coding").qualities["small"] < 4_000
    assert judged(judge, label="chitchat").qualities["small"] > 7_000


def test_unknown_ground_is_said_and_nothing_else(tmp_path):
    """A text of words that were never seen; and features that are none of ours."""
    judge = read_judge(written(tmp_path, a_quality_model("small", known=(0.1, 0.2))), CATALOG)
    assert not judged(judge).unknown_ground
    for known in (judged(judge, "zxqv 12345 wuppertal"), judge.judge("words", {}, "en")):
        assert (known.unknown_ground, dict(known.qualities)) == (True, {})


def test_an_artefact_of_strangers_is_refused(tmp_path):
    """Somebody configured it, so they should know."""
    directory = written(tmp_path, a_quality_model("gone"))
    with pytest.raises(ConfigurationError, match=r"COE_QUALITY_DIR: no model .*\(gone\) is in the registry"):
        read_judge(directory, CATALOG)
    with pytest.raises(ConfigurationError, match="COE_QUALITY_DIR"):
        read_judge(tmp_path / "nowhere", CATALOG)


def test_everything_that_settings_name_is_read(tmp_path):
    """And nothing where they name nothing."""
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="COE_QUALITY_DIR"):
        read_learned(Settings(data_dir=tmp_path, quality_dir=tmp_path / "nowhere"), CATALOG)
    assert read_learned(settings, CATALOG).versions() == {"lengths": None, "quality": None}
    write_lengths(tmp_path / LENGTHS_FILE, LENGTHS, {})
    directory = written(tmp_path / "q", a_quality_model("small"))
    learned = read_learned(Settings(data_dir=tmp_path, quality_dir=directory), CATALOG)
    assert learned.versions()["lengths"] == LENGTHS.version
    assert isinstance(learned.judge, ArtefactJudge)


def test_a_damaged_artefact_is_refused(tmp_path):
    """One byte of the weights."""
    directory = written(tmp_path, a_quality_model("small"))
    weights = directory / "weights.npz"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ConfigurationError, match="SHA-256"):
        read_judge(directory, CATALOG)
    assert json.loads((directory / "manifest.json").read_text())["models"] == ["small"]
    assert len(INTENTS) == 15


def test_a_router_goes_by_its_artefact(serving, tmp_path):
    """The cheapest model is not good enough at this text, says the artefact; the record says who said so, and what."""
    directory = written(tmp_path / "q", a_quality_model("alpha-model", "beta-wire", labels=1e9))
    app, _ = serving({"alpha": Script(), "beta": Script()}, quality_dir=directory)
    reply = app.chat(TEXT, coe={"policy": "cheap", "min_quality": 0.7})
    assert reply.headers["x-coe-provider"] == "beta"
    told = app.get(f"/v1/decisions/{reply.headers['x-coe-decision-id']}").json()
    assert told["experience"]["qualities"] == {"alpha-model": 6_225, "beta-model": 8_176}
    assert told["versions"]["quality"] == told["experience"]["artefact"] == app.house.pipeline.learned.judge.artefact
    pinned = app.chat(TEXT, model="alpha-model")
    assert pinned.headers["x-coe-provider"] == "alpha"
