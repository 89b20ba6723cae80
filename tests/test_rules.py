"""Rules as files: read whole, judged whole, in force on their days, and clear about what they cover and meet."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import rules
from pipelines.errors import BadRules
from pipelines.rules import Rule, conflicts
from pipelines.rules.scope import Goods, People, allowed, barring, unknown

FRIDAY, SUNDAY = dt.date(2026, 3, 6), dt.date(2026, 3, 8)
OWNED = {"owner": "ann", "reason": "because"}
CATALOGUE = pd.DataFrame(
    {
        "item_id": ["mug", "pot", "pan", "lid"],
        "parent_id": [None, "p1", "p1", None],
        "category": ["cups", "kitchen", "kitchen", None],
        "brand": ["Acme", "Acme", "Bolt", None],
        "tags": ["eco|gift", "gift", None, "gifts"],
        "seller": ["own", "own", "Bolt Direct", None],
        "price_cents": pd.array([500, 2000, 3000, None], dtype="Int64"),
    }
)
GOODS = Goods(CATALOGUE, np.array([400, 30, 3, 0]))


def rule(rule_id: str, action: str, **told: object) -> Rule:
    return Rule.model_validate({"rule_id": rule_id, "action": action, **OWNED, **told})


def write(home: Path, name: str, text: str) -> None:
    (home / "rules").mkdir(exist_ok=True)
    (home / "rules" / name).write_text(text)


def covered(**scope: object) -> list[str]:
    return CATALOGUE["item_id"][GOODS.covered(rule("r", "deny", **scope))].tolist()


def test_csv_and_yaml_say_the_same(tmp_path: Path):
    """Both become rules, the larger priority first, then by name; empty cells and lines say nothing."""
    write(
        tmp_path, "a.csv", "rule_id,action,brand,value,starts_on,owner,reason\nz,deny,Acme,,2026-03-06,ann,x\n,,,,,,\n"
    )
    write(tmp_path, "b.yaml", "- {rule_id: b, action: pin, item_id: 7, value: 2, priority: 5, owner: ann, reason: x}\n")
    write(tmp_path, "notes.txt", "not a rule")
    assert rules.read(tmp_path) == [
        rule("b", "pin", item_id="7", value=2, priority=5, reason="x"),
        rule("z", "deny", brand="Acme", starts_on=FRIDAY, reason="x"),
    ]


def test_a_home_without_rules_has_none(tmp_path: Path):
    """Nobody needs the folder."""
    assert rules.read(tmp_path) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x,dney,Acme,,,ann,why", "line 2, action: 'dney': Input should be 'deny'"),
        ("x,dney,Acme,,,ann,why", "Did you mean deny?"),
        ("x,deny,,,,ann,why", "line 2, item_id: deny is about no item"),
        ("x,boost,Acme,,,ann,why", "line 2, value: boost needs a number"),
        ("x,deny,Acme,3,,ann,why", "line 2, value: deny takes none"),
        ("x,deny,Acme,,,ann,", "line 2, reason: is empty"),
        ("x,deny,Acme,,31.3.2026,ann,why", "line 2, ends_on: '31.3.2026'"),
        ("x,pin,Acme,1,,ann,why", "line 2, item_id: pin puts one item on a place"),
        ("variant,deny,Acme,,,ann,why", "'variant' is what the list builder calls a cause of its own"),
        ("x,deny,Acme,,,ann,why,more", "line 2: more cells than columns"),
    ],
)
def test_each_mistake_has_its_place_and_cure(tmp_path: Path, row: str, words: str):
    """File, line and column, what is wrong, and what would be right."""
    write(tmp_path, "a.csv", f"rule_id,action,brand,value,ends_on,owner,reason\n{row}\n")
    with pytest.raises(BadRules) as told:
        rules.read(tmp_path)
    assert str(tmp_path / "rules" / "a.csv") in str(told.value)
    assert words in str(told.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    """Also a name that is taken, in another file, and a column that is none."""
    write(tmp_path, "a.csv", "rule_id,action,brnd,owner,reason\nx,deny,Acme,ann,why\n")
    write(tmp_path, "b.yaml", "- &one {rule_id: y, action: deny, brand: Acme, owner: ann, reason: x}\n- *one\n")
    with pytest.raises(BadRules) as told:
        rules.read(tmp_path)
    assert "line 2, brnd: is no column. Did you mean brand?" in str(told.value)
    assert "line 1, rule_id: 'y' is taken by another row" in str(told.value)


def test_a_rule_is_about_a_placement_that_there_is(tmp_path: Path):
    """Of every shop, of this shop's settings, or a table of lists."""
    for name in ("discover", "new_for_you", "similar_items"):
        write(tmp_path, "a.csv", f"rule_id,action,brand,placement,owner,reason\nx,deny,Acme,{name},ann,why\n")
        assert [one.placement for one in rules.read(tmp_path)] == [name]
    write(tmp_path, "a.csv", "rule_id,action,brand,placement,owner,reason\nx,deny,Acme,for_your,ann,why\n")
    with pytest.raises(BadRules, match="line 2, placement: 'for_your' is none of for_you, discover"):
        rules.read(tmp_path)


