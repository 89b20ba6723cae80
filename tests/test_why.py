"""Why an item stands on a shelf, and which stage kept it off, told by a release that was written by hand."""

import json
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from pipelines import contracts, why
from pipelines.errors import BadSetting, NothingPublished
from pipelines.marts import Marts
from pipelines.why import Asked
from tests.lake import built, lay

HOSTILE = "[red]<b>Mug</b>[/] \x1b[31m"
TITLES = {f"i{n}": f"Item {n}" for n in range(1, 12)} | {"i2": HOSTILE}
PARTS = {name: 0.0 for name in contracts.tables("serving")["user_recommendations"].names if name.endswith("_score")}
RUN = {
    "run_id": "2026-03-01.nightly",
    "run_date": "2026-03-01",
    "label": "nightly",
    "opened_at": "2026-03-02",
    "code_version": "test",
    "models_of": "2026-03-01.nightly",
    "proof_of": "2026-03-01.nightly",
    "proved_on": "2026-03-01",
    "settings": json.dumps(
        {
            "fuse": {"candidates": 60, "depth": 5, "query_days": 30},
            "placements": {"fresh": {"ranking": "discover", "new_days": 14}},
        }
    ),
    "packages": "{}",
    "fusion": "lambdarank",
    "fusion_discover": "rrf",
    "fusion_buy_again": "lambdarank",
}


def met(item: str, user: str = "anna", **changes: object) -> dict[str, object]:
    """Something that a user looked at once."""
    row = {"user_id": user, "item_id": item, "first_event_date": "2026-02-01", "last_event_date": "2026-02-01"}
    row |= {"count_views": 1, "count_carts": 0, "count_purchases": 0, "weight": 0.5, "is_bought": False}
    return row | {"run_id": RUN["run_id"]} | changes


def bought(item: str) -> dict[str, object]:
    dates = {"last_event_date": "2026-02-20", "last_purchase_date": "2026-02-20"}
    return met(item, count_purchases=2, is_bought=True, **dates)


def candidates(placement: str, *items: str, user: str = "anna") -> list[dict[str, object]]:
    """Candidates in this order, scores from 10 down; the parts of i4 are told."""
    facts = {"placement": placement, "user_id": user, "run_id": RUN["run_id"]}
    causes = {
        "i3": "not_available",
        "i7": "not_available",
        "i4": "length",
        "i6": "length",
        "i8": "variant",
        "i9": "no-nine",
    }
    causes |= {"i10": "diversity"}
    parts = {"i4": PARTS | {"habit_score": 5.0, "als_score": 2.0}}
    told = [facts | {"rank": n, "item_id": i, "score": 11.0 - n} | parts.get(i, {}) for n, i in enumerate(items, 1)]
    return [one | {"dropped_by": causes.get(str(one["item_id"]))} for one in told]


def stands(placement: str, rank: int, item: str, score: float, user: str = "anna", **changes: object) -> dict:
    row = {"placement": placement, "user_id": user, "rank": rank, "item_id": item, "score": score, **PARTS}
    row |= {"reason": "goes_with", "propensity": 1.0, "trained_on": "2026-03-01", "run_id": RUN["run_id"]}
    return row | changes


def audited(placement: str, item: str, verdict: str, **changes: object) -> dict[str, object]:
    """What a night found out of an item that no candidate tells of."""
    row = {"placement": placement, "user_id": "anna", "item_id": item, "verdict": verdict, "chosen_as": "asked"}
    return row | {"is_proposed": False, "run_id": RUN["run_id"]} | changes


