"""Knowledge: what is known of every user, item and pair of them at the end of a day, as columns of numbers."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from pipelines.marts import Marts, nothing_done, values_at

HALF_LIVES = (14, 45, 120, 400)  # days; what a user bought lately, this season, this year, ever
WINDOWS = (7, 14, 28, 90, 400)  # days of popularity
REPEAT_PRIOR = 10.0  # buyers at which half of what an item's own repeat rate says is believed
COUNTRY_PRIOR = 20.0  # and buyers of a country
PAIR_COLUMNS = (
    *(f"count_{days}" for days in HALF_LIVES),
    *(f"interest_{days}" for days in HALF_LIVES[:2]),
    *("days_bought", "since", "since_first", "gap", "rhythm", "in_last"),
)
USER_COLUMNS = ("since", "since_first", "days_bought", "gap", "rhythm", "breadth", "basket", "repeat_rate")
ITEM_COLUMNS = (
    *(f"buyers_{days}" for days in WINDOWS),
    *("trend_7", "trend_28", "age", "since", "since_first", "rate", "repeat_rate", "times_bought", "log_price"),
)


@dataclass(frozen=True)
class Pairs:
    """What each user did with each item of the past; (P,) keys user × I + item ascending, (P, PAIR_COLUMNS) values."""

    keys: np.ndarray
    values: np.ndarray
    count_items: int

    def at(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R, PAIR_COLUMNS); of a pair that never met, counts are 0 and times unknown."""
        wanted = users.astype(np.int64) * self.count_items + items
        place = np.minimum(np.searchsorted(self.keys, wanted), max(len(self.keys) - 1, 0))
        never = np.array(
            [0.0 if name.startswith(("count", "interest", "days", "in_")) else np.nan for name in PAIR_COLUMNS]
        )
        if not len(self.keys):
            return np.tile(never, (len(wanted), 1)).astype(np.float32)
        return np.where((self.keys[place] == wanted)[:, None], self.values[place], never).astype(np.float32)

    @classmethod
    def joined(cls, parts: list["Pairs"], count_items: int) -> "Pairs":
        """Those of ascending users, in parts, which it empties as it goes: the largest thing that is held of acts."""
        count, at = sum(len(one.keys) for one in parts), 0
        keys, values = np.empty(count, dtype=np.int64), np.empty((count, len(PAIR_COLUMNS)), dtype=np.float32)
        for one in _emptied(parts):
            end = at + len(one.keys)
            keys[at:end], values[at:end], at = one.keys, one.values, end
        return cls(keys, values, count_items)


def _emptied(parts: list[Pairs]) -> Iterator[Pairs]:
    parts.reverse()
    while parts:
        yield parts.pop()


