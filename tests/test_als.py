import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse

from models import als
from models.als import ALSModel, fit
from models.errors import Damaged, Diverged, ForeignVocabulary
from models.retrieval import top_items
from models.vocabulary import Vocabulary

SETTINGS = {"factors": 6, "regularization": 0.05, "alpha": 4.0, "epochs": 8, "seed": 1, "threads": 1}


def shop(users=40, items=30):
    """Weights (U, I) in which the last user and the last item have nothing."""
    dice = np.random.default_rng(5)
    weights = dice.random((users, items)) * (dice.random((users, items)) < 0.3)
    weights[-1], weights[:, -1] = 0, 0
    return sparse.csr_matrix(weights)


def test_folding_in_solves_equation_four():
    """x = (YᵀCY + λI)⁻¹ YᵀCp with c = 1 + alpha × weight, written out with dense matrices."""
    weights = shop()
    model = fit(weights, **SETTINGS)
    y, w = model.item_factors.astype(float), weights[3].toarray()[0]
    c, p = 1 + 4.0 * w, (w > 0).astype(float)
    expected = np.linalg.solve(y.T @ np.diag(c) @ y + 0.05 * np.eye(6), y.T @ (c * p))
    np.testing.assert_allclose(model.fold_in(weights[3])[0], expected, rtol=1e-5, atol=1e-6)


def test_a_history_longer_or_shorter_than_the_factors_solves_the_same_equations():
    """Both forms of the equations, F of them or one per event, agree with a dense solve for every user."""
    weights = shop()
    for factors in (3, 25):
        model = fit(weights, **{**SETTINGS, "factors": factors})
        y, c = model.item_factors.astype(float), np.where(weights.toarray() > 0, 1 + 4.0 * weights.toarray(), 0)
        left = [y.T @ np.diag(np.where(one > 0, one, 1)) @ y + 0.05 * np.eye(factors) for one in c]
        expected = np.stack([np.linalg.solve(a, y.T @ one) for a, one in zip(left, c, strict=True)])
        np.testing.assert_allclose(model.user_factors, expected, rtol=1e-5, atol=1e-5)


def test_folding_in_items_is_folding_in_users_of_the_transposed_shop():
    """y = (XᵀCX + λI)⁻¹ XᵀCp, written out with dense matrices; an item that nobody met is zero."""
    weights = shop()
    model = fit(weights, **SETTINGS)
    x, w = model.user_factors.astype(float), weights[:, [3]].toarray()[:, 0]
    c, p = 1 + 4.0 * w, (w > 0).astype(float)
    expected = np.linalg.solve(x.T @ np.diag(c) @ x + 0.05 * np.eye(6), x.T @ (c * p))
    folded = model.fold_in_items(weights[:, [3, 29]])
    np.testing.assert_allclose(folded[0], expected, rtol=1e-5, atol=1e-5)
    assert not folded[1].any()
    with pytest.raises(ValueError, match="interactions name 39 users, the model 40"):
        model.fold_in_items(weights[1:])


def test_training_ends_in_a_folded_in_user():
    """User factors of the model are those that folding in gives, so a new user is treated as an old one."""
    weights = shop()
    model = fit(weights, **SETTINGS)
    np.testing.assert_array_equal(model.user_factors, model.fold_in(weights))


def test_batches_of_histories_do_not_mix(monkeypatch):
    """Folding in users one by one gives what folding in all at once gives."""
    weights = shop()
    model = fit(weights, **SETTINGS)
    monkeypatch.setattr("models.least_squares.BATCH_BYTES", 1)
    np.testing.assert_allclose(model.fold_in(weights), model.user_factors, atol=1e-6)


def test_nothing_known_is_the_zero_vector():
    """Users and items without interactions score exactly 0; a stored zero is no interaction."""
    stored = shop()
    stored.indices, stored.data = np.append(stored.indices, 0), np.append(stored.data, 0.0)
    stored.indptr[-1] += 1
    model = fit(stored, **SETTINGS)
    assert not model.user_factors[-1].any()
    assert not model.item_factors[-1].any()
    assert model.user_factors[:-1].any(axis=1).all()


def test_who_does_not_teach_is_folded_in():
    """Items are as without the first users, to the bit, and everybody has a vector."""
    weights, teachers = shop(), np.arange(40) >= 3
    weights[0] *= 1e9  # more than anybody could learn from
    model = fit(weights, teachers=teachers, **SETTINGS)
    np.testing.assert_array_equal(model.item_factors, fit(weights[3:], **SETTINGS).item_factors)
    assert model.user_factors[:-1].any(axis=1).all()


