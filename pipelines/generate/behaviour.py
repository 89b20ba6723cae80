"""What the generated shop's users want and do: tastes, habits, and sessions of search, view, cart and purchase."""

import datetime as dt
import zoneinfo
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.generate import queries
from pipelines.generate import themes as words
from pipelines.generate.catalogue import CONSUMABLES, RHYTHMS, Catalogue, Choice, Floats, Ints, cell

ACTS = ("search", "view", "cart", "purchase", "return")
SEARCH, VIEW, CART, PURCHASE, RETURN = range(len(ACTS))
SILENT_SHARE = 0.03  # users in the users file who never do anything
SESSIONS_PER_90_DAYS = 8.5
HABITS = 0.7  # mean number of things that a user buys again and again
SEARCH_SHARE, CART_SHARE, PURCHASE_SHARE, COMPANION_SHARE = 0.45, 0.33, 0.65, 0.25
OWN_SHARE = 0.75  # of the things wanted that are of the user's own style; as many are of the own price band
RETURN_SHARE = 0.03
NOTHING = -1  # in columns of numbers: no item, no query, no order


@dataclass(frozen=True)
class Calendar:
    """T days of one shop: `midnights` (T,) in seconds of the epoch, `busy` (T + 1,) cumulative share of the visits,
    `season` (themes, T) appeal of each theme, 0 to 1."""

    first: dt.date
    midnights: Ints
    busy: Floats
    season: Floats

    @property
    def days(self) -> int:
        return len(self.midnights)

    def date(self, day: int) -> dt.date:
        return self.first + dt.timedelta(days=int(day))

    def draw(self, rng: np.random.Generator, joined: Ints) -> Ints:
        """A day on or after each of the days `joined`."""
        mass = self.busy[joined] + rng.random(len(joined)) * (1 - self.busy[joined])
        return np.minimum(np.searchsorted(self.busy, mass, side="right") - 1, self.days - 1)


@dataclass(frozen=True)
class Users:
    """B users; arrays have shape (B,), `tastes` (B, themes) rows of sum 1. `habit_*`: (H,) things bought again."""

    country: Ints
    tastes: Floats
    style: Ints
    band: Ints
    sessions: Floats
    joined: Ints
    is_silent: np.ndarray
    habit_user: Ints
    habit_item: Ints
    habit_rhythm: Floats

    def __len__(self) -> int:
        return len(self.country)


@dataclass(frozen=True)
class Shop:
    """All that blocks of users share. `companion` (I,): what goes into the basket with each item."""

    catalogue: Catalogue
    calendar: Calendar
    companion: Ints
    by_cell: Choice
    by_kind: Choice
    consumables: Choice

    @classmethod
    def of(cls, catalogue: Catalogue, calendar: Calendar, companion: Ints) -> "Shop":
        everything, fame, cells = np.arange(len(catalogue)), catalogue.popularity, len(words.THEMES) * 9
        again = np.flatnonzero(CONSUMABLES[catalogue.kind] & (catalogue.first_day == 0))
        return cls(
            catalogue=catalogue,
            calendar=calendar,
            companion=companion,
            by_cell=Choice(everything, catalogue.cell, cells, fame),
            by_kind=Choice(everything, catalogue.kind, len(words.KINDS), fame),
            consumables=Choice(again, catalogue.theme[again], len(words.THEMES), fame[again]),
        )

    def want(self, rng: np.random.Generator, choice: Choice, group: Ints, day: Ints) -> Ints:
        """An item of each group that appeals on that day, NOTHING where eight thoughts found none."""
        chosen, open_ = np.full(len(group), NOTHING), np.arange(len(group))
        for _ in range(8):
            thought = choice.draw(rng, group[open_])
            appeals = rng.random(len(open_)) < self.catalogue.appeal(thought, day[open_], self.calendar.season)
            chosen[open_[appeals]] = thought[appeals]
            open_ = open_[~appeals]
        return chosen


def calendar(first: dt.date, days: int, zone: zoneinfo.ZoneInfo) -> Calendar:
    """The week has its rhythm, the end of the month its money, the shop grows, and each theme has its season."""
    dates = [first + dt.timedelta(days=day) for day in range(days)]
    midnights = [int(dt.datetime.combine(date, dt.time(), zone).timestamp()) for date in dates]
    week = np.array([0.9, 0.9, 0.95, 1.0, 1.1, 1.25, 1.2])
    visits = np.array([week[date.weekday()] * (1.15 if date.day > 25 else 1.0) for date in dates])
    visits *= np.linspace(1.0, 1.3, days)
    day_of_year = np.array([date.timetuple().tm_yday for date in dates])
    peaks = np.array([theme.peak for theme in words.THEMES])[:, None]
    season = 0.65 + 0.35 * np.cos(2 * np.pi * (day_of_year[None, :] - peaks) / 365.25)
    return Calendar(first, np.array(midnights), np.concatenate([[0.0], np.cumsum(visits) / visits.sum()]), season)


