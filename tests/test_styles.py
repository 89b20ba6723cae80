"""Styles: what sets things off from their kind, where the same sets things of other kinds off from theirs."""

import numpy as np
import pandas as pd
from scipy import sparse

from models.styles import SIZE, Apart, styles
from pipelines.search.leanings import written
from pipelines.search.lexical import Lexical

KINDS = np.repeat(np.arange(6), 4)  # four things of each of six kinds
MANNER = np.tile([0, 0, 1, 1], 6)  # two of a kind are plain, two are ornate


def shop() -> sparse.csr_matrix:
    """(24, 32) words: one of the kind, one of the manner, and one that no other thing has."""
    told = np.zeros((24, 32))
    told[np.arange(24), KINDS] = 3
    told[np.arange(24), 6 + MANNER] = 1
    told[np.arange(24), 8 + np.arange(24)] = 0.3
    return sparse.csr_matrix(told)


def test_things_of_one_manner_are_alike_whatever_they_are():
    """The first direction is the manner; the kind's own word is none."""
    found = styles(shop(), KINDS)
    alike = (found @ found.T)[0]
    assert found.shape == (24, SIZE)
    assert alike[MANNER == 0].min() > 0.5 > -0.5 > alike[MANNER == 1].max()


def test_the_search_finds_what_the_whole_decomposition_has():
    """The directions are those of the singular vectors of the words less the mean of their kind."""
    dense = np.random.default_rng(5).normal(size=(24, 32)) * 0.8 ** np.arange(32)
    apart = dense - np.stack([dense[kind == KINDS].mean(axis=0) for kind in KINDS])
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    words = sparse.csr_matrix(dense)
    np.testing.assert_allclose(Apart.of(words, KINDS) @ np.eye(32), apart, atol=1e-12)
    left, sizes, _ = np.linalg.svd(apart)
    vectors = left[:, :SIZE] * sizes[:SIZE]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = styles(words, KINDS)
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-3)


def test_who_is_alone_or_as_all_others_has_no_style():
    """One of its kind, and twins."""
    words = sparse.csr_matrix(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert not styles(words, np.array([0, 1, 1])).any()


def test_a_catalogue_without_words_has_no_styles():
    """Titles of one word each, which no other has; and nothing written at all."""
    goods = pd.DataFrame({"item_id": list("abc"), "title": ["one", "two", ""], "category": ["x", "x", None]})
    goods = goods.assign(description=None, brand=None)
    assert not written(goods, Lexical.of(goods, "english")).any()
