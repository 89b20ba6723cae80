"""Shelves of random shops under random rules of every kind: what they promise holds, and anybody else is no matter."""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pipelines.lists.builder import FRESH, NEW, STANDS
from pipelines.lists.chance import Draws
from pipelines.lists.shares import Share
from pipelines.rules import Rule, obeyed
from pipelines.rules.rule import BARS, COUNTED, ITEM_TABLES
from pipelines.rules.scope import Goods, People, addressed
from pipelines.shelve import effects, placing
from pipelines.shelve.placing import Audience, Placed, Placing, Popular, Ranked, families, fates

DAY, ITEMS, USERS, WIDTH = dt.date(2026, 3, 1), 14, 6, 8
SHELVES = {"for_you": "for_you", "discover": "discover", "buy_again": "buy_again", "own": "discover"}
COUNTRIES = np.array(["France", "Spain", None], dtype=object)
SEGMENTS = np.array(["trade", None], dtype=object)
NAMED = ("parent_id", "category", "brand", "seller")
TAGS = ["eco", "eco|gift", "gift"]
VALUES = {
    "item_id": [f"i{n}" for n in range(ITEMS)],
    "parent_id": ["p0", "p1"],
    "category": ["cups", "pans"],
    "brand": ["Acme", "Bolt"],
    "tag": ["eco", "gift"],
    "seller": ["own", "Bolt Direct"],
    "min_price_cents": [100, 300],
    "max_price_cents": [300, 500],
    "min_age_days": [0, 10],
    "max_age_days": [10, 30],
}


@dataclass(frozen=True)
class Shop:
    """A placement, its candidates, and the gate's relations of all that is published about it."""

    placing: Placing
    ranked: Ranked
    ages_days: np.ndarray
    bought: np.ndarray

    def shelves(self, users: np.ndarray) -> Placed:
        barred = self.placing.barred(self.ranked.users, self.ranked.items)
        ranked = replace(self.ranked, usable=barred == STANDS)
        blocks = list(self.placing.shelves(ranked, users))
        told = pd.DataFrame({"user": ranked.users, "item": ranked.items})
        return Placed(self.placing, told, blocks, fates(ranked, barred, blocks))


def items_of(placed: Placed) -> np.ndarray:
    return np.concatenate([block.items for block in placed.blocks])


def random_rule(dice: np.random.Generator, number: int) -> Rule:
    """A rule that makes sense, of any action and scope, for anybody, a country or a segment, here or everywhere."""
    action = str(dice.choice([*BARS, *COUNTED]))
    names = ["item_id"] if action == "pin" else dice.choice(list(VALUES), size=dice.integers(1, 3), replace=False)
    told: dict[str, Any] = {str(name): VALUES[str(name)][dice.integers(len(VALUES[str(name)]))] for name in names}
    told |= {"value": int(dice.integers(1, 4))} if action in COUNTED else {}
    told |= (
        {"per": str(dice.choice(["brand", "category", "seller"]))} if action == "cap" and dice.random() < 0.5 else {}
    )
    told |= {"country": "France"} if dice.random() < 0.3 else {}
    told |= {"segment": "trade"} if dice.random() < 0.3 else {}
    told |= {"placement": str(dice.choice(list(SHELVES)))} if dice.random() < 0.2 else {}
    return Rule(rule_id=f"r{number}", action=action, priority=int(dice.integers(3)), owner="ann", reason="x", **told)


def random_catalogue(dice: np.random.Generator) -> pd.DataFrame:
    told = {
        name: np.where(dice.random(ITEMS) < 0.7, dice.choice(np.array(values, dtype=object), ITEMS), None)
        for name, values in ({name: VALUES[name] for name in NAMED} | {"tags": TAGS}).items()
    }
    prices = pd.array(dice.choice([100, 300, 500], ITEMS), dtype="Int64")
    prices[dice.random(ITEMS) < 0.2] = pd.NA
    return pd.DataFrame({"item_id": VALUES["item_id"], **told, "price_cents": prices})


