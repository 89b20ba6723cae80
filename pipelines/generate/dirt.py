"""What real deliveries bring beside the truth, planted in known numbers: late and repeated rows, bots, broken rows."""

import numpy as np
import pandas as pd

from pipelines.generate.behaviour import NOTHING, PURCHASE, VIEW, Shop
from pipelines.generate.catalogue import Ints

FLAWS = (
    "none",
    "cut_line",
    "unknown_event_type",
    "missing_item",
    "negative_price",
    "unparsable_time",
    "future_time",
    "unknown_item",
    "zero_quantity",
)
FLAW_SHARE = 0.0008  # of each kind, of the true rows; at least one per block of users
LATE_SHARE = 0.01
DUPLICATE_SHARE = 0.008
BOT_DAYS, BOT_VIEWS, BOT_PAUSE = 3, 240, 10  # per bot; views a day; seconds between two views
USERS_PER_BOT = 2000


def soil(rng: np.random.Generator, true: pd.DataFrame, bots: pd.DataFrame, days: int) -> pd.DataFrame:
    """Events and bots as they are delivered; adds `number` (event identity), `arrival`, `flaw`, `is_copy`, `is_bot`."""
    rows = pd.concat([true.assign(is_bot=False), bots.assign(is_bot=True)], ignore_index=True)
    rows["number"] = np.arange(len(rows))
    rows["arrival"] = rows["day"] + late_days(rng, rows, days)
    rows = rows.assign(flaw=0, is_copy=False)
    everything = [rows, copies(rng, rows, days), broken(rng, rows[~rows["is_bot"]], len(rows))]
    return pd.concat(everything, ignore_index=True).sort_values(["arrival", "day", "second", "number"], kind="stable")


def late_days(rng: np.random.Generator, rows: pd.DataFrame, days: int) -> Ints:
    """(N,) days between an event and its delivery: 0, or 1 to 4 for few; nothing arrives after the last day."""
    lag = np.where(rng.random(len(rows)) < LATE_SHARE, rng.integers(1, 5, size=len(rows)), 0)
    return np.where((rows["day"] + lag < days) & ~rows["is_bot"], lag, 0)


def copies(rng: np.random.Generator, rows: pd.DataFrame, days: int) -> pd.DataFrame:
    """Rows that are delivered once more, in the same file or up to three days later."""
    again = rows[(rng.random(len(rows)) < DUPLICATE_SHARE) & ~rows["is_bot"]]
    arrival = np.minimum(again["arrival"] + rng.integers(0, 4, size=len(again)), days - 1)
    return again.assign(arrival=arrival, is_copy=True)


def broken(rng: np.random.Generator, rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """Purchases repeated under new numbers with one flaw each: what is true stays whole."""
    bought = rows[rows["act"] == PURCHASE]
    count = max(round(FLAW_SHARE * len(rows)), 1) if len(bought) else 0
    flaw = np.repeat(np.arange(1, len(FLAWS)), count)
    spoiled = bought.iloc[rng.integers(max(len(bought), 1), size=len(flaw))]
    return spoiled.assign(flaw=flaw, number=number + np.arange(len(flaw)))


def bot_views(rng: np.random.Generator, count: int, users: int, sessions: int, shop: Shop) -> pd.DataFrame:
    """Views of bots, numbered as users on from `users`: on some days, one view every few seconds for an hour."""
    days = shop.calendar.days
    day = np.array([rng.choice(days, BOT_DAYS, replace=False) for _ in range(count)], dtype=np.int64).ravel()
    visit = np.repeat(np.arange(len(day)), BOT_VIEWS)
    start = rng.integers(3 * 3600, 20 * 3600, size=len(day))
    second = start[visit] + BOT_PAUSE * (np.arange(len(visit)) % BOT_VIEWS)
    item = rng.integers(len(shop.catalogue), size=len(visit))
    price = shop.catalogue.price(item, day[visit])
    rows = {"user": users + visit // BOT_VIEWS // BOT_DAYS, "act": VIEW, "item": item, "query": NOTHING}
    rows |= {
        "day": day[visit],
        "second": second,
        "session": sessions + visit,
        "order": NOTHING,
        "quantity": 1,
        "price": price,
    }
    views = pd.DataFrame(rows).astype({"user": "int64"})
    return views[shop.catalogue.is_on_sale(item, day[visit])]


def bots_of(block: int, users: int, block_size: int) -> tuple[int, int]:
    """(how many bots a block has, how many the blocks before it have); the first has one at least."""
    return max(users // USERS_PER_BOT, int(block == 0)), block * max(block_size // USERS_PER_BOT, 1)


def counts(rows: pd.DataFrame) -> dict[str, int]:
    """Planted rows by kind."""
    flaws = np.bincount(rows["flaw"], minlength=len(FLAWS))
    return {
        "duplicate_rows": int(rows["is_copy"].sum()),
        "late_rows": int(((rows["arrival"] > rows["day"]) & ~rows["is_copy"] & (rows["flaw"] == 0)).sum()),
        "bot_rows": int(rows["is_bot"].sum()),
        **{name: int(flaws[number]) for number, name in enumerate(FLAWS) if number},
    }
