"""The list builder over random shops and rules: no list breaks its terms, whoever else is served beside it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lists import builder
from pipelines.lists.builder import (
    DIVERSITY,
    DRAWN,
    FRESH,
    LENGTH,
    NEW,
    STANDS,
    VARIANT,
    Built,
    Cap,
    Demand,
    Terms,
)
from pipelines.lists.chance import Draws
from pipelines.lists.pool import FILLING, OWN, PLACED, Pool
from pipelines.lists.shares import Share

ITEMS = 12
LENGTHS = st.integers(1, 8)
SHARES = st.sampled_from([0.0, 0.25, 1.0])


def pool(*lists: list[int], filling: list[int] | None = None, placed: list[int] | None = None) -> Pool:
    """Own candidates of each list, scores falling from 10; further columns that all lists share."""
    width = max(map(len, lists))
    items = np.array([one + [-1] * (width - len(one)) for one in lists])
    made = Pool(items, np.where(items >= 0, 10.0 - np.arange(width), 0.0), np.full(width, OWN))
    for further, kind in ((placed, PLACED), (filling, FILLING)):
        if further:
            made = made.beside(np.array([further] * len(lists)), kind)
    return made


def terms(count: int = 1, **changes: object) -> Terms:
    """Every item is a family of its own and like no other."""
    return replace(Terms(np.arange(ITEMS), np.eye(ITEMS, dtype=np.float32)), **changes)


def demand(rule: int, items: list[int], value: int, lists: list[bool] | None = None) -> Demand:
    return Demand(rule, np.array(lists or [True]), np.isin(np.arange(ITEMS), items), value)


def cap(rule: int, items: list[int], most: int, lists: list[bool] | None = None) -> Cap:
    return Cap(rule, np.array(lists or [True]), np.where(np.isin(np.arange(ITEMS), items), 0, -1), most)


def share(least: float, items: list[int], code: int = NEW, seen: list[list[int]] | None = None) -> Share:
    return Share(code, least, np.isin(np.arange(ITEMS), items), np.array(seen or [[]], dtype=int))


def draws(count: int, least: float, seed: int = 0) -> Draws:
    lists, items = (np.random.default_rng(seed).integers(0, 2**63, size=n, dtype=np.uint64) for n in (count, ITEMS))
    return Draws(lists, items, least)


def shown(built: Built, pool: Pool) -> list[list[int]]:
    """The items of each list."""
    return [pool.items[n, row[row >= 0]].tolist() for n, row in enumerate(built.columns)]


def one(pool: Pool, terms: Terms, length: int) -> tuple[list[int], list[int]]:
    """The first list, and the rules behind its rows."""
    built = builder.build(pool, terms, length)
    return shown(built, pool)[0], built.rules[0, built.columns[0] >= 0].tolist()


def test_without_terms_the_ranking_stands():
    """And what does not fit lay too far down."""
    own = pool([3, 1, 2])
    built = builder.build(own, terms(), 2)
    assert shown(built, own) == [[3, 1]]
    assert built.dropped.tolist() == [[STANDS, STANDS, LENGTH]]


def test_of_the_variants_of_a_thing_the_best_stands():
    """The next one is dropped for it, not for its place."""
    own = pool([0, 1, 2, 3])
    built = builder.build(own, terms(families=np.array([0, 0, 1, 2] + [3] * 8)), 3)
    assert shown(built, own) == [[0, 2, 3]]
    assert built.dropped.tolist() == [[STANDS, VARIANT, STANDS, STANDS]]


@pytest.mark.parametrize(
    ("value", "expected"), [(1, [0, 2, 1, 3]), (2, [2, 0, 1, 3]), (9, [2, 0, 1, 3]), (-1, [0, 1, 3, 2])]
)
def test_a_boost_lifts_by_places_and_a_bury_lowers(value: int, expected: list[int]):
    """It passes the row whose place it takes, and the row says which rule moved it."""
    found, rules = one(pool([0, 1, 2, 3]), terms(shifts=[demand(7, [2], value)]), 4)
    assert found == expected
    assert rules[expected.index(2)] == 7
    assert rules.count(-1) == 3


def test_of_two_shifts_the_first_counts():
    """They do not add up."""
    assert one(pool([0, 1, 2, 3]), terms(shifts=[demand(1, [3], 1), demand(2, [3], 3)]), 4) == (
        [0, 1, 3, 2],
        [-1, -1, 1, -1],
    )


def test_a_pin_stands_on_its_place_though_nobody_proposed_the_item():
    """The others keep their order around it."""
    assert one(pool([0, 1, 2], placed=[9]), terms(pins=[demand(4, [9], 2)]), 3) == ([0, 9, 1], [-1, 4, -1])


def test_pins_of_one_place_yield_to_the_first():
    """The second does not act, and its item stands where the ranking has it."""
    assert one(pool([0, 1, 2]), terms(pins=[demand(1, [2], 1), demand(2, [1], 1)]), 3) == ([2, 0, 1], [1, -1, -1])


def test_a_pin_behind_the_end_of_a_short_list_closes_up():
    """No list has holes."""
    assert one(pool([0, 1], placed=[9]), terms(pins=[demand(1, [9], 6)]), 6) == ([0, 1, 9], [-1, -1, 1])


def test_a_cap_lets_no_more_stand_and_says_so():
    """What it holds off is dropped by it, what lies below the list is not."""
    own = pool([0, 1, 2, 3, 4])
    built = builder.build(own, terms(caps=[cap(5, [0, 1, 2, 4], 1)]), 2)
    assert shown(built, own) == [[0, 3]]
    assert built.dropped.tolist() == [[STANDS, 5, 5, STANDS, LENGTH]]


def test_a_pinned_row_counts_for_its_cap():
    """The pin stands; nothing else of its kind does."""
    assert one(pool([0, 1, 2]), terms(pins=[demand(0, [1], 3)], caps=[cap(1, [0, 1], 1)]), 3)[0] == [2, 1]


def test_what_must_stand_takes_the_last_places():
    """Two rows of 4, 5 and 9: the list holds one already, a rule brings the best of the others, at the end."""
    own = pool([0, 4, 1, 2, 5], placed=[9])
    assert one(own, terms(least=[demand(3, [4, 5, 9], 2)]), 3) == ([0, 4, 5], [-1, -1, 3])


def test_what_must_stand_comes_before_the_list_has_a_hole():
    """Nobody proposed anything: 4 takes the place above the pin, which would move up else."""
    own = pool([-1], placed=[9, 4])
    assert one(own, terms(pins=[demand(0, [9], 2)], least=[demand(3, [4], 1)]), 3) == ([4, 9], [3, 0])


def test_what_must_stand_stays_within_a_cap():
    """One of them may stand, and does in good time; the list is full all the same."""
    assert one(pool([0, 1, 2, 3]), terms(least=[demand(3, [2, 3], 2)], caps=[cap(4, [2, 3], 1)]), 3)[0] == [0, 2, 1]


def test_a_list_prefers_what_is_unlike_the_rows_above():
    """1 is the twin of 0; with half the weight on being unlike, 2 goes first, and 1 is passed over for it."""
    vectors = np.eye(ITEMS, dtype=np.float32)
    vectors[1] = vectors[0]
    own = pool([0, 1, 2])
    built = builder.build(own, terms(vectors=vectors, diversity=0.5), 2)
    assert shown(built, own) == [[0, 2]]
    assert built.dropped.tolist() == [[STANDS, DIVERSITY, STANDS]]


def test_filling_comes_last_and_in_its_order():
    """Own candidates, be they ever so much alike, before what fills up."""
    alike = np.ones((ITEMS, 1), dtype=np.float32)
    own = pool([0, 1], filling=[8, 1, 9])
    assert one(own, terms(vectors=alike, diversity=1.0), 4)[0] == [0, 1, 8, 9]


def test_a_share_is_kept_from_the_first_rows_on():
    """Of n first rows so many, rounded down, of the whole list rounded up; the rows say why they stand there."""
    own, told = pool([0, 1, 2, 3, 4, 5]), terms(shares=[share(0.5, [4, 5])])
    assert one(own, told, 4) == ([0, 4, 1, 5], [-1, NEW, -1, NEW])
    assert one(own, terms(shares=[share(0.3, [4, 5])]), 4) == ([0, 1, 4, 5], [-1, -1, NEW, NEW])


def test_what_stood_on_a_list_before_gives_way():
    """0 and 1 did: half of the rows are others; where there are no others it stands again."""
    fresh = share(0.5, list(range(ITEMS)), FRESH, seen=[[0, 1, -1]])
    assert one(pool([0, 1, 2, 3]), terms(shares=[fresh]), 2) == ([0, 2], [-1, FRESH])
    assert one(pool([0, 1]), terms(shares=[fresh]), 2) == ([0, 1], [-1, -1])


def test_two_shares_that_no_row_serves_together_share_the_places():
    """3 alone is new, 4 alone did not stand there: both have their row on a list of two."""
    fresh = share(0.5, list(range(ITEMS)), FRESH, seen=[[0, 1, 2, 3]])
    assert one(pool([0, 1, 2, 3, 4]), terms(shares=[share(0.5, [3]), fresh]), 2) == ([3, 4], [NEW, FRESH])


def test_a_share_waits_for_rules_and_counts_what_they_put():
    """A pin and what must stand keep their places; a pinned row of the kind is one of the share."""
    own = pool([0, 1, 2, 3], placed=[9])
    must = demand(7, [9], 1)
    assert one(own, terms(least=[must], shares=[share(0.5, [3])]), 2) == ([3, 9], [NEW, 7])
    assert one(own, terms(pins=[demand(7, [9], 2)], shares=[share(0.5, [3, 9])]), 2) == ([0, 9], [-1, 7])


def test_draws_are_as_likely_as_they_say():
    """Of many lists with the same candidates: weighed by its propensity, each stands on the place once per list."""
    count, told = 20_000, terms(shares=[], draws=draws(20_000, 0.5))
    own = pool(*[[0, 1, 2, 3]] * count)
    built = builder.build(own, told, 2)
    drawn, chances = built.columns[:, 0], built.chances[:, 0]
    weighed = np.bincount(drawn, 1 / chances, minlength=4) / count
    assert np.abs(weighed - 1).max() < 0.05
    assert (chances[drawn == 0] > 2 * chances[drawn == 3].max()).all()
    assert (built.chances[:, 1] == 1).all()
    assert (built.columns[:, 1] == (drawn == 0)).all()  # the best of the others
    assert set(built.rules[:, 0]) == {DRAWN}


def test_drawn_places_are_spread_over_a_list():
    """A tenth of twenty places are two, neither first nor last."""
    assert [place for place in range(20) if draws(1, 0.1).at(place)] == [4, 14]


def test_nothing_is_drawn_where_a_rule_has_the_place_or_nothing_is_left_to_choose():
    """A pin stands for certain, and so does the only row that may."""
    pinned = builder.build(pool([0, 1, 2]), terms(pins=[demand(1, [2], 1)], draws=draws(1, 0.5)), 1)
    assert (pinned.columns.tolist(), pinned.chances.tolist()) == ([[2]], [[1.0]])
    alone = builder.build(pool([0], filling=[8]), terms(draws=draws(1, 0.5)), 2)
    assert (alone.columns.tolist(), alone.chances.tolist()) == ([[0, 1]], [[1.0, 1.0]])


@st.composite
def shops(draw: st.DrawFn) -> tuple[Pool, Terms, int]:
    """Some lists over twelve items, with terms of every kind, for all or for some of the lists."""
    count, width, length = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(LENGTHS)
    seed = draw(st.integers(0, 2**32 - 1))
    dice = np.random.default_rng(seed)
    items = np.argsort(dice.random((count, ITEMS)), axis=1)[:, :width]
    ends = dice.integers(0, width + 1, size=(count, 1))
    items = np.where(np.arange(width) < ends, items, -1)
    made = Pool(items, -np.sort(-dice.normal(size=(count, width)), axis=1), np.full(width, OWN))
    made = made.beside(dice.integers(-1, ITEMS, size=(count, draw(st.integers(0, 3)))), PLACED)
    made = made.beside(dice.integers(-1, ITEMS, size=(count, draw(st.integers(0, 4)))), FILLING)
    vectors = dice.normal(size=(ITEMS, 3))
    number = iter(range(100))

    def demands(values: tuple[int, int]) -> list[Demand]:
        return [
            Demand(next(number), dice.random(count) < 0.7, dice.random(ITEMS) < 0.3, int(dice.integers(*values)))
            for _ in range(draw(st.integers(0, 2)))
        ]

    return (
        made,
        Terms(
            dice.integers(0, ITEMS, size=ITEMS),
            (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
            draw(st.sampled_from([0.0, 0.3, 1.0])),
            shifts=demands((-3, 4)),
            pins=demands((1, 9)),
            caps=[
                Cap(next(number), dice.random(count) < 0.7, dice.integers(-1, 3, size=ITEMS), int(dice.integers(1, 3)))
                for _ in range(draw(st.integers(0, 2)))
            ],
            least=demands((1, 3)),
            shares=[
                Share(code, least, dice.random(ITEMS) < 0.5, dice.integers(-1, ITEMS, size=(count, 4)))
                for code, least in ((NEW, draw(SHARES)), (FRESH, draw(SHARES)))
            ],
            draws=draw(st.sampled_from([None, draws(count, 0.3, seed)])),
        ),
        length,
    )


@settings(max_examples=150, deadline=None)
@given(shops())
def test_no_list_breaks_its_terms(shop: tuple[Pool, Terms, int]):
    """Rows are of the list's own pool, one per family, without holes, within the caps but for what is pinned; a list
    ends early only where nothing more may stand; each row that a rule put there is in that rule's scope."""
    made, told, length = shop
    built = builder.build(made, told, length)
    for n, items in enumerate(shown(built, made)):
        columns = built.columns[n]
        assert (np.diff((columns < 0).astype(int)) >= 0).all()
        assert -1 not in items
        chances = built.chances[n]
        assert ((chances > 0) & (chances <= 1)).all()
        families = told.families[items]
        assert len(set(families)) == len(families)
        pinned = [
            item for item, rule in zip(items, built.rules[n], strict=False) if any(p.rule == rule for p in told.pins)
        ]
        full = np.zeros(ITEMS, dtype=bool)
        for one in (one for one in told.caps if one.lists[n]):
            for group in range(3):
                inside = [item for item in items if one.groups[item] == group]
                assert len(inside) <= max(one.most, sum(one.groups[item] == group for item in pinned))
                full |= (one.groups == group) & (len(inside) >= one.most)
        if len(items) < length:
            offered = made.items[n, (made.kinds != PLACED) & (made.items[n] >= 0)]
            assert [i for i in offered if told.families[i] not in families and not full[i]] == []
        for item, rule in zip(items, built.rules[n], strict=False):
            for one in (one for one in (*told.shifts, *told.pins, *told.least) if one.rule == rule):
                assert one.items[item]
                assert one.lists[n]


