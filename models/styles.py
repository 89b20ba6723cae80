"""Styles: how things of one kind differ, in the few directions that recur over all kinds."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

SIZE = 16  # directions; what lies beyond them is no manner but the words of single things
SPARE = 8  # directions that are sought beside them, so that these are found well
ROUNDS = 4  # of the search for them


@dataclass(frozen=True)
class Apart:
    """What sets I items off from the others of their kind: their words less the mean of the kind, of length 1.

    Attributes:
        words: (I, T) what each word weighs.
        means: (K, T) of the kinds.
        kinds: (I,) numbers from 0.
        scale: (I,) one over the length, 0 for an item that is as its kind is.
    """

    words: sparse.csr_matrix
    means: sparse.csr_matrix
    kinds: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, words: sparse.csr_matrix, kinds: np.ndarray) -> "Apart":
        share, places = 1.0 / np.bincount(kinds)[kinds], np.arange(len(kinds))
        means = sparse.csr_matrix(sparse.csr_matrix((share, (kinds, places))) @ words)
        means.sum_duplicates()  # in order, so that looking up is a search
        owner = np.repeat(places, np.diff(words.indptr))
        mean = np.asarray(means[kinds[owner], words.indices]).ravel()  # only where the item has the word
        within = np.bincount(owner, words.data * (words.data - 2 * mean), minlength=len(kinds))
        squares = within + np.asarray(means.multiply(means).sum(axis=1)).ravel()[kinds]
        is_apart = squares > 1e-9
        return cls(words, means, kinds, np.where(is_apart, 1.0 / np.sqrt(np.where(is_apart, squares, 1.0)), 0.0))

    def __matmul__(self, right: np.ndarray) -> np.ndarray:
        """(I, E) from (T, E)."""
        return self.scale[:, None] * (self.words @ right - (self.means @ right)[self.kinds])

    def back(self, left: np.ndarray) -> np.ndarray:
        """(T, E) of the transposed from (I, E)."""
        scaled = self.scale[:, None] * left
        sums = np.zeros((self.means.shape[0], left.shape[1]))
        np.add.at(sums, self.kinds, scaled)
        return self.words.T @ scaled - self.means.T @ sums


def styles(words: sparse.csr_matrix, kinds: np.ndarray) -> np.ndarray:
    """(I, SIZE at most) float32 unit vectors of items in the main directions of Apart, 0 for those that are as all of
    their kind (Halko, Martinsson and Tropp, 2011, *Finding Structure with Randomness*, algorithm 4.4)."""
    apart = Apart.of(words, kinds)
    width = min(SIZE + SPARE, *words.shape)
    found = np.random.default_rng(17).normal(size=(words.shape[1], width))
    for _ in range(ROUNDS):
        found = apart.back(np.linalg.qr(apart @ found)[0])
    basis = np.linalg.qr(apart @ found)[0]  # (I, width)
    turn, sizes, _ = np.linalg.svd(apart.back(basis).T, full_matrices=False)
    vectors = basis @ (turn * sizes)[:, :SIZE]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0.0).astype(np.float32)
