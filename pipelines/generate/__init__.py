"""A shop that never was, of any size: users with tastes, a catalogue that shows them, dirt of every kind, all known.

Users are made in blocks, each from its own seed; a block's events are written to every day before the next block
begins, so that memory is bounded by the block and size by the disk. Equal arguments give equal files.
"""

import datetime as dt
import gzip
import json
import math
import shutil
import zlib
import zoneinfo
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import markets
from pipelines.deliver import Delivery, settle_shop
from pipelines.errors import BadInput
from pipelines.generate import behaviour, catalogue, dirt, queries, themes
from pipelines.generate.behaviour import ACTS, NOTHING, Shop, Users

TIMEZONE = zoneinfo.ZoneInfo("Europe/Berlin")
BLOCK = 20_000  # users made at once
ITEM_BLOCK = 50_000  # items written at once
LEAST = {"users": 10, "items": len(themes.KINDS), "days": 14}
STREAMS = {"catalogue": 0, "users": 1, "events": 2, "dirt": 3, "consent": 4, "market": 5}
CONSENT = {"yes": 0.6, "no": 0.25, "": 0.15}  # share of users who agreed to be written to, refused, or did not say
SEGMENTS = {"member": 0.3, "trade": 0.05, "": 0.65}  # share of users in each group, and in none
SETTINGS = """\
[shop]
name = "Generated shop"
timezone = "{timezone}"
currency = "{currency}"
opened_on = {first}

[clean]
max_rejected_share = {rejected}  # bots and broken rows were planted; on a small shop's days they can be the most

[holdout]
days = {holdout}
"""


def generate(
    home: Path,
    *,
    users: int = 2000,
    items: int = 600,
    days: int = 90,
    last_day: dt.date,
    seed: int = 17,
    currency: str = "EUR",
) -> dict[str, int]:
    """Write a shop under `home/raw`, what is true in it under `home/truth`, and settings if there are none.

    Shops of one seed in several markets are one chain: of the same items each has a part, at its own prices, which its
    own people buy.
    Returns the rows of each table and of each kind of planted dirt. Raises BadInput for a shop too small to have all
    that is promised, or when `raw` holds another shop.
    """
    _refuse_dwarfs(users=users, items=items, days=days)
    market = markets.name(home)
    shop, seed = make_shop(items, last_day - dt.timedelta(days=days - 1), days, seed, market), _local(seed, market)
    truth = home / "truth.partial"
    shutil.rmtree(truth, ignore_errors=True)
    truth.mkdir(parents=True)
    try:
        with Delivery(home, is_whole_shop=True) as delivery, Ledger(truth, days) as ledger:
            write_items(shop, delivery, ledger)
            for block in range(math.ceil(users / BLOCK)):
                write_block(shop, block, min(BLOCK, users - block * BLOCK), users, seed, delivery, ledger)
        ledger.close_books()
        shutil.rmtree(home / "truth", ignore_errors=True)
        truth.rename(home / "truth")
    finally:
        shutil.rmtree(truth, ignore_errors=True)
    settle_shop(home, _settings(shop, ledger, currency))
    carried = int((shop.catalogue.first_day < days).sum())
    return {"users": users, "items": carried, "events": int(ledger.arrived.sum()), **ledger.dirt}


def make_shop(items: int, first: dt.date, days: int, seed: int, market: str = "") -> Shop:
    """The catalogue and calendar that all blocks share."""
    rng = _rng(seed, "catalogue")
    goods = catalogue.make(rng, items, days)
    if market:
        goods = catalogue.of_market(_rng(_local(seed, market), "market"), goods)
    return Shop.of(goods, behaviour.calendar(first, days, TIMEZONE), catalogue.companions(rng, goods))


class Ledger:
    """What is true of the shop, written as it becomes known: Parquet files by name, counts per day, dirt by kind."""

    def __init__(self, folder: Path, days: int) -> None:
        self.folder = folder
        self.dirt: Counter[str] = Counter()
        self.asked = np.zeros(queries.COUNT, dtype=np.int64)
        self.arrived = np.zeros(days, dtype=np.int64)
        self.rejectable = np.zeros(days, dtype=np.int64)
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, name: str, rows: pd.DataFrame) -> None:
        """Append rows to `<name>.parquet`."""
        table = pa.Table.from_pandas(rows, preserve_index=False)
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(self.folder / f"{name}.parquet", table.schema, compression="zstd")
        self._writers[name].write_table(table)

    def count(self, rows: pd.DataFrame) -> None:
        """Enter delivered events into the books."""
        days = len(self.arrived)
        self.dirt.update(dirt.counts(rows))
        self.arrived += np.bincount(rows["arrival"], minlength=days)
        self.rejectable += np.bincount(rows.loc[rows["is_bot"] | (rows["flaw"] > 0), "arrival"], minlength=days)
        is_search = (rows["act"] == behaviour.SEARCH) & ~rows["is_copy"]
        self.asked += np.bincount(rows.loc[is_search, "query"], minlength=queries.COUNT)

    def close_books(self) -> None:
        """Write the queries that were asked, and how much dirt there is."""
        asked = queries.table().assign(count_searches=self.asked)
        asked[asked["count_searches"] > 0].to_parquet(self.folder / "queries.parquet", index=False)
        (self.folder / "dirt.json").write_text(json.dumps(self.dirt, indent=2) + "\n")


