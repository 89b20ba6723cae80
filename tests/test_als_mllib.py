"""Spark's MLlib learns behind the interface of `implicit`, by a regularisation that means the same."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from models import als, metrics, retrieval
from models.als_mllib import by_mllib
from pipelines import settings, spark

pytestmark = pytest.mark.slow
COUNT = 40
LIKES = np.equal.outer(np.arange(COUNT) % 2, np.arange(COUNT) % 2) & ~np.eye(COUNT, dtype=bool)
SMALL = {"factors": 8, "alpha": 1.0, "epochs": 6, "seed": 3}


@pytest.fixture(scope="module")
def learn(tmp_path_factory):
    """MLlib in a session of its own."""
    run = SimpleNamespace(home=tmp_path_factory.mktemp("home"), run_id="r", settings=settings.Settings())
    with spark.session(run, 1) as session:
        session.sparkContext.setCheckpointDir(str(run.home / "checkpoints"))
        yield partial(by_mllib, session)


def split(seed: int = 5) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """(U, I) what 200 users of four tastes met, and an item of each user's that is to be foretold."""
    dice = np.random.default_rng(seed)
    taste = np.arange(200) % 4
    met = dice.random((200, 80)) < np.where(np.arange(80) % 4 == taste[:, None], 0.4, 0.03)
    out = np.where(met, dice.random(met.shape), -1.0).argmax(axis=1)
    test = np.zeros_like(met)
    test[np.arange(200), out] = met[np.arange(200), out]
    return sparse.csr_matrix(met & ~test, dtype=float), sparse.csr_matrix(test, dtype=float)


def ndcg(model: als.ALSModel, train: sparse.csr_matrix, test: sparse.csr_matrix) -> float:
    asked = np.flatnonzero(np.diff(test.indptr))
    ranked, _ = retrieval.top_items(model.user_factors[asked], model.item_factors, 20, train[asked])
    return float(np.mean(metrics.ndcg_at(ranked, test[asked], 20)))


def test_the_withheld_item_comes_first(learn):
    """Even users like even items: of what a user lacks, the withheld item has the largest score."""
    likes = sparse.csr_matrix(LIKES, dtype=float)
    model = als.fit(likes, factors=4, regularization=1.0, alpha=5.0, epochs=6, learn=learn)
    scores = np.where(LIKES, -np.inf, model.user_factors @ model.item_factors.T)
    assert scores.argmax(axis=1).tolist() == list(range(COUNT))


def test_regularisation_means_the_same(learn):
    """With equally many pairs in each row both minimise one loss: the scores of all pairs agree, users and items too
    few to say otherwise, whichever side is the longer."""
    likes = sparse.csr_matrix(np.tile(LIKES, (3, 1)), dtype=float)  # 39 pairs a user, three times as many an item
    told = {"factors": 2, "regularization": 20.0, "alpha": 2.0, "epochs": 10}
    one, other = (als.fit(likes, **told, learn=by) for by in (als.by_implicit, learn))
    scores = [model.user_factors @ model.item_factors.T for model in (one, other)]
    np.testing.assert_allclose(scores[1], scores[0], atol=0.02)
    lengths = [np.linalg.norm(model.item_factors) for model in (one, other)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.05)


def test_it_foretells_as_well_as_implicit(learn):
    """On users of four tastes NDCG@20 is within a tenth, and items that nobody met have the zero vector."""
    train, test = split()
    met = sparse.diags((np.arange(80) < 79).astype(float))
    train, test = (sparse.csr_matrix(one @ met) for one in (train, test))
    train.eliminate_zeros()
    test.eliminate_zeros()
    models = [als.fit(train, regularization=5.0, **SMALL, learn=by) for by in (als.by_implicit, learn)]
    local, spread = (ndcg(model, train, test) for model in models)
    assert local > 0.2
    assert spread > 0.9 * local
    assert not models[1].item_factors[79].any()
    assert np.isfinite(models[1].user_factors).all()
