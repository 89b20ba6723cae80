"""A whole night on a shop whose truth is known: complete, repeatable, honest, and safe when it fails."""

import html
import json
import os
import shutil
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipelines import contracts, warehouse, why
from pipelines import night as whole_night
from pipelines.errors import GateFailed
from pipelines.fuse.sources import Sources
from pipelines.marts import Marts
from pipelines.open import open_run
from pipelines.run import Run, release_lease
from pipelines.shelve import blocks, effects
from pipelines.shelve.building import Builder
from pipelines.warehouse import tables
from tests.conftest import LAST_DAY, SMALL, deliver, event

pytestmark = pytest.mark.slow


def rows(run: Run, query: str) -> pd.DataFrame:
    with warehouse.connect(run.home) as release:
        return release.execute(query).df()


def finish_as(done: Run, run: Run, stages: Iterable[str]) -> None:
    """Let `run` have finished the stages as `done` did."""
    for stage in stages:
        shutil.copytree(done.folder / stage, run.folder / stage, copy_function=os.link)
        record = run.folder / stage / "stage.json"
        told = json.loads(record.read_text()) | {"fingerprint": run.fingerprint}
        record.unlink()
        record.write_text(json.dumps(told))


def test_every_table_of_the_contract_is_published(night: Run):
    """Names, columns and their order are those of the contract, and no table that must be filled is empty."""
    with warehouse.connect(night.home) as release:
        for name, table in contracts.tables("serving").items():
            assert [row[0] for row in release.execute(f"describe {name}").fetchall()] == table.names
            if not table.may_be_empty:
                assert release.execute(f"select count(*) > 0 from {name}").fetchone() == (True,), name


def test_what_was_planted_is_rejected(night: Run):
    """The books name each kind of planted dirt with exactly its number of rows."""
    planted = json.loads((night.home / "truth" / "dirt.json").read_text())
    counts = rows(
        night, "select rule, sum(count_rows)::int as n from rejected_rows where table_name = 'events' group by rule"
    )
    told = dict(zip(counts["rule"], counts["n"], strict=True))
    rules = {
        "duplicate_rows": "duplicate",
        "cut_line": "unparsable_row",
        "unknown_event_type": "unknown_event_type",
        "missing_item": "missing_item_id",
        "negative_price": "price_cents_out_of_range",
        "unparsable_time": "unreadable_occurred_at",
        "future_time": "time_in_future",
        "unknown_item": "unknown_item",
        "zero_quantity": "quantity_out_of_range",
    }
    assert told == {rule: planted[kind] for kind, rule in rules.items()}


def test_the_planted_bots_are_flagged(night: Run):
    """They and nobody else."""
    users = pd.read_parquet(night.home / "truth" / "users.parquet")
    flagged = rows(night, "select distinct visitor_id from bot_flags where is_user")
    assert set(flagged["visitor_id"]) == set(users.loc[users["is_bot"], "user_id"])
    assert rows(night, "select count(*) as n from bot_flags where not is_user")["n"][0] == 0


def test_every_known_user_has_full_shelves_of_available_items(night: Run):
    """Users without any history too; nobody sees an item twice on one shelf, or one that cannot be bought."""
    shelves = rows(
        night,
        "select placement, user_id, count(*) as n, count(distinct item_id) as items, max(rank) as last,"
        " bool_and(is_available) as available from user_recommendations join items using (item_id) group by all",
    )
    assert (shelves["n"] == shelves["items"]).all()
    assert (shelves["n"] == shelves["last"]).all()
    assert shelves["available"].all()
    users = Marts(night).users
    for placement in ("for_you", "discover"):
        full = shelves[(shelves["placement"] == placement) & (shelves["n"] == SMALL["shelve.length"])]
        assert set(full["user_id"]) == set(users.ids)


