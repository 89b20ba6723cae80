"""The list builder: everybody's lists in one pass, place by place; arrays in, arrays out.

B lists of L places are chosen from pools of P columns each. What a list may not repeat, hold too often or must hold is
counted beside the pools, so that each place costs the same few operations on (B, P), whatever the rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.lists.chance import Draws
from pipelines.lists.pool import FILLING, NEVER, OWN, PLACED, Pool, relevance
from pipelines.lists.shares import Owed, Share

STANDS, LENGTH, VARIANT, DIVERSITY = -1, -2, -3, -4  # what became of a column; from 0 on the rule that dropped it
NOBODY, NEW, FRESH, DRAWN = -1, -6, -7, -8  # what put a row on its place without a rule: its worth, a share, a draw


@dataclass(frozen=True)
class Demand:
    """What one rule asks of lists: `rule` is its number, `lists` (B,) bool whom it speaks to, `items` (I,) bool."""

    rule: int
    lists: np.ndarray
    items: np.ndarray
    value: int  # of a shift the places up, or down below 0; of a pin the place; of a least the rows


@dataclass(frozen=True)
class Cap:
    """At most so many rows of each group; `groups` (I,), -1 for items that it does not count."""

    rule: int
    lists: np.ndarray
    groups: np.ndarray
    most: int


@dataclass(frozen=True)
class Terms:
    """All that lists are held to. Of demands that meet, the first in its sequence counts.

    Attributes:
        families: (I,) items of one family stand once on a list.
        vectors: (I, E) unit vectors, by which a list is diverse.
        diversity: weight of being unlike what stands above, 0 to 1 (maximal marginal relevance, Carbonell and
            Goldstein 1998).
        shares: of the rows that each list gives to some kind of item, within all the others.
        draws: the places whose rows are drawn from what may stand there.
    """

    families: np.ndarray
    vectors: np.ndarray
    diversity: float = 0.0
    shifts: Sequence[Demand] = ()
    pins: Sequence[Demand] = ()
    caps: Sequence[Cap] = ()
    least: Sequence[Demand] = ()
    shares: Sequence[Share] = ()
    draws: Draws | None = None

    def of(self, lists: np.ndarray) -> "Terms":
        """The terms of some lists."""
        demands = {
            name: [type(one)(**{**vars(one), "lists": one.lists[lists]}) for one in getattr(self, name)]
            for name in ("shifts", "pins", "caps", "least")
        }
        shares, draws = [one.of(lists) for one in self.shares], self.draws and self.draws.of(lists)
        return Terms(self.families, self.vectors, self.diversity, **demands, shares=shares, draws=draws)


@dataclass(frozen=True)
class Built:
    """Finished lists.

    Attributes:
        columns: (B, L) columns of the pool, from the first place on, -1 where the list has ended.
        rules: (B, L) the rule that put the row on its place, else NOBODY, NEW, FRESH or DRAWN.
        chances: (B, L) the probability that a row stood on its place, given those above it; 1 where nothing was drawn.
        dropped: (B, P) what became of each column: STANDS, LENGTH, VARIANT, DIVERSITY, or the number of a cap.
    """

    columns: np.ndarray
    rules: np.ndarray
    chances: np.ndarray
    dropped: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(B,)"""
        return (self.columns >= 0).sum(axis=1)


def build(pool: Pool, terms: Terms, length: int) -> Built:
    """Lists of `length` places, or as long as pools and terms allow. Equal pools give equal lists, in any company."""
    order, moved_by = shifted(pool, terms.shifts)
    items = np.take_along_axis(pool.items, order, axis=1)
    work = _Work(pool, items, terms, length)
    for place in range(length):
        work.fill(place)
    columns, rules, chances = work.finished(moved_by)
    dropped = np.empty_like(order)
    np.put_along_axis(dropped, order, work.dropped(columns), axis=1)
    back = np.take_along_axis(order, np.maximum(columns, 0), axis=1)
    return Built(np.where(columns >= 0, back, -1), rules, chances, dropped)


def shifted(pool: Pool, shifts: Sequence[Demand]) -> tuple[np.ndarray, np.ndarray]:
    """(B, P) the order of the columns once demands have moved own candidates by places, and (B, P) in that order the
    rule that moved each, -1 for none."""
    moved_by = np.full(pool.items.shape, -1)
    places = np.broadcast_to(np.arange(len(pool.kinds), dtype=float), pool.items.shape).copy()
    for shift in shifts:
        told = (moved_by < 0) & shift.lists[:, None] & _inside(shift.items, pool.items) & (pool.kinds == OWN)
        moved_by[told] = shift.rule
        places[told] -= shift.value + np.sign(shift.value) / 2  # it passes the row whose place it takes
    last = np.max(np.flatnonzero(pool.kinds == OWN), initial=-1)
    places[:, pool.kinds == OWN] = np.minimum(places[:, pool.kinds == OWN], last + 0.5)
    order = np.argsort(places, axis=1, kind="stable")
    return order, np.take_along_axis(moved_by, order, axis=1)


