import numpy as np
import pytest
from scipy import sparse

from models import retrieval
from models.retrieval import top_items

DICE = np.random.default_rng(3)
USERS = DICE.normal(size=(201, 8)).astype(np.float32)
ITEMS = DICE.normal(size=(90, 8)).astype(np.float32)
EXCLUDE = sparse.random_array((201, 90), density=0.3, rng=DICE, format="csr")
ALLOWED = DICE.random(90) < 0.5


def by_sorting(n, exclude, allowed):
    """The answer the slow way: all scores at once, sorted."""
    scores = USERS @ ITEMS.T
    scores[exclude.toarray() != 0] = -np.inf
    scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isfinite(best), order, -1), best


@pytest.mark.parametrize("n", [1, 7, 60, 90])
def test_the_best_are_those_that_sorting_finds(n):
    """Exact: the same items in the same order as sorting all scores, for short and for full lists."""
    positions, scores = top_items(USERS, ITEMS, n, EXCLUDE, ALLOWED)
    expected_positions, expected_scores = by_sorting(n, EXCLUDE, ALLOWED)
    np.testing.assert_array_equal(positions, expected_positions)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)
    assert (positions.dtype, scores.dtype) == (np.int32, np.float32)


def test_memory_changes_nothing(monkeypatch):
    """Blocks of 64 users and 16 items give the same bits as one block."""
    monkeypatch.setattr(retrieval, "GRID_ITEMS", 16)
    whole, pieces = top_items(USERS, ITEMS, 20, EXCLUDE), top_items(USERS, ITEMS, 20, EXCLUDE, memory_bytes=1)
    np.testing.assert_array_equal(whole[0], pieces[0])
    np.testing.assert_array_equal(whole[1], pieces[1])


@pytest.mark.parametrize(("items", "memory"), [(1_000, 1 << 24), (1_000_000, 256 << 20), (5_000_000, 64 << 20)])
def test_a_block_stays_under_its_ceiling(items, memory):
    """Scores of one block take no more than the memory granted, whatever the catalogue."""
    block_users, block_items = retrieval._block_shape(items, memory)
    assert block_users * min(block_items, items) * 4 <= memory


@pytest.mark.parametrize("grid", [4, 32_768])
def test_ties_go_to_the_smaller_position(monkeypatch, grid):
    """When all items score the same, the first n are given in order, also across blocks."""
    monkeypatch.setattr(retrieval, "GRID_ITEMS", grid)
    positions, _ = top_items(np.ones((2, 1), np.float32), np.ones((11, 1), np.float32), 6, memory_bytes=1)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 5]] * 2


def test_missing_places_are_padded():
    """A user who may be given one item gets one, then -1 with score -inf."""
    exclude = sparse.csr_matrix([[1, 0, 1]])
    positions, scores = top_items(np.ones((1, 1), np.float32), np.ones((3, 1), np.float32), 5, exclude)
    assert positions.tolist() == [[1, -1, -1, -1, -1]]
    assert scores.tolist() == [[1.0] + [-np.inf] * 4]


def test_nothing_allowed_nothing_given():
    """An empty shop, or one where nothing is allowed, gives padding only; no users give no rows."""
    nothing = np.zeros(90, dtype=bool)
    assert (top_items(USERS, ITEMS, 3, EXCLUDE, nothing)[0] == -1).all()
    assert (top_items(USERS, ITEMS[:0], 3)[0] == -1).all()
    assert top_items(USERS[:0], ITEMS, 3)[0].shape == (0, 3)


def test_broken_vectors_are_refused():
    """A NaN would sort anywhere, so it is named before it can."""
    broken = ITEMS.copy()
    broken[5, 2] = np.nan
    with pytest.raises(ValueError, match="1 item vectors hold NaN"):
        top_items(USERS, broken, 3)


def test_shapes_must_agree():
    """Vectors of different length, or masks of another catalogue, are refused."""
    with pytest.raises(ValueError, match="user vectors have 8 numbers, item vectors 7"):
        top_items(USERS, ITEMS[:, :7], 3)
    with pytest.raises(ValueError, match="`exclude` has shape"):
        top_items(USERS, ITEMS[:50], 3, EXCLUDE)
    with pytest.raises(ValueError, match="`allowed` has shape"):
        top_items(USERS, ITEMS, 3, None, ALLOWED[:5])
