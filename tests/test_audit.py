"""Why an item stands on a shelf or not: asked for in a file or drawn, judged by SQL, with its rank in a source."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pipelines import contracts, warehouse
from pipelines.audit import asked, verdicts
from pipelines.audit.asked import Pair
from pipelines.audit.proposals import proposals
from pipelines.audit.sample import chosen
from pipelines.errors import BadSetting
from pipelines.forget import forget
from pipelines.fuse.sources import Factors, Habit, Popularity, Sources
from pipelines.marts import Marts
from pipelines.open import open_run
from pipelines.run import Run
from pipelines.shelve import audit
from tests.conftest import LAST_DAY
from tests.lake import run_of

SHELVES = ("for_you", "discover")


def write(home: Path, *lines: str) -> Path:
    home.joinpath(asked.FILE).write_text("".join(f"{line}\n" for line in lines))
    return home


def test_pairs_are_read_as_they_are_meant(tmp_path: Path):
    """Space around ids says nothing, no placement means all, and what is asked twice is asked once."""
    assert asked.read(tmp_path, SHELVES) == []
    home = write(tmp_path, "user_id,item_id,placement", "anna, i1 ,discover", "anna,i1,", "anna,i1,")
    assert asked.read(home, SHELVES) == [Pair("anna", "i1", "discover"), Pair("anna", "i1", None)]
    assert asked.read(write(tmp_path, "item_id,user_id", "i1,anna"), SHELVES) == [Pair("anna", "i1", None)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["user,item_id", "anna,i1"], "line 1: 'user', 'user_id' is missing, or no column"),
        ([], "line 1: 'user_id', 'item_id' is missing"),
        (["user_id,item_id", "anna,"], "line 2: .* Each row needs user_id and item_id"),
        (["user_id,item_id", "anna,i1", "anna,i1,discover"], "line 3: more cells than columns"),
        (["user_id,item_id,placement", "anna,i1,basket"], "line 2, placement: 'basket' is none of for_you, discover"),
        (["user_id,item_id", '"anna,i1'], "no readable CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, lines: list[str], words: str):
    """A question that nobody can answer shall not look like one without an answer."""
    with pytest.raises(BadSetting, match=words):
        asked.read(write(tmp_path, *lines), SHELVES)


def test_a_night_does_not_begin_with_a_wrong_file(shop: Path):
    """The mistake is told before anything is done, not when lists are built."""
    write(shop, "user_id,item_id,placement", "anna,i1,basket")
    with pytest.raises(BadSetting, match="'basket' is none of for_you, discover, buy_again, new_for_you"):
        open_run(owner="cli:test", day=LAST_DAY, home=shop)


def test_a_file_that_has_become_wrong_keeps_no_list_back(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The night has begun, or a recalled item must go: the mistake is logged, and no pair is told of."""
    run = run_of(write(tmp_path, "user_id,item_id", "anna,i1"))
    assert audit.wanted(run) == [Pair("anna", "i1", None)]
    write(tmp_path, "user_id,item_id", "anna,")
    assert audit.wanted(run) == []
    assert "line 2" in caplog.text


def test_more_pairs_than_a_night_can_seek_are_refused(tmp_path: Path):
    """Every source ranks the whole catalogue for each of them."""
    home = write(tmp_path, "user_id,item_id", *(f"u{n},i1" for n in range(asked.MOST + 1)))
    with pytest.raises(BadSetting, match="has 1001 rows, 1000 at most"):
        asked.read(home, SHELVES)


def test_a_user_whom_the_file_names_is_not_forgotten_by_half(shop: Path):
    """The file would bring the name back; nothing is erased before it is out of there."""
    write(shop, "user_id,item_id", "anna,i1")
    with pytest.raises(BadSetting, match=r"audit\.csv names 1 of these users"):
        forget(["anna"], "asked for it", "bert", shop)


def shop_of(**tables: Iterable[dict[str, object]]) -> duckdb.DuckDBPyConnection:
    """The tables that verdicts read, with these rows; what a row lacks is empty."""
    connection = duckdb.connect()
    for name in (*verdicts.READS, "candidate_audit", "popular_items"):
        connection.execute(contracts.tables("serving")[name].ddl(name).replace(" not null", ""))
        for row in tables.get(name, ()):
            marks = ", ".join("?" * len(row))
            connection.execute(f"insert into {name} ({', '.join(row)}) values ({marks})", list(row.values()))
    connection.execute("create table users as select distinct user_id from user_history")
    return connection


