import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from models import retrieval
from models.retrieval import best_of, top_items

DICE = np.random.default_rng(3)
USERS = DICE.normal(size=(201, 8)).astype(np.float32)
ITEMS = DICE.normal(size=(90, 8)).astype(np.float32)
EXCLUDE = sparse.random_array((201, 90), density=0.3, rng=DICE, format="csr")
ALLOWED = DICE.random(90) < 0.5


@pytest.fixture(params=[(512, 512), (16, 8), (200, 1)], ids=str)
def blocks(monkeypatch, request):
    """Users of a block and items of a tile: those of the kernel, and so few that everything takes many of them."""
    monkeypatch.setattr(retrieval, "BLOCK_USERS", request.param[0])
    monkeypatch.setattr(retrieval, "TILE_ITEMS", request.param[1])


def by_sorting(users, items, n, exclude, allowed):
    """The answer the slow way: all scores at once, in float64, sorted."""
    scores = users.astype(np.float64) @ items.T.astype(np.float64)
    scores[exclude.toarray() != 0] = -np.inf
    scores[:, ~allowed] = -np.inf
    scores = np.pad(scores, ((0, 0), (0, n)), constant_values=-np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isfinite(best), order, -1), best


@pytest.mark.parametrize("n", [1, 7, 60, 90, 200])
def test_the_best_are_those_that_sorting_finds(blocks, n):
    """Exact: the same items in the same order as sorting all scores, for short, full and overfull lists."""
    positions, scores = top_items(USERS, ITEMS, n, EXCLUDE, ALLOWED)
    expected_positions, expected_scores = by_sorting(USERS, ITEMS, n, EXCLUDE, ALLOWED)
    np.testing.assert_array_equal(positions, expected_positions)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-7)
    assert (positions.dtype, scores.dtype) == (np.int32, np.float32)


