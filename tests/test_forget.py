"""A forgotten user is nowhere any more, what is left fits together, and nobody else has lost anything."""

import datetime as dt
import gzip
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest.mock import Mock

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import clean, forgotten, offsite, quarantine, settings, warehouse
from pipelines.errors import BadInput, BadSetting, NoStore, NotAsJudged, RunBusy
from pipelines.forget import delivered, forget
from pipelines.fuse.sources import Sources
from pipelines.marts import Marts
from pipelines.open import open_run
from pipelines.run import FORGETTING, Run, release_lease, take_lease
from pipelines.warehouse.postgres import Postgres
from tests.conftest import deliver, event, linked
from tests.test_postgres import asked, publish
from tests.test_postgres import run as run

DAY = "2026-03-01"
PLAIN = settings.Settings()


def mentions(path: Path, user: str) -> bool:
    """Whether a file holds the id, packed or not, in any column."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    if user.encode() in content:
        return True
    if content[:4] == b"PAR1":
        return _holds(f"read_parquet('{path}', hive_partitioning = false)", user)
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = connection.execute("select table_name from duckdb_tables()").fetchall()
            return any(_holds(f'"{name}"', user, connection) for (name,) in tables)
    return False


def _holds(table: str, user: str, connection: duckdb.DuckDBPyConnection | None = None) -> bool:
    query = f"select count(*) from {table} as t where contains(cast(t as varchar), '{user}')"
    return (connection or duckdb).execute(query).fetchone() != (0,)


def holding(home: Path, user: str) -> list[str]:
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    return [str(path.relative_to(home)) for path in files if mentions(path, user)]


def published(home: Path, user: str) -> dict[str, list[tuple]]:
    """Every published table without the rows of a user."""
    with warehouse.connect(home) as release:
        columns = {name: release.execute(f"describe {name}").df()["column_name"].tolist() for name in _tables(home)}
        owner = {name: next((c for c in ("user_id", "visitor_id") if c in columns[name]), None) for name in columns}
        where = {name: f"where {column} <> '{user}'" if column else "" for name, column in owner.items()}
        return {name: release.execute(f"select * from {name} {where[name]}").fetchall() for name in columns}


def _tables(home: Path) -> list[str]:
    return sorted(warehouse.of(home).manifest(warehouse.current(home))["tables"])


@pytest.mark.slow
def test_nothing_of_the_user_is_left_and_all_else_is(night: Run, tmp_path: Path):
    """No file under the home holds the id; the other users' rows of each table are the same; the run's release is still
    the one that was judged; factors and candidates belong to the users that they belonged to; again, it does nothing.
    """
    home = linked(night.home, tmp_path / "home")
    (home / "truth").rename(tmp_path / "truth")  # what the generator knows, no shop has
    (home / "logs").mkdir()
    user = _busiest(night)
    (home / "logs" / "task.log").write_text(f"fine\nrow of {user}: cheap\n")
    places = holding(home, user)
    assert {place.partition("/")[0] for place in places} == {"raw", "lake", "runs", "warehouse", "logs"}
    before, then = published(home, user), _told(night)
    proof = forget([user], "asked for it", "anna", home)
    assert holding(home, user) == []
    assert published(home, user) == before
    run = Run.load(night.run_id, home)
    manifest = warehouse.of(home).manifest(warehouse.current(home))
    assert warehouse.judged(run).manifest["erased_rows"] == manifest["erased_rows"] == proof["counts"]["release_rows"]
    now = _told(run)
    assert set(then) - set(now) == {user}
    assert all(np.array_equal(then[one][0], now[one][0]) and then[one][1] == now[one][1] for one in now)
    assert all(proof["counts"].values())
    assert (home / "logs" / "task.log").read_text().startswith("fine\n(")
    assert forget([user], "asked for it", "anna", home) is None
    assert [json.loads(json.dumps(proof, default=str))] == forgotten.proofs(home)


def _busiest(run: Run) -> str:
    query = "select user_id from user_candidates group by 1 order by count(*) desc, 1 limit 1"
    with warehouse.connect(run.home) as release:
        return release.execute(query).fetchone()[0]


def _told(run: Run) -> dict[str, tuple[np.ndarray, list[tuple[str, str]]]]:
    """What the models know of each user: factors, and ranked candidates by id."""
    marts = Marts(run)
    factors = Sources.load(run, marts, "final").by_name["als"].users
    rows = pd.read_parquet(run.of("fuse", "candidates.parquet"))
    rows["item_id"] = marts.items.ids[rows["item"]]
    lists = {user: list(zip(one["placement"], one["item_id"], strict=True)) for user, one in rows.groupby("user")}
    return {user: (factors[n], lists.get(n, [])) for n, user in enumerate(marts.users.ids)}


ROWS = [("anna", "1"), ("bert", "anna"), (" anna ", "3"), ("annabel", "4"), ("bert", "5")]
KEPT = [("bert", "anna"), ("annabel", "4"), ("bert", "5")]


def csv(rows: Iterable[tuple[str, str]], end: str = "\n") -> str:
    lines = [f'e{query},{user},search,,"{query}\n",2026-03-01T10:00:00Z' for user, query in rows]
    return end.join(["event_id,user_id,event_type,item_id,query,occurred_at", *lines, ""])


def jsonl(rows: Iterable[tuple[str, str]]) -> str:
    told = [event(n, user_id=user, query=query) for n, (user, query) in enumerate(rows)]
    return "".join(json.dumps(one | {"event_id": one["query"]}) + "\n" for one in told)


TEXTS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes], Callable[..., str], str]] = {
    "a.csv": (bytes, bytes, csv, "utf-8"),
    "b.csv.gz": (gzip.compress, gzip.decompress, csv, "utf-8"),
    "c.csv": (bytes, bytes, lambda rows: csv(rows).replace("query,occ", "quéry,occ"), "cp1252"),
    "d.jsonl": (bytes, bytes, jsonl, "utf-8"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_file_loses_the_users_rows_and_nothing_else(tmp_path: Path, name: str):
    """Records of several lines, packed, in an older encoding: what is left is what would have been delivered. An id is
    the whole of its field, with space around it or not, and no other field."""
    pack, unpack, write, encoding = TEXTS[name]
    told = settings.parse({"columns": {"events": {"query": "quéry"}}}) if name == "c.csv" else PLAIN
    path = tmp_path / "raw" / "events" / f"dt={DAY}" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(pack(write(ROWS).encode(encoding)))
    (tmp_path / "lake").mkdir()
    assert delivered.erase(tmp_path, told, {"anna"}, {"anna"}) == (2, dt.date(2026, 3, 1))
    assert unpack(path.read_bytes()) == write(KEPT).encode(encoding)
    assert delivered.erase(tmp_path, told, {"anna"}, {"anna"}) == (0, None)
    assert [one.name for one in path.parent.iterdir()] == [name]


def test_a_parquet_file_keeps_its_schema(tmp_path: Path):
    """Types, metadata and codec; ids that are numbers are found by how they are written."""
    path = tmp_path / "raw" / "users" / f"dt={DAY}" / "part.parquet"
    path.parent.mkdir(parents=True)
    table = pa.table({"user_id": pa.array([7.0, 12.0, None]), "country": ["DE", "7", "NL"]}).replace_schema_metadata(
        {"made": "by hand"}
    )
    pq.write_table(table, path, compression="gzip")
    assert delivered.erase(tmp_path, PLAIN, {"7"}, {"7"}) == (1, dt.date(2026, 3, 1))
    assert pq.read_table(path).equals(table.slice(1), check_metadata=True)
    assert pq.read_metadata(path).row_group(0).column(0).compression == "GZIP"


def test_rows_that_nobody_could_read_go_where_the_id_stands_alone(tmp_path: Path):
    """A broken line may be the user's; one with a longer id in it is not."""
    lines = [event(1), '{"user_id": "bert", "event', '{"user_id": "bertram", "event', '{"bert']
    path = deliver(tmp_path, "events", DAY, lines)
    assert delivered.erase(tmp_path, PLAIN, {"bert"}, {"bert"}) == (2, dt.date(2026, 3, 1))
    assert path.read_text().splitlines()[1:] == [lines[2]]