def test_contributions_sum_to_the_score():
    """The history's contributions to each target add up to its folded-in score (section 5)."""
    weights = shop()
    model = fit(weights, **SETTINGS)
    history, targets = weights[7], np.arange(30)
    contributions = model.explain(history.indices, history.data, targets)
    assert contributions.shape == (30, history.nnz)
    np.testing.assert_allclose(contributions.sum(axis=1), model.item_factors @ model.user_factors[7], atol=1e-5)


def test_an_event_without_weight_explains_nothing():
    """Weight 0 contributes 0 and leaves the other contributions as they were; an empty history explains nothing."""
    model = fit(shop(), **SETTINGS)
    with_zero = model.explain(np.array([2, 5, 9]), np.array([1.0, 0.0, 2.0]), np.array([4]))
    without = model.explain(np.array([2, 9]), np.array([1.0, 2.0]), np.array([4]))
    assert with_zero[0, 1] == 0
    np.testing.assert_allclose(with_zero[:, [0, 2]], without)
    assert model.explain(np.array([], int), np.array([]), np.array([4, 5])).shape == (2, 0)


def test_a_history_names_each_item_once():
    """Two rows for one item would count its confidence of 1 twice, so they are refused."""
    with pytest.raises(ValueError, match="names an item twice"):
        fit(shop(), **SETTINGS).explain(np.array([2, 2]), np.ones(2), np.array([4]))


def test_equal_seeds_equal_bits():
    """Two fits agree to the bit, with any number of threads; another seed differs."""
    first, again = fit(shop(), **SETTINGS), fit(shop(), **{**SETTINGS, "threads": 2})
    np.testing.assert_array_equal(first.item_factors, again.item_factors)
    np.testing.assert_array_equal(first.user_factors, again.user_factors)
    assert not np.array_equal(first.item_factors, fit(shop(), **{**SETTINGS, "seed": 2}).item_factors)


def test_a_saved_model_comes_back(tmp_path):
    """Saving and loading keeps every bit, and no file of the folder is a pickle."""
    model = fit(shop(), **SETTINGS)
    model.save(tmp_path / "als")
    loaded = ALSModel.load(tmp_path / "als")
    np.testing.assert_array_equal(loaded.fold_in(shop()), model.user_factors)
    assert (loaded.regularization, loaded.alpha) == (0.05, 4.0)
    assert {file.suffix for file in (tmp_path / "als").iterdir()} == {".npy", ".json"}


def test_a_model_of_other_ids_is_refused(tmp_path):
    """Factors are read only beside the users and items that they were learnt for."""
    users, items = (Vocabulary(f"{kind}{n}" for n in range(count)) for kind, count in (("u", 40), ("i", 30)))
    fit(shop(), **SETTINGS).save(tmp_path, users=users, items=items)
    assert ALSModel.load(tmp_path, users=users, items=items).alpha == 4.0
    with pytest.raises(ForeignVocabulary, match="made for items that hash to"):
        ALSModel.load(tmp_path, users=users, items=Vocabulary([*items.ids[1:], "new"]))


@pytest.mark.parametrize("file", ["user_factors.npy", "als.json"])
def test_a_model_that_is_not_as_it_was_written_is_refused(tmp_path, file: str):
    """One byte that changed on a bad disk, or a file that is gone: the message names the file, and what to remove."""
    users, items = (Vocabulary(f"{kind}{n}" for n in range(count)) for kind, count in (("u", 40), ("i", 30)))
    folder = tmp_path / "train_als" / "final"
    fit(shop(), **SETTINGS).save(folder, users=users, items=items)
    path, content = folder / file, bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=rf"{file} is not the file that was written there. Remove .*train_als, and"):
        ALSModel.load(folder, users=users, items=items)
    path.unlink()
    with pytest.raises(Damaged, match=file):
        ALSModel.load(folder, users=users, items=items)


def test_a_model_without_a_stamp_is_refused(tmp_path):
    """Whoever asks for certain ids does not get a model of which nobody knows whose it is."""
    fit(shop(), **SETTINGS).save(tmp_path)
    with pytest.raises(ForeignVocabulary, match="made for users that hash to None"):
        ALSModel.load(tmp_path, users=Vocabulary(["u"]))


