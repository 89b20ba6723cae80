"""What stands beside the shelves, in a shop of eight items: what replaces what, what goes with what, what is due."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaincinv

from pipelines import warehouse
from pipelines.beside import rhythm
from pipelines.beside.complements import bought_together
from pipelines.beside.replenishments import replenishments, user_rhythms
from pipelines.beside.substitutes import similar_items
from pipelines.marts import Marts
from pipelines.rules import Rule
from pipelines.rules.withheld import withhold
from pipelines.run import Run
from tests import lake

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[1] / "docs" / "shelves.md"
STATEMENTS = [one for block in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL) for one in block.split(";")]
DAY = "2026-02-20"
GOODS = {
    "beans": ("Coffee beans", "Coffee", (0.0, 1.0)),
    "blue": ("Blue mug", "Mugs", (1.0, 0.1)),
    "filter": ("Filter papers", "Coffee", (0.6, 0.8)),
    "fresh": ("Fresh vase", None, (-1.0, 0.0)),
    "gone": ("Grey mug", "Mugs", (1.0, 0.0)),
    "red": ("Red mug", "Mugs", (1.0, 0.0)),
    "twin": ("RED MUG", "Mugs", (1.0, 0.0)),
    "vase": ("Vase", None, (0.0, -1.0)),
}


LATE = [f"late{n}" for n in range(10)]


def acts(event_type: str, name: str, times: int, *items: str, **changes: object) -> list[dict[str, object]]:
    """So many visits or orders of one user each, in which these items are met."""
    place = "order_id" if event_type == "purchase" else "session_id"
    facts = {"event_type": event_type, "occurred_at": f"{DAY} 10:00:00", "quantity": 1} | changes
    return [
        facts | {"event_id": f"{name}{n}{item}", place: f"{name}{n}", "user_id": f"{name}{n}", "item_id": item}
        for n in range(times)
        for item in items
    ]


def bought_on(item: str, *days: str) -> list[dict[str, object]]:
    """What ida bought, an order a day."""
    orders = [acts("purchase", f"ida-{day}-{item}", 1, item, occurred_at=f"{day} 10:00:00") for day in days]
    return [one | {"user_id": "ida"} for order in orders for one in order]


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Marts:
    """Mugs are looked at together and hardly ever bought together; beans go with either, filters with beans; most
    people buy something of which nothing follows."""
    home = tmp_path_factory.mktemp("beside")
    items = [
        {"item_id": item, "title": title, "category": category, "is_available": item != "gone"}
        for item, (title, category, _) in GOODS.items()
    ]
    lake.lay(home, "items", "2026-01-01", [one for one in items if one["item_id"] != "fresh"])
    lake.lay(home, "items", "2026-02-25", [one for one in items if one["item_id"] == "fresh"])
    profiles = [
        {"user_id": "ida", "country": "DE", "has_consent": True, "contacted_at": "2026-02-10 23:30:00"},
        {"user_id": "vera", "has_consent": False},
        *(
            {"user_id": one, "segment": "trade"}
            for one in (*LATE, *(f"mixed{n}" for n in range(6)), "other0", "other1")
        ),
    ]
    lake.lay(home, "users", "2026-01-01", profiles)
    events = [
        *acts("view", "look", 12, "red", "blue"),
        *acts("view", "mixed", 6, "red", "beans"),
        *acts("view", "other", 40, "vase", "filter"),
        *acts("purchase", "both", 5, "red", "blue"),
        *acts("purchase", "red", 60, "red", "vase"),
        *acts("purchase", "blue", 60, "blue", "vase"),
        *acts("purchase", "brew", 12, "beans", "filter"),
        *acts("purchase", "cup", 6, "beans", "red"),
        *acts("purchase", "crowd", 3000, "vase", "twin"),
        *acts("view", "late", 10, "filter", occurred_at="2026-02-27 10:00:00"),
        *acts("view", "few", 2, "vase", occurred_at="2026-02-27 10:00:00"),
        *acts("view", "new", 5, "fresh", occurred_at="2026-02-27 10:00:00"),
        *bought_on("beans", "2026-01-01", "2026-01-11", "2026-01-21"),
        *bought_on("filter", "2026-02-01", "2026-02-21"),
    ]
    lake.lay(home, "events", "2026-02-28", events)
    run = lake.built(home, **{"holdout.days": 14, "shelve.length": 3})
    return Marts(run)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    told = np.array([vector for *_, vector in GOODS.values()], dtype=np.float32)
    return told / np.linalg.norm(told, axis=1, keepdims=True)


def of(table: pd.DataFrame, item: str) -> list[str]:
    return table.loc[table["item_id"] == item, "other_item_id"].tolist()


def test_the_least_lift_is_the_quantile_that_it_says(marts: Marts):
    """The cube of Wilson and Hilferty stays within a hundredth of the gamma distribution's own quantile."""
    pairs = marts.frame("select * from item_pairs")
    expected = pairs["count_both"] / pairs["lift"]
    exactly = gammaincinv(pairs["count_both"] + 1, 0.05) / (expected + 1)
    assert pairs["least_lift"].to_numpy() == pytest.approx(exactly.to_numpy(), rel=0.01)
    assert set(pairs["kind"]) == {"viewed", "bought"}