def test_an_encoding_from_which_no_rows_can_be_taken_is_refused(tmp_path: Path):
    """By name, and the file stays as it is."""
    path = tmp_path / "raw" / "events" / f"dt={DAY}" / "part.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(csv(ROWS).encode("utf-16"))
    with pytest.raises(BadInput, match=r"part\.csv is written in utf-16.*as UTF-8"):
        delivered.erase(tmp_path, PLAIN, {"anna"}, {"anna"})
    assert path.read_bytes() == csv(ROWS).encode("utf-16")


@pytest.mark.slow
def test_later_deliveries_of_the_user_are_rejected_and_not_kept(shop: Path):
    """Whatever else is wrong with them: the books count them, the lake holds nothing of them, and nothing of them can
    be replayed. Others are let in."""
    assert forget(["anna"], "asked for it", "bert", shop)
    rows = [event(1), event(2, user_id="bert"), event(3, event_type="dance"), event(4, user_id="annabel")]
    deliver(shop, "events", DAY, rows)
    loose = {"clean.max_rejected_share": 1.0}
    run = open_run(owner="airflow:test", day=dt.date(2026, 3, 1), home=shop, overrides=loose)
    clean.run(run)
    books = json.loads(run.of("clean", "books.json").read_text())
    counted = {b["rule"]: (b["count_rows"], b["example"]) for b in books if b["table_name"] == "events"}
    assert counted == {"accepted": (2, None), "forgotten": (2, None)}
    lake = [
        path for path in (shop / "lake" / "events").rglob("*.parquet") if _holds(f"read_parquet('{path}')", "anna,")
    ]
    assert lake == []
    assert quarantine.open_rows(run, quarantine.Wanted()) == []