def write_items(shop: Shop, delivery: Delivery, ledger: Ledger) -> None:
    """Catalogue files: all known items on the first day, later those that are new, repriced or gone."""
    for day, items in catalogue.deliveries(shop.catalogue):
        for part, rows in enumerate(_parts(items)):
            path = delivery.path("items", shop.calendar.date(day), f"part-{part:05d}.parquet")
            catalogue.texts(shop.catalogue, rows, day).to_parquet(path, index=False)
    for rows in _parts(np.flatnonzero(shop.catalogue.first_day < shop.catalogue.days)):
        ledger.write("items", catalogue.truth(shop.catalogue, rows, shop.companion))


def write_block(shop: Shop, block: int, size: int, users: int, seed: int, delivery: Delivery, ledger: Ledger) -> None:
    """One block of users: profiles, events of all days, truth. `users` is how many the whole shop has."""
    people = behaviour.make_users(_rng(seed, "users", block), size, shop)
    true = behaviour.events(_rng(seed, "events", block), people, shop)
    rng = _rng(seed, "dirt", block)
    bots, bots_before = dirt.bots_of(block, size, BLOCK)
    sessions = int(true["session"].max()) + 1 if len(true) else 0
    rows = dirt.soil(rng, true, dirt.bot_views(rng, bots, size, sessions, shop), shop.calendar.days)
    names = user_ids(np.arange(block * BLOCK, block * BLOCK + size))
    robots = user_ids(users + bots_before + np.arange(bots))
    ledger.count(rows)
    for name, frame in user_truth(people, names, robots, true).items():
        ledger.write(name, frame)
    write_users(shop, block, people, pd.DataFrame({"user_id": names, **_told(seed, block, size)}), delivery)
    write_events(shop, block, rows, np.array([*names, *robots]), delivery)


def _told(seed: int, block: int, size: int) -> dict[str, np.ndarray]:
    """What users say of themselves, and nothing that they do depends on."""
    dice = _rng(seed, "consent", block)
    shares = {"has_consent": CONSENT, "segment": SEGMENTS}
    return {name: dice.choice(list(share), size=size, p=list(share.values())) for name, share in shares.items()}


def write_users(shop: Shop, block: int, people: Users, told: pd.DataFrame, delivery: Delivery) -> None:
    """CSV files of profiles, each on the day its user joined."""
    profiles = told.assign(country=np.array(themes.COUNTRIES)[people.country])
    for day, rows in profiles.groupby(people.joined):
        path = delivery.path("users", shop.calendar.date(int(str(day))), f"part-{block:05d}.csv")
        rows.to_csv(path, index=False, lineterminator="\n")


def write_events(shop: Shop, block: int, rows: pd.DataFrame, names: np.ndarray, delivery: Delivery) -> None:
    """Gzip files of JSON lines, one per arrival day."""
    typed = queries.table()["query"].to_numpy()
    for day, arrived in rows.groupby("arrival"):
        path = delivery.path("events", shop.calendar.date(int(str(day))), f"part-{block:05d}.jsonl.gz")
        lines = event_lines(shop, block, arrived, names, typed)
        path.write_bytes(gzip.compress(lines.encode(), compresslevel=3, mtime=0))