def random_popular(dice: np.random.Generator) -> Popular:
    order = dice.permutation(ITEMS)
    return Popular(("France",), dice.permutation(ITEMS)[None, :3], order[:5], order)


@st.composite
def shops(draw: st.DrawFn) -> Shop:
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    name, catalogue, ages = draw(st.sampled_from(list(SHELVES))), random_catalogue(dice), dice.integers(0, 40, ITEMS)
    rules = sorted((random_rule(dice, n) for n in range(draw(st.integers(0, 6)))), key=lambda rule: rule.precedence)
    bought, fits = dice.random((USERS, ITEMS)) < 0.3, dice.random(ITEMS) < (0.8 if name == "own" else 1.1)
    like, is_again = SHELVES[name], name == "buy_again"
    asked = {"for_you": np.ones_like(bought), "discover": ~bought, "buy_again": bought}[like] & fits
    users, items = np.nonzero(asked & (dice.random(asked.shape) < 0.7))
    order = np.lexsort((dice.random(len(users)), users))
    shares = (
        Share(NEW, draw(st.sampled_from([0.2, 0.5])), ages < 14, np.empty((USERS, 0), dtype=int)),
        Share(FRESH, draw(st.sampled_from([0.2, 0.5])), fits, dice.integers(-1, ITEMS, size=(USERS, 5))),
    )
    numbers = dice.integers(0, 2**63, size=USERS, dtype=np.uint64), dice.integers(0, 2**63, size=ITEMS, dtype=np.uint64)
    vectors = dice.normal(size=(ITEMS, 3))
    made = Placing(
        name,
        like=like,
        length=draw(st.integers(1, 7)),
        width=WIDTH,
        diversity=0.0 if is_again else draw(st.sampled_from([0.0, 0.3])),
        rules=rules,
        goods=Goods(catalogue, ages),
        is_available=dice.random(ITEMS) < 0.8,
        fits=fits,
        families=np.arange(ITEMS) if is_again else families(catalogue),
        vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        audience=Audience(
            People(dice.choice(COUNTRIES, USERS), dice.choice(SEGMENTS, USERS)), sparse.csr_matrix(bought.astype(float))
        ),
        popular=random_popular(dice),
        fills=name in ("for_you", "discover"),
        shares=draw(st.sampled_from([(), shares[:1], shares])),
        draws=draw(st.sampled_from([None, Draws(*numbers, 0.4)])),
    )
    scores = -np.arange(len(users), dtype=float)
    return Shop(made, Ranked(users, items[order], scores, np.ones(len(users), dtype=bool)), ages, bought)


def broken(shop: Shop, shown: np.ndarray) -> dict[str, int]:
    """What the gate counts of shelves (U, L)."""
    users, places = np.nonzero(shown >= 0)
    goods = shop.placing.goods.catalogue
    names, ids = np.array([f"u{n}" for n in range(USERS)], dtype=object), goods["item_id"].to_numpy(dtype=object)
    people, (owners, theirs) = shop.placing.audience.people, np.nonzero(shop.bought)
    arrived = [pd.Timestamp(DAY) - pd.Timedelta(days=int(age)) for age in shop.ages_days]
    rules = pd.DataFrame([rule.model_dump() for rule in shop.placing.rules], columns=list(Rule.model_fields))
    tables = {
        "user_recommendations": pd.DataFrame({"user_id": names[users], "item_id": ids[shown[users, places]]}).assign(
            placement=shop.placing.placement
        ),
        "users": pd.DataFrame({"user_id": names, "country": people.countries, "segment": people.segments}),
        "user_history": pd.DataFrame({"user_id": names[owners], "item_id": ids[theirs], "is_bought": True}),
        "catalogue": goods.assign(is_available=shop.placing.is_available, first_arrival_date=arrived),
        "rules": rules.astype({name: "Int64" if name.startswith(("min_", "max_")) else "string" for name in rules}),
    }
    nothing = "(select '' as item_id, '' as other_item_id, '' as segment, '' as segment_kind, '' as query where false)"
    sources = dict.fromkeys((*ITEM_TABLES, obeyed.PERSONAL), nothing) | {name: name for name in tables}
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table.astype("string") if name in ("user_recommendations", "users") else table)
        return obeyed.broken(connection, sources, SHELVES, DAY.isoformat())


