import datetime as dt
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import generate as shop
from pipelines import settings
from pipelines.deliver import Delivery
from pipelines.errors import BadInput
from pipelines.generate import behaviour, catalogue, queries

LAST_DAY = dt.date(2026, 4, 30)  # the spring change of clocks lies within


def small(home: Path, **changed) -> dict[str, int]:
    return shop.generate(home, **{"users": 150, "items": 160, "days": 60, "last_day": LAST_DAY, "seed": 5, **changed})


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    small(root)
    return root


def lines(home: Path) -> list[tuple[dt.date, str]]:
    files = sorted((home / "raw" / "events").glob("dt=*/*.gz"))
    days = [dt.date.fromisoformat(file.parent.name.removeprefix("dt=")) for file in files]
    return [(day, line) for day, file in zip(days, files, strict=True) for line in gzip.open(file, "rt")]


def events(home: Path) -> pd.DataFrame:
    """Rows that are whole JSON, one per event; flaws still in them."""
    rows = [{**json.loads(line), "arrival": day} for day, line in lines(home) if line.endswith("}\n")]
    return pd.DataFrame(rows).drop_duplicates("event_id")


def true_events(home: Path) -> pd.DataFrame:
    rows = events(home)
    is_flawed = (
        (rows["event_type"] == "teleport")
        | (rows["item_id"].isna() & (rows["event_type"] != "search"))
        | (rows["item_id"] == "i-not-in-the-catalogue")
        | (rows["price_cents"] < 0)
        | (rows["quantity"] == 0)
        | ~rows["occurred_at"].str.startswith("2026-0")
    )
    bots = set(truth(home, "users").query("is_bot")["user_id"])
    return rows[~is_flawed & ~rows["user_id"].isin(bots)]


def items(home: Path) -> pd.DataFrame:
    files = sorted((home / "raw" / "items").glob("dt=*/*.parquet"))
    return pd.concat([pd.read_parquet(file).assign(day=file.parent.name.removeprefix("dt=")) for file in files])


def users(home: Path) -> pd.DataFrame:
    files = sorted((home / "raw" / "users").glob("dt=*/*.csv"))
    return pd.concat([pd.read_csv(file).assign(day=file.parent.name.removeprefix("dt=")) for file in files])


