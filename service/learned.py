"""What a router has learned, as files: how long answers are, and how well models do. Read at start and at reload.

Where on the path: `app.build` and `house` read it beside the registry; `pipeline` hands it to every decision. The
command line reads the same.

Invariants
1. A file that is not in order stops the start and leaves a running router as it was: nothing is learned by halves.
2. What is learned about models that the registry does not have is left out; an artefact of which nothing is left is an
   error, since somebody configured it.
3. `lengths.json` is written whole or not at all, and the table before it stays beside it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from classifiers import INTENTS, ArtefactError
from classifiers.features import Features
from classifiers.quality import QualityModel
from classifiers.quality import load as load_quality
from service.config import Settings, variable
from service.domain.catalog import Catalog
from service.domain.decision import quality_steps
from service.domain.experience import Experience
from service.domain.ports import QualityJudge
from service.errors import ConfigurationError
from service.reading import Learned
from service.routing.lengths import LENGTHS_BYTES_MAX, Lengths, LengthsError, from_plain

LENGTHS_FILE: Final = "lengths.json"
"""The table of answer lengths in the data directory."""

PREVIOUS: Final = ".previous"
"""Added to the name of the table that was replaced: decisions that were taken with it can be taken again."""

GROUND_LEAST: Final = 0.1
"""How much of what an artefact has learned must count for a text; under it the ground is unknown."""


def read_learned(settings: Settings, catalog: Catalog) -> Learned:
    """What these settings name, held against a registry; raises ConfigurationError."""
    judge = None if settings.quality_dir is None else read_judge(settings.quality_dir, catalog)
    return Learned(read_lengths(settings.data_dir), judge)


def read_lengths(data_dir: Path) -> Lengths | None:
    """The table of a data directory, `None` when it has none; raises ConfigurationError."""
    path = data_dir / LENGTHS_FILE
    try:
        with path.open("rb") as stream:
            content = stream.read(LENGTHS_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise ConfigurationError(f"{path} can't be read: {problem.strerror}; check its owner and mode") from problem
    if len(content) > LENGTHS_BYTES_MAX:
        raise ConfigurationError(f"{path} is over {LENGTHS_BYTES_MAX:,} bytes; learn it again from fewer models")
    try:
        return from_plain(orjson.loads(content))
    except orjson.JSONDecodeError as problem:
        raise ConfigurationError(f"{path} is not JSON; delete it, or `coe train --lengths` again") from problem
    except LengthsError as problem:
        raise ConfigurationError(f"{path}: {problem}") from problem


def write_lengths(path: Path, lengths: Lengths, learned_from: Mapping[str, object]) -> None:
    """Write a table beside its place and move it there; raises OSError. Equal tables give equal bytes.

    Another table that was there stays under its name with `PREVIOUS`.
    """
    content = orjson.dumps(lengths.plain(learned_from), option=orjson.OPT_INDENT_2 if len(lengths.cells) < 20 else None)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    kept = draft.with_name(draft.name + PREVIOUS)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        before = path.read_bytes() if path.is_file() else None
        if before is not None and before != content + b"\n":
            kept.touch(0o600)
            kept.write_bytes(before)
            kept.replace(path.with_name(path.name + PREVIOUS))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
        kept.unlink(missing_ok=True)


def read_judge(directory: Path, catalog: Catalog) -> QualityJudge:
    """A quality artefact over the models of a registry; raises ConfigurationError."""
    try:
        model = load_quality(directory)
    except ArtefactError as problem:
        raise ConfigurationError(f"{variable('quality_dir')}: {problem}") from problem
    named = registry_names(model.models, catalog)
    if not named:
        shown = ", ".join(model.models[:3]) + (", …" if len(model.models) > 3 else "")
        raise ConfigurationError(
            f"{variable('quality_dir')}: no model of {model.id} ({shown}) is in the registry; train it on outcomes "
            "that name models as the registry does, as `provider/model`, or as they are called on the wire"
        )
    return ArtefactJudge(model, named, catalog)


def registry_names(models: tuple[str, ...], catalog: Catalog) -> dict[str, str]:
    """Name in an artefact -> registry model: the model itself, a deployment of it, or its one name on the wire.

    Of two names for one registry model the first counts.
    """
    on_the_wire: dict[str, set[str]] = {}
    for deployment in catalog.deployments():
        on_the_wire.setdefault(deployment.wire_name, set()).add(deployment.model)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in models:
        wire = on_the_wire.get(name, set())
        if name in catalog.models:
            meant: str | None = name
        elif name in catalog.by_id:
            meant = catalog.by_id[name].model
        else:
            meant = next(iter(wire)) if len(wire) == 1 else None
        if meant is not None and meant not in taken:
            found[name] = meant
            taken.add(meant)
    return found


class ArtefactJudge:
    """A quality artefact, cut down to the models of one registry, with the registry's priors beside it."""

    __slots__ = ("_model", "_names", "_priors")

    def __init__(self, model: QualityModel, named: Mapping[str, str], catalog: Catalog) -> None:
        """`named` maps names of the artefact to registry models."""
        self._model = model.of_models(tuple(named))
        self._names = tuple(named.values())
        rows = [[catalog.models[name].quality_for(intent) for intent in INTENTS] for name in self._names]
        self._priors = np.array(rows, dtype=np.float64)

    @property
    def artefact(self) -> str:
        """Name and short hash of the artefact."""
        return self._model.id

    def judge(self, features: Any, posterior: Mapping[str, float], language: str) -> Experience:  # noqa: ANN401 # opaque: the classifier's own
        """See `QualityJudge`."""
        if not isinstance(features, Features):
            return Experience(unknown_ground=True, artefact=self.artefact)
        intents = [posterior.get(name, 0.0) for name in INTENTS]
        qualities, counts = self._model.appraise(features, np.array(intents), language, self._priors)
        if counts < GROUND_LEAST:
            return Experience(unknown_ground=True, artefact=self.artefact)
        steps = [quality_steps(one) for one in qualities.tolist()]
        return Experience(qualities=dict(zip(self._names, steps, strict=True)), artefact=self.artefact)