def test_placements_keep_their_promise(night: Run):
    """`discover` shows nothing that the user bought, `buy_again` nothing else."""
    marts = Marts(night)
    bought = marts.bought(LAST_DAY)
    shelves = rows(night, "select placement, user_id, item_id from user_recommendations where placement <> 'for_you'")
    owned = bought[marts.users.positions(shelves["user_id"]), marts.items.positions(shelves["item_id"])].A1 > 0
    assert not owned[shelves["placement"] == "discover"].any()
    assert owned[shelves["placement"] == "buy_again"].all()
    fresh = shelves["placement"] == "new_for_you"
    ages = marts.ages_days(LAST_DAY)[marts.items.positions(shelves.loc[fresh, "item_id"])]
    assert (fresh.any(), (ages < 14).all(), owned[fresh].any()) == (True, True, False)


def test_the_parts_sum_to_the_score(night: Run):
    """Each row's source parts sum to its score, and scores fall with the rank of the candidates."""
    shelves = rows(night, "select * from user_recommendations where fallback is null")
    parts = shelves[[name for name in shelves if name.endswith("_score")]].sum(axis=1)
    assert (abs(parts - shelves["score"]) < 1e-9).all()
    falling = rows(
        night,
        "select count(*) as n from (select score, lag(score) over (partition by placement, user_id order by rank)"
        " as before from user_candidates) where score > before",
    )
    assert falling["n"][0] == 0


def test_candidates_next_below_a_shelf_tell_their_parts(night: Run):
    """All among which the list builder chooses, of those that can be bought; the parts sum to the score."""
    candidates = rows(night, "select * from user_candidates join items using (item_id) where is_available")
    told = candidates[candidates["als_score"].notna()]
    owners = ["placement", "user_id"]
    expected = candidates.groupby(owners).size().clip(upper=2 * SMALL["shelve.length"])
    assert told.groupby(owners).size().to_dict() == expected.to_dict()
    parts = told[[name for name in told if name.endswith("_score")]].sum(axis=1)
    assert (abs(parts - told["score"]) < 1e-9).all()


def test_the_evidence_is_the_users_own(night: Run):
    """An evidence item stands in the user's history; every personal reason has one."""
    marts = Marts(night)
    shelves = rows(night, "select user_id, reason, evidence_item_id from user_recommendations")
    told = shelves[shelves["evidence_item_id"].notna()]
    users, items = marts.users.positions(told["user_id"]), marts.items.positions(told["evidence_item_id"])
    history = marts.frame("select distinct user_id, item_id from interactions")
    known = set(zip(marts.users.positions(history["user_id"]), marts.items.positions(history["item_id"]), strict=True))
    assert all(pair in known for pair in zip(users, items, strict=True))
    assert set(shelves.loc[shelves["evidence_item_id"].isna(), "reason"]) <= {"popular_here", "matches_your_search"}


def test_the_evidence_query_is_the_users_own(night: Run):
    """Of the one reason that has it, and typed by the user within the days that count."""
    told = rows(night, "select user_id, reason, evidence_query as query from user_recommendations")
    assert (told["query"].notna() == (told["reason"] == "matches_your_search")).all()
    days = night.settings.fuse.query_days
    typed = Marts(night).frame(
        f"select user_id, query from user_queries where event_date > ?::date - {days}", night.day
    )
    own = set(typed.itertuples(index=False, name=None))
    assert set(told.dropna()[["user_id", "query"]].itertuples(index=False, name=None)) <= own


def test_tonight_beats_popularity_on_held_out_days(night: Run):
    """By NDCG@10: anything, beyond both intervals; new items, whose buyers are few in so small a shop, on average."""
    figures = rows(night, "select metric, value, low, high from metrics").set_index("metric")
    ours, theirs = (figures.loc[f"for_you/{source}/ndcg_at_10"] for source in ("fused", "popularity"))
    assert ours["low"] > theirs["high"]
    ours, theirs = (figures.loc[f"discover/{source}/ndcg_at_10"] for source in ("fused", "popularity"))
    assert ours["value"] > theirs["value"]


def test_search_answers_misspelt_and_clean_queries(night: Run):
    """Every query that was typed has results, and the fusion is no worse than words alone."""
    asked = set(Marts(night).queries()["query"])
    answered = set(rows(night, "select distinct query from search_results")["query"])
    assert len(asked) > 20
    assert len(answered & asked) / len(asked) > 0.95
    figures = rows(night, "select metric, value from metrics").set_index("metric")["value"]
    assert figures["search/fused/ndcg_at_10"] >= figures["search/lexical/ndcg_at_10"]


