"""Substitutes: what could be taken in an item's place."""

import numpy as np
import pandas as pd
from scipy import sparse

from models import retrieval
from pipelines.marts import Marts
from pipelines.run import Run


def similar_items(run: Run, marts: Marts, vectors: np.ndarray) -> pd.DataFrame:
    """The nearest available items of every item in the profile space, (I, E) vectors."""
    is_available = marts.catalogue["is_available"].to_numpy(dtype=bool)
    length, memory = run.settings.shelve.length, run.settings.fuse.memory_mb << 20
    itself = sparse.identity(len(vectors), format="csr", dtype=np.float32)
    positions, scores = retrieval.top_items(vectors, vectors, length, itself, is_available, memory)
    item, place = np.nonzero(positions >= 0)
    return pd.DataFrame(
        {
            "item_id": marts.items.ids[item],
            "rank": (place + 1).astype("int64"),
            "other_item_id": marts.items.ids[positions[item, place]],
            "score": scores[item, place].astype(float),
            "run_id": run.run_id,
        }
    )