def test_factors_move_with_their_items():
    """In another vocabulary every item keeps its factors, a new one has none, and users are folded in as ever."""
    weights, before = shop(), Vocabulary(f"i{n:02d}" for n in range(30))
    model = fit(weights, **SETTINGS)
    now = Vocabulary(["a-new-one", *before.ids[5:]])
    moved = model.carried(before, now, sparse.hstack([weights[:, [0]], weights[:, 5:]], format="csr"))
    assert not moved.item_factors[0].any()
    np.testing.assert_array_equal(moved.item_factors[1:], model.item_factors[5:])
    np.testing.assert_array_equal(moved.user_factors, moved.fold_in(sparse.hstack([weights[:, [0]], weights[:, 5:]])))


def test_who_has_everything_and_who_has_nothing():
    """A user who bought everything has a finite vector, likes every item, and takes nobody else's list away."""
    weights = shop()
    weights = sparse.vstack([weights, np.ones((1, 30))], format="csr")
    model = fit(weights, **SETTINGS)
    assert (model.item_factors[:-1] @ model.user_factors[-1] > 0).all()
    assert np.isfinite(model.user_factors).all()


def test_equal_scores_are_ranked_by_position():
    """Where all users bought all items nothing tells them apart, and the lists are in the order of the catalogue."""
    model = fit(sparse.csr_matrix(np.ones((5, 4))), **{**SETTINGS, "factors": 2})
    scores = model.user_factors @ model.item_factors.T
    np.testing.assert_allclose(scores, scores[0, 0], atol=1e-2)
    ranked, _ = top_items(np.zeros((5, 2), np.float32), model.item_factors, 4)
    assert ranked.tolist() == [[0, 1, 2, 3]] * 5


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (0, 4), (4, 0), (0, 0)])
def test_more_factors_than_shop(shape):
    """A shop smaller than the number of factors, or empty, still gives finite factors of the right shape."""
    model = fit(sparse.csr_matrix(np.ones(shape)), **{**SETTINGS, "factors": 50})
    assert (model.user_factors.shape, model.item_factors.shape) == ((shape[0], 50), (shape[1], 50))
    assert np.isfinite(model.user_factors).all()
    assert np.isfinite(model.item_factors).all()


@pytest.mark.parametrize("scale", [1e30, 1e36])
def test_divergence_names_its_cure(monkeypatch, scale):
    """Numbers beyond single precision end in an error that says what to turn, not in NaN scores."""
    monkeypatch.setattr(als, "LARGEST_CONFIDENCE", np.inf)
    with pytest.raises(Diverged, match="raise regularization"):
        fit(shop() * scale, **SETTINGS)


def test_infinite_factors_are_divergence(monkeypatch):
    """`implicit` looks for NaN only; infinity is refused as well."""
    fitted = AlternatingLeastSquares.fit
    monkeypatch.setattr(
        AlternatingLeastSquares,
        "fit",
        lambda self, *args, **options: (fitted(self, *args, **options), self.item_factors.fill(np.inf)),
    )
    with pytest.raises(Diverged, match="infinite factors"):
        fit(shop(), **SETTINGS)


def test_exploding_norms_are_divergence(monkeypatch):
    """An item's factors longer than any solution's are refused though they are finite."""
    fitted = AlternatingLeastSquares.fit
    monkeypatch.setattr(
        AlternatingLeastSquares,
        "fit",
        lambda self, *args, **options: (fitted(self, *args, **options), self.item_factors.fill(1e6)),
    )
    with pytest.raises(Diverged, match="30 of 30 items with exploding norms: raise regularization"):
        fit(shop(), **SETTINGS)


def test_weights_beyond_precision_are_refused():
    """Far too large weights would leave the factors at their random start, which nobody would notice."""
    with pytest.raises(ValueError, match=r"lower alpha 4\.0 or cap the interaction weights"):
        fit(shop() * 1e7, **SETTINGS)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_are_non_negative(bad):
    """A negative or missing weight is an error of the rows, counted before training."""
    with pytest.raises(ValueError, match="1 interaction weights"):
        fit(sparse.csr_matrix([[1.0, bad]]), **SETTINGS)


def test_regularization_is_positive():
    """Without regularization a user may have many solutions."""
    with pytest.raises(ValueError, match="regularization is 0"):
        fit(shop(), **{**SETTINGS, "regularization": 0})
