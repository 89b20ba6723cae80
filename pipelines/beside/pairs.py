"""Pairs: items that meet more often than chance has it, what is known of the two, and a table's list for each item."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipelines.marts import Marts
from pipelines.run import Run


def centred(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors (I, E) without what all have in common, which makes any two look alike (Mu and Viswanath, 2018)."""
    told = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    return told / np.maximum(np.linalg.norm(told, axis=1, keepdims=True), 1e-12)


def met(marts: Marts, kind: str, vectors: np.ndarray) -> pd.DataFrame:
    """Pairs of `item_pairs` that meet beyond chance, with positions (`item`, `other`), the cosine of their vectors
    (`likeness`) and whether they are of one category (`is_of_a_kind`); where one has none, likeness alone can tell."""
    rows = marts.frame(
        "select * from item_pairs where kind = ? and least_lift > 1 order by item_id, other_item_id", kind
    )
    item, other = (marts.items.positions(rows[name]) for name in ("item_id", "other_item_id"))
    category = marts.catalogue["category"]
    of_item, of_other = (category.iloc[places].reset_index(drop=True) for places in (item, other))
    return rows.assign(
        item=item,
        other=other,
        likeness=np.einsum("pe,pe->p", vectors[item], vectors[other]).astype(float),
        is_of_a_kind=(of_item == of_other) | of_item.isna() | of_other.isna(),
    )


def are_one(marts: Marts, item: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) bool: the catalogue lists one thing twice, by title and brand."""
    named = marts.catalogue["title"].str.casefold() + " " + marts.catalogue["brand"].fillna("").str.casefold()
    codes = pd.factorize(named)[0]
    return codes[item] == codes[other]


def lists(run: Run, marts: Marts, rows: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """The best `shelve.length` rows of each item by `score`, ties by the other item; `columns` of the table by those of
    the rows."""
    best = rows.sort_values(["item", "score", "other"], ascending=[True, False, True], ignore_index=True)
    rank = best.groupby("item").cumcount() + 1
    shown = {name: best[source] for name, source in columns.items()}
    table = {
        "item_id": marts.items.ids[best["item"]],
        "rank": rank.astype("int64"),
        "other_item_id": marts.items.ids[best["other"]],
        "score": best["score"].astype(float),
        **shown,
        "run_id": run.run_id,
    }
    return pd.DataFrame(table)[rank <= run.settings.shelve.length]
