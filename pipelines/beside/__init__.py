"""Beside: what a shop gets beside its users' shelves: for each item, what could be taken in its place."""

from pathlib import Path

import numpy as np

from pipelines.beside.substitutes import similar_items
from pipelines.marts import Marts
from pipelines.run import Run


def write(run: Run, marts: Marts, folder: Path) -> None:
    """Write similar_items."""
    vectors = np.load(run.of("train_profile", "final", "item_vectors.npy"))
    similar_items(run, marts, vectors).to_parquet(folder / "similar_items.parquet", index=False)
