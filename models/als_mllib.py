"""Item factors learnt by Spark's MLlib, in the place of `implicit`, where one machine takes too long for a matrix."""

import math

import numpy as np
import pyarrow as pa
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession
from scipy import sparse

PAIRS_PER_BLOCK = 1 << 20  # blocks start at random each for itself: their number must not follow the machines'
FEWEST_BLOCKS = 2
CHECKPOINT_SWEEPS = 4  # Java unpacks the whole chain of sweeps since the last one for each task, link within link
LEAST = 1e-9  # a rating of 0 is no event to MLlib, and an old event's weight rounds to that


def by_mllib(
    session: SparkSession,
    confidences: sparse.csr_matrix,
    *,
    factors: int,
    regularization: float,
    epochs: int,
    seed: int,
    threads: int,
) -> np.ndarray:
    """Item factors (I, F) from confidences (U, I), to the loss of models/als.py as far as MLlib can; see `Learner`.

    MLlib's rating is c - 1, and it weighs |x|² of a row that met n things with ρn (ALS-WR; Zhou et al., 2008) where we
    have one λ for all. To double all users and halve all items changes no score, so that only the product of both
    sides' weights matters: with means m of n, ρ = λ / √(m_users m_items) is λ on rows of mean length. In MLlib's scale
    items then are (m_users / m_items)^¼ of what they are under one λ, which is undone.
    """
    pairs, (per_user, per_item) = confidences.tocoo(), _mean_counts(confidences)
    blocks = max(FEWEST_BLOCKS, -(-confidences.nnz // PAIRS_PER_BLOCK))
    learner = ALS(
        rank=factors,
        maxIter=epochs,
        regParam=regularization / math.sqrt(per_user * per_item),
        alpha=1.0,
        implicitPrefs=True,
        seed=seed,
        checkpointInterval=CHECKPOINT_SWEEPS,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
    )
    ratings = np.maximum(pairs.data - 1.0, LEAST).astype(np.float32)
    told = pa.table({"user": pairs.row.astype(np.int32), "item": pairs.col.astype(np.int32), "rating": ratings})
    learnt = learner.fit(session.createDataFrame(told)).itemFactors.toArrow()
    found = np.zeros((confidences.shape[1], factors), dtype=np.float32)
    vectors = learnt["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found[learnt["id"].to_numpy()] = vectors.reshape(-1, factors) * (per_item / per_user) ** 0.25
    return found


def _mean_counts(confidences: sparse.csr_matrix) -> tuple[float, float]:
    """Pairs per user and per item, of those that have any."""
    users, items = (np.count_nonzero(np.diff(one.indptr)) for one in (confidences, confidences.tocsc()))
    return confidences.nnz / users, confidences.nnz / items
