"""Placing: one placement's shelves for everybody, from ranked candidates, the rules in force, and what fills up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from pipelines.beside.pairs import centred
from pipelines.fuse.rankings import LEARNED
from pipelines.lists import builder
from pipelines.lists.builder import FRESH, LENGTH, NEW, STANDS, Built, Cap, Demand, Terms
from pipelines.lists.chance import Draws
from pipelines.lists.pool import FILLING, OWN, PLACED, Pool
from pipelines.lists.shares import Share
from pipelines.marts import Marts, values_at
from pipelines.placements import items as items_of
from pipelines.rules import Rule
from pipelines.rules.scope import Goods, People, addressed, allowed, barring
from pipelines.run import Run, digest

NOT_AVAILABLE = -5  # what keeps an item off a list before it is built, beside the rules
FALLBACKS = (None, "rules", "segment_popularity", "shop_popularity")  # where a row comes from, own candidates first
OWN_ROW, BY_RULE, BY_SEGMENT, BY_SHOP, BY_CATALOGUE = range(5)  # the catalogue is the shop's popularity to its end
AGAIN = "buy_again"  # shows what was bought: as it is, in every variant, and like itself
SPARE = 3  # best sellers that are at hand for each row that must stand: the user may have some, or a variant
BLOCK = 4096  # users whose lists are built at once
WIDE_CELLS = 1 << 22  # of lists and columns, where the whole catalogue fills up


@dataclass(frozen=True)
class Audience:
    """Whom lists are for, (U,) by position, and (U, I) nonzero where the user has the item."""

    people: People
    bought: sparse.csr_matrix

    @classmethod
    def of(cls, run: Run, marts: Marts) -> "Audience":
        told = marts.frame("select country, segment from users order by user_id").astype(object)
        told = told.where(told.notna(), None)
        return cls(People(told["country"].to_numpy(), told["segment"].to_numpy()), marts.bought(run.day))


@dataclass(frozen=True)
class Popular:
    """What fills up: by country (N, F), padded with -1, for the shop (S,), and the whole catalogue (I,), best first."""

    segments: Sequence[str]
    by_segment: np.ndarray
    shop: np.ndarray
    catalogue: np.ndarray

    @classmethod
    def of(cls, run: Run, marts: Marts) -> "Popular":
        rows = marts.frame("select segment_kind, segment, item_id from popular_items order by segment, rank")
        of_all, of_countries = (rows[rows["segment_kind"] == kind] for kind in ("all", "country"))
        shop = marts.items.positions(of_all["item_id"])
        lists = {name: marts.items.positions(part["item_id"]) for name, part in of_countries.groupby("segment")}
        width = max(map(len, lists.values()), default=0)
        padded = [np.pad(one, (0, width - len(one)), constant_values=-1) for one in lists.values()]
        sold = marts.popularity(run.day, run.settings.fuse.popularity_days)
        return cls(
            tuple(map(str, lists)),
            np.array(padded, dtype=int).reshape(len(padded), width),
            shop,
            np.argsort(-sold, kind="stable"),
        )

    def of_countries(self, countries: np.ndarray) -> np.ndarray:
        """(B, F) what is popular where each of (B,) lives, -1 where that is nothing."""
        nothing = np.full((1, self.by_segment.shape[1]), -1)
        return np.concatenate([self.by_segment, nothing])[pd.Index(self.segments).get_indexer(pd.Index(countries))]


@dataclass(frozen=True)
class Ranked:
    """The candidates of a placement, user by user and best first.

    Attributes:
        users, items: (R,) positions; users ascending.
        scores: (R,)
        usable: (R,) bool, those from which a list may choose.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    usable: np.ndarray

    def pool(self, users: np.ndarray, width: int) -> tuple[Pool, np.ndarray]:
        """The first `width` usable candidates of users, which leave none out, as a pool, and (B, width) their rows."""
        first, end = np.searchsorted(self.users, users[0]), np.searchsorted(self.users, users[-1], side="right")
        rows = first + np.flatnonzero(self.usable[first:end])
        lists = np.searchsorted(users, self.users[rows])
        place = np.arange(len(rows)) - np.searchsorted(lists, lists)
        kept = place < width
        where = np.full((len(users), width), -1)
        where[lists[kept], place[kept]] = rows[kept]
        items, scores = np.append(self.items, -1)[where], np.append(self.scores, 0.0)[where]
        return Pool(items, scores, np.full(width, OWN)), where


