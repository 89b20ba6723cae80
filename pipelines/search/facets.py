"""Facets: what the answers of the most searched queries are made of, by category, brand and price band."""

import numpy as np
import pandas as pd

FACETS = ("category", "brand", "price_band")
COLUMNS = ["query", "facet", "value", "rank", "count_items", "low_cents", "high_cents"]


def facets(results: pd.DataFrame, catalogue: pd.DataFrame, head: pd.Series) -> pd.DataFrame:
    """Rows of query_facets: results of the `head` queries by value, the most frequent value first."""
    goods = catalogue[["item_id", *FACETS, "price_cents"]].copy()
    priced = goods["price_cents"].notna()
    goods["price_band"] = goods["price_band"].astype("string").where(priced)
    told = results.loc[results["query"].isin(head), ["query", "item_id"]].merge(goods, on="item_id")
    counted = pd.concat([_counted(told, facet) for facet in FACETS], ignore_index=True)
    bands = goods[priced].groupby("price_band")["price_cents"].agg(low_cents="min", high_cents="max")
    counted = counted.join(bands, on="value")
    counted.loc[counted["facet"] != "price_band", ["low_cents", "high_cents"]] = np.nan
    return counted.astype({"low_cents": "Int64", "high_cents": "Int64"}).reindex(columns=COLUMNS)


def _counted(told: pd.DataFrame, facet: str) -> pd.DataFrame:
    counts = told.groupby(["query", facet], sort=True).size().rename("count_items").reset_index()
    counts = counts.rename(columns={facet: "value"}).assign(facet=facet)
    counts = counts.sort_values(["query", "count_items", "value"], ascending=[True, False, True], ignore_index=True)
    return counts.assign(rank=counts.groupby("query").cumcount() + 1, value=counts["value"].astype(str))
