"""Item-item models: what else people take who took this, exact for a catalogue that fits, sparse for a larger one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from models.errors import Diverged, TooLarge
from models.vocabulary import Vocabulary

ITEMS_PER_BLOCK = 1024  # items whose likeness to all others stands in memory at once
BM25_K1, BM25_B = 1.2, 0.75  # how soon repeats stop counting, and how much a long history is discounted


@dataclass
class Neighbours:
    """How much one item of a history speaks for another item.

    Attributes:
        similarities: (I, I) float32, dense or CSR; cell (j, i) is what item j says for item i. The diagonal is zero,
            and so are row and column of an item that nobody met.
    """

    similarities: np.ndarray | sparse.csr_matrix

    def scores(self, histories: sparse.csr_matrix) -> np.ndarray:
        """X S for a block of users with weights (B, I): (B, I) float32."""
        self._check(histories.shape[1])
        product = histories.astype(np.float32) @ self.similarities
        return product.toarray() if sparse.issparse(product) else product

    def at(self, items: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(P,) float32 S_jn of pairs of an item (P,) and a target (P,): times the item's weight, as given to `scores`,
        what it adds to the target's score."""
        told = self.similarities[items, targets]
        return np.asarray(told, dtype=np.float32).ravel()

    def _check(self, count_items: int) -> None:
        if count_items != self.similarities.shape[0]:
            raise ValueError(f"histories name {count_items} items, the neighbours {self.similarities.shape[0]}")

    def carried(self, before: Vocabulary, now: Vocabulary) -> Neighbours:
        """The same items at the positions of another vocabulary; the unknown have nothing to say."""
        places = now.positions(before.ids)
        kept = np.flatnonzero(places >= 0)
        if isinstance(self.similarities, np.ndarray):
            similarities = np.zeros((len(now), len(now)), dtype=np.float32)
            similarities[np.ix_(places[kept], places[kept])] = self.similarities[np.ix_(kept, kept)]
            return Neighbours(similarities)
        cells = self.similarities[kept][:, kept].tocoo()
        told = cells.data, (places[kept][cells.row], places[kept][cells.col])
        return Neighbours(sparse.csr_matrix(told, shape=(len(now), len(now))))

    def save(self, folder: Path | str) -> None:
        """Write neighbours.npy, or neighbours.npz where they are sparse."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if sparse.issparse(self.similarities):
            sparse.save_npz(folder / "neighbours.npz", self.similarities)
        else:
            np.save(folder / "neighbours.npy", self.similarities)

    @classmethod
    def load(cls, folder: Path | str) -> Neighbours:
        """Read what `save` wrote; a dense matrix is mapped, not copied."""
        dense = Path(folder) / "neighbours.npy"
        if dense.exists():
            return cls(np.load(dense, mmap_mode="r", allow_pickle=False))
        return cls(sparse.csr_matrix(sparse.load_npz(Path(folder) / "neighbours.npz")))


def ease(interactions: sparse.csr_matrix, regularization: float, largest: int = 20_000) -> Neighbours:
    """The linear map from a history to itself with no item explaining itself (Steck, 2019, equation 8).

    G = XᵀX + λI, P = G⁻¹, S = I - P / diag(P). Takes 8 I² bytes and I³ steps.

    Args:
        interactions: (U, I) weights from 0 up.
        regularization: λ, positive; about the number of users who must share two items before it counts.
        largest: items above which it is refused.
    Raises:
        TooLarge: the catalogue has more than `largest` items.
        Diverged: single precision finds no inverse.
    """
    X = _checked(interactions)
    count_items = X.shape[1]
    if regularization <= 0:
        raise ValueError(f"regularization is {regularization}: it must be positive for the inverse to exist")
    if count_items > largest:
        raise TooLarge(f"{count_items} items are more than {largest} for a dense item × item matrix: use `nearest`")
    met = np.flatnonzero(np.diff(X.tocsc().indptr))
    S = np.zeros((count_items, count_items), dtype=np.float32)
    if len(met):
        S[np.ix_(met, met)] = _ease(X[:, met], regularization)
    return Neighbours(S)


def _ease(X: sparse.csr_matrix, regularization: float) -> np.ndarray:
    """S (I, I) of items that all have a history."""
    G = np.asarray((X.T @ X).toarray(), dtype=np.float32, order="F")
    G[np.diag_indices_from(G)] += regularization
    with threadpool_limits(1, "blas"):  # equal bits whatever the machine's threads
        factor, broken = lapack.spotrf(G, lower=1, overwrite_a=1)
        P, failed = (factor, broken) if broken else lapack.spotri(factor, lower=1, overwrite_c=1)
    if broken or failed or not np.isfinite(P).all():
        raise Diverged("EASE finds no inverse: raise regularization, or lower the largest weights")
    P = np.tril(P) + np.tril(P, -1).T
    S = -P / np.diag(P)  # column i is divided by P_ii
    np.fill_diagonal(S, 0.0)
    return S


def nearest(interactions: sparse.csr_matrix, weighting: str = "cosine", kept: int = 100) -> Neighbours:
    """The `kept` items that share most users with each item, by cosine of their weighted columns.

    Args:
        interactions: (U, I) weights from 0 up.
        weighting: how a cell speaks, one of WEIGHTINGS (`cosine`: as it is).
        kept: neighbours of an item, ties to the smaller position; memory is I × kept.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"{weighting!r} is no weighting: take one of {', '.join(WEIGHTINGS)}")
    columns = WEIGHTINGS[weighting](_checked(interactions)).T.tocsr()  # (I, U)
    lengths = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=1)).ravel())
    columns = _scaled_rows(columns, np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0))
    everyone = columns.T.tocsr()
    starts = range(0, columns.shape[0], ITEMS_PER_BLOCK)
    blocks = [_largest(columns[start : start + ITEMS_PER_BLOCK] @ everyone, start, kept) for start in starts]
    likeness = sparse.vstack(blocks) if blocks else sparse.csr_matrix(columns.shape[:1] * 2)
    return Neighbours(likeness.T.tocsr().astype(np.float32))


