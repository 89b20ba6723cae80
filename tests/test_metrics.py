import math

import numpy as np
import pytest
from scipy import sparse

from models.metrics import bootstrap_interval, coverage, gini, likeness, ndcg_at, recall_at, top_share

RANKED = np.array([[0, 1, 2], [3, 0, -1], [2, 1, 0], [-1, -1, -1]])
RELEVANT = sparse.csr_matrix([[1, 0, 1, 0], [0, 0, 0, 5], [0, 0, 0, 0], [1, 1, 0, 0]])


def test_recall_is_hits_among_relevant():
    """Recall divides by the number of relevant items, not by k; users with nothing relevant are NaN."""
    np.testing.assert_array_equal(recall_at(RANKED, RELEVANT, 2), [0.5, 1.0, np.nan, 0.0])
    np.testing.assert_array_equal(recall_at(RANKED, RELEVANT, 3), [1.0, 1.0, np.nan, 0.0])


def test_ndcg_discounts_by_rank():
    """Hits at ranks 1 and 3 of two relevant items give (1 + 1/2) / (1 + 1/log2 3)."""
    expected = [(1 + 1 / 2) / (1 + 1 / math.log2(3)), 1.0, np.nan, 0.0]
    np.testing.assert_allclose(ndcg_at(RANKED, RELEVANT, 3), expected)


def test_the_ideal_list_is_cut_at_k():
    """A first item that is relevant is perfect at k = 1, though another relevant item exists."""
    assert ndcg_at(RANKED, RELEVANT, 1)[0] == 1.0


def test_k_may_exceed_the_list():
    """Asking deeper than the lists go changes nothing but the ideal."""
    np.testing.assert_array_equal(recall_at(RANKED, RELEVANT, 10), recall_at(RANKED, RELEVANT, 3))
    np.testing.assert_array_equal(ndcg_at(RANKED, RELEVANT, 10), ndcg_at(RANKED, RELEVANT, 3))


def test_padding_is_never_a_hit():
    """-1 is no item, not even the last item of the user before."""
    relevant = sparse.csr_matrix([[0, 1], [1, 0]])
    assert recall_at(np.array([[0, -1], [-1, -1]]), relevant, 2).tolist() == [0.0, 0.0]


def test_stored_zeros_and_duplicates_are_not_relevant_twice():
    """A stored zero is not relevant, and an entry stored twice is one item."""
    relevant = sparse.csr_matrix((np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    assert recall_at(np.array([[0, 1]]), relevant, 1).tolist() == [1.0]


def test_a_list_that_repeats_an_item_is_refused():
    """One hit must not count twice."""
    with pytest.raises(ValueError, match="1 ranked lists name an item twice"):
        recall_at(np.array([[0, 0], [1, 0]]), sparse.csr_matrix([[1, 1], [1, 1]]), 2)


def test_coverage_counts_items_once():
    """Four different items in the lists of a catalogue of eight cover half of it."""
    assert coverage(RANKED, 8) == 0.5


def test_the_interval_holds_the_mean_and_repeats():
    """The interval surrounds the mean, narrows with more values, ignores NaN, and is a function of its seed."""
    values = np.random.default_rng(1).normal(3.0, 1.0, 400)
    mean, low, high = bootstrap_interval(values, seed=7)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(400), rel=0.15)
    assert (mean, low, high) == bootstrap_interval(np.append(values, np.nan), seed=7)
    assert (mean, low, high) != bootstrap_interval(values, seed=8)


def test_no_values_no_interval():
    """Without a single known value all three numbers are NaN."""
    assert np.isnan(bootstrap_interval(np.array([np.nan]), seed=0)).all()


def test_gini_tells_even_lists_from_lists_of_few():
    """Every item once is even; one item for all is as uneven as four items can be."""
    assert gini(np.array([[0, 1], [2, 3]]), 4) == 0
    assert gini(np.array([[0, -1], [0, -1]]), 4) == 0.75
    assert np.isnan(gini(np.array([[-1]]), 4))


def test_the_most_shown_items_have_their_share_of_the_rows():
    """Of four items a half are two: three of four rows; a hundredth is at least one item."""
    ranked = np.array([[0, 1], [0, 2]])
    assert top_share(ranked, 4, 0.5) == 0.75
    assert top_share(ranked, 4) == 0.5


def test_likeness_is_over_pairs_of_different_rows():
    """Two equal items, two unlike ones; a list of one row has no pair."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert likeness(np.array([[0, 1], [0, 2], [1, -1]]), vectors) == 0.5
    assert np.isnan(likeness(np.array([[1, -1]]), vectors))
