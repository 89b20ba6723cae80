"""One half-step of alternating least squares, solved exactly: the rows of one side from the factors of the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from models.errors import Diverged

CURE = "raise regularization, or lower alpha or the largest weights"
BATCH_BYTES = 128 << 20  # what one batch of rows may take while it is solved


class LeastSquares:
    """Solves x = (YᵀCY + λI)⁻¹ YᵀCp (Hu, Koren and Volinsky, 2008, equation 4) for many x and one Y.

    What all x share is G = YᵀY + λI = LLᵀ. In coordinates in which G is the identity, V = YL⁻ᵀ and x' = Lᵀx, a row
    that met H things with confidences c, D = diag(c - 1), is the solution of

        (I + VᵀDV) x' = Vᵀc         F equations, or, moving Vᵀ to the front (Woodbury's identity),
        x' = Vᵀ (I + DVVᵀ)⁻¹ c      H equations,

    whichever are fewer. Most histories are much shorter than the factors are long.
    """

    def __init__(self, factors: np.ndarray, regularization: float):
        """Y (N, F) and λ."""
        y = factors.astype(np.float64)
        with threadpool_limits(1, "blas"):  # the same bits on any machine's number of cores
            self.L = np.linalg.cholesky(y.T @ y + regularization * np.eye(y.shape[1]))
            self.V = solve_triangular(self.L, y.T, lower=True).T if len(y) else y

    def rows(self, confidences: sparse.csr_matrix) -> np.ndarray:
        """x of each row of the confidences (R, N), (R, F) float32; zero for an empty row."""
        x = np.zeros((confidences.shape[0], self.V.shape[1]))
        with threadpool_limits(1, "blas"):  # many small systems: a thread pool only gets in the way
            for rows, positions, c in _padded(confidences, self.V.shape[1]):
                x[rows] = self._solve(self.V[positions], c)
            return self._back(x).astype(np.float32)

    def shares(self, positions: np.ndarray, c: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Y_targets (YᵀCY + λI)⁻¹ Y_positionsᵀ c, (N, H): what each thing adds to the score of each target (section 5).

        A confidence of 0 is no event.
        """
        v, wanted = self.V[positions], self.V[targets]
        a = np.eye(self.V.shape[1]) + (v * _beyond_one(c)[:, None]).T @ v
        return wanted @ np.linalg.solve(a, v.T) * c

    def _solve(self, v: np.ndarray, c: np.ndarray) -> np.ndarray:
        """x' (B, F) from what each row met, v (B, H, F), and confidences c (B, H) padded with 0."""
        d, vt = _beyond_one(c)[..., None], v.transpose(0, 2, 1)
        longest, factors = v.shape[1:]
        try:
            if longest < factors:
                return (vt @ np.linalg.solve(np.eye(longest) + d * (v @ vt), c[..., None]))[..., 0]
            return np.linalg.solve(np.eye(factors) + vt @ (d * v), vt @ c[..., None])[..., 0]
        except np.linalg.LinAlgError as error:
            raise Diverged(f"a row's equations have no single solution: {CURE}") from error

    def _back(self, x: np.ndarray) -> np.ndarray:
        """x (R, F) from x' = Lᵀx."""
        return solve_triangular(self.L, x.T, lower=True, trans="T").T if len(x) else x


def _beyond_one(c: np.ndarray) -> np.ndarray:
    """The diagonal of C - I; padding has none."""
    return np.where(c > 0, c - 1.0, 0.0)


def _padded(confidences: sparse.csr_matrix, factors: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of rows of like length: rows (B,), positions (B, H), confidences (B, H) padded with 0."""
    lengths = np.diff(confidences.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        longest = int(lengths[order[-1]])
        system = min(longest, factors)
        count = max(BATCH_BYTES // (16 * (longest * factors + system * system)), 1)
        rows, order = order[-count:], order[:-count]
        slots = np.arange(longest)
        filled = slots < lengths[rows][:, None]  # (B, H)
        entries = np.where(filled, confidences.indptr[rows][:, None] + slots, 0)
        yield rows, np.where(filled, confidences.indices[entries], 0), np.where(filled, confidences.data[entries], 0.0)
