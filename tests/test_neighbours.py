"""Neighbours: exact against their definitions, and no item is its own."""

import numpy as np
import pytest
from scipy import sparse

from models import neighbours
from models.errors import TooLarge
from models.neighbours import WEIGHTINGS, Neighbours
from models.vocabulary import Vocabulary

SHOP = sparse.csr_matrix([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0]], dtype=float)  # A, B, C; nobody met item 4
RANDOM = sparse.random(60, 40, density=0.2, random_state=3, format="csr")


def every_model(X):
    return [neighbours.ease(X, 1.0), *(neighbours.nearest(X, name) for name in WEIGHTINGS)]


def dense(model):
    return model.similarities.toarray() if sparse.issparse(model.similarities) else model.similarities


def test_ease_is_its_definition():
    """S = I - P / diag(P) with P the inverse of XᵀX + λI."""
    X = RANDOM.toarray()
    P = np.linalg.inv(X.T @ X + 2.0 * np.eye(40))
    np.testing.assert_allclose(np.eye(40) - P / np.diag(P), dense(neighbours.ease(RANDOM, 2.0)), atol=1e-5)


def test_ease_predicts_a_column_by_ridge_regression_on_the_others():
    """Column i of S is what a ridge regression of item i on all other items learns."""
    X = RANDOM.toarray()
    others = np.delete(X, 7, axis=1)
    W = np.linalg.solve(others.T @ others + 2.0 * np.eye(39), others.T @ X[:, 7])
    np.testing.assert_allclose(W, np.delete(dense(neighbours.ease(RANDOM, 2.0))[:, 7], 7), atol=1e-5)


@pytest.mark.parametrize("place", range(4), ids=["ease", *WEIGHTINGS])
def test_carried_neighbours_say_the_same_of_the_same_items(place: int):
    """Item b is gone and item A came, at the first place: what the others say for each other stays, A says nothing."""
    model = every_model(SHOP)[place]
    carried = dense(model.carried(Vocabulary("abcde"), Vocabulary(["A", *"acde"])))
    kept = [0, 2, 3, 4]
    np.testing.assert_array_equal(carried[1:, 1:], dense(model)[np.ix_(kept, kept)])
    assert not carried[0].any()
    assert not carried[:, 0].any()


def test_cosine_of_the_worked_shop():
    """Items 0 and 2 share A of two buyers each: 1/2; items 0 and 3 share C of two and one: 1/√2."""
    expected = [0.0, 0.5, 0.5, 0.7071]
    assert expected == [round(float(value), 4) for value in dense(neighbours.nearest(SHOP))[0, :4]]


def test_the_worked_shop_offers_c_the_item_of_its_companions():
    """C has all but item 2, which A and B took with C's items: it scores above item 4, which nobody met."""
    for model in every_model(SHOP):
        scores = model.scores(SHOP[2:])[0]
        assert scores[2] > scores[4] == 0.0


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_neighbours_are_cosines_of_weighted_columns(weighting):
    """What is kept equals the dense cosine, and nothing larger was left out."""
    W = WEIGHTINGS[weighting](RANDOM).toarray()
    W = W / np.linalg.norm(W, axis=0)
    cosines = W.T @ W
    np.fill_diagonal(cosines, 0.0)
    S = dense(neighbours.nearest(RANDOM, weighting, kept=5))
    assert (np.count_nonzero(S, axis=0) <= 5).all()
    np.testing.assert_allclose(np.sort(cosines, axis=0)[-5:], np.sort(S, axis=0)[-5:], atol=1e-6)


def test_blocks_change_nothing(monkeypatch):
    """Items are taken in blocks for memory alone."""
    whole = dense(neighbours.nearest(RANDOM, kept=5))
    monkeypatch.setattr(neighbours, "ITEMS_PER_BLOCK", 7)
    np.testing.assert_array_equal(whole, dense(neighbours.nearest(RANDOM, kept=5)))


def test_who_takes_everything_says_least_with_tfidf_and_bm25():
    """Items 0 and 1 share the user who has all six, items 2 and 3 one who has just these two."""
    X = sparse.csr_matrix([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]], dtype=float)
    for weighting in ("tfidf", "bm25"):
        S = dense(neighbours.nearest(X, weighting))
        assert S[2, 3] > S[0, 1]


def test_no_item_is_its_own_neighbour_and_strangers_have_none():
    """The diagonal is zero, and so are row and column of an item that nobody met."""
    for model in every_model(SHOP):
        S = dense(model)
        assert not S.diagonal().any()
        assert not S[4].any()
        assert not S[:, 4].any()
        assert np.isfinite(S).all()


def test_equal_arguments_give_equal_bits():
    """Training twice gives the same bytes."""
    for one, other in zip(every_model(RANDOM), every_model(RANDOM), strict=True):
        assert dense(one).tobytes() == dense(other).tobytes()


def test_shares_sum_to_the_score():
    """What each item of a history adds is exact: the row sums to the score."""
    history = RANDOM[5]
    for model in every_model(RANDOM):
        items, targets = (one.ravel() for one in np.meshgrid(history.indices, np.arange(40)))
        shares = model.at(items, targets).reshape(40, -1) * history.data
        np.testing.assert_allclose(shares.sum(axis=1), model.scores(history)[0], atol=1e-5)


def test_saved_neighbours_come_back(tmp_path):
    """Dense and sparse matrices are read as they were written."""
    for number, model in enumerate(every_model(RANDOM)):
        model.save(tmp_path / str(number))
        np.testing.assert_array_equal(dense(model), dense(Neighbours.load(tmp_path / str(number))))


def test_one_item_one_user_and_nobody_have_no_neighbours():
    """The smallest shops train without a warning."""
    for shape in ((1, 1), (3, 2), (0, 2)):
        X = sparse.csr_matrix(shape)
        for model in every_model(X):
            assert not dense(model).any()
            assert (shape[1],) * 2 == model.similarities.shape


def test_a_catalogue_too_large_is_refused():
    """The error says how many items are too many, and what to use."""
    with pytest.raises(TooLarge, match=r"40 items are more than 39.*use `nearest`"):
        neighbours.ease(RANDOM, 1.0, largest=39)


def test_weights_below_zero_and_unknown_weightings_are_refused():
    """Each error names what is wrong and what may be given."""
    with pytest.raises(ValueError, match="1 interaction weights are negative"):
        neighbours.nearest(sparse.csr_matrix([[1.0, -1.0]]))
    with pytest.raises(ValueError, match="take one of cosine, tfidf, bm25"):
        neighbours.nearest(RANDOM, "jaccard")
    with pytest.raises(ValueError, match="regularization is 0"):
        neighbours.ease(RANDOM, 0)
    with pytest.raises(ValueError, match="histories name 3 items, the neighbours 40"):
        neighbours.ease(RANDOM, 1.0).scores(sparse.csr_matrix((1, 3)))