def on(user: str, *items: str | tuple[str, str], placement: str = "for_you") -> list[dict[str, object]]:
    """Rows of a user by rank, each an item, or an item and what dropped it."""
    rows = [(one, None) if isinstance(one, str) else one for one in items]
    return [
        {"placement": placement, "user_id": user, "rank": n, "item_id": item, "score": 10.0 - n}
        | ({"dropped_by": cause} if cause else {})
        for n, (item, cause) in enumerate(rows, 1)
    ]


def world() -> duckdb.DuckDBPyConnection:
    """Anna's shelf is two long: a and d stand; b is a variant of a, each of the others fell to something else."""
    fates = [("b", "variant"), ("c", "no-c"), ("e", "two-e"), ("f", "not_available"), ("g", "diversity")]
    goods = [
        {"item_id": one, "is_available": one not in "fy", "parent_id": "p" if one in "ab" else None}
        for one in "abcdefghixyz"
    ]
    rules = [("no-c", "deny"), ("two-e", "cap"), ("first", "pin")]
    return shop_of(
        items=goods,
        rules=[{"rule_id": name, "action": action} for name, action in rules],
        user_candidates=on("anna", "a", *fates, "d", ("h", "length"), ("i", "length")),
        user_recommendations=[
            one | {"rule_id": rule} for one, rule in zip(on("anna", "a", "d"), (None, "first"), strict=True)
        ],
        user_history=[{"user_id": "anna", "item_id": "z", "is_bought": True, "weight": 1.0}],
    )


@pytest.mark.parametrize(
    ("item", "verdict", "facts"),
    [
        ("a", "shown", {"shelf_rank": 1, "candidate_rank": 1, "rule_id": None}),
        ("d", "shown", {"shelf_rank": 2, "candidate_rank": 7, "rule_id": "first"}),
        ("b", "variant", {"other_item_id": "a", "shelf_rank": 2}),
        ("c", "rule", {"rule_id": "no-c", "candidate_rank": 3}),
        ("e", "cap", {"rule_id": "two-e"}),
        ("f", "not_available", {"candidate_rank": 5}),
        ("g", "diversity", {"shelf_rank": 2}),
        ("h", "outranked", {"count_better": 2, "shelf_rank": 3, "score": 2.0, "last_score": 9.0}),
        ("i", "outranked", {"count_better": 3, "shelf_rank": 3}),
        ("y", "not_available", {"candidate_rank": None, "is_proposed": False}),
        ("x", "no_candidate", {"count_better": None}),
    ],
)
def test_each_fate_has_its_verdict(item: str, verdict: str, facts: dict[str, object]):
    """With the rule, the variant or the number of better ones that it names, and nothing that others have."""
    found = verdicts.of_one(world(), "for_you", "for_you", "anna", item, 100)
    assert found["verdict"] == verdict
    assert found | facts == found
    named = {"rule", "cap"} | ({"shown"} if item == "d" else set())
    assert [found["rule_id"] is None, found["other_item_id"] is None] == [verdict not in named, verdict != "variant"]


@pytest.mark.parametrize(("promise", "verdict"), [("discover", "already_bought"), ("for_you", "no_candidate")])
def test_what_was_bought_is_no_matter_of_candidates_where_that_is_promised(promise: str, verdict: str):
    """The promise comes first; what was never bought is none of `buy_again`."""
    assert verdicts.of_one(world(), promise, promise, "anna", "z", 100)["verdict"] == verdict
    assert verdicts.of_one(world(), "buy_again", "buy_again", "anna", "c", 100)["verdict"] == "never_bought"


def test_an_item_is_held_against_the_last_row_that_the_ranking_puts_before_it():
    """Chance put the fourth below the first; the second and third were passed over for it."""
    told = shop_of(
        items=[{"item_id": one, "is_available": True} for one in "abcd"],
        user_candidates=on("anna", "a", ("b", "length"), ("c", "length"), "d"),
        user_recommendations=[
            *on("anna", "a"),
            {"placement": "for_you", "user_id": "anna", "rank": 2, "item_id": "d", "score": 6.0, "propensity": 0.1},
        ],
    )
    found = verdicts.of_one(told, "for_you", "for_you", "anna", "b", 100)
    assert (found["verdict"], found["score"], found["last_score"]) == ("outranked", 8.0, 9.0)


def test_a_night_opened_again_after_another_question_is_done_again(shop: Path):
    """The record keeps a hash of what is asked, and no name."""
    before = open_run(owner="airflow:test", home=shop, day=dt.date(2026, 3, 1))
    (shop / "audit.csv").write_text("user_id,item_id\nanna,i1\n")
    asking = open_run(owner="airflow:test", home=shop, day=dt.date(2026, 3, 1))
    assert asking.fingerprint != before.fingerprint
    assert Run.load(asking.run_id, shop).fingerprint == asking.fingerprint
    assert "anna" not in (asking.folder / "run.json").read_text()