def test_nothing_is_changed_where_it_is_refused(shop: Path):
    """A reason or a setting that names the user, no user at all, and a run at work."""
    for users, why in ((["anna"], "anna asked"), (["anna"], " "), ([], "asked for it"), ([" "], "asked for it")):
        with pytest.raises(BadSetting):
            forget(users, why, "bert", shop)
    (shop / "nightshelf.toml").write_text('bots.allow = ["anna"]')
    with pytest.raises(BadSetting, match=r"bots\.allow names 1 of these users"):
        forget(["anna"], "asked for it", "bert", shop)
    open_run(owner="airflow:night", day=dt.date(2026, 3, 1), home=shop)
    with pytest.raises(RunBusy, match=r"2026-03-01\.nightly is being worked on"):
        forget(["bert"], "asked for it", "carl", shop)
    assert not (shop / "forgotten").exists()
    assert "anna" in (shop / "raw" / "events" / f"dt={DAY}" / "part.jsonl").read_text()


def test_what_died_before_its_proof_is_proved_when_it_is_done_again(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows that were gone by then are counted, once; then there is nothing left to prove, of these users or others."""
    with monkeypatch.context() as patch:
        patch.setattr(offsite, "follow", Mock(side_effect=NoStore("the store is gone")))
        with pytest.raises(NoStore):
            forget(["anna"], "asked for it", "bert", shop)
    assert (forgotten.proofs(shop), holding(shop, "anna")) == ([], [])
    proof = forget(["anna"], "asked for it", "bert", shop)
    assert (proof["counts"]["users"], proof["counts"]["raw_rows"]) == (1, 1)
    assert len(forgotten.proofs(shop)) == 1
    assert forget(["anna"], "asked for it", "bert", shop) is None
    assert not (shop / "forgotten" / "begun.json").exists()


def test_no_run_is_opened_while_users_are_forgotten(shop: Path):
    """It would read files that are about to change."""
    take_lease(shop, FORGETTING, "airflow:forget", dt.datetime.now(dt.UTC))
    with pytest.raises(RunBusy, match="being forgotten"):
        open_run(owner="airflow:night", day=dt.date(2026, 3, 1), home=shop)
    release_lease(shop, FORGETTING, "airflow:forget")
    assert open_run(owner="airflow:night", day=dt.date(2026, 3, 1), home=shop)


def test_the_list_names_nobody_and_the_key_is_its_owners(tmp_path: Path):
    """Two homes have different hashes of one user; added twice, a user counts once."""
    (tmp_path / "other").mkdir()
    assert [forgotten.add(tmp_path, {"anna", "bert"}), forgotten.add(tmp_path, {"anna"})] == [2, 0]
    forgotten.add(tmp_path / "other", {"anna"})
    one, other = forgotten.load(tmp_path), forgotten.load(tmp_path / "other")
    assert ("anna" in one, "carl" in one, one.hashes & other.hashes) == (True, False, frozenset())
    assert holding(tmp_path, "anna") == []
    assert os.stat(tmp_path / "forgotten" / "key").st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_release_that_was_changed_by_hand_is_not_blessed(night: Run, tmp_path: Path):
    """Forgetting binds verdicts anew, but not to what the gate did not see."""
    home = linked(night.home, tmp_path / "home")
    run, user = Run.load(night.run_id, home), _busiest(night)
    release = run.of("validate", "release.duckdb")
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(release.read_bytes())
    with duckdb.connect(str(copy)) as connection:
        connection.execute("update user_recommendations set score = 99 where rank = 1")
    os.replace(copy, release)
    with pytest.raises(NotAsJudged):
        warehouse.judged(run)
    forget([user], "asked for it", "anna", home)
    assert not run.has("validate")


@pytest.mark.slow
def test_rows_leave_releases_in_postgres(run: Run, house: Postgres):
    """Of every release that is kept, readers see the rest, and the manifest says how many went."""
    names = [publish(run, "2026-03-01", 1), publish(run, "2026-03-02", 2)]
    assert asked(house, "select user_id from nightshelf.user_recommendations") == [("a",)]
    assert [house.erase(name, {"a"}, "a") for name in names] == [1, 1]
    assert asked(house, "select count(*) from nightshelf.user_recommendations") == [(0,)]
    assert len(asked(house, "select * from nightshelf.items")) == 2
    assert [house.manifest(name)["erased_rows"] for name in names] == [1, 1]
    assert house.erase(names[0], {"a"}, "a") == 0