def test_items_without_an_event_are_recommended_to_somebody(night: Run):
    """A catalogue row alone is enough to be a candidate: the profile lends the factors that ALS lacks."""
    marts = Marts(night)
    cold = set(marts.items.ids[marts.interactions(LAST_DAY).getnnz(axis=0) == 0])
    candidates = pd.read_parquet(night.of("fuse", "candidates.parquet"))
    proposed = set(marts.items.ids[candidates["item"].unique()])
    available = set(rows(night, "select item_id from items where is_available")["item_id"])
    assert cold & available
    assert cold & proposed


def test_running_a_finished_night_again_changes_nothing(night: Run):
    """No stage is done again, no release is written, and no file changes."""
    before = {path: path.stat().st_mtime_ns for path in night.folder.rglob("*") if path.is_file()}
    moves = len(warehouse.history(night.home))
    again = whole_night.run(day=LAST_DAY, overrides=SMALL, home=night.home)
    assert again == night
    assert {path: path.stat().st_mtime_ns for path in night.folder.rglob("*") if path.is_file()} == before
    assert len(warehouse.history(night.home)) == moves


def test_a_failed_gate_leaves_the_release_and_writes_the_report(night: Run):
    """A night that is worse than its gate raises, names the gate, and the page says why."""
    before = warehouse.current(night.home)
    strict = {"day": LAST_DAY, "label": "strict", "overrides": SMALL | {"gates.min_against_popularity": 1000}}
    opened = open_run(owner="test", home=night.home, **strict)
    finish_as(night, opened, whole_night.STAGES[: whole_night.STAGES.index("validate")])
    release_lease(night.home, opened.run_id, "test")
    with pytest.raises(GateFailed, match=r"for_you_against_popularity: .*, expected at least 1000"):
        whole_night.run(**strict, home=night.home)
    assert warehouse.current(night.home) == before
    page = (night.home / "runs" / f"{LAST_DAY}.strict" / "report" / "report.html").read_text()
    assert "Not published" in page
    assert "for_you_against_popularity" in page
    assert not (night.home / "runs" / f"{LAST_DAY}.strict" / "publish").exists()
    assert not list((night.home / "runs").glob("*.lease"))