TABLES: dict[str, list[dict[str, object]]] = {
    "items": [
        {"item_id": item, "title": title, "is_available": item not in ("i3", "i7"), "run_id": RUN["run_id"]}
        | {"parent_id": "p1" if item in ("i4", "i8") else None}
        for item, title in TITLES.items()
    ],
    "runs": [RUN],
    "rules": [
        {"rule_id": "no-nine", "action": "deny", "item_id": "i9", "priority": 0, "owner": "ann", "reason": "recalled"}
        | {"count_items": 1, "has_acted": True, "run_id": RUN["run_id"]},
        {
            "rule_id": "spring",
            "action": "pin",
            "item_id": "i5",
            "value": 3,
            "priority": 0,
            "owner": "bo",
            "reason": "sale",
        }
        | {"count_items": 1, "has_acted": True, "run_id": RUN["run_id"]},
    ],
    "user_history": [bought("i1"), bought("i6"), met("i2"), met("i5", user="bert")],
    "user_candidates": [
        *candidates("for_you", "i3", "i2", "i1", "i4", "i7"),
        *candidates("discover", "i2", "i8", "i9", "i10"),
        *candidates("buy_again", "i1", "i6"),
    ],
    "candidate_audit": [
        audited("discover", "i11", "no_candidate", best_source="als", best_rank=90),
        audited("for_you", "i11", "outranked", is_proposed=True, best_source="neighbours", best_rank=12),
        audited("for_you", "i9", "rule", rule_id="no-nine"),
        audited("fresh", "i4", "not_asked_for"),
    ],
    "user_recommendations": [
        stands("for_you", 1, "i2", 9.0, neighbours_score=9.5, taste_score=-0.5, evidence_item_id="i1"),
        stands("for_you", 2, "i1", 8.0, habit_score=8.0, reason="bought_again", evidence_item_id="i1"),
        stands("for_you", 3, "i5", -3.0, reason="picked_by_shop", fallback="rules", rule_id="spring"),
        stands("buy_again", 1, "i1", 10.0),
        stands("discover", 1, "i2", 10.0, reason="matches_your_search", evidence_query="[b]mug[/b]"),
        stands("discover", 2, "i4", -2.0, reason="popular_here", fallback="shop_popularity"),
        stands("discover", 3, "i5", -3.0, reason="picked_by_shop", fallback="rules", rule_id="spring"),
        stands("discover", 4, "i6", 5.0, propensity=0.25),
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing but a release."""
    home = tmp_path_factory.mktemp("shop")
    release(home, TABLES)
    return home


def release(home: Path, tables: dict[str, list[dict[str, object]]]) -> None:
    (home / "warehouse").mkdir()
    with duckdb.connect(str(home / "warehouse" / "current.duckdb")) as connection:
        for name, rows in tables.items():
            connection.execute(contracts.tables("serving")[name].ddl())
            insert(connection, name, rows)


def insert(connection: duckdb.DuckDBPyConnection, name: str, rows: Iterable[dict[str, object]]) -> None:
    for row in rows:
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"insert into {name} ({columns}) values ({marks})", list(row.values()))


def verdict(home: Path, *asked: str) -> tuple[str, str]:
    with duckdb.connect(str(home / "warehouse" / "current.duckdb"), read_only=True) as connection:
        found = why.verdict(connection, Asked(*asked))
    return found.stage, found.told


def told(perform, home: Path, *asked: str) -> str:
    out = StringIO()
    perform(Console(file=out, width=40), home, Asked(*asked))
    return out.getvalue()


@pytest.mark.parametrize(
    ("asked", "stage", "words"),
    [
        (("ana", "i1"), "clean", "No true row names the user ana. The nearest: anna, bert."),
        (("anna", "i99"), "clean", "The catalogue has no item i99. The nearest: i9, i1, i10."),
        (("anna", "i2"), "", "at rank 1."),
        (("anna", "i1", "discover"), "placement", "viewed 1×, bought 2×, from 2026-02-01 to 2026-02-20, last bought"),
        (("anna", "i2", "buy_again"), "placement", "This item: viewed 1×, on 2026-02-01."),
        (("anna", "i5", "buy_again"), "placement", "This item: never met it."),
        (("anna", "i1", "fresh"), "placement", "fresh shows what the user never bought. This item: viewed 1×"),
        (("anna", "i5", "fresh"), "fuse", 'It is not what `placements.fresh` asks for, or no candidate: {"ranking":'),
        (("anna", "i4", "fresh"), "placement", 'fresh shows what the settings ask for: {"ranking": "discover"'),
        (("anna", "i3", "discover"), "shelve", "cannot be bought. It is none of the candidates that the ranking kept."),
        (("anna", "i11", "discover"), "fuse", "No source proposed it: als ranks it best, at 90, and each proposes 60"),
        (("anna", "i11", "buy_again"), "placement", "This item: never met it."),
        (("anna", "i8", "discover"), "shelve", "another one of its parent stands there: Item 4 (i4) at rank 2."),
        (("anna", "i9", "discover"), "shelve", "Rule no-nine (deny, ann: recalled). Among the candidates"),
        (("anna", "i10", "discover"), "shelve", "diversity: it is too like what stands above it."),
        (("bert", "i1"), "fuse", "No source proposed it: the user has 0 candidates"),
        (("anna", "i6"), "fuse", "not among the best 5 of the user, the last of which has score 6.0000: no source"),
        (("anna", "i11"), "fuse", "it is a candidate (neighbours ranks it 12), and scored less"),
        (("anna", "i9"), "shelve", "Rule no-nine (deny, ann: recalled). It is none of the candidates"),
        (("anna", "i3"), "shelve", "not_available: it cannot be bought. Among the candidates it has rank 1"),
        (("anna", "i7"), "shelve", "it would stand at rank 3."),
        (("anna", "i4"), "shelve", "and the shelf has 3; 2 better ones stand or wait. Its score 7.0000 is"),
        (("anna", "i4"), "shelve", "It lacks most in habit: +5.0000 here, +8.0000 there."),
        (("anna", "i6", "buy_again"), "shelve", "It lies too deep for its parts"),
    ],
)  # fmt: skip
def test_the_first_stage_that_dropped_an_item_is_named(home: Path, asked: tuple, stage: str, words: str):
    """Each stage that can drop an item says so, with its figures; what lies behind it is not asked."""
    found, text = verdict(home, *asked)
    assert (found, words in text) == (stage, True), text


def test_the_story_of_a_row(home: Path):
    """Parts by size with their sign, the evidence and what the user did with it, and who stood before it."""
    lines = [line.removeprefix(" " * 17) for line in told(why.why, home, "anna", "i1").splitlines()]
    assert lines[:4] == [
        "item             Item 1 (i1)",
        "shelf            for_you of anna, rank 2, score 8.0000",
        "parts            +8.0000 habit",
        "+0.0000 als",
    ]
    assert "evidence         Item 1 (i1)" in lines
    assert "The user: viewed 1×, bought 2×, from 2026-02-01 to 2026-02-20, last bought on 2026-02-20." in lines
    assert lines[-5:-1] == [
        "candidate        rank 3 of 5 that the ranking kept",
        "1 better were dropped: Item 3 (i3), not_available",
        "ranked by        lambdarank",
        "made by          2026-03-01.nightly, which saw the days up to 2026-03-01",
    ]


def test_each_placement_names_what_ranks_it(home: Path):
    """They are chosen apart."""
    for placement, ranking in (("for_you", "lambdarank"), ("discover", "rrf"), ("buy_again", "lambdarank")):
        item = "i2" if placement == "discover" else "i1"
        assert f"ranked by        {ranking}" in told(why.why, home, "anna", item, placement).splitlines()


def test_what_speaks_against_an_item_comes_last(home: Path):
    """The parts of a score stand from the loudest to the one that speaks against the item."""
    parts = [line[17:] for line in told(why.why, home, "anna", "i2").splitlines()]
    assert (parts.index("+9.5000 neighbours"), parts.index("-0.5000 taste")) == (2, 8)


def test_a_query_is_shown_as_it_was_typed(home: Path):
    """With the days for which it speaks; words in brackets are no markup."""
    lines = told(why.why, home, "anna", "i2", "discover").splitlines()
    assert "evidence         The user typed “[b]mug[/b]” in the last 30 days." in lines


def test_a_row_that_filled_the_shelf_says_so(home: Path):
    """It was no candidate."""
    assert "none: shop_popularity filled what" in told(why.why, home, "anna", "i4", "discover")


def test_a_row_that_was_drawn_says_how_likely_it_was(home: Path):
    """And no other row speaks of chance."""
    assert "with a probability of 0.2500" in " ".join(told(why.why, home, "anna", "i6", "discover").split())
    assert "drawn" not in told(why.why, home, "anna", "i2", "discover")


def test_a_row_that_a_rule_put_there_names_the_rule(home: Path):
    """With its owner and reason; it was no candidate, and nobody says that it was."""
    lines = told(why.why, home, "anna", "i5", "discover")
    assert "rule             spring (pin, bo: sale)" in lines
    assert "candidate" not in lines


def test_who_asks_why_of_what_does_not_stand_there_is_led_on(home: Path):
    """The other verb knows."""
    assert "i3 does not stand on the shelf for_you of anna." in told(why.why, home, "anna", "i3")
    assert "why-not" in told(why.why, home, "anna", "i3")


def test_who_asks_why_of_nobody_is_offered_the_nearest(home: Path):
    """A user that no row names, and an item that the catalogue has not."""
    assert "No true row names the user ana. The nearest: anna" in told(why.why, home, "ana", "i3")
    assert "The catalogue has no item j3. The nearest: i3" in told(why.why, home, "anna", "j3")


@pytest.mark.parametrize("perform", [why.why, why.why_not])
def test_titles_and_ids_are_no_markup(home: Path, perform):
    """Brackets and tags come out as they are, and what acts on a terminal by its name."""
    out = told(perform, home, "anna", "i2") + told(perform, home, "[red]x[/]", "i2")
    assert "[red]x[/]" in out
    assert "\x1b" not in out
    assert ("[red]<b>Mug</b>[/] \\x1b[31m (i2)" in out) == (perform is why.why)


def test_an_older_release_is_told_apart(tmp_path: Path):
    """A release without the tables names them, and what to do."""
    release(tmp_path, {name: rows for name, rows in TABLES.items() if name != "user_candidates"})
    with pytest.raises(NothingPublished, match="no user_candidates: an earlier version made it"):
        told(why.why, tmp_path, "anna", "i1")


@pytest.mark.slow
def test_what_the_night_knew_of_a_user_and_an_item(tmp_path: Path):
    """Acts are counted as of the run's day, their weights halve with age, and what was bought is told with its day."""
    lay(tmp_path, "items", "2026-02-01", [{"item_id": f"i{n}", "title": f"Item {n}"} for n in (1, 2)])
    acts = [("view", "i1", "2026-02-01"), ("purchase", "i1", "2026-02-01"), ("view", "i1", "2026-03-01")]
    acts.append(("view", "i2", "2026-02-27"))
    lay(
        tmp_path,
        "events",
        "2026-03-01",
        [
            {
                "event_id": f"e{n}",
                "user_id": "anna",
                "event_type": verb,
                "item_id": item,
                "quantity": 1,
                "order_id": f"o{n}" if verb == "purchase" else None,
                "occurred_at": f"{day} 10:00:00",
            }
            for n, (verb, item, day) in enumerate(acts)
        ],
    )
    weights = {"weights.half_life_days": 14, "weights.view": 1, "weights.purchase": 7}
    run = built(tmp_path, **weights)
    query = """
        select item_id, first_event_date::varchar, last_event_date::varchar, last_purchase_date::varchar, count_views,
               count_purchases, weight, is_bought
        from user_history
    """
    with duckdb.connect(str(run.of("build", "marts.duckdb")), read_only=True) as marts:
        found = marts.execute(query).fetchall()
    weights = Marts(run).interactions(run.day).toarray()
    assert found == [
        ("i1", "2026-02-01", "2026-03-01", "2026-02-01", 2, 1, pytest.approx(weights[0, 0]), True),
        ("i2", "2026-02-27", "2026-02-27", None, 1, 0, pytest.approx(weights[0, 1]), False),
    ]
    assert weights[0, 0] == pytest.approx(3.0)


def test_nothing_published_and_no_such_placement(tmp_path: Path, home: Path):
    """Both say what to do."""
    with pytest.raises(NothingPublished, match="nightshelf night"):
        told(why.why_not, tmp_path, "anna", "i1")
    with pytest.raises(BadSetting, match="Take one of: for_you, discover, buy_again"):
        told(why.why_not, home, "anna", "i1", "basket")
