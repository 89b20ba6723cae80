"""Alternating least squares on implicit feedback (Hu, Koren and Volinsky, 2008), by `implicit` or Spark's MLlib."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from scipy import sparse
from threadpoolctl import threadpool_limits

from models import stamp
from models.errors import Diverged
from models.least_squares import CURE, LeastSquares
from models.vocabulary import Vocabulary

LARGEST_CONFIDENCE = 1e6  # beyond it single precision stops learning, mostly in silence
LOOSE = 100.0  # conjugate gradients, or other regularisation, may pass the bound of a solution, but not by far


@dataclass
class ALSModel:
    """Factors whose inner product is a user's preference for an item.

    Users and items without interactions have the zero vector, hence score 0. Confidence is
    c = 1 + alpha × weight, preference p = 1 where weight > 0 (section 4).

    Attributes:
        user_factors: (U, F) float32, the exact solution (equation 4) for the training interactions.
        item_factors: (I, F) float32.
    """

    user_factors: np.ndarray
    item_factors: np.ndarray
    regularization: float
    alpha: float

    def fold_in(self, interactions: sparse.csr_matrix) -> np.ndarray:
        """Factors of users from their weights (U', I) alone, by exact solution of equation 4: (U', F) float32."""
        if interactions.shape[1] != len(self.item_factors):
            raise ValueError(f"interactions name {interactions.shape[1]} items, the model {len(self.item_factors)}")
        return self._from_items.rows(_confidences(interactions, self.alpha))

    def fold_in_items(self, interactions: sparse.csr_matrix) -> np.ndarray:
        """Factors of items from the weights (U, I') of their users alone, likewise: (I', F) float32."""
        if interactions.shape[0] != len(self.user_factors):
            raise ValueError(f"interactions name {interactions.shape[0]} users, the model {len(self.user_factors)}")
        confidences = _confidences(interactions, self.alpha).T.tocsr()
        return LeastSquares(self.user_factors, self.regularization).rows(confidences)

    def explain(self, positions: np.ndarray, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """What each event of one user's history adds to the score of each target (section 5).

        Args:
            positions: (H,) distinct items of the history.
            weights: (H,) their weights, as given to `fold_in`.
            targets: (N,) items to explain.
        Returns:
            (N, H) s_ij c_j; row n sums to the folded-in score of targets[n].
        """
        if len(np.unique(positions)) < len(positions):
            raise ValueError("the history names an item twice: add up its weights before explaining")
        c = np.where(weights > 0, 1.0 + self.alpha * np.asarray(weights, dtype=np.float64), 0.0)
        return self._from_items.shares(np.asarray(positions), c, np.asarray(targets))

    def carried(self, before: Vocabulary, now: Vocabulary, interactions: sparse.csr_matrix) -> ALSModel:
        """The same items at the positions of another vocabulary, zero where unknown, and the users (U, I) folded in."""
        positions = now.positions(before.ids)
        item_factors = np.zeros((len(now), self.item_factors.shape[1]), dtype=np.float32)
        item_factors[positions[positions >= 0]] = self.item_factors[positions >= 0]
        return _with_users(item_factors, self.regularization, self.alpha, interactions)

    @cached_property
    def _from_items(self) -> LeastSquares:
        return LeastSquares(self.item_factors, self.regularization)

    def save(self, folder: Path | str, **vocabularies: Vocabulary) -> None:
        """Write factors as .npy, the numbers as JSON, and the stamp of the `users` and `items` they belong to."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "user_factors.npy", self.user_factors)
        np.save(folder / "item_factors.npy", self.item_factors)
        settings = {"regularization": self.regularization, "alpha": self.alpha}
        (folder / "als.json").write_text(json.dumps(settings), encoding="utf-8")
        stamp.write(folder, **{name: vocabulary.hash for name, vocabulary in vocabularies.items()})

    @classmethod
    def load(cls, folder: Path | str, **vocabularies: Vocabulary) -> ALSModel:
        """Map what `save` wrote; raises ForeignVocabulary or Damaged when it is not that of these."""
        folder = Path(folder)
        stamp.check(folder, **vocabularies)
        users, items = (np.load(folder / f"{name}_factors.npy", mmap_mode="r") for name in ("user", "item"))
        return cls(users, items, **json.loads((folder / "als.json").read_text(encoding="utf-8")))


