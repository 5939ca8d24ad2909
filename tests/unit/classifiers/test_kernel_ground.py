"""A quality artefact in the hands of C: tables that fit together, and no way to read or write where it must not."""

import numpy as np
import pytest
from references import assert_let_go

from classifiers import kernel

built = pytest.mark.skipif(kernel.STATE != kernel.COMPILED, reason="no compiled kernel here: Python judges, alone")


def _ground(**changed):
    told = {
        "slots": np.array([0, 1, 1], np.int32),
        "rows": np.ones((2, 5), np.float32),
        "tables": np.ones((4, 7, 3)),
        "base": np.zeros(3),
        "centroids": np.eye(2),
        "prior": np.zeros(2),
        "per_typical": np.ones(2),
        "familiar": np.ones(10),
        "counts": (2, 1, 2, 2, 2),
        "figures": (5.0, 4.0, -1.0, 1.0, 0.0, 1.0, -1e6),
    }
    return kernel._built.Ground(**{**told, **changed})


@built
@pytest.mark.parametrize(
    "changed",
    [
        {"slots": np.array([0, 1, 1])},
        {"rows": np.ones((2, 6), np.float32)},
        {"tables": np.ones((4, 8, 3))},
        {"tables": np.ones((4, 7, 4))},
        {"base": np.zeros(4)},
        {"base": np.zeros(3, np.float32)},
        {"centroids": np.eye(3)},
        {"centroids": np.ones((2, 3))},
        {"prior": np.zeros(3)},
        {"per_typical": np.zeros(1)},
        {"familiar": np.ones(9)},
        {"counts": (2, 1, 2, 2, 600), "tables": np.ones((4, 605, 3))},
        {"counts": (2, 1, 2, 2, 510), "tables": np.ones((4, 515, 3))},
        {"counts": (2, -1, 4, 2, 2), "tables": np.ones((4, 5, 3)), "centroids": np.ones((2, 4))},
        {"counts": (2, 1, 2, 2, 2**62)},
        {"figures": (1.0,)},
    ],
)
def test_ground_whose_tables_do_not_fit_is_refused(changed):
    """An artefact is checked when it is read; what C looks up is checked again."""
    with pytest.raises((ValueError, TypeError)):
        _ground(**changed)


@built
def test_ground_is_asked_only_what_it_knows():
    """A language without a table, another number of intents or models, features out of its tables."""
    ground, out = _ground(), np.empty(3)
    buckets, values, posterior = np.array([1, 2]), np.ones(2, np.float32), np.array([0.5, 0.5])
    assert 0.0 <= ground.logits(buckets, values, posterior, 3, out) <= 1.0
    for told in (
        (buckets, values, posterior, 4, out),
        (buckets, values, posterior, -1, out),
        (buckets, values, posterior[:1], 0, out),
        (buckets, values, posterior, 0, out[:2]),
        (buckets, values[:1], posterior, 0, out),
    ):
        with pytest.raises(ValueError, match="needed"):
            ground.logits(*told)
    locked = np.empty(3)
    locked.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        ground.logits(buckets, values, posterior, 0, locked)
    with pytest.raises(IndexError):
        ground.logits(np.array([1, 3]), values, posterior, 0, out)
    with pytest.raises(TypeError):
        ground.logits(buckets, values, posterior, "en", out)


@built
def test_nothing_is_held_longer_than_it_is_used():
    """Arrays and tables have as many owners after many calls, good and bad, as before."""
    slots, rows, two = np.array([0, 1, 1], np.int32), np.ones((2, 5), np.float32), np.array([1, 2])
    values, posterior, out = np.ones(2, np.float32), np.array([0.5, 0.5]), np.empty(3)
    held = (slots, rows, two, values, posterior, out)

    def go():
        ground = _ground(slots=slots, rows=rows)
        ground.logits(two, values, posterior, 0, out)
        for wrong in (
            lambda: _ground(slots=slots, rows=rows, base=np.zeros(4)),
            lambda: ground.logits(two, values, posterior, 9, out),
        ):
            with pytest.raises((ValueError, TypeError)):
                wrong()

    assert_let_go(go, held)