def _largest(likeness: sparse.csr_matrix, first: int, kept: int) -> sparse.csr_matrix:
    """The `kept` largest cells of each row, without the item itself; row r is item `first` + r."""
    row, column = np.repeat(np.arange(likeness.shape[0]), np.diff(likeness.indptr)), likeness.indices
    others = column != row + first
    row, column, value = row[others], column[others], likeness.data[others]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    top = place < kept
    return sparse.csr_matrix((value[top], (row[top], column[top])), shape=likeness.shape)


def _tfidf(X: sparse.csr_matrix) -> sparse.csr_matrix:
    """√x · log((1 + I) / (1 + items of the user)): who takes everything says little about anything."""
    return _scaled_rows(X.sqrt(), np.log((1.0 + X.shape[1]) / (1.0 + np.diff(X.indptr))))


def _bm25(X: sparse.csr_matrix) -> sparse.csr_matrix:
    """Robertson and Zaragoza (2009), equation 3.15: items are documents, users are terms."""
    count_items = X.shape[1]
    lengths = np.asarray(X.sum(axis=0)).ravel()  # (I,)
    mean = lengths.sum() / max(np.count_nonzero(lengths), 1)
    discount = BM25_K1 * (1.0 - BM25_B + BM25_B * lengths / max(mean, 1e-12))
    counts = np.diff(X.indptr)
    rarity = np.log1p((count_items - counts + 0.5) / (counts + 0.5))  # (U,)
    weighted = X.copy()
    weighted.data = X.data * (BM25_K1 + 1.0) / (X.data + discount[X.indices])
    return _scaled_rows(weighted, rarity)


WEIGHTINGS: dict[str, Callable[[sparse.csr_matrix], sparse.csr_matrix]] = {
    "cosine": lambda X: X,
    "tfidf": _tfidf,
    "bm25": _bm25,
}


def _scaled_rows(matrix: sparse.csr_matrix, factors: np.ndarray) -> sparse.csr_matrix:
    """Each row times its factor."""
    scaled = matrix.copy()
    scaled.data = scaled.data * np.repeat(factors, np.diff(scaled.indptr))
    return scaled


def _checked(interactions: sparse.csr_matrix) -> sparse.csr_matrix:
    """(U, I) float64, one positive entry per user and item."""
    X = sparse.csr_matrix(interactions, dtype=np.float64, copy=True)
    X.sum_duplicates()
    broken = np.count_nonzero(~np.isfinite(X.data) | (X.data < 0))
    if broken:
        raise ValueError(f"{broken} interaction weights are negative or not finite: neighbours take weights from 0 up")
    X.eliminate_zeros()
    return X
