"""Cells of sparse matrices are found by bisection, whatever the order in which they are stored."""

import numpy as np
import pytest
from scipy import sparse

from pipelines.marts import values_at


@pytest.mark.parametrize("seed", range(20))
def test_cells_are_those_of_the_whole_matrix(seed: int):
    """Empty and full rows, first and last columns; unsorted, and twice stored, which counts as the sum."""
    dice = np.random.default_rng(seed)
    shape = tuple(dice.integers(1, 30, 2))
    stored = int(dice.integers(0, 200))
    rows, columns = (dice.integers(0, size, stored) for size in shape)
    rows = np.sort(np.where(dice.random(stored) < 0.3, 0, rows))
    indptr = np.searchsorted(rows, np.arange(shape[0] + 1))
    matrix = sparse.csr_matrix((dice.random(stored, dtype=np.float32), columns, indptr), shape=shape)
    asked = tuple(dice.integers(0, size, 300) for size in shape)
    before = matrix.indices.copy()
    assert values_at(matrix, *asked) == pytest.approx(matrix.toarray()[asked], rel=1e-5)
    assert np.array_equal(matrix.indices, before)


def test_no_cells_have_no_values():
    """Neither of a matrix that stores nothing nor where nothing is asked."""
    nowhere = np.empty(0, dtype=int)
    assert values_at(sparse.csr_matrix((3, 4)), np.array([2]), np.array([3])).tolist() == [0.0]
    assert values_at(sparse.csr_matrix(np.eye(3)), nowhere, nowhere).tolist() == []