@dataclass
class _Work:
    """Lists while they are built, their columns already in order."""

    pool: Pool
    items: np.ndarray  # (B, P)
    terms: Terms
    length: int
    chosen: np.ndarray = field(init=False)  # (B, L) columns
    by_rule: np.ndarray = field(init=False)  # (B, L)
    chances: np.ndarray = field(init=False)  # (B, L)

    def __post_init__(self) -> None:
        shape, terms = self.items.shape, self.terms
        self.chosen, self.by_rule = np.full((shape[0], self.length), -1), np.full((shape[0], self.length), NOBODY)
        self.chances = np.ones(self.chosen.shape)
        self.families = np.where(self.items >= 0, terms.families[self.items], -1)
        self.taken = self.items < 0
        self.counted = [np.where(cap.lists[:, None], _at(cap.groups, self.items), -1) for cap in terms.caps]
        self.counts = [np.zeros(shape, dtype=np.int32) for _ in terms.caps]
        self.wanted = [one.lists[:, None] & _inside(one.items, self.items) for one in terms.least]
        self.missing = [np.where(one.lists, one.value, 0) for one in terms.least]
        self.value = relevance(self.pool)  # a row that was moved is worth what the row was worth whose place it has
        self.likeness = self._likeness()
        self.likest = np.zeros(shape)
        self.pinned = self._pinned()
        self.owed = self._owed()

    def _likeness(self) -> np.ndarray:
        """(B, W, W) cosines of the first columns, which are own candidates or placed by a rule."""
        width = int((self.pool.kinds != FILLING).sum()) if self.terms.diversity else 0
        vectors = self.terms.vectors[self.items[:, :width]]
        return vectors @ vectors.transpose(0, 2, 1)

    def _pinned(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """By place, (B,) the column that stands there whatever comes, -1 for none, and (B,) the rule that says so."""
        pinned: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for pin in (pin for pin in self.terms.pins if pin.value <= self.length):
            columns, rules = pinned.setdefault(pin.value - 1, (self._none(), self._none()))
            free = pin.lists[:, None] & _inside(pin.items, self.items) & ~self.taken & (columns < 0)[:, None]
            told = np.where(free.any(axis=1), free.argmax(axis=1), -1)
            columns[told >= 0], rules[told >= 0] = told[told >= 0], pin.rule
            self._settle(told)
        return pinned

    def _owed(self) -> Owed:
        pinned = {place: columns for place, (columns, _) in self.pinned.items()}
        return Owed(self.terms.shares, self.items, self.pool.kinds, self.length, pinned)

    def _none(self) -> np.ndarray:
        return np.full(len(self.items), -1)

    def fill(self, place: int) -> None:
        """Choose the next row of every list."""
        columns, rules = (one.copy() for one in self.pinned.get(place, (self._none(), self._none())))
        free = columns < 0
        value = np.where(self.taken | self._full(), NEVER, self._worth())
        usual = np.where(self.pool.kinds == PLACED, NEVER, value)
        urgent, told_by = self._urgent(place, value > NEVER, (usual == NEVER).all(axis=1))
        value = np.where(urgent.any(axis=1, keepdims=True), np.where(urgent, value, NEVER), usual)
        value, share = self.owed.urgent(place, value, self._missing())
        best, chances = self._best(place, value)
        found = free & (np.take_along_axis(value, best[:, None], axis=1)[:, 0] > NEVER)
        hurried = np.where(urgent.any(axis=1), told_by[np.arange(len(best)), best], share)
        why = np.where(best == usual.argmax(axis=1), NOBODY, hurried)
        why[(why == NOBODY) & (chances < 1)] = DRAWN
        columns[found], rules[found], self.chances[found, place] = best[found], why[found], chances[found]
        settled = np.where(found, best, -1)
        self._settle(settled)
        self.owed.settle(place, settled)
        self._remember(columns)
        self.chosen[:, place], self.by_rule[:, place] = columns, rules

    def _best(self, place: int, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,) the column that is worth most as the next row, or one that is drawn, and (B,) its probability."""
        best, chances = value.argmax(axis=1), np.ones(len(value))
        if self.terms.draws is None or not self.terms.draws.at(place):
            return best, chances
        may = (value > NEVER) & (self.pool.kinds == OWN)
        drawn, told = self.terms.draws.drawn(place, self.items, value, may)
        return np.where(may.any(axis=1), drawn, best), told

    def _worth(self) -> np.ndarray:
        """(B, P) what each column is worth as the next row."""
        weight = self.terms.diversity
        return np.where(self.pool.kinds == OWN, (1 - weight) * self.value - weight * self.likest, self.value)

    def _full(self) -> np.ndarray:
        """(B, P) whether a cap holds a column off."""
        full = np.zeros(self.items.shape, dtype=bool)
        for cap, groups, counts in zip(self.terms.caps, self.counted, self.counts, strict=True):
            full |= (groups >= 0) & (counts >= cap.most)
        return full

    def _urgent(self, place: int, may_stand: np.ndarray, is_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, P) columns that must come now, since a list has no more free places than rows that it still must hold,
        or is out (B,) of others, so that what is pinned further down would move up; and (B, P) the rule that says so.
        A list that cannot be served goes on as if it had not to be."""
        later = [columns for at, (columns, _) in self.pinned.items() if at >= place]
        pinned = sum((np.asarray(columns >= 0, dtype=int) for columns in later), self._none() + 1)
        is_late = is_out | (self._missing() >= self.length - place - pinned)
        urgent, told_by = np.zeros(self.items.shape, dtype=bool), np.full(self.items.shape, -1)
        for one, wanted, lacks in zip(self.terms.least, self.wanted, self.missing, strict=True):
            needed = wanted & np.asarray(is_late & (lacks > 0))[:, None] & may_stand
            told_by[needed & ~urgent] = one.rule
            urgent |= needed
        return urgent, told_by

    def _missing(self) -> np.ndarray:
        """(B,) rows that the lists still owe to rules."""
        return sum((np.maximum(one, 0) for one in self.missing), self._none() + 1)

    def _settle(self, columns: np.ndarray) -> None:
        """Count rows (B,) as standing, -1 for none: their families are taken, their groups and demands go on."""
        lists = np.flatnonzero(columns >= 0)
        at = lists, columns[lists]
        self.taken[lists] |= self.families[lists] == self.families[at][:, None]
        for groups, counts in zip(self.counted, self.counts, strict=True):
            counts[lists] += (groups[lists] == groups[at][:, None]) & (groups[lists] >= 0)
        for wanted, missing in zip(self.wanted, self.missing, strict=True):
            missing[lists] -= wanted[at]

    def _remember(self, columns: np.ndarray) -> None:
        """How like each column is to the rows that stand, once `columns` (B,) do."""
        width = self.likeness.shape[1]
        lists = np.flatnonzero((columns >= 0) & (columns < width))
        told = self.likeness[lists, columns[lists]]
        self.likest[lists, :width] = np.maximum(self.likest[lists, :width], told)

    def finished(self, moved_by: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, L) columns, rules and chances without the holes that pins leave behind the end of a short list."""
        order, made = np.argsort(self.chosen < 0, axis=1, kind="stable"), (self.chosen, self.by_rule, self.chances)
        columns, rules, chances = (np.take_along_axis(one, order, axis=1) for one in made)
        moved = np.take_along_axis(moved_by, np.maximum(columns, 0), axis=1)
        return columns, np.where((rules < 0) & (columns >= 0) & (moved >= 0), moved, rules), chances

    def dropped(self, columns: np.ndarray) -> np.ndarray:
        """(B, P) what became of each column, in order. What a list passed over for a row further down was too like the
        rows above it; what lies behind the last row was too far down."""
        lists, places = np.nonzero(columns >= 0)
        stands = np.zeros(self.items.shape, dtype=bool)
        stands[lists, columns[lists, places]] = True
        last = np.max(np.where(self.by_rule == NOBODY, self.chosen, -1), axis=1, keepdims=True)  # by its worth
        is_passed = np.arange(self.items.shape[1]) < last
        dropped = np.where(is_passed & (self.terms.diversity > 0), DIVERSITY, LENGTH)
        is_short = (columns < 0).any(axis=1, keepdims=True)
        for cap, groups, counts in zip(self.terms.caps, self.counted, self.counts, strict=True):
            dropped[(groups >= 0) & (counts >= cap.most) & (is_passed | is_short)] = cap.rule
        dropped[self.taken] = VARIANT
        dropped[stands] = STANDS
        return dropped


def _inside(items: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whether each of `columns` is one of `items` (I,) bool; -1 is none."""
    return (columns >= 0) & items[columns]


def _at(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """values (I,) of each of `columns`, -1 for none."""
    return np.where(columns >= 0, values[columns], -1)