def test_shelves_are_the_same_in_small_blocks_of_users(night: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lists, reasons, fates of candidates and counts of causes do not depend on who is served together."""
    monkeypatch.setattr(blocks, "BLOCK", 100)
    told = Builder.load(night).write(tmp_path)
    for name in ("user_recommendations", "user_candidates", "short_shelves"):
        ours, theirs = (f"(select * from '{folder / name}.parquet')" for folder in (tmp_path, night.of("shelve")))
        for one, other in ((ours, theirs), (theirs, ours)):
            assert not len(duckdb.sql(f"from {one} except all from {other}")), name
    counted = pd.read_parquet(night.of("shelve", "rule_effects.parquet"))
    lists = counted[counted["placement"].isin(night.settings.shelves)]
    assert told.rows == list(lists[effects.EFFECTS[:-1]].itertuples(index=False, name=None))


def test_declared_and_executed_checks_are_the_same(night: Run):
    """Each column constraint of the contract has its row in quality_checks."""
    checks = rows(night, "select table_name, check_name, is_ok from quality_checks")
    assert checks["is_ok"].all()
    for name in ("user_recommendations", "search_results", "items"):
        table = contracts.tables("serving")[name]
        executed = set(checks.loc[checks["table_name"] == name, "check_name"])
        for column in table.columns:
            if column.is_required:
                assert f"expect_column_values_to_not_be_null({column.name})" in executed


def test_the_report_is_self_contained(night: Run):
    """The page loads nothing from elsewhere and forbids itself to."""
    page = html.unescape(night.of("report", "report.html").read_text())
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_show_demo_prints_sql_and_rows(night: Run, capsys: pytest.CaptureFixture):
    """The tour shows a shelf with reasons, a search, the figures, the rejected rows and where the release lies."""
    from rich.console import Console

    from pipelines import show

    show.demo(Console(width=200), night.home)
    told = capsys.readouterr().out
    for words in ("from user_recommendations", "from search_results", "from rejected_rows", "fused", "current.duckdb"):
        assert words in told


def test_models_share_one_dictionary(night: Run):
    """The vectors of every model have a row per item and user of the marts."""
    marts = Marts(night)
    for part in marts.cuts:
        sources = Sources.load(night, marts, part).by_name
        for name in ("als", "profile"):
            assert (len(sources[name].users), len(sources[name].items)) == (len(marts.users), len(marts.items))


def test_duckdb_keeps_to_its_bound_and_leaves_nothing(night: Run):
    """What does not fit lies in the run's folder for as long as the connection is open."""
    told = f"{night.settings.machine.database_mb / 1024:.1f} GiB"
    with tables._reader(night) as connection:
        bound, spilled = connection.execute(
            "select current_setting('memory_limit'), current_setting('temp_directory')"
        ).fetchall()[0]
        assert (bound, Path(spilled).parent) == (told, night.folder)
    assert not Path(spilled).exists()
    assert Marts(night).connection.execute("select current_setting('memory_limit')").fetchall() == [(told,)]


def test_before_the_held_out_days_only_those_are_read_who_teach_and_judge(night: Run):
    """Of all others the networks' vectors are zeros there; of the night itself, everybody's with a history is read."""
    marts = Marts(night)
    for part, after in pairwise([*marts.cuts, None]):
        until, names = marts.cuts[part], ("user_vectors.npy", "sequence_users.npy")
        known = np.diff(marts.interactions(until).indptr) > 0
        users = marts.window(until, marts.cuts[after])[0] if after else np.flatnonzero(known)
        for vectors in (np.load(night.of("train_profile", part, name)) for name in names):
            assert np.flatnonzero(vectors.any(axis=1)).tolist() == [user for user in users if known[user]], part
        assert not after or len(users) < np.count_nonzero(known)


def test_a_catalogue_with_queries_and_no_users_publishes_search(shop: Path):
    """Nobody bought anything and nobody is known: shelves are empty, queries are answered, the night publishes."""
    searches = [
        event(n, event_type="search", item_id=None, user_id=None, query=q) for n, q in enumerate(("Item 3", "mug"))
    ]
    deliver(shop, "events", "2026-03-01", searches)
    run = whole_night.run(day=LAST_DAY, overrides=SMALL | {"gates.min_queries_answered": 0.5}, home=shop)
    assert rows(run, "select count(*) as n from user_recommendations")["n"][0] == 0
    assert rows(run, "select item_id from search_results where query = 'item 3' and rank = 1")["item_id"][0] == "i3"


def test_why_and_why_not_agree_with_the_tables(night: Run):
    """Candidates and history are those that the shelves were made of; what stands has a story, the rest a stage."""
    shelves = rows(night, "select * from user_recommendations where fallback is null")
    told = rows(night, "select placement, user_id, item_id, score from user_candidates where dropped_by is null")
    both = shelves.merge(told, on=["placement", "user_id", "item_id"], suffixes=("", "_candidate"))
    assert len(both) == len(shelves) == len(told)
    assert both["score"].tolist() == both["score_candidate"].tolist()
    marts = Marts(night)
    history = rows(night, "select user_id, item_id from user_history where is_bought order by all")
    assert list(history.itertuples(index=False, name=None)) == sorted(
        (marts.users.ids[user], marts.items.ids[item])
        for user, item in zip(*marts.bought(night.day).nonzero(), strict=True)
    )
    shown, stages = rows(night, "select placement, user_id, item_id from user_recommendations"), set()
    with warehouse.connect(night.home) as release:
        for (placement, user_id), shelf in list(shown.groupby(["placement", "user_id"])["item_id"])[::90]:
            for item_id in marts.items.ids[::10]:
                asked = why.Asked(user_id, item_id, placement)
                found, stands = why.verdict(release, asked), item_id in set(shelf)
                assert (found.stage == "", bool(why.story(release, asked))) == (stands, stands), (asked, found)
                stages.add(found.stage)
    assert stages == {"", "placement", "fuse", "shelve"}