def test_rules_hold_from_their_first_day_to_their_last():
    """Both inclusive; an end that is open does not end."""
    weekend = rule("r", "deny", brand="Acme", starts_on=FRIDAY, ends_on=SUNDAY)
    days = [FRIDAY + dt.timedelta(days=n) for n in range(-1, 4)]
    assert [weekend.holds_on(day) for day in days] == [False, True, True, True, False]
    assert rule("r", "deny", brand="Acme").holds_on(FRIDAY)


def test_scopes_narrow_each_other():
    """An item must fit in all that is filled; without a price it lies in no range of prices."""
    assert covered(brand="Acme") == ["mug", "pot"]
    assert covered(brand="Acme", category="kitchen") == ["pot"]
    assert covered(parent_id="p1") == ["pot", "pan"]
    assert covered(tag="gift") == ["mug", "pot"]
    assert covered(tag="gift", seller="own", brand="Acme", category="cups") == ["mug"]
    assert covered(max_price_cents=2000) == ["mug", "pot"]
    assert covered(min_price_cents=2000, max_price_cents=2000) == ["pot"]
    assert covered(max_age_days=30) == ["pot", "pan", "lid"]


def test_a_cap_per_brand_counts_each_brand():
    """What has no brand is not counted; without `per` all that is covered counts together."""
    assert GOODS.groups(rule("r", "cap", per="brand", value=1)).tolist() == [0, 0, 1, -1]
    assert GOODS.groups(rule("r", "cap", per="seller", value=1)).tolist() == [0, 0, 1, -1]
    assert GOODS.groups(rule("r", "cap", category="kitchen", value=1)).tolist() == [-1, 0, 0, -1]


def bars(*told: Rule, placement: str = "for_you", country: str | None = None, segment: str | None = None) -> list[int]:
    people = People.alike(4, country, segment) if country or segment else None
    return barring(told, GOODS, placement, np.arange(4), people).tolist()


def test_deny_takes_away_what_it_covers_where_it_holds():
    """On its placement, or on all lists; the first of several is named."""
    acme, kitchen = rule("a", "deny", brand="Acme"), rule("b", "deny", category="kitchen", placement="discover")
    assert bars(acme, kitchen) == [0, 0, -1, -1]
    assert bars(acme, kitchen, placement="discover") == [0, 0, 1, -1]
    assert bars(acme, kitchen, placement="search_results") == [0, 0, -1, -1]


def test_what_any_allow_only_lets_stay_stays():
    """The rest is taken away by the first of them; deny counts before."""
    cups, bolt = rule("a", "allow_only", category="cups"), rule("b", "allow_only", brand="Bolt")
    assert bars(cups, bolt) == [-1, 0, -1, 0]
    assert bars(cups, bolt, rule("c", "deny", item_id="mug")) == [2, 0, -1, 0]