class Knowledge:
    """As of one day. Users and items are positions; times are days before it, NaN where there is none.

    What is told of items comes from people; bots have histories of their own, but say nothing of what sells.
    """

    def __init__(self, marts: Marts, until: dt.date):
        count_users, count_items = len(marts.users), len(marts.items)
        pairs, tastes, bought = [], [sparse.csr_matrix((0, count_items))], [nothing_done()]
        for users, acts in marts.acts(until):
            pairs.append(_pairs(acts, count_items))
            tastes.append(_shares(acts, users, count_items))
            bought.append(acts[acts["value"] > 0])
        trips = pd.concat(bought, ignore_index=True)
        people = trips[marts.people(until)[trips["user"].to_numpy()]]
        self.pairs = Pairs.joined(pairs, count_items)
        self.users = _users(trips, count_users)  # (U, USER_COLUMNS)
        self.items = _items(people, marts, until)  # (I, ITEM_COLUMNS)
        self.tastes = sparse.csr_matrix(sparse.vstack(tastes, format="csr"))  # (U, I) rows sum to 1
        kinds = marts.kinds(until)
        self.kinds = [pd.factorize(kinds[name])[0] for name in ("category", "brand")]  # (I,) each, -1: none
        self._kind_tastes = [_by_kind(self.tastes, codes) for codes in self.kinds]  # (U, C) each
        self.country, self.country_share = _countries(people, marts)

    def kind_share(self, place: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) share of what the user did that was with items of the same category (0) or brand (1)."""
        codes = self.kinds[place][items]
        return np.where(codes >= 0, values_at(self._kind_tastes[place], users, np.maximum(codes, 0)), np.nan)


def _decayed(acts: pd.DataFrame, column: str, half_life: float) -> np.ndarray:
    return acts[column].to_numpy() * np.exp2(-acts["age"].to_numpy() / half_life)


def _pairs(acts: pd.DataFrame, count_items: int) -> Pairs:
    key = acts["user"].to_numpy(dtype=np.int64) * count_items + acts["item"].to_numpy()
    columns = {f"count_{days}": _decayed(acts, "value", days) for days in HALF_LIVES}
    columns |= {f"interest_{days}": _decayed(acts, "weight", days) for days in HALF_LIVES[:2]}
    sums = pd.DataFrame(columns).groupby(key).sum()
    bought = acts[acts["value"] > 0]
    last_trip = bought.groupby("user")["age"].transform("min")
    of_last = bought["age"].to_numpy() == last_trip.to_numpy()
    keys = bought["user"].to_numpy(dtype=np.int64) * count_items + bought["item"].to_numpy()
    times = (
        bought.assign(in_last=of_last)
        .groupby(keys)
        .agg(
            days_bought=("age", "nunique"), since=("age", "min"), since_first=("age", "max"), in_last=("in_last", "max")
        )
    )
    whole = sums.join(times.astype(float))
    whole["gap"] = _gap(whole)
    whole["rhythm"] = whole["since"] / np.maximum(whole["gap"], 1.0)
    whole = whole.fillna({"days_bought": 0.0, "in_last": 0.0})
    return Pairs(whole.index.to_numpy(dtype=np.int64), whole[list(PAIR_COLUMNS)].to_numpy(np.float32), count_items)


def _gap(times: pd.DataFrame) -> pd.Series:
    """Mean days between two purchases, unknown for who bought once."""
    return ((times["since_first"] - times["since"]) / (times["days_bought"] - 1)).where(times["days_bought"] > 1)


def _users(bought: pd.DataFrame, count: int) -> np.ndarray:
    trips = bought.groupby(["user", "age"]).size().rename("items").reset_index().groupby("user")
    told = trips.agg(
        since=("age", "min"), since_first=("age", "max"), days_bought=("age", "size"), basket=("items", "mean")
    )
    told = told.reindex(range(count)).fillna({"days_bought": 0.0})
    distinct, times = bought.groupby("user")["item"].nunique(), bought.groupby("user").size()
    told["breadth"] = distinct.reindex(range(count), fill_value=0)
    told["repeat_rate"] = (1 - distinct / times).reindex(range(count), fill_value=0.0)
    told["gap"] = _gap(told)
    told["rhythm"] = told["since"] / np.maximum(told["gap"], 1.0)
    return told[list(USER_COLUMNS)].to_numpy(np.float32)


def _items(bought: pd.DataFrame, marts: Marts, until: dt.date) -> np.ndarray:
    count = len(marts.items)
    told = pd.DataFrame({f"buyers_{days}": marts.popularity(until, days) for days in WINDOWS}, index=range(count))
    told["trend_7"] = (4 * told["buyers_7"] + 2) / (told["buyers_28"] + 2)
    told["trend_28"] = (90 / 28 * told["buyers_28"] + 5) / (told["buyers_90"] + 5)
    told["age"] = marts.ages_days(until)
    times = bought.groupby("item")["age"].agg(since="min", since_first="max")
    told = told.join(times)
    told["rate"] = told["buyers_90"] / told["since_first"].clip(7, 90).fillna(7)
    days = bought.groupby(["item", "user"])["age"].nunique()
    repeated, mean = (days > 1).groupby("item").sum(), float((days > 1).mean()) if len(days) else 0.0
    buyers = days.groupby("item").size()
    told["repeat_rate"] = ((repeated + REPEAT_PRIOR * mean) / (buyers + REPEAT_PRIOR)).reindex(
        range(count), fill_value=mean
    )
    told["times_bought"] = days.groupby("item").mean().reindex(range(count))
    told["log_price"] = np.log(marts.prices(until))
    return told[list(ITEM_COLUMNS)].to_numpy(np.float32)


def _shares(acts: pd.DataFrame, users: slice, count_items: int) -> sparse.csr_matrix:
    """(B, I) each item's share of what the users of a block did, halved every 120 days."""
    weights = np.maximum(_decayed(acts, "weight", 120.0), 0.0)
    shape = users.stop - users.start, count_items
    matrix = sparse.csr_matrix((weights, (acts["user"] - users.start, acts["item"])), shape=shape)
    total = np.asarray(matrix.sum(axis=1)).ravel()
    return (sparse.diags(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)) @ matrix).tocsr()


def _by_kind(tastes: sparse.csr_matrix, codes: np.ndarray) -> sparse.csr_matrix:
    """(U, C) each kind's share, of items (I,) whose kind is -1 where they have none."""
    known = np.flatnonzero(codes >= 0)
    shape = len(codes), int(codes.max(initial=0)) + 1
    kinds = sparse.csr_matrix((np.ones(len(known)), (known, codes[known])), shape=shape)
    return (tastes @ kinds).tocsr()


def _countries(bought: pd.DataFrame, marts: Marts) -> tuple[np.ndarray, np.ndarray]:
    """(U,) country of each user; (C, I) share of its buyers of 60 days who bought the item, shrunk towards all's."""
    country, _ = pd.factorize(
        marts.frame("select country from users order by user_id")["country"], use_na_sentinel=False
    )
    recent = bought[bought["age"] < 60].drop_duplicates(["user", "item"])
    shape = int(country.max(initial=0)) + 1, len(marts.items)
    ones = np.ones(len(recent))
    buyers = sparse.csr_matrix((ones, (country[recent["user"].to_numpy()], recent["item"])), shape=shape).toarray()
    active = np.bincount(country[recent["user"].unique()], minlength=shape[0]) if len(recent) else np.zeros(shape[0])
    overall = buyers.sum(axis=0) / max(active.sum(), 1)
    return country, ((buyers + COUNTRY_PRIOR * overall) / (active[:, None] + COUNTRY_PRIOR)).astype(np.float32)
