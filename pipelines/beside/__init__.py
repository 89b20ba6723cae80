"""Beside: what a shop gets beside its users' shelves: lists for items, and when people will be back."""

from pathlib import Path

import numpy as np

from pipelines.beside.complements import bought_together
from pipelines.beside.pairs import centred
from pipelines.beside.replenishments import proof, replenishments, user_rhythms
from pipelines.beside.substitutes import similar_items
from pipelines.marts import Marts
from pipelines.rules.scope import Goods, allowed
from pipelines.run import Run

__all__ = ["proof", "write"]


def write(run: Run, marts: Marts, folder: Path) -> None:
    """Write similar_items, bought_together, replenishments and user_rhythms."""
    is_available, goods = marts.catalogue["is_available"].to_numpy(dtype=bool), Goods.of(marts)
    similar, together = (
        is_available & allowed(run.rules, goods, name) for name in ("similar_items", "bought_together")
    )
    vectors = centred(np.load(run.of("train_profile", "final", "item_vectors.npy")))
    tables = {
        "similar_items": similar_items(run, marts, vectors, similar),
        "bought_together": bought_together(run, marts, vectors, together),
        "replenishments": replenishments(run, marts),
        "user_rhythms": user_rhythms(run, marts),
    }
    for name, rows in tables.items():
        rows.to_parquet(folder / f"{name}.parquet", index=False)