def make_users(rng: np.random.Generator, count: int, shop: Shop) -> Users:
    """Users with one to three themes at heart, leaning a little to what their country likes."""
    days = shop.calendar.days
    country = rng.choice(len(words.COUNTRIES), size=count, p=words.COUNTRY_SHARES)
    likes = np.exp(0.5 * np.sin(np.outer(np.arange(len(words.COUNTRIES)) + 1, np.arange(len(words.THEMES)) * 2.4 + 1)))
    raw = rng.gamma(0.2, size=(count, len(words.THEMES))) * likes[country] + 1e-9
    tastes = raw / raw.sum(axis=1, keepdims=True)
    is_silent = rng.random(count) < SILENT_SHARE
    is_new = rng.random(count) < 0.25
    joined = np.where(is_new, rng.integers(days, size=count), 0)
    eagerness = np.minimum(rng.lognormal(-0.4, 0.9, count), 20.0)
    habits = rng.poisson(HABITS, count) * ~is_silent
    habit_user = np.repeat(np.arange(count), habits)
    habit_item = shop.consumables.draw(rng, draw_theme(rng, tastes[habit_user]))
    rhythm = RHYTHMS[shop.catalogue.kind[habit_item]] * rng.lognormal(0, 0.25, len(habit_item))
    return Users(
        country=country,
        tastes=tastes,
        style=rng.integers(3, size=count),
        band=rng.choice(3, size=count, p=(0.35, 0.45, 0.2)),
        sessions=eagerness * SESSIONS_PER_90_DAYS * days / 90 * ~is_silent,
        joined=joined,
        is_silent=is_silent,
        habit_user=habit_user,
        habit_item=habit_item,
        habit_rhythm=np.maximum(rhythm, 5.0),
    )


def events(rng: np.random.Generator, users: Users, shop: Shop) -> pd.DataFrame:
    """True events of a block by time: user, act, item, query, day, second of the day, session, order, quantity, price.

    All columns are numbers; users count from 0 within the block, sessions and orders too; NOTHING for none.
    """
    intents = browse(rng, users, shop)
    sessions = int(intents["session"].max()) + 1 if len(intents) else 0
    habits = replenish(rng, users, shop, sessions)
    done = pd.concat([*_browsing(rng, intents, shop), *_replenishing(rng, habits)], ignore_index=True)
    done = done[(done["item"] != NOTHING) | (done["act"] == SEARCH)]
    items, days = done["item"].to_numpy(), done["day"].to_numpy()
    is_bought, lasts = done["act"] == PURCHASE, ~CONSUMABLES[shop.catalogue.kind[items]]
    done["order"] = np.where(is_bought, done["session"], NOTHING)
    done["quantity"] = np.where((done["act"] >= CART) & ~lasts, rng.choice([1, 1, 1, 2, 3], size=len(done)), 1)
    done["price"] = np.where(items == NOTHING, NOTHING, shop.catalogue.price(items, days))
    done = pd.concat([done, send_back(rng, done[is_bought & lasts], shop.calendar.days)])
    return done.sort_values(["day", "second", "user", "act", "item"], kind="stable", ignore_index=True)


def browse(rng: np.random.Generator, users: Users, shop: Shop) -> pd.DataFrame:
    """One row per intent, a thing wanted in a session: user, day, session, start, checkout (seconds), item, query."""
    count = rng.poisson(users.sessions * (1 - shop.calendar.busy[users.joined]))
    user = np.repeat(np.arange(len(users)), count)
    day = shop.calendar.draw(rng, users.joined[user])
    opens = _opening(rng, len(user))
    intents = 1 + np.minimum(rng.poisson(0.6, len(user)), 4)
    session = np.repeat(np.arange(len(user)), intents)
    position = np.arange(len(session)) - np.repeat(np.cumsum(intents) - intents, intents)
    who, when = user[session], day[session]
    style = _mostly(rng, users.style[who], OWN_SHARE)
    band = _mostly(rng, users.band[who], OWN_SHARE)
    item = shop.want(rng, shop.by_cell, cell(draw_theme(rng, users.tastes[who]), style, band), when)
    is_search = (rng.random(len(item)) < SEARCH_SHARE) & (item != NOTHING)
    query = np.where(is_search, queries.codes(rng, shop.catalogue, item), NOTHING)
    start = opens[session] + 240 * position
    checkout = opens[session] + 240 * intents[session] + 30 + position
    columns = {"user": who, "day": when, "session": session, "start": start, "checkout": checkout}
    return pd.DataFrame({**columns, "item": item, "query": query})[item != NOTHING]


