"""The sieve on a device gives the lists of the processor, to the last bit; tested on PyTorch's own processor."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from models import retrieval_torch
from models.retrieval import LOWEST, Excluded, Items, top_items
from models.retrieval_torch import DeviceSieve

DICE = np.random.default_rng(5)
USERS = DICE.normal(size=(75, 8)).astype(np.float32)
ITEMS = DICE.normal(size=(400, 8)).astype(np.float32)
EXCLUDE = sparse.random_array((75, 400), density=0.2, rng=DICE, format="csr")
ALLOWED = DICE.random(400) < 0.7
NOBODY = Excluded.in_order(None, slice(0), Items.longest_first(ITEMS, None))
SIEVE = retrieval_torch.on("cpu")


def assert_same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n", [1, 20, 500])
@pytest.mark.parametrize(("memory", "threads"), [(1 << 18, 1), (64 << 20, 3)])
def test_lists_and_scores_are_those_of_the_processor(n: int, memory: int, threads: int):
    """Whatever the tiles: also for a user without a vector, equal items, and lists longer than the shop."""
    users, items = USERS.copy(), ITEMS.copy()
    users[3], items[5:9] = 0, items[4]
    expected = top_items(users, items, n, EXCLUDE, ALLOWED)
    assert_same(top_items(users, items, n, EXCLUDE, ALLOWED, memory, threads, SIEVE), expected)


@settings(max_examples=40, deadline=None)
@given(
    users=arrays(np.float32, (5, 3), elements=st.integers(-2, 2)),
    items=arrays(np.float32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.integers(-2, 2)),
    n=st.integers(1, 20),
    memory=st.integers(1, 20_000),
    data=st.data(),
)
def test_ties_go_to_the_smaller_position(users, items, n, memory, data):
    """Small whole numbers tie everywhere, and every list is still that of the processor."""
    exclude = sparse.csr_matrix(data.draw(arrays(np.int8, (5, len(items)), elements=st.integers(0, 1))))
    allowed = data.draw(arrays(bool, len(items)))
    expected = top_items(users, items, n, exclude, allowed)
    assert_same(top_items(users, items, n, exclude, allowed, memory, sieve=SIEVE), expected)


def test_what_float32_cannot_tell_apart_is_in_order():
    """The least score let through is told rightly, so that near ones beyond it are looked at."""
    steps = DICE.permutation(200)
    items = np.stack([np.ones(200), steps * 2.0**-34], axis=1).astype(np.float32)
    positions, _ = top_items(np.ones((1, 2), np.float32), items, 10, sieve=SIEVE)
    assert steps[positions[0]].tolist() == list(range(199, 189, -1))


def test_tiles_beyond_everybodys_reach_are_left_out(monkeypatch: pytest.MonkeyPatch):
    """Where 40 of 400 items are long, one tile is multiplied; a user without a vector keeps none at work."""
    seen, scores = [], DeviceSieve._scores
    monkeypatch.setattr(DeviceSieve, "_scores", lambda *told: seen.append(told[2]) or scores(*told))
    vectors, users = ITEMS.copy(), USERS.copy()
    vectors[:40] *= 1000
    users[3] = 0
    items = Items.longest_first(vectors, None)
    sieve = SIEVE(items, 40 * len(users) * retrieval_torch.BYTES_PER_SCORE)
    sieve(users, np.linalg.norm(users, axis=1), 5, NOBODY)
    assert seen == [slice(0, 40)]


def test_fewer_items_than_are_kept_leave_no_bar():
    """A user who may be given all that there is has no least score: nothing was left out."""
    items = Items.longest_first(ITEMS[:3], None)
    keys, least = SIEVE(items, 1 << 20)(USERS, np.linalg.norm(USERS, axis=1), 9, NOBODY)
    assert keys.shape == (75, 9)
    assert (least == LOWEST).all()


def test_products_of_less_than_float32_are_refused():
    """Their errors are larger than the bound that says whose list is sure."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError, match="multiplied at precision 'high'"):
            top_items(USERS, ITEMS, 3, sieve=SIEVE)
    finally:
        torch.set_float32_matmul_precision(before)