@settings(max_examples=60, deadline=None)
@given(
    users=arrays(np.float32, (5, 3), elements=st.integers(-2, 2)),
    items=arrays(np.float32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.integers(-2, 2)),
    n=st.integers(1, 20),
    tile=st.integers(1, 70),
    data=st.data(),
)
def test_ties_are_broken_as_sorting_breaks_them(users, items, n, tile, data):
    """Small whole numbers tie everywhere, also at 0, and every list is still that of a stable sort."""
    exclude = sparse.csr_matrix(data.draw(arrays(np.int8, (5, len(items)), elements=st.integers(0, 1))))
    allowed = data.draw(arrays(bool, len(items)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "TILE_ITEMS", tile)
        found = top_items(users, items, n, exclude, allowed)
    for one, expected in zip(found, by_sorting(users, items, n, exclude, allowed), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_most_items_are_left_out_where_few_have_long_vectors(monkeypatch):
    """No product beats that of both lengths: when 400 of 4,000 items are long, the others are never scored."""
    monkeypatch.setattr(retrieval, "TILE_ITEMS", 400)
    monkeypatch.setattr(retrieval, "FIRST_TILES", 1)
    items = DICE.normal(size=(4000, 8)).astype(np.float32)
    items[DICE.permutation(4000)[:400]] *= 1000
    seen, add = [], retrieval.Candidates.add
    monkeypatch.setattr(retrieval.Candidates, "add", lambda *told: [seen.append(told[3]), add(*told)])
    nothing, everything = sparse.csr_matrix((201, 4000)), np.ones(4000, dtype=bool)
    positions, _ = top_items(USERS, items, 5, nothing, everything)
    np.testing.assert_array_equal(positions, by_sorting(USERS, items, 5, nothing, everything)[0])
    assert seen == [0]


def test_first_bars_are_reached_by_as_many_as_are_kept():
    """Of 800 items in eight tiles 30 are kept: at least so many reach the first bar, and not half as many again."""
    scores = DICE.normal(size=(8, 201, 100)).astype(np.float32)
    found = retrieval.Candidates(201, 30)
    found.begin(np.arange(201), scores)
    reached = (scores >= found.bars[:, None]).sum(axis=(0, 2))
    assert reached.min() >= 30
    assert reached.mean() < 45


def test_a_short_vector_that_points_to_the_user_is_found_behind_long_ones(monkeypatch):
    """The best item's vector is half as long as those of 64 others, and its score just above theirs."""
    monkeypatch.setattr(retrieval, "TILE_ITEMS", 32)
    items = np.array([[0.9 + step / 1000, 2.0] for step in range(64)] + [[1.0, 0.0]], dtype=np.float32)
    positions, _ = top_items(np.array([[1.0, 0.0]], np.float32), items, 1)
    assert positions.tolist() == [[64]]


@pytest.mark.parametrize(("memory", "threads"), [(1, 1), (1 << 20, 3), (256 << 20, 2)])
def test_neither_memory_nor_threads_nor_company_change_a_bit(blocks, memory, threads):
    """A user's list and scores are those that the user gets when asked about alone."""
    positions, scores = top_items(USERS, ITEMS, 20, EXCLUDE, None, memory, threads)
    for user in range(0, 201, 40):
        alone = top_items(USERS[[user]], ITEMS, 20, EXCLUDE[[user]])
        np.testing.assert_array_equal(positions[[user]], alone[0])
        np.testing.assert_array_equal(scores[[user]], alone[1])


def test_memory_stays_under_its_ceiling():
    """Lists for 3,000 users from 20,000 items, 240 MB of scores, take 8 MiB beside the vectors and the answer."""
    users, items = (DICE.normal(size=(count, 8)).astype(np.float32) for count in (3_000, 20_000))
    tracemalloc.start()
    positions, scores = top_items(users, items, 10, memory_bytes=8 << 20, threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (8 << 20) + 5 * items.nbytes + positions.nbytes + scores.nbytes


def test_what_float32_cannot_tell_apart_is_in_order():
    """200 items whose scores are one number in float32 come in the order of their scores in float64."""
    steps = DICE.permutation(200)
    items = np.stack([np.ones(200), steps * 2.0**-34], axis=1).astype(np.float32)
    positions, _ = top_items(np.ones((1, 2), np.float32), items, 10)
    assert len(np.unique(items.sum(axis=1))) == 1
    assert steps[positions[0]].tolist() == list(range(199, 189, -1))


def test_ties_go_to_the_smaller_position(blocks):
    """When all items score the same, the first n are given in order, also across tiles."""
    positions, _ = top_items(np.ones((2, 1), np.float32), np.ones((99, 1), np.float32), 6)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 5]] * 2


@pytest.mark.parametrize("n", [1, 3, 12])
def test_the_best_of_mostly_zeros_are_those_that_sorting_finds(n):
    """Where few scores are above 0, zeros fill the list by position, then what is below; nothing that is infinite."""
    scores = DICE.choice([-np.inf, -1, 0, 0, 0, 1, 2], size=(60, 12)).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    expected = np.where(np.isfinite(np.take_along_axis(scores, order, axis=1)), order, -1)
    np.testing.assert_array_equal(best_of(scores, n), expected)


def test_a_user_without_a_vector_gets_the_first_items(blocks):
    """To a vector of zeros all items are equal: the first that are allowed and not excluded, each with score 0."""
    cold = np.zeros((1, 8), np.float32)
    exclude, allowed = sparse.csr_matrix(np.eye(1, 90, 3)), np.arange(90) > 0
    positions, scores = top_items(cold, ITEMS, 4, exclude, allowed)
    assert positions.tolist() == [[1, 2, 4, 5]]
    assert scores.tolist() == [[0, 0, 0, 0]]


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


def test_vectors_too_long_for_float32_are_refused():
    """A product of infinity would stand above all others, so vectors that can make one are named before they do."""
    with pytest.raises(ValueError, match=r"user vectors hold numbers up to 1e\+30, item vectors up to 1e\+10"):
        top_items(np.full((1, 8), 1e30, np.float32), np.full((2, 8), 1e10, np.float32), 1)


def test_shapes_must_agree():
    """Vectors of different length, or masks of another catalogue, are refused."""
    with pytest.raises(ValueError, match="user vectors have 8 numbers, item vectors 7"):
        top_items(USERS, ITEMS[:, :7], 3)
    with pytest.raises(ValueError, match="`exclude` has shape"):
        top_items(USERS, ITEMS[:50], 3, EXCLUDE)
    with pytest.raises(ValueError, match="`allowed` has shape"):
        top_items(USERS, ITEMS, 3, None, ALLOWED[:5])
