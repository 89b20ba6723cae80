"""The marts as arrays: every model of the night reads its input here, as it stood at the end of a given day."""

import datetime as dt
from collections.abc import Iterator
from functools import cached_property

import duckdb
import numpy as np
import pandas as pd
from scipy import sparse

from models.histories import Histories, joined
from models.vocabulary import Vocabulary
from pipelines.acts import NOTHING, Acts, summed
from pipelines.run import Run

PAIR_ROUNDS = 3  # how often a basket is shuffled to draw neighbours from it
LARGEST_BASKET = 100  # larger ones are stock orders or bots and say little about what belongs together
ALWAYS = ("holdout", "final")  # trainings that every night has
COLUMNS = {"user": np.int32, "item": np.int32, "age": np.int64, "weight": np.float64, "value": np.float64}  # of acts
GATHERED = 1 << 14  # histories that are laid out at once
SMOOTHING = 5.0  # events after a query at which half of what they say is believed


class Marts:
    """Read-only view of a run's marts. Users and items are positions of `users` and `items`; days are inclusive."""

    def __init__(self, run: Run):
        self.run, self.settings = run, run.settings
        self.connection = duckdb.connect(str(run.of("build", "marts.duckdb")), read_only=True)
        self.connection.execute(f"set threads = {run.settings.machine.threads}")
        self.connection.execute(f"set memory_limit = '{run.settings.machine.database_mb}MiB'")

    @cached_property
    def cuts(self) -> dict[str, dt.date]:
        """The run's trainings, oldest first, without windows that less than another one's days of events precede."""
        cuts, found = self.run.cuts, self.connection.execute("select min(event_date) from interactions").fetchone()
        begun = found[0] + dt.timedelta(days=self.settings.holdout.days) if found and found[0] else dt.date.max
        return {part: cut for part, cut in cuts.items() if part in ALWAYS or begun <= cut}

    def frame(self, query: str, *values: object) -> pd.DataFrame:
        return self.connection.execute(query, list(values)).df()

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """The catalogue in the order of `items`."""
        return self.frame("select * from catalogue").sort_values("item_id", ignore_index=True)

    @cached_property
    def items(self) -> Vocabulary:
        return Vocabulary(self.catalogue["item_id"])

    @cached_property
    def users(self) -> Vocabulary:
        return Vocabulary(self.frame("select user_id from users")["user_id"])

    @cached_property
    def positive(self) -> str:
        """What counts as a success: purchases, or views in a shop where nobody buys."""
        has_purchases = self.connection.execute(
            "select coalesce(max(count_purchases), 0) > 0 from interactions"
            " join users using (user_id) where flagged_date is null"
        ).fetchone()
        return "count_purchases" if has_purchases and has_purchases[0] else "count_views + count_carts"

    def people(self, until: dt.date) -> np.ndarray:
        """(U,) bool: users whom nothing known by then shows to be bots; models learn from them only."""
        flagged = self.frame("select user_id from users where flagged_date <= ?", until)["user_id"]
        people = np.ones(len(self.users), dtype=bool)
        people[self.users.positions(flagged)] = False
        return people

    def known_items(self, until: dt.date) -> np.ndarray:
        """(I,) bool: in the catalogue by then."""
        return (pd.to_datetime(self.catalogue["first_arrival_date"]) <= pd.Timestamp(until)).to_numpy()

    def ages_days(self, until: dt.date) -> np.ndarray:
        """(I,) days since the catalogue first named the item, 0 for one that is still to come."""
        arrived = pd.to_datetime(self.catalogue["first_arrival_date"])
        return np.maximum((pd.Timestamp(until) - arrived).dt.days.to_numpy(), 0)

    @cached_property
    def _acts(self) -> Acts:
        return Acts(self.connection, self.users, self.items, self.positive)

    def interactions(self, until: dt.date, half_life_days: float | None = None) -> sparse.csr_matrix:
        """(U, I) event weights, halved every `half_life_days`, by default `weights.half_life_days`."""
        half_life = half_life_days or self.settings.weights.half_life_days
        return self._decayed("weight", until, half_life)

    def tastes(self, until: dt.date) -> sparse.csr_matrix:
        """(U, I) square roots of the event weights, halved every `neighbours.half_life_days`: repeats say less."""
        return self._decayed("weight", until, self.settings.neighbours.half_life_days).sqrt()

    def habit(self, until: dt.date) -> sparse.csr_matrix:
        """(U, I) log(1 + purchases), each halved every `fuse.habit_half_life_days`."""
        matrix = self._decayed("value", until, self.settings.fuse.habit_half_life_days)
        matrix.data = np.log1p(matrix.data)
        return matrix

    def _decayed(self, column: str, until: dt.date, half_life_days: float) -> sparse.csr_matrix:
        """(U, I) sums of a column of acts, halved every so many days."""
        return self._acts.matrix(lambda rows: rows[column] * _decay(rows["event_date"], until, half_life_days), until)

    def bought(self, until: dt.date, after: dt.date | None = None) -> sparse.csr_matrix:
        """(U, I) 1 where the user bought the item up to `until` (and after `after`) and had not brought it all back."""
        matrix = self._acts.matrix(lambda rows: rows["value"], until, after)
        matrix.data[:] = 1.0
        return matrix

    def held_out(self, placement: str) -> sparse.csr_matrix:
        """(U, I) 1 where a person bought in the held-out days; of `discover`, what they had not bought before."""
        cut = self.run.holdout_cut
        bought = self._bought_by_people(cut, self.run.proved_on)
        if placement == "discover":
            bought = sparse.csr_matrix(bought - bought.multiply(self.bought(cut)))
            bought.eliminate_zeros()
        return bought

    def window(self, cut: dt.date, end: dt.date) -> tuple[np.ndarray, sparse.csr_matrix]:
        """People (B,) who bought between two days, `fuse.learn_users` of them at most, and what they did (B, I): they
        teach the rankings and judge them."""
        bought = self._bought_by_people(cut, end)
        users = np.flatnonzero(np.diff(bought.indptr))
        drawn = _drawn(len(users), self.settings.fuse.learn_users, self.settings.seed)
        users = users if drawn is None else users[drawn]
        return users, bought[users]

    def _bought_by_people(self, cut: dt.date, end: dt.date) -> sparse.csr_matrix:
        """(U, I) 1 where a person bought the item after `cut` and up to `end`."""
        return self.bought(end, after=cut).multiply(self.people(end)[:, None]).tocsr()

    def popularity(self, until: dt.date, days: int | None = None) -> np.ndarray:
        """(I,) buyers per item in the last `days` (all days without), ties broken by visitors."""
        since = until - dt.timedelta(days=days) if days else dt.date.min
        rows = self.frame(
            "select item_id, sum(count_buyers) as buyers, sum(count_visitors) as visitors from item_days"
            " where known_date <= ? and event_date > ? group by item_id",
            until,
            since,
        )
        positions = self.items.positions(rows["item_id"])
        score = rows["buyers"] + rows["visitors"] / (1.0 + rows["visitors"].max()) if len(rows) else rows["buyers"]
        popularity = np.zeros(len(self.items))
        popularity[positions[positions >= 0]] = score.to_numpy(dtype=float)[positions >= 0]
        return popularity

    def histories(self, until: dt.date) -> Histories:
        """The latest items of every user, oldest first; ages count from `until`."""
        parts = []
        for users, rows in self._sequences(until):
            owners, places = np.arange(users.start, users.stop), rows["user"].to_numpy()
            starts, ends = np.searchsorted(places, owners), np.searchsorted(places, owners, side="right")
            parts.append(self._gather(rows, starts, ends, np.full(len(owners), np.datetime64(until))))
        return joined(parts, self.settings.profile.history_length)

    def history_examples(self, until: dt.date, most: int | None = None) -> tuple[Histories, np.ndarray]:
        """For each first purchase of an item by a person: the history before that day, and the item bought (N,).

        Of more than `most` purchases so many are drawn, once they are counted.
        """
        people, drawn = self.people(until), None
        if most is not None:
            count = sum(len(first_purchases(rows, people)[0]) for _, rows in self._sequences(until))
            drawn = _drawn(count, most, self.settings.seed)
        parts, items, seen = [], [np.empty(0, dtype=np.int32)], 0
        for _, rows in self._sequences(until):
            chosen, starts, ends = first_purchases(rows, people)
            own = slice(None) if drawn is None else drawn[(drawn >= seen) & (drawn < seen + len(chosen))] - seen
            seen, chosen = seen + len(chosen), chosen[own]
            parts.append(self._gather(rows, starts[own], ends[own], rows["event_date"].to_numpy()[chosen]))
            items.append(rows["item"].to_numpy()[chosen])
        return joined(parts, self.settings.profile.history_length), np.concatenate(items)

    def item_pairs(self, until: dt.date, seed: int) -> np.ndarray:
        """(P, 2) items that share a basket: neighbours in random orders of it, so that a basket counts by its size."""
        rows = self._acts.baskets(until, LARGEST_BASKET)
        baskets, items = (rows[name].to_numpy() for name in ("basket", "item"))
        dice = np.random.default_rng(seed)
        drawn = [np.empty((0, 2), dtype=np.int32)]
        for _ in range(PAIR_ROUNDS):
            order = np.lexsort((dice.random(len(items)), baskets))
            together = baskets[order][1:] == baskets[order][:-1]
            drawn.append(np.stack([items[order][1:], items[order][:-1]], axis=1)[together])
        return np.concatenate(drawn)

    def queries(self) -> pd.DataFrame:
        """The most searched queries with count_searches, in the order of their text."""
        rows = self.frame(
            "select query, count_searches from queries order by count_searches desc, query limit ?",
            self.settings.search.max_queries,
        )
        return rows.sort_values("query", ignore_index=True)

    def searches(self, until: dt.date) -> pd.DataFrame:
        """Every query by its text: count_searches, recent_searches (halved every `search.behaviour_half_life_days`),
        last_searched_date."""
        rows = self.frame("select * from query_days where event_date <= ? order by query, event_date", until)
        half_life = self.settings.search.behaviour_half_life_days
        rows["recent_searches"] = rows["count_searches"] * _decay(rows["event_date"], until, half_life)
        found = rows.groupby("query", sort=True).agg(
            count_searches=("count_searches", "sum"),
            recent_searches=("recent_searches", "sum"),
            last_searched_date=("event_date", "max"),
        )
        return found.reset_index()

    def reformulations(self, until: dt.date) -> dict[tuple[str, str], tuple[int, int]]:
        """By query and the one that followed: visits, and visits in which only the second led to an item."""
        rows = self.frame(
            "select query, next_query, sum(count_visits)::bigint as visits, sum(count_answered)::bigint as answered"
            " from reformulations where event_date <= ? group by all order by all",
            until,
        )
        return {(query, after): (visits, answered) for query, after, visits, answered in rows.to_numpy().tolist()}

    def query_clicks(self, queries: Vocabulary, until: dt.date, after: dt.date | None = None) -> sparse.csr_matrix:
        """(Q, I) event weights that followed from a query, halved every `search.behaviour_half_life_days`."""
        rows = self.frame(
            "select query, item_id, event_date, sum(weight) as weight from query_clicks"
            " where known_date <= ? and event_date > ? group by all order by all",
            until,
            after or dt.date.min,
        )
        rows["weight"] *= _decay(rows["event_date"], until, self.settings.search.behaviour_half_life_days)
        return summed(
            queries.positions(rows["query"]),
            self.items.positions(rows["item_id"]),
            rows["weight"],
            (len(queries), len(self.items)),
        )

    def user_query_clicks(self, queries: Vocabulary, until: dt.date, after: dt.date) -> pd.DataFrame:
        """user, query, item of all that users did after these queries between two days and that was not undone."""
        rows = self.frame(
            "select user_id, query, item_id from user_query_clicks where known_date <= ? and event_date > ?"
            " group by all having sum(weight) > ? order by all",
            until,
            after,
            NOTHING,
        )
        vocabularies = {"user": self.users, "query": queries, "item": self.items}
        places = [one.positions(rows[column]) for one, column in zip(vocabularies.values(), rows, strict=True)]
        found = pd.DataFrame(dict(zip(vocabularies, places, strict=True)))
        return found[(found >= 0).all(axis=1)]

    def typed(self, until: dt.date, days: int) -> tuple[Vocabulary, sparse.csr_matrix]:
        """What users typed in the last `days`: the queries, and (U, Q) 1 for one of today, falling evenly with age."""
        rows = self.frame(
            "select user_id, query, max(event_date) as event_date from user_queries"
            " where event_date <= ? and event_date > ? group by all order by all",
            until,
            until - dt.timedelta(days=days),
        )
        queries = Vocabulary(rows["query"])
        weight = 1 - (pd.Timestamp(until) - pd.to_datetime(rows["event_date"])).dt.days / days
        shape = len(self.users), len(queries)
        return queries, summed(self.users.positions(rows["user_id"]), queries.positions(rows["query"]), weight, shape)

    def acts(self, until: dt.date) -> Iterator[tuple[slice, pd.DataFrame]]:
        """In blocks the users, and what they did with items by day: user, item, age (days before `until`), weight,
        value (successes)."""
        for users, rows in self._acts.blocks(until):
            rows["age"] = (pd.Timestamp(until) - rows["event_date"]).dt.days
            yield users, rows.loc[rows["weight"] > NOTHING, list(COLUMNS)].reset_index(drop=True)

    def purchases(self, until: dt.date) -> pd.DataFrame:
        """The acts that were a success, of all users."""
        found = (rows[rows["value"] > 0] for _, rows in self.acts(until))
        return pd.concat([nothing_done(), *found], ignore_index=True)

    def prices(self, until: dt.date) -> np.ndarray:
        """(I,) cents that the item cost at the end of the day, NaN where no price is known."""
        rows = self.frame(
            "select item_id, arg_max(price_cents, valid_from) as price_cents from item_history"
            " where valid_from <= ? and price_cents > 0 group by item_id",
            until,
        )
        prices = np.full(len(self.items), np.nan)
        positions = self.items.positions(rows["item_id"])
        prices[positions[positions >= 0]] = rows["price_cents"].to_numpy(dtype=float)[positions >= 0]
        return prices

    def kinds(self, until: dt.date) -> pd.DataFrame:
        """category and brand of each item as the catalogue had them at the end of the day, in the order of `items`."""
        rows = self.frame(
            "select item_id, category, brand from item_history"
            " where valid_from <= $1 and (valid_to is null or valid_to > $1)",
            until,
        )
        return rows.set_index("item_id").reindex(self.items.ids)

    def _sequences(self, until: dt.date) -> Iterator[tuple[slice, pd.DataFrame]]:
        """By block its users, and their acts as user, item, event_date, weight, value; by user, then day, then item."""
        for users, rows in self._acts.blocks(until):
            kept = rows[rows["weight"] > NOTHING]
            yield users, kept.sort_values(["user", "event_date", "item"], ignore_index=True)

    def _gather(self, rows: pd.DataFrame, starts: np.ndarray, ends: np.ndarray, days: np.ndarray) -> Histories:
        return gathered(rows, starts, ends, days, self.settings.profile.history_length)