def test_a_rule_of_a_country_speaks_to_its_people_alone():
    """Lists that are the same everywhere are left alone; what is popular has a list for each country."""
    local = rule("a", "deny", brand="Acme", country="France")
    assert bars(local) == bars(local, country="Spain") == [-1] * 4
    assert bars(local, country="France") == [0, 0, -1, -1]
    assert allowed([local], GOODS, "search_results").all()
    assert allowed([local], GOODS, "popular_items", "France").tolist() == [False, False, True, True]
    assert allowed([local], GOODS, "popular_items").all()


def test_a_rule_of_a_segment_speaks_to_its_users_alone():
    """With a country only to those who are in both; lists of all users are left alone."""
    trade = rule("a", "deny", brand="Acme", segment="trade", country="France")
    assert bars(trade) == bars(trade, country="France") == bars(trade, segment="trade") == [-1] * 4
    assert bars(trade, country="France", segment="trade") == [0, 0, -1, -1]
    assert allowed([trade], GOODS, "popular_items", "France").all()
    assert bars(rule("a", "deny", brand="Acme", segment="trade"), placement="popular_items", segment="trade")[0] == 0
    assert bars(rule("a", "deny", brand="Acme", segment="trade"), placement="similar_items", segment="trade")[0] == -1


def test_a_rule_about_a_query_is_about_its_answers_alone():
    """However it was typed in the file; other queries and all other lists are left alone."""
    local = rule("a", "deny", brand="Acme", query="  Coffee CUPS ")
    assert local.query == "coffee cups"
    assert allowed([local], GOODS, "search_results", query="coffee cups").tolist() == [False, False, True, True]
    for placement, query in (("search_results", "cups"), ("search_results", None), ("popular_items", "coffee cups")):
        assert allowed([local], GOODS, placement, query=query).all()
    assert bars(local) == [-1] * 4


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"action": "deny", "brand": "Acme", "placement": "for_you", "query": "cups"}, "only search_results knows"),
        ({"action": "deny", "brand": "Acme", "country": "France", "query": "cups"}, "same in all countries"),
        ({"action": "boost", "brand": "Acme", "value": 1, "placement": "similar_items"}, "moves users' shelves and"),
        ({"action": "pin", "item_id": "mug", "value": 1, "placement": "search_results"}, "name the query"),
        ({"action": "deny", "brand": "Acme", "segment": "trade", "query": "cups"}, "the same for all users"),
        (
            {"action": "deny", "brand": "Acme", "placement": "similar_items", "country": "France"},
            "same in all countries",
        ),
        ({"action": "deny", "brand": "Acme", "per": "brand"}, "only cap counts per brand"),
    ],
)
def test_what_could_not_act_is_no_rule(told: dict, words: str):
    """It is refused, rather than published as if it held."""
    with pytest.raises(ValueError, match=words):
        rule("r", **told)


def test_names_that_the_catalogue_lacks_are_told_with_the_nearest():
    """They keep no night from running: an item may be gone, or still to come."""
    told = unknown([rule("a", "deny", brand="Acne"), rule("b", "deny", item_id="mug")], CATALOGUE)
    assert told == ["a: the catalogue has no brand 'Acne'; the rule does nothing. The nearest: Acme."]
    assert unknown([rule("a", "deny", tag="gif"), rule("b", "deny", tag="eco")], CATALOGUE) == [
        "a: the catalogue has no tag 'gif'; the rule does nothing. The nearest: gift."
    ]


def test_conflicts_name_who_yields_to_whom():
    """A pin of what is denied, a second pin of one place, a demand above a cap, a bury of what is boosted."""
    told = [
        rule("a", "pin", item_id="mug", value=1, placement="for_you"),
        rule("b", "pin", item_id="pan", value=1, placement="for_you"),
        rule("c", "deny", brand="Acme", placement="for_you"),
        rule("d", "must_include", category="kitchen", value=2, placement="discover"),
        rule("e", "cap", per="category", value=1, placement="discover"),
        rule("f", "boost", item_id="lid", value=3),
        rule("g", "bury", item_id="lid", value=3),
    ]
    assert conflicts.found(told, GOODS, ["for_you", "discover"]) == {
        "a": ["c takes 1 of its 1 items off for_you."],
        "b": ["a has place 1."],
        "d": ["e lets no more than 1 stand."],
        "g": ["f moves some of its items first."],
    }
