"""Even users like even items, odd users odd ones; each user's own item is withheld and must come back first."""

import numpy as np
import pytest
from scipy import sparse

from models import als, neighbours
from models.encoder import encode
from models.fusion import LinearBlend, scale_by_user
from models.histories import Histories
from models.item_text import TextTokenizer
from models.profile import ProfileConfig
from models.profile_training import train_encoder, train_history, user_vectors
from models.ranker import LambdaRank

COUNT = 40
LIKES = np.equal.outer(np.arange(COUNT) % 2, np.arange(COUNT) % 2) & ~np.eye(COUNT, dtype=bool)


def als_scores():
    """(U, I) from ALS factors."""
    model = als.fit(sparse.csr_matrix(LIKES, dtype=float), factors=4, regularization=1.0, alpha=5.0, seed=0)
    return model.user_factors @ model.item_factors.T


def profile_scores():
    """(U, I) from histories of items whose titles are nothing but a name; only baskets tell even from odd."""
    titles = [f"thing{number:02d}" for number in range(COUNT)]
    tokenizer = TextTokenizer.train(titles * 2, vocabulary_size=400)
    config = ProfileConfig(tokenizer.vocabulary_size, embedding_size=16, hidden_size=32, heads=2)
    bought = np.stack([np.flatnonzero(row) for row in LIKES])  # (U, H)
    pairs = np.random.default_rng(0).permuted(bought, axis=1)[:, :10].reshape(-1, 2)
    items, popularity = tokenizer.encode_items({"title": titles}), LIKES.sum(axis=0)
    none = np.empty((0, 2), dtype=int)
    settings = {"steps": 150, "batch_size": 64, "learning_rate": 5e-3}
    encoder, _ = train_encoder(items, tokenizer.encode_queries([]), pairs, none, popularity, config, **settings)
    vectors = encode(encoder, items)
    ones = np.ones(bought[:, :-1].shape)
    histories = Histories(bought[:, :-1], ones, ones, ones > 0)
    attention = train_history(vectors, histories, bought[:, -1], popularity, steps=50)
    return user_vectors(attention, vectors, histories)[0] @ vectors.T


def ease_scores():
    """(U, I) from the closed form."""
    likes = sparse.csr_matrix(LIKES, dtype=float)
    return neighbours.ease(likes, regularization=1.0).scores(likes)


def neighbour_scores():
    """(U, I) from sparse neighbours."""
    likes = sparse.csr_matrix(LIKES, dtype=float)
    return neighbours.nearest(likes, "cosine", kept=20).scores(likes)


def blend_scores():
    """(U, I) from a blend of both with noise, its weights learnt on the first half of the users."""
    return _learnt(LinearBlend(["als", "profile", "noise"]))


def ranker_scores():
    """(U, I) from trees over the same."""
    return _learnt(LambdaRank(["als", "profile", "noise"], trees=20, leaves=4, least_rows=10))


def _learnt(ranker):
    noise = np.random.default_rng(0).random((COUNT, COUNT))
    flat = np.stack([als_scores(), profile_scores(), noise], axis=-1).reshape(COUNT * COUNT, 3)
    flat[LIKES.ravel()] = np.nan
    offsets = np.arange(0, COUNT * COUNT + 1, COUNT)
    features = scale_by_user(flat, offsets)
    half = COUNT * COUNT // 2
    withheld = np.eye(COUNT, dtype=bool).ravel()
    ranker.fit(features[:half], offsets[: COUNT // 2 + 1], withheld[:half])
    return ranker.score(features).reshape(COUNT, COUNT)


@pytest.mark.parametrize(
    "scores_of", [als_scores, ease_scores, neighbour_scores, profile_scores, blend_scores, ranker_scores]
)
def test_the_withheld_item_comes_first(scores_of):
    """Among the items that a user does not have yet, the withheld one has the largest score."""
    scores = np.where(LIKES, -np.inf, scores_of())
    assert scores.argmax(axis=1).tolist() == list(range(COUNT))