def event_lines(shop: Shop, block: int, rows: pd.DataFrame, names: np.ndarray, typed: np.ndarray) -> str:
    """Rows of numbers as JSON lines in the contract's columns, with their flaws."""
    item, query = rows["item"].to_numpy(), rows["query"].to_numpy()
    moment = shop.calendar.midnights[rows["day"]] + rows["second"].to_numpy()
    columns = {
        "event_id": _labels("e", block, rows["number"]),
        "user_id": names[rows["user"]],
        "event_type": np.array(ACTS)[rows["act"]],
        "item_id": _unless(item == NOTHING, catalogue.item_ids(item)),
        "query": _unless(query == NOTHING, typed[query]),
        "occurred_at": [f"{second}Z" for second in np.datetime_as_string(moment.astype("datetime64[s]"))],
        "quantity": rows["quantity"].to_numpy(),
        "price_cents": rows["price"].where(rows["price"] != NOTHING).astype("Int64").array,
        "session_id": _unless(rows["session"].to_numpy() == NOTHING, _labels("s", block, rows["session"])),
        "order_id": _unless(rows["order"].to_numpy() == NOTHING, _labels("o", block, rows["order"])),
    }
    flaw = rows["flaw"].to_numpy()
    lines = _spoil(pd.DataFrame(columns), flaw).to_json(orient="records", lines=True).splitlines()
    for position in np.flatnonzero(flaw == dirt.FLAWS.index("cut_line")):
        lines[position] = lines[position][: len(lines[position]) * 2 // 3]
    return "\n".join(lines) + "\n"


def user_truth(people: Users, names: list[str], robots: list[str], true: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`users`: taste, style, band and count of true events; bots have none. `habits`: what they buy again."""
    tastes = {f"taste_{theme.name}": people.tastes[:, number] for number, theme in enumerate(themes.THEMES)}
    known = {
        "user_id": names,
        "style": np.array([style[0] for style in themes.STYLES])[people.style],
        "band": np.array([name for name, _ in themes.BANDS])[people.band],
        "count_events": np.bincount(true["user"], minlength=len(people)),
        "is_silent": people.is_silent,
        "is_bot": False,
        **tastes,
    }
    bots = {"user_id": robots, "count_events": 0, "is_silent": False, "is_bot": True, **dict.fromkeys(tastes, 0.0)}
    habits = {
        "user_id": np.array(names)[people.habit_user],
        "item_id": catalogue.item_ids(people.habit_item),
        "rhythm_days": people.habit_rhythm,
    }
    both = pd.concat([pd.DataFrame(known), pd.DataFrame(bots)], ignore_index=True)
    return {"users": both.astype({"style": "string", "band": "string"}), "habits": pd.DataFrame(habits)}


def user_ids(numbers: np.ndarray) -> list[str]:
    return [f"u{number:07d}" for number in numbers.tolist()]


def _spoil(frame: pd.DataFrame, flaw: np.ndarray) -> pd.DataFrame:
    """Write each flaw of a value into its rows (`dirt.FLAWS`); the future is a leap year, so that each date exists."""
    has = {name: flaw == number for number, name in enumerate(dirt.FLAWS)}
    frame.loc[has["unknown_event_type"], "event_type"] = "teleport"
    frame.loc[has["missing_item"], "item_id"] = None
    frame.loc[has["negative_price"], "price_cents"] *= -1
    frame.loc[has["unparsable_time"], "occurred_at"] = "31/02/2026 25:61"
    frame.loc[has["future_time"], "occurred_at"] = "2996" + frame.loc[has["future_time"], "occurred_at"].str[4:]
    frame.loc[has["unknown_item"], "item_id"] = "i-not-in-the-catalogue"
    frame.loc[has["zero_quantity"], "quantity"] = 0
    return frame


def _settings(shop: Shop, ledger: Ledger, currency: str) -> str:
    worst = float(np.max(ledger.rejectable / np.maximum(ledger.arrived, 1)))
    return SETTINGS.format(
        timezone=TIMEZONE.key,
        currency=currency,
        first=shop.calendar.first,
        rejected=min(max(math.ceil(worst * 10 + 1) / 10, 0.2), 1.0),
        holdout=min(14, shop.calendar.days // 4),
    )


def _refuse_dwarfs(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < LEAST[name]:
            raise BadInput(f"A shop with {size} {name} is too small to show anything. Ask for {LEAST[name]} or more.")


def _local(seed: int, market: str) -> int:
    """The seed of what is a market's own."""
    return zlib.crc32(f"{seed} {market}".encode()) if market else seed


def _rng(seed: int, stream: str, block: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, STREAMS[stream], block])


def _parts(items: np.ndarray) -> list[np.ndarray]:
    return [items[start : start + ITEM_BLOCK] for start in range(0, len(items), ITEM_BLOCK)]


def _labels(letter: str, block: int, numbers: pd.Series) -> list[str]:
    return [f"{letter}{block}-{number}" for number in numbers.tolist()]


def _unless(is_missing: np.ndarray, values: list[str] | np.ndarray) -> np.ndarray:
    chosen = np.array(values, dtype=object)
    chosen[is_missing] = None
    return chosen
