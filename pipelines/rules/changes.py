"""Changes: what leaves lists, enters them and moves between two states of the same lists."""

from collections.abc import Sequence

import pandas as pd

from pipelines.marts import Marts

KINDS = ["leave", "enter", "move"]


def between(before: pd.DataFrame, after: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The key of every row of either state, rank_before and rank_after, and bool whether it leaves, enters or moves."""
    columns = [*key, "rank"]
    changed = before[columns].merge(after[columns], on=list(key), how="outer", suffixes=("_before", "_after"))
    then, now = changed["rank_before"], changed["rank_after"]
    return changed.assign(leave=now.isna(), enter=then.isna(), move=then.notna() & now.notna() & (then != now))


def touched(changed: pd.DataFrame, by: str, of: str, counted: str) -> pd.DataFrame:
    """By a column, how many different values of another have rows that change, as `counted`, and rows of each kind."""
    marks = changed.assign(**{counted: changed[of].where(changed[KINDS].any(axis=1))})
    sums = {kind: (kind, "sum") for kind in KINDS}
    return marks.groupby(by, sort=False).agg(**{counted: (counted, "nunique")}, **sums)


def items(marts: Marts, rows: pd.DataFrame) -> pd.DataFrame:
    """item_id, title and count_rows of the positions `item`, most rows first; of rows with count_searches also their
    sum, and the most searched first."""
    sums = {"count_searches": ("count_searches", "sum")} if "count_searches" in rows else {}
    counts = rows.groupby("item").agg(count_rows=("item", "size"), **sums).reset_index()
    order = [*sums, "count_rows", "item"]
    counts = counts.sort_values(order, ascending=[*(False for _ in order[1:]), True], ignore_index=True)
    named = marts.catalogue.loc[counts["item"].astype(int), ["item_id", "title"]].reset_index(drop=True)
    return named.join(counts[["count_rows", *sums]])