class Learner(Protocol):
    """What alternates: item factors (I, F) float32 from confidences (U, I), zero where nobody met the item."""

    def __call__(
        self,
        confidences: sparse.csr_matrix,
        *,
        factors: int,
        regularization: float,
        epochs: int,
        seed: int,
        threads: int,
    ) -> np.ndarray: ...


def by_implicit(
    confidences: sparse.csr_matrix, *, factors: int, regularization: float, epochs: int, seed: int, threads: int
) -> np.ndarray:
    """Item factors (I, F) that `implicit` alternates to; see `Learner`. Equal arguments give equal bits.

    It takes a stored value as the confidence itself (c = alpha × weight, indefinite below 1), so it is handed
    c = 1 + alpha × weight with its own alpha at 1.
    """
    learner = AlternatingLeastSquares(
        factors=factors,
        regularization=regularization,
        alpha=1.0,
        iterations=epochs,
        random_state=seed,
        num_threads=threads,
    )
    with threadpool_limits(1, "blas"):  # `implicit` brings its own threads
        try:
            learner.fit(confidences.astype(np.float32), show_progress=False)
        except ModelFitError as error:
            raise Diverged(f"ALS left NaN factors: {CURE}") from error
    return learner.item_factors


def fit(
    interactions: sparse.csr_matrix,
    *,
    factors: int = 64,
    regularization: float = 0.1,
    alpha: float = 10.0,
    epochs: int = 15,
    seed: int = 0,
    threads: int = 1,
    teachers: np.ndarray | None = None,
    learn: Learner = by_implicit,
) -> ALSModel:
    """Learn factors from non-negative weights (U, I): items' from the users `teachers` (U,) bool, all without, by
    `learn`, then every user's from the items'.

    Raises:
        ValueError: a weight is negative, not finite or too large, or regularization is not positive.
        Diverged: the factors hold NaN or infinity, or are longer than any solution can be.
    """
    if regularization <= 0:
        raise ValueError(f"regularization is {regularization}: it must be positive for every user to have one solution")
    confidences = _confidences(interactions, alpha)
    taught = confidences if teachers is None else confidences[teachers]
    largest = taught.data.max(initial=0.0)
    if largest > LARGEST_CONFIDENCE:
        raise ValueError(f"the largest confidence is {largest:.3g}: lower alpha {alpha} or cap the interaction weights")
    item_factors = np.zeros((confidences.shape[1], factors), dtype=np.float32)
    if taught.nnz:
        item_factors = learn(
            taught, factors=factors, regularization=regularization, epochs=epochs, seed=seed, threads=threads
        )
        _refuse_broken(item_factors, taught, regularization)
    return _with_users(item_factors, regularization, alpha, interactions)


def _with_users(
    item_factors: np.ndarray, regularization: float, alpha: float, interactions: sparse.csr_matrix
) -> ALSModel:
    """A model of these items, every user of the weights (U, I) folded in."""
    model = ALSModel(np.empty((0, item_factors.shape[1]), dtype=np.float32), item_factors, regularization, alpha)
    model.user_factors = model.fold_in(interactions)
    return model


def _refuse_broken(item_factors: np.ndarray, confidences: sparse.csr_matrix, regularization: float) -> None:
    """Raise Diverged unless factors are finite, and no longer than a solution's: at y = 0 an item's part of the loss
    (equation 3) is Σc, so that no least one has λ|y|² > Σc."""
    if not np.isfinite(item_factors).all():
        raise Diverged(f"ALS left infinite factors: {CURE}")
    squares = np.square(item_factors.astype(np.float64)).sum(axis=1)
    limit = np.asarray(confidences.sum(axis=0)).ravel() / regularization
    exploded = np.count_nonzero(squares > LOOSE * limit)
    if exploded:
        raise Diverged(f"ALS left {exploded} of {len(squares)} items with exploding norms: {CURE}")


def _confidences(interactions: sparse.csr_matrix, alpha: float) -> sparse.csr_matrix:
    """c = 1 + alpha × weight where weight > 0, float64, one entry per user and item."""
    confidences = sparse.csr_matrix(interactions, dtype=np.float64, copy=True)
    confidences.sum_duplicates()
    broken = np.count_nonzero(~np.isfinite(confidences.data) | (confidences.data < 0))
    if broken:
        raise ValueError(f"{broken} interaction weights are negative or not finite: ALS takes weights from 0 up")
    confidences.eliminate_zeros()
    confidences.data = 1.0 + alpha * confidences.data
    return confidences