def test_a_substitute_is_alike_or_looked_at_beside(marts: Marts, vectors: np.ndarray):
    """For the red mug the blue one, with both parts and a reason; not its own second listing, nor what is sold out, nor
    the beans, which go with it."""
    table = similar_items(marts.run, marts, vectors, _available(marts))
    assert of(table, "red") == ["blue", "filter", "vase"]
    first = table[(table["item_id"] == "red") & (table["rank"] == 1)].iloc[0]
    assert first["behaviour_score"] == pytest.approx(4 * 12 / (np.sqrt(18 * 12) + 5))
    assert first["score"] == first["profile_score"] + first["behaviour_score"]
    assert (first["reason"], set(of(table, "gone"))) == ("viewed_together", {"red", "twin", "blue"})
    assert "gone" not in set(table["other_item_id"])


def test_complements_go_into_one_basket(marts: Marts, vectors: np.ndarray):
    """Filters with beans; two mugs that share a basket beyond chance, yet hardly ever, stand for each other."""
    table = bought_together(marts.run, marts, vectors, _available(marts))
    assert (of(table, "beans"), of(table, "filter")) == (["filter", "red"], ["beans"])
    assert (of(table, "red"), of(table, "blue")) == (["beans"], [])
    apart = bought_together(marts.run, marts, np.eye(len(vectors), dtype=np.float32), _available(marts))
    assert of(apart, "blue") == ["red"]


def test_what_people_want_both_of_is_no_substitute(marts: Marts, vectors: np.ndarray):
    """Alike as they may be, filters and beans share most of their baskets."""
    alike = np.tile(vectors[:1], (len(vectors), 1))
    table = bought_together(marts.run, marts, alike, _available(marts))
    assert "filter" in of(table, "beans")


def test_what_trends_is_more_than_its_own_past_lets_expect(marts: Marts):
    """Of the shop the filters, met ten times where 54 of 6404 visits let expect 0.14 of 17; of coffee, of which they
    were most before, not; and what is newer than the last days has no past. Of those in trade, the same ten, where 2 of
    16 visits let expect 1.25 of 10."""
    table = marts.frame("select * from trending_items")
    assert table[["segment_kind", "segment", "item_id", "count_visitors"]].values.tolist() == [
        ["all", "all", "filter", 10],
        ["segment", "trade", "filter", 10],
    ]
    assert table["expected_visitors"].tolist() == pytest.approx([54 * 17 / 6404, 2 * 10 / 16])


def test_each_segment_of_users_has_what_is_popular_there(marts: Marts):
    """Beside the shop and each country; nobody in trade bought anything, so that there the most viewed goes first."""
    table = marts.frame("select segment_kind, segment, rank, item_id, count_buyers from popular_items order by all")
    lists = table.groupby(["segment_kind", "segment"])["item_id"].agg(list).to_dict()
    assert set(lists) == {("all", "all"), ("country", "DE"), ("segment", "trade")}
    assert lists["country", "DE"] == ["filter"]
    assert lists["segment", "trade"] == ["filter", "beans", "red", "vase"]
    assert table.loc[table["segment_kind"] == "segment", "count_buyers"].tolist() == [0, 0, 0, 0]