def replenish(rng: np.random.Generator, users: Users, shop: Shop, sessions: int) -> pd.DataFrame:
    """One row per thing bought again; those of one user and day share a session, numbered on from `sessions`."""
    phase = rng.random(len(users.habit_user)) * users.habit_rhythm
    begin = users.joined[users.habit_user] + phase
    times = np.maximum(np.floor((shop.calendar.days - 1 - begin) / users.habit_rhythm) + 1, 0).astype(np.int64)
    habit = np.repeat(np.arange(len(times)), times)
    turn = np.arange(len(habit)) - np.repeat(np.cumsum(times) - times, times)
    user, item = users.habit_user[habit], users.habit_item[habit]
    day = np.round(begin[habit] + turn * users.habit_rhythm[habit] + rng.normal(0, 1.2, len(habit))).astype(np.int64)
    day = np.clip(day, users.joined[user], shop.calendar.days - 1)
    visit, session = np.unique(user * shop.calendar.days + day, return_inverse=True)
    start = _opening(rng, len(visit))[session] + 20 * (habit % 7)
    rows = pd.DataFrame({"user": user, "day": day, "session": sessions + session, "start": start, "item": item})
    rows["checkout"], rows["query"] = rows["start"] + 400, NOTHING
    return rows[shop.catalogue.is_on_sale(item, day)].drop_duplicates(["session", "item"])


def send_back(rng: np.random.Generator, bought: pd.DataFrame, days: int) -> pd.DataFrame:
    """Returns of some purchases, three days to two weeks later, on the same order and at the price that was paid."""
    back = bought[rng.random(len(bought)) < RETURN_SHARE]
    back = back.assign(act=RETURN, day=back["day"] + rng.integers(3, 15, size=len(back)), session=NOTHING)
    return back[back["day"] < days]


def draw_theme(rng: np.random.Generator, tastes: Floats) -> Ints:
    """One theme per row of `tastes` (N, themes)."""
    steps = np.cumsum(tastes, axis=1)
    return (rng.random((len(tastes), 1)) * steps[:, -1:] > steps).sum(axis=1)


def _browsing(rng: np.random.Generator, intents: pd.DataFrame, shop: Shop) -> list[pd.DataFrame]:
    """Search, a look at some others of the kind, the wanted item, the cart, and the till."""
    item, query = intents["item"].to_numpy(), intents["query"].to_numpy()
    kind, day = shop.catalogue.kind[item], intents["day"].to_numpy()
    others = rng.poisson(0.8, len(intents))
    looks = []
    for turn in range(3):
        other = shop.want(rng, shop.by_kind, kind, day)
        clicked = np.where(rng.random(len(intents)) < 0.6, query, NOTHING)
        seen = (others > turn) & (other != item)
        looks.append(_rows(intents, seen, VIEW, 15 + 25 * turn, item=other, query=clicked))
    is_carted = rng.random(len(intents)) < CART_SHARE
    is_bought = is_carted & (rng.random(len(intents)) < PURCHASE_SHARE)
    companion = shop.companion[item]
    joins = (
        (rng.random(len(intents)) < COMPANION_SHARE) & (companion != item) & shop.catalogue.is_on_sale(companion, day)
    )
    return [
        _rows(intents, query != NOTHING, SEARCH, 0, item=NOTHING),
        *looks,
        _rows(
            intents,
            np.full(len(intents), True),
            VIEW,
            95,
            query=np.where(rng.random(len(intents)) < 0.8, query, NOTHING),
        ),
        _rows(intents, is_carted, CART, 130, query=NOTHING),
        _rows(intents, is_carted & joins, CART, 150, item=companion, query=NOTHING),
        _rows(intents, is_bought, PURCHASE, None, query=NOTHING),
        _rows(intents, is_bought & joins, PURCHASE, None, item=companion, query=NOTHING),
    ]


def _replenishing(rng: np.random.Generator, habits: pd.DataFrame) -> list[pd.DataFrame]:
    everything = np.full(len(habits), True)
    return [
        _rows(habits, rng.random(len(habits)) < 0.4, VIEW, 0),
        _rows(habits, everything, CART, 10),
        _rows(habits, everything, PURCHASE, None),
    ]


def _rows(
    intents: pd.DataFrame, chosen: np.ndarray, act: int, after: int | None, **changed: np.ndarray | int
) -> pd.DataFrame:
    """Events of the chosen intents, so many seconds after their start; at the checkout for None."""
    moment = intents["checkout"] if after is None else intents["start"] + after
    rows = intents.assign(act=act, second=moment, **changed)[chosen]
    return rows[["user", "act", "item", "query", "day", "second", "session"]]


def _mostly(rng: np.random.Generator, own: Ints, share: float) -> Ints:
    """One's own of three values for a share of the times, else any."""
    return np.where(rng.random(len(own)) < share, own, rng.integers(3, size=len(own)))


def _opening(rng: np.random.Generator, count: int) -> Ints:
    """Seconds of the day at which sessions begin: from six to ten, most in the evening."""
    return rng.triangular(6 * 3600, 19.5 * 3600, 22 * 3600, count).astype(np.int64)
