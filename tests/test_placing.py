"""A placement's shelves: full under every rule, filled in order, each row and each candidate with its story."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pipelines.lists.builder import NEW, STANDS
from pipelines.lists.chance import Draws
from pipelines.lists.shares import Share
from pipelines.rules import Rule, obeyed
from pipelines.rules.scope import Goods, People
from pipelines.shelve import building, effects
from pipelines.shelve.placing import Audience, Placed, Placing, Popular, Ranked, families, fates

ITEMS = list("abcdefgh")
CATALOGUE = pd.DataFrame(
    {
        "item_id": ITEMS,
        "parent_id": [None, "p", "p", None, None, None, None, None],
        "category": "things",
        "brand": ["Acme", "Acme", "Acme", "Bolt", "Bolt", "Bolt", "Bolt", "Bolt"],
        "tags": ["eco|gift", None, None, None, None, None, None, None],
        "seller": [None, None, None, "own", None, None, None, None],
        "price_cents": pd.array([100] * 8, dtype="Int64"),
    }
)
COUNTRIES = np.array(["France", "Spain", None], dtype=object)
SEGMENTS = np.array([None, "trade", None], dtype=object)
BOUGHT = sparse.csr_matrix(np.eye(3, 8))  # the first user has a, the second b, the third c
POPULAR = Popular(("France",), np.array([[5, 0]]), np.array([6, 5, 1]), np.array([6, 5, 1, 0, 2, 3, 4, 7]))


def rule(rule_id: str, action: str, **told: object) -> Rule:
    return Rule.model_validate({"rule_id": rule_id, "action": action, "owner": "ann", "reason": "x", **told})


def placing(*rules: Rule, placement: str = "for_you", length: int = 4, gone: str = "") -> Placing:
    is_available = ~np.isin(ITEMS, list(gone))
    return Placing(
        placement,
        like=placement,
        length=length,
        width=8,
        diversity=0.0,
        rules=rules,
        goods=Goods(CATALOGUE, np.zeros(8, dtype=int)),
        is_available=is_available,
        fits=np.ones(8, dtype=bool),
        families=np.arange(8) if placement == "buy_again" else families(CATALOGUE),
        vectors=np.eye(8, dtype=np.float32),
        audience=Audience(People(COUNTRIES, SEGMENTS), BOUGHT),
        popular=POPULAR,
        fills=placement != "buy_again",
    )


def placed(one: Placing, *candidates: str) -> Placed:
    """The lists of three users from their candidates, best first."""
    rows = [(user, ITEMS.index(item), -float(n)) for user, own in enumerate(candidates) for n, item in enumerate(own)]
    told = pd.DataFrame(rows, columns=["user", "item", "score"]).astype({"user": int, "item": int})
    told = told.assign(placement=one.placement, **dict.fromkeys(building.SCORES, 0.0))
    users, items = told["user"].to_numpy(), told["item"].to_numpy()
    barred = one.barred(users, items)
    ranked = Ranked(users, items, told["score"].to_numpy(), barred == STANDS)
    blocks = list(one.shelves(ranked, np.arange(3)))
    return Placed(one, told, blocks, fates(ranked, barred, blocks))


def lists(found: Placed) -> list[str]:
    return ["".join(ITEMS[item] for item in row[row >= 0]) for row in found.blocks[0].items]


def stories(found: Placed) -> list[str | None]:
    return effects.names(found).tolist()


def test_short_lists_go_on_with_country_then_shop_then_catalogue():
    """Nothing repeats, no variant of what stands comes in, and each row says where it is from."""
    found = placed(placing(length=5), "ab", "d", "")
    assert lists(found) == ["abfgd", "dgfba", "gfbad"]
    rows = building.flat(found)
    assert (
        rows.loc[rows["user"] == 0, "fallback"].tolist() == [None, None, "segment_popularity"] + ["shop_popularity"] * 2
    )
    assert rows.loc[rows["user"] == 0, "score"].tolist() == [0.0, -1.0, -3.0, -4.0, -5.0]


def test_discover_never_fills_up_with_what_was_bought():
    """The second user has b, which is popular; its variant c may stand."""
    found = placed(placing(placement="discover", length=7), "d", "d", "d")
    assert [("a" in lists(found)[0]), ("b" in lists(found)[1]), ("c" in lists(found)[2])] == [False] * 3
    assert [len(one) for one in lists(found)] == [6, 7, 7]


def test_buy_again_is_as_long_as_what_was_bought():
    """And says so: nothing fills it up."""
    found = placed(placing(placement="buy_again"), "a", "b", "")
    assert lists(found) == ["a", "b", ""]
    told = effects.short_shelves(found, named())
    assert told["reason"].tolist() == ["few_bought"] * 3
    assert told["count_rows"].tolist() == [1, 1, 0]


def named():
    return SimpleNamespace(users=SimpleNamespace(ids=np.array(["u1", "u2", "u3"])))


def test_a_declared_placement_is_as_long_as_its_candidates():
    """It keeps the promise of the one that it is like, and a pin of what it is not for stands nowhere."""
    first = rule("first", "pin", item_id="h", value=1), rule("second", "pin", item_id="e", value=1)
    declared = replace(placing(*first), placement="fresh", like="discover", fills=False, fits=np.arange(8) < 7)
    found = placed(declared, "d", "d", "df")
    assert lists(found) == ["ed", "ed", "edf"]
    assert effects.short_shelves(found, named())["reason"].tolist() == ["few_candidates"] * 3


def test_rules_bind_what_fills_up():
    """A brand that is denied does not come back as popular; the candidates say which rule took them."""
    found = placed(placing(rule("no-bolt", "deny", brand="Bolt")), "ad", "d", "e")
    assert lists(found) == ["ab", "ba", "ba"]
    assert stories(found) == [None, "no-bolt", "no-bolt", "no-bolt"]
    assert effects.short_shelves(found, named())["reason"].tolist() == ["rules"] * 3


def test_what_shares_and_chance_put_on_a_shelf_has_no_rule_and_is_counted():
    """h is new and last of all; the effects tell of it, and each row tells how likely it was."""
    shares = (Share(NEW, 0.5, np.arange(8) == 7, np.empty((3, 0), dtype=int)),)
    draws = Draws(np.arange(3, dtype=np.uint64), np.arange(8, dtype=np.uint64), 0.25)
    found = placed(replace(placing(length=2), shares=shares), "adeh", "deh", "d")
    assert lists(found) == ["ah", "dh", "dg"]
    assert [row for row in effects.effects(found) if row[3]] == [("for_you", "new_share", 0, 2, 2)]
    drawn = placed(replace(placing(length=2), draws=draws), "adeh", "deh", "d")
    rows = building.flat(drawn)
    assert (rows["rule_id"].isna().all(), set(rows["propensity"][rows["rank"] == 1])) == (True, {1.0})
    assert ((rows["propensity"] < 1) == (rows["rank"].eq(2) & rows["fallback"].isna())).all()
    assert [row[:4] for row in effects.effects(drawn) if row[3]] == [("for_you", "exploration", 0, 2)]


def test_a_rule_of_a_country_leaves_the_others_alone():
    """Only the first user lives in France."""
    found = placed(placing(rule("local", "deny", brand="Acme", country="France")), "ad", "ad", "ad")
    assert [one[0] for one in lists(found)] == ["d", "a", "a"]
    assert next(one for one in effects.effects(found) if one[1] == "local") == ("for_you", "local", 1, 0, 1)


def test_what_cannot_be_bought_stands_nowhere():
    """Not as a candidate, not as a pin, not to fill up."""
    found = placed(placing(rule("first", "pin", item_id="g", value=1), gone="gf"), "fa", "d", "")
    assert not set("gf") & set("".join(lists(found)))
    assert stories(found)[0] == "not_available"
    assert effects.short_shelves(found, named()).empty


def test_pins_and_demands_bring_items_that_nobody_proposed():
    """But not what the user has to discover; the row names the rule."""
    rules = rule("first", "pin", item_id="a", value=1), rule("two", "must_include", brand="Acme", value=2)
    found = placed(placing(*rules, placement="discover", length=3), "def", "def", "def")
    assert lists(found) == ["dbe", "adc", "adb"]
    rows = building.flat(found)
    assert rows.loc[rows["item"] == 0, "rule_id"].unique().tolist() == ["first"]
    assert set(rows.loc[rows["rule_id"].notna(), "fallback"]) == {"rules"}


def published(rows: Sequence[tuple[str, str, str]], rules: Sequence[Rule], gone: str = "") -> dict[str, int]:
    """What the gate counts of rows (list, user, item)."""
    connection = duckdb.connect()
    shelves = pd.DataFrame(rows, columns=["placement", "user_id", "item_id"], dtype="string")
    told = pd.DataFrame([one.model_dump() for one in rules], columns=list(Rule.model_fields))
    told = told.astype({name: "Int64" if name.startswith(("min_", "max_")) else "string" for name in told})
    goods = CATALOGUE.assign(is_available=~CATALOGUE["item_id"].isin(list(gone)), first_arrival_date="2026-02-01")
    people = pd.DataFrame({"user_id": ["u1", "u2"], "country": ["France", "Spain"], "segment": ["trade", None]})
    bought = pd.DataFrame({"user_id": ["u1"], "item_id": ["a"], "is_bought": [True]})
    is_shelf = shelves["placement"].isin(["for_you", "discover", "buy_again"])
    tables = {"user_recommendations": shelves[is_shelf], "users": people, "user_history": bought, "rules": told}
    tables |= {"catalogue": goods.astype({"first_arrival_date": "datetime64[s]"})}  # 28 days before the night's
    for name in ("search_results", "similar_items", "bought_together", "popular_items", "trending_items"):
        own = shelves[shelves["placement"] == name]
        tables[name] = own.assign(other_item_id=own["item_id"], segment=own["user_id"]).assign(
            segment_kind=own["user_id"].map(lambda name: {"all": "all", "trade": "segment"}.get(name, "country"))
        )
    tables["search_results"]["query"] = "cups"
    tables["user_search_results"] = shelves[shelves["placement"] == "user_search_results"].assign(query="cups")
    for name, table in tables.items():
        connection.register(name, table)
    shelves_of = {name: name for name in ("for_you", "discover", "buy_again")}
    return obeyed.broken(connection, {name: name for name in tables}, shelves_of, "2026-03-01")


@pytest.mark.parametrize(
    ("row", "rules", "broken"),
    [
        (("for_you", "u1", "d"), [rule("r", "deny", brand="Acme")], None),
        (("for_you", "u1", "a"), [rule("r", "deny", brand="Acme")], "denied_items"),
        (("for_you", "u1", "a"), [rule("r", "deny", brand="Acme", placement="discover")], None),
        (("for_you", "u1", "a"), [rule("r", "deny", brand="Acme", country="France")], "denied_items"),
        (("for_you", "u2", "a"), [rule("r", "deny", brand="Acme", country="France")], None),
        (("for_you", "u1", "a"), [rule("r", "deny", brand="Acme", segment="trade")], "denied_items"),
        (("for_you", "u2", "a"), [rule("r", "deny", brand="Acme", segment="trade")], None),
        (("popular_items", "trade", "a"), [rule("r", "deny", brand="Acme", segment="trade")], "denied_items"),
        (("trending_items", "trade", "a"), [rule("r", "deny", brand="Acme", segment="trade")], "denied_items"),
        (("popular_items", "trade", "a"), [rule("r", "deny", brand="Acme", country="trade")], None),
        (("popular_items", "France", "a"), [rule("r", "deny", brand="Acme", segment="France")], None),
        (("for_you", "u1", "a"), [rule("r", "deny", tag="gift")], "denied_items"),
        (("for_you", "u1", "a"), [rule("r", "allow_only", tag="gif")], "other_than_allowed_items"),
        (("for_you", "u1", "d"), [rule("r", "deny", seller="own")], "denied_items"),
        (("search_results", None, "a"), [rule("r", "deny", item_id="a")], "denied_items"),
        (("search_results", None, "a"), [rule("r", "deny", item_id="a", query="Cups")], "denied_items"),
        (("search_results", None, "a"), [rule("r", "deny", item_id="a", query="pots")], None),
        (("search_results", None, "a"), [rule("r", "allow_only", brand="B", query="cups")], "other_than_allowed_items"),
        (("user_search_results", "u1", "a"), [rule("r", "deny", item_id="a", query="cups")], "denied_items"),
        (("for_you", "u1", "a"), [rule("r", "deny", item_id="a", query="cups")], None),
        (("similar_items", None, "b"), [rule("r", "deny", parent_id="p")], "denied_items"),
        (("bought_together", None, "b"), [rule("r", "deny", max_price_cents=100)], "denied_items"),
        (("popular_items", "France", "a"), [rule("r", "deny", item_id="a", country="France")], "denied_items"),
        (("trending_items", "France", "a"), [rule("r", "deny", item_id="a", country="France")], "denied_items"),
        (("user_search_results", "u1", "a"), [rule("r", "deny", item_id="a")], "denied_items"),
        (("popular_items", "all", "a"), [rule("r", "deny", item_id="a", country="France")], None),
        (("for_you", "u1", "a"), [rule("r", "deny", min_age_days=28)], "denied_items"),
        (("for_you", "u1", "a"), [rule("r", "deny", min_age_days=29)], None),
        (("for_you", "u1", "a"), [rule("r", "allow_only", brand="Bolt")], "other_than_allowed_items"),
        (("for_you", "u1", "a"), [rule("r", "allow_only", brand="Bolt"), rule("s", "allow_only", item_id="a")], None),
        (("discover", "u1", "a"), [], "bought_items_to_discover"),
        (("for_you", "u1", "h"), [], "unavailable_items"),
    ],
)  # fmt: skip
def test_the_gate_sees_what_breaks_a_rule_or_a_promise(row: tuple, rules: list[Rule], broken: str | None):
    """One row that does, in whatever list it stands, and none that does not."""
    expected = dict.fromkeys(obeyed.BROKEN, 0) | ({broken: 1} if broken else {})
    assert published([row], rules, gone="h") == expected


def test_the_gate_sees_what_stands_twice():
    """An item, or two variants of one thing, on one shelf; on buy_again variants may."""
    rows = [(name, "u2", item) for name in ("for_you", "buy_again") for item in ("b", "c")]
    assert published(rows, [])["repeated_items"] == 1
    assert published([*rows, ("for_you", "u2", "d"), ("for_you", "u2", "d")], [])["repeated_items"] == 2