def test_a_rule_of_a_segment_takes_items_off_its_own_lists(marts: Marts, tmp_path: Path):
    """What is below moves up there; the lists of a country, of all and of no reader at all keep the item."""
    for name in ("similar_items", "bought_together"):
        one = pd.DataFrame({"item_id": ["beans"], "rank": [1], "other_item_id": ["filter"]})
        one.to_parquet(tmp_path / f"{name}.parquet")
    rule = Rule(rule_id="r", action="deny", item_id="filter", segment="trade", owner="ann", reason="a test")
    taken = withhold(replace(marts.run, rules=(rule,)), marts, tmp_path)
    assert taken.values.tolist() == [["popular_items", 0, 1], ["trending_items", 0, 1]]
    kept = pd.read_parquet(tmp_path / "popular_items.parquet")
    assert kept.loc[kept["segment"] == "trade", ["rank", "item_id"]].values.tolist() == [
        [1, "beans"], [2, "red"], [3, "vase"]
    ]  # fmt: skip
    assert set(kept.loc[kept["item_id"] == "filter", "segment"]) == {"all", "DE"}
    assert pd.read_parquet(tmp_path / "trending_items.parquet")["segment"].tolist() == ["all"]
    assert len(pd.read_parquet(tmp_path / "similar_items.parquet")) == 1


def _available(marts: Marts) -> np.ndarray:
    return marts.catalogue["is_available"].to_numpy(dtype=bool)


def test_an_item_is_due_when_the_users_own_pause_ends(marts: Marts):
    """Ida bought beans every ten days and stopped a month ago; a pause of twenty days is believed half."""
    table = replenishments(marts.run, marts).set_index("item_id")
    assert table["user_id"].unique().tolist() == ["ida"]
    beans, papers = table.loc["beans"], table.loc["filter"]
    assert (beans["count_purchase_days"], str(beans["last_purchase_date"]), beans["status"]) == (
        3,
        "2026-01-21",
        "lapsed",
    )
    assert 10 <= beans["usual_pause_days"] < 12
    assert (str(papers["due_date"]), papers["status"]) == ("2026-03-08", "early")


def test_the_rhythm_of_a_user_stands_beside_the_consent(marts: Marts):
    """Who never bought has none; a contact counts by the shop's day; who did not say is not said to agree."""
    table = user_rhythms(marts.run, marts).set_index("user_id")
    assert (table.loc["ida", "has_consent"], str(table.loc["ida", "last_contact_date"].date())) == (True, "2026-02-10")
    assert (table.loc["vera", "count_purchase_days"], table.loc["vera", "status"]) == (0, None)
    assert pd.isna(table.loc["both0", "has_consent"])
    assert len(table) == len(marts.users)


def test_pauses_are_believed_the_more_the_more_there_are():
    """One own pause of 10 days where others take 40 counts half; three count three quarters, in powers."""
    assert rhythm._drawn(pd.Series([10.0, 10.0]), pd.Series([1, 3]), 40.0, 1.0).tolist() == pytest.approx(
        [20.0, 40**0.25 * 10**0.75]
    )


def test_the_status_of_a_rhythm():
    """Of a pause of 20 days, with a week ahead."""
    found = pd.DataFrame({"since": [12, 13, 40, 41, 5], "usual": [20.0] * 4 + [np.nan]})
    assert rhythm.status(found, 7).tolist() == ["early", "due", "due", "lapsed", None]


def test_who_is_due_buys_again(night: Run):
    """On the held-out days, beyond chance: more of what is due was bought than of what was early."""
    with warehouse.connect(night.home) as release:
        told = release.execute("select metric, value, low, high from metrics where metric like 'replenishments/%'").df()
    figures = told.set_index("metric")
    assert (
        figures.loc["replenishments/due/bought_again", "low"] > figures.loc["replenishments/early/bought_again", "high"]
    )


def test_the_page_on_shelves_works_on_a_night(night: Run):
    """Each statement of docs/shelves.md gives rows."""
    with warehouse.connect(night.home) as release:
        assert [sql for sql in filter(str.strip, STATEMENTS) if not release.execute(sql).fetchall()] == []


def test_lists_for_items_find_what_was_planted(night: Run):
    """All that is bought together was planted as companions; most substitutes are of the item's own kind, of 72."""
    truth = pd.read_parquet(night.home / "truth" / "items.parquet").set_index("item_id")
    with warehouse.connect(night.home) as release:
        together = release.execute("select item_id, other_item_id from bought_together").df()
        similar = release.execute("select item_id, other_item_id from similar_items where rank = 1").df()
    companion, kind = truth["companion_item_id"], truth["kind"]
    planted = [two == companion[one] or one == companion[two] for one, two in together.to_numpy()]
    assert len(planted) > 4
    assert all(planted)
    assert (kind[similar["item_id"]].to_numpy() == kind[similar["other_item_id"]].to_numpy()).mean() > 0.7