@settings(max_examples=60, deadline=None)
@given(shops(), st.randoms())
def test_a_list_does_not_depend_on_the_others(shop: tuple[Pool, Terms, int], chance):
    """In any order, and alone, everybody gets the same list; and again the same."""
    made, told, length = shop
    whole = builder.build(made, told, length)
    order = list(range(len(made.items)))
    chance.shuffle(order)
    for lists in (np.array(order), np.array(order[:1])):
        part = builder.build(made.of(lists), told.of(lists), length)
        for name in ("columns", "rules", "chances", "dropped"):
            assert (getattr(part, name) == getattr(whole, name)[lists]).all()


@settings(max_examples=100, deadline=None)
@given(shops(), st.booleans())
def test_a_share_is_missed_only_where_nothing_could_keep_it(shop: tuple[Pool, Terms, int], of_new: bool):
    """Where any first rows lack some, no candidate of the kind is left that may stand."""
    made, told, length = shop
    (asked,) = shares = told.shares[:1] if of_new else told.shares[1:]
    built = builder.build(made, replace(told, pins=[], least=[], shares=shares), length)
    holds = asked.holds(made.items)
    for n, columns in enumerate(built.columns):
        kept = np.cumsum(holds[n, columns] & (columns >= 0) & (made.kinds[columns] != FILLING))
        if (kept < asked.rows(length)).any():
            items = made.items[n, columns[columns >= 0]]
            full = np.zeros(ITEMS, dtype=bool)
            for one in (one for one in told.caps if one.lists[n]):
                for group in range(3):
                    full |= (one.groups == group) & ((one.groups[items] == group).sum() >= one.most)
            left = made.items[n, holds[n] & (made.kinds == OWN)]
            assert [i for i in left if told.families[i] not in told.families[items] and not full[i]] == []


@settings(max_examples=60, deadline=None)
@given(shops())
def test_a_wider_pool_keeps_what_stood(shop: tuple[Pool, Terms, int]):
    """A short list that is built again with more to fill it begins with the same rows; only demands wait."""
    made, told, length = shop
    told = replace(told, pins=[], least=[])
    before = shown(builder.build(made, told, length), made)
    wide = made.beside(np.tile(np.arange(ITEMS), (len(made.items), 1)), FILLING)
    after = shown(builder.build(wide, told, length), wide)
    assert all(new[: len(old)] == old for new, old in zip(after, before, strict=True))