@dataclass(frozen=True)
class Shelves:
    """Finished lists of some users, and what became of the candidates.

    Attributes:
        users: (B,)
        items, rows, sources, rules: (B, L): items, -1 behind the end; rows of the candidates, -1 for none; where in
            FALLBACKS a row comes from; what put it on its place, as `Built` tells it.
        chances: (B, L) the probability of each row, as `Built` tells it.
        pooled, dropped: (B, P) rows that the lists could choose from, -1 for none, and what became of each.
    """

    users: np.ndarray
    items: np.ndarray
    rows: np.ndarray
    sources: np.ndarray
    rules: np.ndarray
    chances: np.ndarray
    pooled: np.ndarray
    dropped: np.ndarray


@dataclass(frozen=True)
class Placing:
    """What a placement's lists are held to.

    Attributes:
        like: the placement of every shop whose promise it shares.
        rules: in their order of precedence.
        is_available: (I,) bool.
        fits: (I,) bool, the items that the placement is for, whoever the user is.
        families: (I,) the variants of one thing have one number.
        vectors: (I, E) unit vectors.
        popular: what fills up where it `fills`; elsewhere lists are as long as their candidates.
        shares, draws: as `Terms` has them, of all users.
    """

    placement: str
    like: str
    length: int
    width: int
    diversity: float
    rules: Sequence[Rule]
    goods: Goods
    is_available: np.ndarray
    fits: np.ndarray
    families: np.ndarray
    vectors: np.ndarray
    audience: Audience
    popular: Popular
    fills: bool
    shares: Sequence[Share] = ()
    draws: Draws | None = None

    def barred(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) what keeps an item off each user's list: NOT_AVAILABLE, the number of a rule, or STANDS for nothing."""
        by_rule = barring(self.rules, self.goods, self.placement, items, self.audience.people.of(users))
        return np.where(self.is_available[items], by_rule, NOT_AVAILABLE)

    def shelves(self, ranked: Ranked, users: np.ndarray) -> Iterator[Shelves]:
        """The lists of ascending users, block by block."""
        for start in range(0, len(users), BLOCK):
            yield self._block(ranked, users[start : start + BLOCK])

    def _block(self, ranked: Ranked, users: np.ndarray) -> Shelves:
        own, rows = ranked.pool(users, self.width)
        placed, terms = self._placed(users), self.terms(users)
        pool = own.beside(placed, PLACED) if placed.shape[1] else own
        built = builder.build(pool, terms, self.length)
        shelves = _shelves(users, rows, pool, built, np.repeat([OWN_ROW, BY_RULE], [self.width, placed.shape[1]]))
        for size, fillings in self._fillings():
            short = np.flatnonzero((shelves.items < 0).any(axis=1))
            for start in range(0, len(short), size):
                self._fill(shelves, short[start : start + size], pool, terms, fillings)
        return shelves

    def _fillings(self) -> Iterator[tuple[int, Sequence[int]]]:
        """What short lists go on with, one after the other: lists built at once, and where the columns come from."""
        if self.fills:
            yield BLOCK, (BY_SEGMENT, BY_SHOP)
            yield max(WIDE_CELLS // len(self.families), 1), (BY_SEGMENT, BY_SHOP, BY_CATALOGUE)

    def _fill(self, shelves: Shelves, lists: np.ndarray, pool: Pool, terms: Terms, fillings: Sequence[int]) -> None:
        """Build some lists again from a wider pool: what stood there stands there, and more behind it."""
        wide, sources = pool.of(lists), [np.where(pool.kinds == OWN, OWN_ROW, BY_RULE)]
        for source in fillings:
            columns = self._standing(shelves.users[lists], self._popular(source, shelves.users[lists]))
            wide = wide.beside(columns, FILLING)
            sources.append(np.full(columns.shape[1], min(source, BY_SHOP)))
        built = builder.build(wide, terms.of(lists), self.length)
        found = _shelves(shelves.users[lists], shelves.pooled[lists], wide, built, np.concatenate(sources))
        for name in ("items", "rows", "sources", "rules", "chances", "dropped"):
            getattr(shelves, name)[lists] = getattr(found, name)

    def _popular(self, source: int, users: np.ndarray) -> np.ndarray:
        """(B, N) what one of the fillings has for each user."""
        if source == BY_SEGMENT:
            return self.popular.of_countries(self.audience.people.countries[users])
        whole = self.popular.shop if source == BY_SHOP else self.popular.catalogue
        whole = whole[self._may_stand[whole]]
        return np.broadcast_to(whole, (len(users), len(whole)))

    @property
    def _may_stand(self) -> np.ndarray:
        """(I,) bool: what can be bought and no rule takes away from everybody."""
        return self.is_available & allowed(self.rules, self.goods, self.placement)

    def _standing(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(B, N) items without those that may not stand on the lists of users (B,), which become -1."""
        owners, wanted = np.repeat(users, items.shape[1]), items.ravel()
        known = wanted >= 0
        kept = np.full(len(wanted), -1)
        fits = self._eligible(owners[known], wanted[known]) & (self.barred(owners[known], wanted[known]) == STANDS)
        kept[known] = np.where(fits, wanted[known], -1)
        return kept.reshape(items.shape)

    def _eligible(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) bool: what the placement is for; candidates are so already."""
        if self.like == "for_you":
            return self.fits[items]
        is_bought = values_at(self.audience.bought, users, items) > 0
        return self.fits[items] & (is_bought if self.like == AGAIN else ~is_bought)

    def _placed(self, users: np.ndarray) -> np.ndarray:
        """(B, N) items that rules may bring onto a list though nobody proposed them: those that are pinned, and of
        those that must be there the best sellers."""
        wanted, sold = [], self._sold
        for rule in self._about("pin", "must_include"):
            covered = np.flatnonzero(self.goods.covered(rule) & self.is_available)
            first = covered[np.argsort(sold[covered], kind="stable")][: SPARE * (rule.value or 0)]  # a pin has but one
            told = np.broadcast_to(addressed(rule, self.audience.people.of(users)), len(users))
            wanted += [np.where(told, item, -1) for item in first]
        return self._standing(users, np.stack(wanted, axis=1)) if wanted else np.empty((len(users), 0), dtype=int)

    @property
    def _sold(self) -> np.ndarray:
        """(I,) place of each item in the shop's order."""
        places = np.empty(len(self.families), dtype=int)
        places[self.popular.catalogue] = np.arange(len(places))
        return places

    def terms(self, users: np.ndarray) -> Terms:
        """What the lists of users (B,) are held to."""
        demands: dict[str, list] = {"shifts": [], "pins": [], "caps": [], "least": []}
        for number, rule in self._numbered("boost", "bury", "pin", "cap", "must_include"):
            lists = np.broadcast_to(addressed(rule, self.audience.people.of(users)), len(users))
            value = rule.value or 0
            if rule.action == "cap":
                demands["caps"].append(Cap(number, lists, self.goods.groups(rule), value))
                continue
            kind = {"pin": "pins", "must_include": "least"}.get(rule.action, "shifts")
            signed = -value if rule.action == "bury" else value
            demands[kind].append(Demand(number, lists, self.goods.covered(rule), signed))
        shares, draws = [share.of(users) for share in self.shares], self.draws and self.draws.of(users)
        return Terms(self.families, self.vectors, self.diversity, **demands, shares=shares, draws=draws)

    def _about(self, *actions: str) -> Iterator[Rule]:
        return (rule for _, rule in self._numbered(*actions))

    def _numbered(self, *actions: str) -> Iterator[tuple[int, Rule]]:
        for number, rule in enumerate(self.rules):
            if rule.action in actions and rule.is_about(self.placement):
                yield number, rule


@dataclass(frozen=True)
class Placed:
    """A placement's finished lists beside its candidates (a frame), and what became of each of these."""

    placing: Placing
    candidates: pd.DataFrame
    blocks: Sequence[Shelves]
    fate: np.ndarray  # (R,)


def placings(
    run: Run, marts: Marts, names: Sequence[str], rules: Sequence[Rule], stood: Mapping[str, np.ndarray]
) -> Iterator[Placing]:
    """Each placement of the run under some rules; by placement, `stood` (U, S) are the items that each user's shelf
    had before, -1 for none."""
    settings, goods, declared = run.settings, Goods.of(marts), items_of(run, marts)
    vectors = centred(np.load(run.of("train_profile", "final", "item_vectors.npy")))
    audience, popular = Audience.of(run, marts), Popular.of(run, marts)
    is_available = marts.catalogue["is_available"].to_numpy(dtype=bool)
    nothing = np.empty((len(marts.users), 0), dtype=int)
    for name in names:
        is_again = settings.shelves[name] == AGAIN
        yield Placing(
            name,
            settings.shelves[name],
            settings.length_of(name),
            settings.considered(name),
            0.0 if is_again else settings.shelve.diversity,
            rules,
            goods,
            is_available,
            declared.get(name, np.ones(len(is_available), dtype=bool)),
            np.arange(len(is_available)) if is_again else families(goods.catalogue),
            vectors,
            audience,
            popular,
            name in LEARNED,
            () if is_again else tuple(shares(run, goods.ages_days, stood.get(name, nothing))),
            None if is_again else _draws(run, marts, name),
        )


def shares(run: Run, ages_days: np.ndarray, stood: np.ndarray) -> Iterator[Share]:
    """What the settings ask of every list: items that are new in the shop, by their age (I,), and items that are not
    among those that `stood` there before, (U, S) with -1 for none."""
    asked = run.settings.shelve
    if asked.min_new_share:
        yield Share(NEW, asked.min_new_share, ages_days < asked.new_days, stood[:, :0])
    if asked.freshness:
        yield Share(FRESH, asked.freshness, np.ones(len(ages_days), dtype=bool), stood)


def _draws(run: Run, marts: Marts, placement: str) -> Draws | None:
    """Chance of the run's seed and day, of the placement, and of ids, so that who else is served changes no draw."""
    if not run.settings.shelve.exploration_share:
        return None
    key = digest([run.settings.seed, run.day, placement])[:16]
    lists, items = (pd.util.hash_array(one.ids, hash_key=key, categorize=False) for one in (marts.users, marts.items))
    return Draws(lists, items, run.settings.shelve.exploration_share)


def families(catalogue: pd.DataFrame) -> np.ndarray:
    """(I,) one number for all variants of a thing; an item without a parent is a family of its own."""
    own = "item " + catalogue["item_id"].astype(str)
    return pd.factorize(("parent " + catalogue["parent_id"].astype("string")).fillna(own))[0]


def fates(ranked: Ranked, barred: np.ndarray, shelves: Sequence[Shelves]) -> np.ndarray:
    """(R,) what became of each candidate: STANDS, what barred it, or what the builder says; what no list looked at any
    more lay too far down."""
    fate = np.where(barred == STANDS, LENGTH, barred)
    for one in shelves:
        known = one.pooled >= 0
        fate[one.pooled[known]] = one.dropped[known]
    return fate


def _shelves(users: np.ndarray, rows: np.ndarray, pool: Pool, built: Built, sources: np.ndarray) -> Shelves:
    """Columns (B, L) become items, rows and sources; only own candidates have rows."""
    columns, ends = np.maximum(built.columns, 0), built.columns < 0
    width = rows.shape[1]
    chosen = np.take_along_axis(rows, np.minimum(columns, width - 1), axis=1)
    return Shelves(
        users,
        np.where(ends, -1, np.take_along_axis(pool.items, columns, axis=1)),
        np.where(ends | (columns >= width), -1, chosen),
        np.where(ends, OWN_ROW, sources[columns]),
        built.rules,
        built.chances,
        rows,
        built.dropped[:, :width],
    )
