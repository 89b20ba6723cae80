"""On the generated shop, whose queries mean known items: slips cost little, and items without events are found."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models import metrics
from pipelines import warehouse
from pipelines.search import kept
from pipelines.search.answered import results

pytestmark = pytest.mark.slow
DETAILS = {"style": "style_word", "brand": "brand", "variant": "variant"}  # by form of the query; else any of the kind


@pytest.fixture(scope="module")
def found(night):
    """A function that gives the results of queries, and the items of the release."""
    with warehouse.connect(night.home) as release:
        engine, ranking, _ = kept.load(release)
        items = release.execute("select * from items").df()
        met = release.execute("select distinct item_id from user_history").df()["item_id"]
    return lambda queries: results(engine, ranking, list(queries), ""), items[~items["item_id"].isin(met)]


def meant(query, goods: pd.DataFrame) -> np.ndarray:
    """(I,) bool: the items that whoever types the query wants."""
    detail = DETAILS.get(query.form)
    return ((goods["kind"] == query.kind) & ((goods[detail] == query.detail) if detail else True)).to_numpy()


def ndcg(rows: pd.DataFrame, queries: Sequence[str], goods: pd.DataFrame, wanted: np.ndarray) -> float:
    """Mean NDCG@10 of queries whose items are `wanted` (Q, I)."""
    place = dict(zip(goods["item_id"], range(len(goods)), strict=True))
    first, ranked = rows[rows["rank"] <= 10], np.full((len(queries), 10), -1)
    for number, query in enumerate(queries):
        items = first.loc[first["query"] == query].sort_values("rank")["item_id"].map(place)
        ranked[number, : len(items)] = items
    return float(np.nanmean(metrics.ndcg_at(ranked, sparse.csr_matrix(wanted.astype(float)), 10)))


def test_slips_lose_less_than_a_tenth(night, found):
    """NDCG@10 of the misspelt queries of the log beside that of the same queries rightly spelt."""
    goods, asked = (pd.read_parquet(night.home / "truth" / f"{name}.parquet") for name in ("items", "queries"))
    slips = asked[asked["is_misspelled"]].drop_duplicates("query")
    wanted = np.stack([meant(query, goods) for query in slips.itertuples()])
    rows = found[0]([*slips["query"], *slips["meant"].unique()])
    typed, right = (ndcg(rows, list(slips[name]), goods, wanted) for name in ("query", "meant"))
    assert len(slips) >= 20
    assert right > 0.9
    assert typed > 0.9 * right


def test_items_without_events_are_found(found):
    """Typed by its title, an item that nobody has met yet is the first answer."""
    answers, unmet = found
    unmet = unmet[unmet["is_available"]]
    rows = answers(unmet["title"].str.lower())
    first = rows[rows["rank"] == 1].set_index("query")["item_id"]
    assert len(unmet)
    assert first[unmet["title"].str.lower()].tolist() == unmet["item_id"].tolist()