def test_a_release_does_not_guess_what_only_a_night_knows():
    """As many candidates as are kept leave open whether there were more, and so does a placement of the shop's own."""
    assert verdicts.of_one(world(), "for_you", "for_you", "anna", "x", 9)["verdict"] == verdicts.UNDECIDED
    assert verdicts.of_one(world(), "fresh", "discover", "anna", "x", 100)["verdict"] == verdicts.UNDECIDED


SOUGHT = """
    from (values ('for_you', 'anna', 'x', {told}))
    as sought (placement, user_id, item_id, is_asked_for, barred_by, is_proposed, best_source, best_rank)
"""


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ("true, null, true, 'als', 3", "outranked"),
        ("true, null, false, 'als', 300", "no_candidate"),
        ("true, 'no-c', false, 'als', 300", "rule"),
        ("false, 'no-c', false, null, null", "not_asked_for"),
    ],
)
def test_a_night_tells_what_it_found_out(told: str, verdict: str):
    """What bars an item whoever proposes it comes before that nobody did, what the placement is for before both; and
    a release says the same of the pair as the night that published it."""
    connection, sources = world(), {name: name for name in verdicts.READS}
    pair = "select 'for_you' as placement, 'for_you' as promise, 'anna' as user_id, 'x' as item_id"
    query = verdicts.query(pair, SOUGHT.format(told=told), sources)
    night = connection.execute(query, {"depth": 9}).df()
    assert night["verdict"].tolist() == [verdict]
    connection.execute(f"insert into candidate_audit by name {query}", {"depth": 9})
    known = night.astype(object).where(night.notna(), None).to_dict("records")[0]
    assert verdicts.of_one(connection, "for_you", "for_you", "anna", "x", 9) == known


USERS = ("anna", "bert", "cleo", "dora")


def drawn(pairs: Iterable[Pair] = (), **limits: int) -> pd.DataFrame:
    """A sample of four users who met p, q and r, most of all p, and to whom three of five items were dropped twice."""
    fates = [("a", "length"), ("b", "variant"), ("c", "length"), ("d", "length"), ("e", "variant"), "f"]
    connection = shop_of(
        items=[{"item_id": one} for one in "abcdefpqr"],
        user_history=[
            {"user_id": user, "item_id": item, "weight": 3.0 - n} for user in USERS for n, item in enumerate("pqr")
        ],
        user_candidates=[row for user in USERS for row in on(user, *fates)],
        popular_items=[{"segment_kind": "all", "rank": n, "item_id": item} for n, item in enumerate("pfr", 1)],
    )
    sources = {name: name for name in (*verdicts.READS, "popular_items", "users")}
    return chosen(connection, sources, SHELVES, list(pairs), {"seed": 17, "users": 2, "items": 1} | limits)


def test_a_sample_is_what_users_met_what_sells_and_the_best_of_each_cause():
    """Each item once, by the first of these that it is; candidates on the shelf that they are of."""
    found = drawn(items=2)
    rows = found[found["user_id"] == found["user_id"][0]]
    told = {name: dict(zip(one["item_id"], one["chosen_as"], strict=True)) for name, one in rows.groupby("placement")}
    both = {"p": "history", "q": "history", "f": "popular"}
    assert told == {"discover": both, "for_you": both | dict.fromkeys("abce", "dropped")}


def test_the_same_users_are_drawn_whoever_else_there_is():
    """More users hold those of fewer, another seed draws others, and none are drawn where none are wanted."""
    users = [set(drawn(users=count)["user_id"]) for count in range(5)]
    assert [len(one) for one in users] == [0, 1, 2, 3, 4]
    assert all(few < more for few, more in pairwise(users))
    assert len({tuple(sorted(set(drawn(seed=seed)["user_id"]))) for seed in range(9)}) > 1


def test_what_is_asked_for_is_told_of_whomever(caplog: pytest.LogCaptureFixture):
    """On its placement or on all; whom or what nobody knows is logged and has no row."""
    found = drawn(
        [Pair("dora", "a", None), Pair("bert", "p", "discover"), Pair("emma", "a", None), Pair("dora", "z", None)],
        users=0,
    )
    told = [("discover", "bert", "p"), ("discover", "dora", "a"), ("for_you", "dora", "a")]
    assert list(found.itertuples(index=False, name=None)) == [(*one, "asked") for one in told]
    assert "no user or no item of 2 pairs, such as dora and z, emma and a" in caplog.text


