"""Closed forms against the fits that they stand for."""

import numpy as np
import pytest
import scipy.sparse as sp

from classifiers.quality import ridge as r


@pytest.fixture(scope="module")
def problem():
    """40 rows, 12 columns, two targets."""
    rng = np.random.default_rng(0)
    matrix = sp.csr_matrix(rng.normal(size=(40, 12)) * (rng.random((40, 12)) < 0.5))
    return matrix, rng.normal(size=(40, 2))


def _plain(matrix, targets, penalty, asked):
    """Ridge by the normal equations, with the rows' scale as `Ridge` has it."""
    rows = matrix.toarray()
    scale = 1.0 / np.sqrt((rows**2).sum() / len(rows))
    return (
        rows,
        scale,
        lambda kept: (
            asked
            * scale
            @ np.linalg.solve(
                scale**2 * rows[kept].T @ rows[kept] + penalty * np.eye(rows.shape[1]),
                scale * rows[kept].T @ targets[kept],
            )
        ),
    )


def test_leaving_one_out_is_a_fit_without_it(problem):
    """Row by row the same as fitting on the other 39."""
    matrix, targets = problem
    unseen = r.Ridge(matrix).unseen(targets, 0.7)
    for place in (0, 7, 39):
        rows, _, fit = _plain(matrix, targets, 0.7, matrix.toarray()[place])
        assert np.allclose(unseen[place], fit(np.setdiff1d(np.arange(len(rows)), [place])), atol=1e-8)


def test_leaving_a_group_out_is_a_fit_without_it(problem):
    """The same for ten rows at once; their own targets don't enter. The tiny ridge inside moves it by thousandths."""
    matrix, targets = problem
    group = np.arange(5, 15)
    solved = r.Ridge(matrix)
    found = solved.without_group(targets, 0.7, group)
    _, _, fit = _plain(matrix, targets, 0.7, matrix.toarray()[group])
    assert np.allclose(found, fit(np.setdiff1d(np.arange(40), group)), atol=0.01)
    other = targets.copy()
    other[group] += 100.0
    assert np.allclose(solved.without_group(other, 0.7, group), found, atol=0.3)


def test_weights_of_features_say_the_same_as_the_dual(problem):
    """Applying primal weights to rows is what the kernel form predicts."""
    matrix, targets = problem
    solved = r.Ridge(matrix)
    weights = solved.primal(solved.dual(targets, 2.0))
    _, _, fit = _plain(matrix, targets, 2.0, matrix.toarray())
    assert np.allclose(solved.outputs(weights), fit(np.arange(40)), atol=1e-8)


def test_principal_directions_keep_the_distances(problem):
    """All directions together reproduce the Gram matrix; coordinates are those weights applied."""
    matrix, _ = problem
    solved = r.Ridge(matrix)
    found, weights = solved.principal(12)
    gram = (matrix @ matrix.T).toarray() * solved.scale**2
    assert np.allclose(found @ found.T, gram, atol=1e-8)
    assert np.allclose(matrix @ weights, found)


def test_rows_beyond_the_limit_are_predicted(problem, monkeypatch):
    """With a limit of 20 rows the others get the prediction of a fit on those 20."""
    matrix, targets = problem
    monkeypatch.setattr(r, "GRAM_ROWS_MAX", 20)
    solved = r.Ridge(matrix)
    assert len(solved.rows) == 20
    unseen = solved.unseen(targets[solved.rows], 1.0)
    others = np.setdiff1d(np.arange(40), solved.rows)
    weights = solved.primal(solved.dual(targets[solved.rows], 1.0))
    assert np.allclose(unseen[others], (matrix @ weights)[others])
    assert not np.allclose(unseen[solved.rows], (matrix @ weights)[solved.rows])


def test_a_row_twice_in_a_group_is_no_accident():
    """Duplicates inside a left-out group give finite numbers."""
    matrix = sp.csr_matrix(np.ones((6, 2)))
    found = r.Ridge(matrix).without_group(np.arange(6.0)[:, None], 1e-3, np.array([0, 1, 2]))
    assert np.isfinite(found).all()
