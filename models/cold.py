"""How an item that nobody has met yet enters: what its profile says about the factors that it would have."""

import numpy as np
from threadpoolctl import threadpool_limits


def impute_factors(item_factors: np.ndarray, item_vectors: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Factors (I, F) in which rows of zeros are replaced by a linear map of the profile vector (I, E).

    The map is the ridge regression of known factors on profile vectors (Gantner et al., 2010, *Learning
    Attribute-to-Feature Mappings for Cold-Start Recommendations*, §4.2); its shrinkage keeps a guess below what is
    known.
    """
    is_cold = ~item_factors.any(axis=1)
    if not is_cold.any() or is_cold.all():
        return item_factors
    X, Y = item_vectors[~is_cold].astype(np.float64), item_factors[~is_cold].astype(np.float64)
    filled = item_factors.copy()
    with threadpool_limits(1, "blas"):  # the same bits whatever threads a process is given
        W = np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T @ Y)  # (E, F)
        filled[is_cold] = (item_vectors[is_cold] @ W).astype(item_factors.dtype)
    return filled


def expected_buyers(buyers: np.ndarray, age_days: np.ndarray, window_days: int, prior_days: float = 7.0) -> np.ndarray:
    """(I,) buyers that an item would have had in a whole window, from those in the part of it that it was on sale.

    A Gamma-Poisson estimate: the catalogue's mean rate stands in for `prior_days` of observation. Items that were there
    for the whole window keep their order.
    """
    observed = np.clip(age_days, 0, window_days).astype(float)
    rate = buyers.sum() / max(observed.sum(), 1.0)
    return (buyers + rate * prior_days) / (observed + prior_days) * window_days