@dataclass
class Deaf:
    """A source that proposes what its scores do not say."""

    def propose(self, users: np.ndarray, n: int, exclude: sparse.csr_matrix, allowed: np.ndarray) -> np.ndarray:
        return np.tile([1, 2], (len(users), 1))

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return (items == 3).astype(np.float32)


def sources(**more: object) -> Sources:
    """Two users, of whom the first has bought 0; ALS prefers small items, the shop the large ones, from 3 on."""
    bought = sparse.csr_matrix(np.eye(2, 6)[[0]].repeat(2, axis=0) * [[1], [0]])
    vectors = np.array([[1.0], [0.0]]), np.arange(6.0, 0.0, -1)[:, None]
    by_name = {
        "als": Factors(*vectors, 1 << 20, 1),
        "habit": Habit(bought),
        "popularity": Popularity(np.array([0, 0, 0, 1, 2, 3])),
    }
    return Sources(by_name | more, bought, np.ones(6, dtype=bool), 2)


def test_the_source_that_ranks_an_item_best_is_told():
    """Among what the user has not bought; what was bought is a candidate without a rank."""
    found = proposals(sources(), np.zeros(6, dtype=int), np.arange(6), np.ones(6, dtype=bool))
    assert found.is_proposed.tolist() == [True, True, True, False, True, True]
    assert found.best_source.tolist() == [None, "als", "als", "als", "popularity", "popularity"]
    assert found.best_rank.tolist() == [0, 1, 2, 3, 2, 1]


def test_sources_rank_what_the_placement_asks_for():
    """Without the first of ALS, the third is proposed; what may not stand there has no rank."""
    found = proposals(sources(), np.zeros(2, dtype=int), np.array([1, 3]), np.arange(6) != 1)
    assert (found.is_proposed.tolist(), found.best_rank.tolist()) == ([False, True], [0, 2])


def test_a_source_without_a_word_for_an_item_is_not_the_best():
    """Nobody buys it, and ALS knows nothing of it: a rank among equals would say nothing."""
    deaf = sources(als=Popularity(np.zeros(6)))
    found = proposals(deaf, np.zeros(2, dtype=int), np.array([2, 3]), np.ones(6, dtype=bool))
    assert (found.best_source.tolist(), found.best_rank.tolist()) == ([None, "popularity"], [0, 3])


def test_nobody_proposes_to_users_of_whom_nothing_is_known():
    """Popularity is not asked either: others fill such shelves."""
    found = proposals(sources(), np.ones(1, dtype=int), np.array([5]), np.ones(6, dtype=bool))
    assert (found.is_proposed.tolist(), found.best_source.tolist()) == ([False], [None])


def test_what_was_not_proposed_has_no_rank_among_what_was():
    """Where rounding puts an item on another place than the source did, its word counts: behind what it proposes."""
    found = proposals(sources(deaf=Deaf()), np.zeros(1, dtype=int), np.array([3]), np.ones(6, dtype=bool))
    assert (found.is_proposed.tolist(), found.best_rank.tolist()) == ([False], [3])


@pytest.mark.slow
def test_a_night_publishes_what_the_verb_says(night: Run):
    """Of every pair that the night tells of, the release says the same; what was kept was proposed."""
    with warehouse.connect(night.home) as release:
        rows = release.execute("select * exclude (chosen_as, run_id) from candidate_audit order by all").df()
        users = release.execute("select distinct user_id from user_recommendations").df()["user_id"]
        for row in rows.astype(object).where(rows.notna(), None).to_dict("records")[::200]:
            place = row["placement"], night.settings.shelves[row["placement"]], row["user_id"], row["item_id"]
            assert verdicts.of_one(release, *place, night.settings.fuse.depth) == row
    assert rows["user_id"].nunique() == min(night.settings.audit.users, len(users))
    found = {"shown", "already_bought", "never_bought", "not_asked_for", "no_candidate", "outranked"}
    assert found <= set(rows["verdict"])
    assert rows.loc[rows["candidate_rank"].notna(), "is_proposed"].all()


@pytest.mark.slow
def test_a_source_proposes_what_it_ranks_high_enough(night: Run):
    """Of the whole catalogue, for some users: the ranks that are told are those by which the night proposed, but for
    what rounding puts behind the last one."""
    marts = Marts(night)
    real = Sources.load(night, marts, "final")
    some, count = real.known_users[::100], len(marts.items)
    users, items = np.repeat(some, count), np.tile(np.arange(count), len(some))
    found = proposals(real, users, items, np.ones(count, dtype=bool))
    ranked = found.best_rank > 0
    assert (found.is_proposed == (found.best_rank <= night.settings.fuse.candidates))[ranked].mean() > 0.99
    assert (found.is_proposed[ranked].any(), (~found.is_proposed[ranked]).any()) == (True, True)