def nothing_done() -> pd.DataFrame:
    """Acts of nobody."""
    return pd.DataFrame({name: np.empty(0, kind) for name, kind in COLUMNS.items()})


def first_purchases(rows: pd.DataFrame, people: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a block (N,) on which a person bought an item for the first time, with earlier days before them, and
    where these begin and end; `people` (U,) bool."""
    user, day, count = rows["user"].to_numpy(), rows["event_date"].to_numpy(), np.arange(len(rows))
    is_new_day = np.append(True, (user[1:] != user[:-1]) | (day[1:] != day[:-1]))[: len(rows)]
    day_starts, user_starts = np.maximum.accumulate(np.where(is_new_day, count, 0)), np.searchsorted(user, user)
    is_first = ~rows.duplicated(["user", "item"]).to_numpy()
    chosen = np.flatnonzero(is_first & (rows["value"].to_numpy() > 0) & (day_starts > user_starts) & people[user])
    return chosen, user_starts[chosen], day_starts[chosen]


def _drawn(count: int, most: int, seed: int) -> np.ndarray | None:
    """Ascending places of `most` of `count` things; None where these are no more."""
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)) if count > most else None


def gathered(rows: pd.DataFrame, starts: np.ndarray, ends: np.ndarray, days: np.ndarray, length: int) -> Histories:
    """The last `length` rows of each half-open range [start, end), seen from its day (N,).

    Laid out block by block: what is computed on the way takes four times what stays.
    """
    shape = len(starts), length
    positions, bought = np.full(shape, -1, np.int32), np.zeros(shape, bool)
    ages, weights = (np.zeros(shape, np.float32) for _ in range(2))
    day = rows["event_date"].to_numpy().astype("datetime64[D]")
    for start in range(0, len(starts), GATHERED):
        block = slice(start, start + GATHERED)
        index = ends[block, None] - length + np.arange(length)  # (B, H)
        inside = index >= starts[block, None]
        chosen = index[inside]
        seen_from = np.repeat(days[block].astype("datetime64[D]"), inside.sum(axis=1))
        positions[block][inside] = rows["item"].to_numpy()[chosen]
        ages[block][inside] = (seen_from - day[chosen]).astype(np.float32)
        weights[block][inside] = rows["weight"].to_numpy()[chosen]
        bought[block][inside] = rows["value"].to_numpy()[chosen] > 0
    return Histories(positions, ages, weights, bought)


def values_at(matrix: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(R,) the cells (rows[r], columns[r]), 0 where nothing is stored: bisection for all at once, for SciPy reads each
    row from its beginning for each cell."""
    if not matrix.nnz or not len(rows):
        return np.zeros(len(rows))
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    low, end = matrix.indptr[rows].astype(np.int64), matrix.indptr[np.asarray(rows) + 1]
    high, last = end.astype(np.int64), matrix.nnz - 1
    for _ in range(int((high - low).max()).bit_length()):
        middle = (low + high) // 2
        is_before = (middle < high) & (matrix.indices[np.minimum(middle, last)] < columns)
        low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, middle)
    at = np.minimum(low, last)
    return np.where((low < end) & (matrix.indices[at] == columns), matrix.data[at].astype(float), 0.0)


def smoothed(clicks: sparse.csr_matrix) -> sparse.csr_matrix:
    """(Q, I) share of a query's events that went to an item, believed the more, the more events there were."""
    total = np.asarray(clicks.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1.0 / (total + SMOOTHING)) @ clicks)


def _decay(dates: pd.Series, until: dt.date, half_life_days: float) -> np.ndarray:
    ages = (pd.Timestamp(until) - pd.to_datetime(dates)).dt.days.to_numpy()
    return np.exp2(-ages / half_life_days)