def capped(shop: Shop, user: int, items: np.ndarray, pinned: np.ndarray) -> np.ndarray:
    """(I,) bool: what a cap holds off a shelf that has `items`, none of which is one row too many."""
    full, reader = np.zeros(ITEMS, dtype=bool), shop.placing.audience.people.of(np.array([user]))
    for _, rule in shop.placing._numbered("cap"):
        if np.all(addressed(rule, reader)):
            groups = shop.placing.goods.groups(rule)
            for group in np.unique(groups[groups >= 0]):
                count = (groups[items] == group).sum()
                assert count <= max(rule.value or 0, (groups[pinned] == group).sum())
                full |= (groups == group) & (count >= (rule.value or 0))
    return full


@settings(max_examples=50, deadline=None)
@given(shops())
def test_no_shelf_breaks_a_rule_and_none_is_short_without_a_reason(shop: Shop):
    """By the gate's own SQL; a shelf that ends early has a reason on record, and nothing more could stand on it."""
    placed, everybody = shop.shelves(np.arange(USERS)), np.arange(ITEMS)
    shown, rules = items_of(placed), np.concatenate([block.rules for block in placed.blocks])
    assert sum(broken(shop, shown).values()) == 0
    is_pin = np.array([rule.action == "pin" for rule in shop.placing.rules] + [False] * 9)  # below 0 no rule
    for user in range(USERS):
        stands = shown[user] >= 0
        items = shown[user, stands]
        full = capped(shop, user, items, items[is_pin[rules[user, stands]]])
        if not stands.all():
            offered = everybody if shop.placing.fills else shop.ranked.items[shop.ranked.users == user]
            owners = np.full(len(offered), user)
            may = (shop.placing.barred(owners, offered) == STANDS) & shop.placing._eligible(owners, offered)
            taken = np.isin(shop.placing.families[offered], shop.placing.families[items])
            left = offered[may & ~taken & ~full[offered]]
            assert left.size == 0 or (not shop.placing.fills and may.sum() > WIDTH)
    marts = type("Marts", (), {"users": type("Users", (), {"ids": np.arange(USERS)})})
    short = effects.short_shelves(placed, marts)
    assert set(short["user_id"]) == set(np.flatnonzero((shown < 0).any(axis=1)))
    assert short["reason"].notna().all()


@settings(max_examples=80, deadline=None)
@given(shops(), st.integers(0, USERS - 1))
def test_a_shelf_is_the_same_in_any_company(shop: Shop, first: int):
    """Again, in blocks of two, and for some users alone: the same rows, rules and propensities."""
    everybody, some = np.arange(USERS), np.arange(first, USERS)
    whole = shop.shelves(everybody)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "BLOCK", 2)
        parts = {"again": (shop.shelves(everybody), everybody), "some": (shop.shelves(some), some)}
    for told, users in parts.values():
        for name in ("items", "rules", "chances", "sources", "rows"):
            ours, theirs = (np.concatenate([getattr(b, name) for b in one.blocks]) for one in (told, whole))
            assert (ours == theirs[users]).all(), name


@settings(max_examples=80, deadline=None)
@given(shops())
def test_what_may_stand_is_pinned_where_the_first_pin_says(shop: Shop):
    """The first pin by priority and name, of an item that may stand on the user's shelf, on a shelf that is so long."""
    placed = shop.shelves(np.arange(USERS))
    first = next((rule for _, rule in shop.placing._numbered("pin") if (rule.value or 0) <= shop.placing.length), None)
    if first is None:
        return
    (item,), users = np.flatnonzero(shop.placing.goods.covered(first)), np.arange(USERS)
    items, told = np.full(USERS, item), addressed(first, shop.placing.audience.people)
    may = told & (shop.placing.barred(users, items) == STANDS) & shop.placing._eligible(users, items)
    for shown in items_of(placed)[may]:
        assert shown[min(first.value or 0, int((shown >= 0).sum())) - 1] == item
