"""Alternating least squares on implicit feedback (Hu, Koren and Volinsky, 2008), trained by `implicit`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from scipy import sparse
from threadpoolctl import threadpool_limits

from models.errors import Diverged

LARGEST_CONFIDENCE = 1e6  # beyond it single precision stops learning, mostly in silence
CURE = "raise regularization, or lower alpha or the largest weights"
FOLD_IN_BYTES = 128 << 20  # what one batch of histories may take while users are folded in


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
        confidences = _confidences(interactions, self.alpha)
        if confidences.shape[1] != len(self.item_factors):
            raise ValueError(f"interactions name {confidences.shape[1]} items, the model {len(self.item_factors)}")
        users = np.zeros((confidences.shape[0], self.item_factors.shape[1]), dtype=np.float32)
        with threadpool_limits(1, "blas"):  # many small systems: a thread pool only gets in the way
            for rows, positions, c in _padded(confidences, self.item_factors.shape[1]):
                users[rows] = _solve(*self._normal_equations(positions, c))
        return users

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
        a, _ = self._normal_equations(np.asarray(positions)[None], c[None])
        history, wanted = (self.item_factors[rows].astype(np.float64) for rows in (positions, targets))
        return wanted @ np.linalg.solve(a[0], history.T) * c

    def _normal_equations(self, positions: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A = YᵀY + Yᵀ(C - I)Y + λI, (B, F, F), and b = YᵀCp, (B, F), of histories (B, H); c = 0 is padding."""
        y = self.item_factors[positions].astype(np.float64)  # (B, H, F)
        weighted = y * np.where(c > 0, c - 1.0, 0.0)[..., None]
        return self._gram + weighted.transpose(0, 2, 1) @ y, (c[:, None, :] @ y)[:, 0]

    @cached_property
    def _gram(self) -> np.ndarray:
        """YᵀY + λI, (F, F) float64: the part of the equations that all users share."""
        y = self.item_factors.astype(np.float64)
        return y.T @ y + self.regularization * np.eye(y.shape[1])

    def save(self, folder: Path | str) -> None:
        """Write factors as .npy and the numbers as JSON."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "user_factors.npy", self.user_factors)
        np.save(folder / "item_factors.npy", self.item_factors)
        settings = {"regularization": self.regularization, "alpha": self.alpha}
        (folder / "als.json").write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> ALSModel:
        """Read what `save` wrote."""
        folder = Path(folder)
        users, items = (np.load(folder / f"{name}_factors.npy", allow_pickle=False) for name in ("user", "item"))
        return cls(users, items, **json.loads((folder / "als.json").read_text(encoding="utf-8")))


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
) -> ALSModel:
    """Learn factors from non-negative weights (U, I): items' from the users `teachers` (U,) bool, all without, then
    every user's from the items'.

    `implicit` takes a stored value as the confidence itself (c = alpha × weight, indefinite below 1), so it is
    handed c = 1 + alpha × weight with its own alpha at 1. Equal arguments give equal bits.

    Raises:
        ValueError: a weight is negative, not finite or too large, or regularization is not positive.
        Diverged: the factors hold NaN or infinity.
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
        item_factors = _item_factors(
            taught,
            factors=factors,
            regularization=regularization,
            alpha=1.0,
            iterations=epochs,
            random_state=seed,
            num_threads=threads,
        )
    model = ALSModel(np.empty((0, factors), dtype=np.float32), item_factors, regularization, alpha)
    model.user_factors = model.fold_in(interactions)
    return model


def _item_factors(confidences: sparse.csr_matrix, **settings: Any) -> np.ndarray:
    """The item factors (I, F) that `implicit` alternates to: finite, and exactly zero where nobody met the item."""
    with threadpool_limits(1, "blas"):  # `implicit` brings its own threads
        learner = AlternatingLeastSquares(**settings)
        try:
            learner.fit(confidences.astype(np.float32), show_progress=False)
        except ModelFitError as error:
            raise Diverged(f"ALS left NaN factors: {CURE}") from error
    if not np.isfinite(learner.item_factors).all():
        raise Diverged(f"ALS left infinite factors: {CURE}")
    return learner.item_factors


def _solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x (B, F) of a x = b for B systems at once."""
    try:
        return np.linalg.solve(a, b[..., None])[..., 0]
    except np.linalg.LinAlgError as error:
        raise Diverged(f"a user's equations have no single solution: {CURE}") from error


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


def _padded(confidences: sparse.csr_matrix, factors: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of users with histories of like length: rows (B,), positions (B, H), confidences (B, H) padded with 0."""
    lengths = np.diff(confidences.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        longest = lengths[order[-1]]
        count = max(FOLD_IN_BYTES // (16 * factors * (longest + factors)), 1)
        rows, order = order[-count:], order[:-count]
        slots = np.arange(longest)
        filled = slots < lengths[rows][:, None]  # (B, H)
        entries = np.where(filled, confidences.indptr[rows][:, None] + slots, 0)
        yield rows, np.where(filled, confidences.indices[entries], 0), np.where(filled, confidences.data[entries], 0.0)