def truth(home: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(home / "truth" / f"{name}.parquet")


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_equal_arguments_give_equal_files(home, tmp_path):
    """A shop made again is the same to the byte; another seed makes another one."""
    small(tmp_path)
    assert contents(tmp_path) == contents(home)
    small(tmp_path / "other", seed=6)
    assert contents(tmp_path / "other") != contents(home)


def test_blocks_make_one_shop(tmp_path, monkeypatch):
    """A shop of several blocks has one part per block, no user twice, and no event named like one of another block."""
    monkeypatch.setattr(shop, "BLOCK", 60)
    small(tmp_path)
    names = {path.name for path in (tmp_path / "raw" / "events").glob("dt=*/*")}
    assert names == {"part-00000.jsonl.gz", "part-00001.jsonl.gz", "part-00002.jsonl.gz"}
    known = truth(tmp_path, "users")
    assert known["user_id"].is_unique
    assert (~known["is_bot"]).sum() == 150
    assert true_events(tmp_path).groupby("user_id").size().sum() == known["count_events"].sum()


def test_books_hold(home):
    """Each kind of dirt stands in the files as often as `dirt.json` says, and the counts add up to the rows."""
    written = [json.loads(line) for _, line in lines(home) if line.endswith("}\n")]
    dirt = json.loads((home / "truth" / "dirt.json").read_text())
    bots = set(truth(home, "users").query("is_bot")["user_id"])
    found = {
        "cut_line": sum(not line.endswith("}\n") for _, line in lines(home)),
        "duplicate_rows": len(written) - len({row["event_id"] for row in written}),
        "bot_rows": sum(row["user_id"] in bots for row in written),
        "unknown_event_type": sum(row["event_type"] == "teleport" for row in written),
        "missing_item": sum(row["item_id"] is None and row["event_type"] != "search" for row in written),
        "negative_price": sum((row["price_cents"] or 0) < 0 for row in written),
        "unparsable_time": sum(row["occurred_at"].startswith("31") for row in written),
        "future_time": sum(row["occurred_at"].startswith("2996") for row in written),
        "unknown_item": sum(row["item_id"] == "i-not-in-the-catalogue" for row in written),
        "zero_quantity": sum(row["quantity"] == 0 for row in written),
    }
    assert all(found.values())
    assert found == {name: count for name, count in dirt.items() if name != "late_rows"}
    assert len(true_events(home)) == len(lines(home)) - sum(found.values())


def test_copies_are_exact(home):
    """A row that is delivered twice reads the same to the letter, and some come again on a later day."""
    rows = pd.DataFrame(lines(home), columns=["day", "line"])
    rows = rows[rows["line"].str.endswith("}\n")]
    rows["event_id"] = [json.loads(line)["event_id"] for line in rows["line"]]
    copied = rows[rows.duplicated("event_id", keep=False)].groupby("event_id")
    assert (copied["line"].nunique() == 1).all()
    assert (copied["day"].nunique() == 2).any()


def test_events_arrive_on_the_shop_s_own_day(home):
    """True events lie on their arrival day in the shop's time zone, or, as many as planted, a few days before it."""
    rows = true_events(home)
    local = pd.to_datetime(rows["occurred_at"]).dt.tz_convert("Europe/Berlin").dt.date
    lag = np.array([(arrival - day).days for arrival, day in zip(rows["arrival"], local, strict=True)])
    planted = json.loads((home / "truth" / "dirt.json").read_text())["late_rows"]
    assert set(lag) <= {0, 1, 2, 3, 4}
    assert (lag > 0).sum() == planted > 0
    assert min(local) >= dt.date(2026, 3, 2)
    assert max(local) <= LAST_DAY


def test_only_items_on_sale_are_bought(home):
    """No true event is about an item before its catalogue row arrived, no purchase about one that is gone."""
    known = items(home).groupby("item_id")["day"].min().map(dt.date.fromisoformat)
    gone = items(home).query("not is_available").groupby("item_id")["day"].min().map(dt.date.fromisoformat)
    rows = true_events(home).dropna(subset="item_id")
    assert (rows["arrival"] >= rows["item_id"].map(known)).all()
    sold = rows[rows["event_type"] == "purchase"]
    happened = pd.to_datetime(sold["occurred_at"]).dt.tz_convert("Europe/Berlin").dt.date
    assert (happened < sold["item_id"].map(gone).fillna(dt.date(9999, 1, 1))).all()


def test_catalogue_arrives_whole_then_only_news(home):
    """Day one brings all items that are not cold; each later row of an item has another price, or is gone."""
    rows, known = items(home), truth(home, "items").set_index("item_id")
    first = rows[rows["day"] == "2026-03-02"]["item_id"]
    assert set(first) == set(known[~known["is_cold"]].index)
    assert set(rows["item_id"]) == set(known.index)
    assert 0.04 < known["is_cold"].mean() < 0.2
    again = rows.sort_values("day").groupby("item_id").nth(slice(1, None))
    before = rows.sort_values("day").groupby("item_id").first().loc[again["item_id"]]
    changed = (again["price_cents"].to_numpy() != before["price_cents"].to_numpy()) | ~again["is_available"].to_numpy()
    assert len(again) > 0
    assert changed.all()


def test_taste_can_be_read(home):
    """The theme's words stand in its items' texts only, and premium bands cost more than budget ones of the kind."""
    rows = items(home).drop_duplicates("item_id").merge(truth(home, "items"), on="item_id", suffixes=("", "_true"))
    is_barista = rows["description"].str.contains("barista|crema|espresso|aroma")
    assert is_barista.any()
    assert (rows.loc[is_barista, "theme"] == "coffee").all()
    price = rows.groupby(["kind", "band"])["price_cents"].mean().unstack()
    assert (price["luxury"] > price["everyday"]).sum() >= price[["luxury", "everyday"]].notna().all(axis=1).sum()


def test_users_do_what_they_like(home):
    """Most of what a user with one strong taste looks at is of that theme."""
    tastes = truth(home, "users").set_index("user_id").filter(like="taste_")
    loves = tastes.max(axis=1).loc[lambda share: share > 0.9].index
    views = true_events(home).query("event_type == 'view'")
    views = views[views["user_id"].isin(loves)].merge(truth(home, "items"), on="item_id")
    favourite = tastes.idxmax(axis=1).str.removeprefix("taste_")
    assert (views["theme"] == views["user_id"].map(favourite)).mean() > 0.75


def test_searches_mean_their_views(home):
    """A view from a search shows the kind of product that the query means, in the same session, after it."""
    rows, asked = true_events(home), truth(home, "queries").set_index("query")
    viewed = rows[(rows["event_type"] == "view") & rows["query"].notna()]
    kinds = truth(home, "items").set_index("item_id")["kind"]
    assert (viewed["item_id"].map(kinds) == viewed["query"].map(asked["kind"])).all()
    searches = rows[rows["event_type"] == "search"].groupby(["session_id", "query"])["occurred_at"].min()
    first = pd.MultiIndex.from_frame(viewed[["session_id", "query"]])
    assert (searches.loc[first].to_numpy() < viewed["occurred_at"].to_numpy()).all()


def test_habits_come_back(home):
    """What the truth calls a habit is bought again at about its rhythm."""
    bought = true_events(home).query("event_type == 'purchase'")
    habits = truth(home, "habits").set_index(["user_id", "item_id"])["rhythm_days"]
    habits = habits[~habits.index.duplicated(keep=False)]
    bought = bought.assign(at=pd.to_datetime(bought["occurred_at"])).sort_values("at")
    bought["gap"] = bought.groupby(["user_id", "item_id"])["at"].diff().dt.days
    gaps = bought.dropna(subset="gap").groupby(["user_id", "item_id"])["gap"].median()
    both = pd.concat([gaps, habits], axis=1, join="inner")
    assert len(both) > 10
    assert (both["gap"] / both["rhythm_days"]).median() == pytest.approx(1, abs=0.2)


def test_some_users_are_silent(home):
    """Every user has a profile on the day of joining at the latest; a planted few never do anything."""
    profiles, known = users(home), truth(home, "users").query("not is_bot")
    assert sorted(profiles["user_id"]) == sorted(known["user_id"])
    assert profiles["has_consent"].fillna("").value_counts(normalize=True).to_dict() == pytest.approx(
        shop.CONSENT, abs=0.1
    )
    assert known["is_silent"].any()
    assert (known[known["is_silent"]]["count_events"] == 0).all()
    joined = profiles.set_index("user_id")["day"].map(dt.date.fromisoformat)
    rows = true_events(home)
    assert (rows["arrival"] >= rows["user_id"].map(joined)).all()


def test_a_purchase_has_an_order_in_its_session():
    """Purchases of one session share one order, and returns keep the order and the price of their purchase."""
    made = shop.make_shop(200, dt.date(2026, 1, 1), 90, seed=1)
    rng = np.random.default_rng(1)
    rows = behaviour.events(rng, behaviour.make_users(rng, 400, made), made)
    bought, back = rows[rows["act"] == behaviour.PURCHASE], rows[rows["act"] == behaviour.RETURN]
    assert (bought["order"] == bought["session"]).all()
    paid = bought.drop_duplicates(["order", "item"]).set_index(["order", "item"])["price"]
    assert len(back) > 0
    assert (paid.loc[pd.MultiIndex.from_frame(back[["order", "item"]])].to_numpy() == back["price"].to_numpy()).all()


def test_days_begin_at_the_shop_s_midnight():
    """Midnights are local: the day on which the clocks go forward has 23 hours."""
    days = behaviour.calendar(dt.date(2026, 3, 28), 3, shop.TIMEZONE)
    assert dt.datetime.fromtimestamp(int(days.midnights[0]), dt.UTC) == dt.datetime(2026, 3, 27, 23, tzinfo=dt.UTC)
    assert np.diff(days.midnights).tolist() == [24 * 3600, 23 * 3600]


def test_choice_follows_popularity():
    """Draws stay in the wanted group, in proportion to popularity; a group without items draws from all."""
    choice = catalogue.Choice(np.arange(4), np.array([0, 0, 2, 2]), 3, np.array([3.0, 1.0, 1.0, 1.0]))
    drawn = choice.draw(np.random.default_rng(0), np.zeros(4000, dtype=np.int64))
    assert np.bincount(drawn) / 4000 == pytest.approx([0.75, 0.25], abs=0.03)
    assert set(choice.draw(np.random.default_rng(0), np.ones(100, dtype=np.int64))) == {0, 1, 2, 3}


def test_slip_changes_two_letters():
    """A misspelled query has the letters of the right one."""
    table = queries.table()
    wrong = table[table["is_misspelled"]]
    assert (wrong["query"] != wrong["meant"]).all()
    assert [sorted(query) for query in wrong["query"]] == [sorted(meant) for meant in wrong["meant"]]


def test_settings_fit_the_shop(home, tmp_path):
    """The written settings are ones that exist; a shop's own settings are left alone."""
    written = settings.load(home, environment={})
    assert written.shop.timezone == "Europe/Berlin"
    assert written.shop.opened_on == dt.date(2026, 3, 2)
    (tmp_path / "nightshelf.toml").write_text("seed = 3\n")
    small(tmp_path)
    assert (tmp_path / "nightshelf.toml").read_text() == "seed = 3\n"


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    """When generating fails half way, no day folder and no truth is left, whole or partial."""

    def fail(*_: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(shop, "write_events", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        small(tmp_path)
    assert contents(tmp_path) == {}
    assert not list(tmp_path.rglob("*.partial"))


def test_another_shop_is_not_mixed_in(home, tmp_path):
    """Days of another shop under `raw` are refused with the cure, and stay as they were."""
    with Delivery(tmp_path) as delivery:
        delivery.path("events", dt.date(2020, 1, 1), "a.csv").write_text("event_type\n")
    before = contents(tmp_path)
    with pytest.raises(BadInput, match="NIGHTSHELF_HOME"):
        small(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("size", [{"users": 1}, {"items": 10}, {"days": 3}])
def test_too_small_a_shop_is_refused(tmp_path, size):
    """A shop too small to show anything is refused with the least size."""
    with pytest.raises(BadInput, match="Ask for"):
        small(tmp_path, **size)
