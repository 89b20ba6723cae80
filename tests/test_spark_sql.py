"""Tables of Spark SQL keep the promise that files keep: a statement sees one whole release, and nobody waits."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from pipelines import contracts, retention, settings, show, spark, warehouse
from pipelines.errors import BadSetting, HeldBack, NothingPublished, NoWarehouse
from pipelines.run import Run
from pipelines.warehouse.files import Files
from pipelines.warehouse.spark_sql import SparkSql
from tests.lake import run_of
from tests.metastore import Metastore
from tests.test_postgres import ITEMS, made, publish
from tests.test_renamed import NEW, OLD
from tests.test_renamed import hold as hold
from tests.test_renamed import publish as publish_item

ROOT = Path(__file__).resolve().parents[1]
MOVES = 100 if os.environ.get("LONG_FAULTS") else 4
SCHEMAS = itertools.count(1)


@pytest.fixture(scope="module")
def metastore() -> Iterator[Metastore]:
    server = Metastore()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(metastore: Metastore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session of Spark SQL, started once: to start one takes longer than all that is asked of it here. That of other
    tests knows no metastore, nor do theirs want this one."""
    if earlier := SparkSession.getActiveSession():
        earlier.stop()
    with spark.catalog(tmp_path_factory.mktemp("spark"), settings.Settings(), metastore.address) as session:
        yield session
    session.stop()


@pytest.fixture
def house(tmp_path: Path, metastore: Metastore, session: SparkSession, monkeypatch: pytest.MonkeyPatch) -> SparkSql:
    """A warehouse whose schemas nobody else has."""
    monkeypatch.setenv("NIGHTSHELF_WAREHOUSE__ENGINE", "spark")
    monkeypatch.setenv("NIGHTSHELF_WAREHOUSE__METASTORE", metastore.address)
    monkeypatch.setenv("NIGHTSHELF_WAREHOUSE__VIEWS", f"shop{next(SCHEMAS)}")
    monkeypatch.setattr(spark, "catalog", lambda *_: nullcontext(session))
    house = SparkSql(tmp_path, settings.load(tmp_path))
    house.ready()
    return house


@pytest.fixture
def run(house: SparkSql) -> Run:
    return replace(run_of(house.home), settings=house.told)


def asked(house: SparkSql, query: str) -> list[tuple]:
    """What a reader is answered; {views} and {tables} in the query are the two schemas."""
    session = SparkSession.active()
    return [tuple(row) for row in session.sql(query.format(views=house.views, tables=house.tables)).collect()]


@pytest.mark.slow
def test_readers_see_the_rows_as_they_were_judged(run: Run, house: SparkSql):
    """Quotes, line ends, backslashes, empty text beside no text, and the same number to the last bit."""
    publish(run, "2026-03-01", 1)
    query = "select item_id, title, category, price_cents from {views}.items order by 1"
    assert asked(house, query) == list(ITEMS)
    assert asked(house, "select score from {views}.user_recommendations") == [(0.1,)]
    with warehouse.connect(run.home) as release:
        assert release.execute(query.replace("{views}.", "")).fetchall() == list(ITEMS)


@pytest.mark.slow
def test_publishing_and_going_back_are_as_with_files(run: Run, house: SparkSql):
    """The newest day is shown, an older one is not; the way back (its verb, which starts Spark itself), its bar and
    its history are the same; a release that is kept is read by its name, whatever readers see."""
    with pytest.raises(NothingPublished, match=f"schema {house.views} of the metastore thrift://"):
        warehouse.connect(run.home)
    first, second = publish(run, "2026-03-01", 1), publish(run, "2026-03-02", 2)
    older = publish(run, "2026-02-27", 3)
    assert warehouse.current(run.home) == second
    command = [sys.executable, "-m", "pipelines", "rollback", "--why", "bad prices"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NIGHTSHELF_HOME": str(run.home)}, check=True)
    assert asked(house, "select distinct run_id from {views}.items") == [("run 1",)]
    with pytest.raises(HeldBack, match=f"{second}, which .*: bad prices"):
        publish(run, "2026-03-03", 4)
    assert [(r["action"], r["release"], r["is_current"]) for r in warehouse.history(run.home)] == [
        ("publish", first, True),
        ("publish", second, True),
        ("publish", older, False),
        ("rollback", first, True),
    ]
    query = f"select distinct run_id from {{tables}}.items where release = '{older}'"
    assert asked(house, query) == [("run 3",)]
    with warehouse.of(run.home).connect(older) as release:
        assert release.execute("select distinct run_id from items").fetchall() == [("run 3",)]


@pytest.mark.slow
def test_a_statement_reads_the_files_of_one_release(run: Run, house: SparkSql):
    """The pointer is a constant by the time Spark plans: what other releases hold costs a reader nothing."""
    name = publish(run, "2026-03-01", 1)
    publish(run, "2026-02-28", 2)
    joined = "explain select * from {views}.items join {views}.user_recommendations using (item_id)"
    ((plan,),) = asked(house, joined)
    assert (plan.count("(1 paths)"), plan.count(f" = {name})]")) == (2, 2)


READER = """
import json, sys
from pathlib import Path
from pipelines import settings, spark

home, metastore, views = Path(sys.argv[1]), *sys.argv[2:]
JOINED = '''
    select i.run_id, r.run_id, (select release from current_release)
    from items as i cross join user_recommendations as r where i.item_id = 'i1'
'''
seen = []
with spark.catalog(home, settings.Settings(), metastore) as session:
    session.sql(f"use {views}")
    while not (home / "stop").exists():
        ((one, two, name),) = session.sql(JOINED).collect()
        assert one == two == f"run {int(name[-8:], 16)}", (one, two, name)
        seen.append(int(name[-8:], 16))
        (home / "polling").touch()
assert seen == sorted(seen)
print(json.dumps([len(seen), len(set(seen))]))
"""


@pytest.mark.slow
def test_readers_see_whole_releases_in_order(run: Run, house: SparkSql, tmp_path: Path):
    """In a Spark of their own, two views and the pointer in each statement, through publication after publication: none
    mixes two releases, none fails, none goes back."""
    publish(run, "2026-03-01", 1)
    home = tmp_path / "reader"
    home.mkdir()
    command = [sys.executable, "-c", READER, str(home), house.metastore, house.views]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as reader:
        while not (home / "polling").exists():
            assert reader.poll() is None, reader.stderr.read()
            time.sleep(0.1)
        for number in range(2, 2 + MOVES):
            publish(run, "2026-03-01", number)
        (home / "stop").touch()
        told, said = reader.communicate(timeout=120)
    assert reader.returncode == 0, said
    polls, releases = json.loads(told)
    assert releases > MOVES // 2
    print(f"{MOVES} publications, {polls} polls, {releases} releases seen")


@pytest.mark.slow
def test_other_columns_and_other_tables_follow_the_release(run: Run, house: SparkSql):
    """A release of an older contract has fewer columns and tables: views show what it has, and again all of a newer
    one. A type that changed is refused before anything moves."""
    first, older = publish(run, "2026-03-02", 2), made(run, "2026-03-01", 1)
    house.place(older)
    rewritten(house, older.name, "* exclude (brand)")
    shutil.rmtree(house.releases / f"{older.name}.parquet" / "user_recommendations")
    warehouse.rollback(run.home, older.name, "an older contract", "anna")
    columns = len(contracts.tables("serving")["items"].columns)
    assert len(asked(house, "describe {views}.items")) == columns - 1
    assert sorted(name for _, name, _ in asked(house, "show tables in {views}")) == ["current_release", "items"]
    warehouse.rollback(run.home, first, "and back", "anna")
    assert len(asked(house, "describe {views}.items")) == columns
    assert len(asked(house, "show tables in {views}")) == 3
    house.place(other := made(run, "2026-03-03", 3))
    rewritten(house, other.name, "* replace (price_cents / 1.0 as price_cents)")
    with pytest.raises(NoWarehouse, match=r"items\.price_cents is bigint in earlier releases and double in this one"):
        warehouse.rollback(run.home, other.name, "another type", "anna")
    assert asked(house, "select release from {views}.current_release") == [(first,)]
    assert warehouse.current(run.home) == first


def rewritten(house: SparkSql, name: str, columns: str) -> None:
    """Have the items of a release look otherwise."""
    path = house.releases / f"{name}.parquet" / "items" / "0" / "rows.parquet"
    rows = duckdb.sql(f"select {columns} from '{path}'").to_arrow_table()
    path.unlink()
    pq.write_table(rows, path)


@pytest.mark.slow
def test_a_renamed_column_has_both_names(house: SparkSql, hold: Callable):
    """Once the change is published, when readers are taken back behind it, and for Nightshelf itself."""
    both, told = "select name, title from {views}.items", house.told.model_dump(exclude_unset=True)["warehouse"]
    engine = {f"warehouse.{key}": value for key, value in told.items()}
    hold(OLD)
    first = publish_item(house.home, "2026-03-01", "Mug", **engine)
    hold(NEW)
    publish_item(house.home, "2026-03-02", "Jug", **engine)
    assert asked(house, both) == [("Jug", "Jug")]
    warehouse.rollback(house.home, first, "trial", "anna")
    assert asked(house, both) == [("Mug", "Mug")]
    with warehouse.connect(house.home) as release:
        assert release.execute("select name, title from items").fetchall() == [("Mug", "Mug")]


@pytest.mark.slow
def test_old_releases_go_and_never_what_readers_see(run: Run, house: SparkSql):
    """Rows, partitions and manifests; also where the link does not lead to what the pointer shows."""
    nights = [publish(run, f"2026-03-0{n}", n) for n in (1, 2, 3)]
    told = house.told.model_copy(update={"retention": settings.Retention(releases=1)})
    assert retention.clear_releases(run.home, told) == [nights[0]]
    assert house.kept() == nights[1:]
    assert asked(house, "show partitions {tables}.items") == [(f"release={name}",) for name in nights[1:]]
    assert not any(nights[0] in path.name for path in house.releases.iterdir())
    with house.locked():
        assert not house.drop(nights[2])


@pytest.mark.slow
def test_a_move_that_died_half_way_is_whole_when_done_again(run: Run, house: SparkSql, monkeypatch: pytest.MonkeyPatch):
    """After the pointer and before the link: readers see the new release, whole, and keep it."""
    first = publish(run, "2026-03-01", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Files, "_show", lambda *_: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            publish(run, "2026-03-02", 2)
    seen = "select distinct i.run_id, r.run_id from {views}.items as i cross join {views}.user_recommendations as r"
    assert (warehouse.current(run.home), asked(house, seen)) == (first, [("run 2", "run 2")])
    with house.locked():
        assert not house.drop("2026-03-02.nightly.00000002")
    assert publish(run, "2026-03-02", 2) == warehouse.current(run.home)
    assert asked(house, seen) == [("run 2", "run 2")]


@pytest.mark.slow
def test_forgotten_users_leave_releases(run: Run, house: SparkSql):
    """The one that readers see and the one before; a reader who has read it before goes on without a refresh; the
    manifest tells how many rows went and are left; again, nothing happens."""
    names = [publish(run, f"2026-03-0{n}", n) for n in (1, 2)]
    reader, count = SparkSession.active().newSession(), f"select count(*) from {house.views}.user_recommendations"
    assert reader.sql(count).collect() == [(1,)]
    with house.locked():
        assert [house.erase(name, {"a"}, "a") for name in names] == [1, 1]
        assert house.erase(names[0], {"a"}, "a") == 0
    assert reader.sql(count).collect() == [(0,)]
    assert len(asked(house, "select * from {views}.items")) == 2
    told = [house.manifest(name) for name in names]
    assert [(one["erased_rows"], one["tables"]["user_recommendations"]["count_rows"]) for one in told] == [(1, 0)] * 2
    assert len(list(house.releases.rglob("rows.parquet"))) == 4


@pytest.mark.parametrize(
    ("address", "told"),
    [("", "warehouse.metastore is not set"), ("thrift://127.0.0.1:1", "No metastore answers: thrift://127.0.0.1:1 ")],
)
def test_a_metastore_that_is_missing_is_found_before_the_night(tmp_path: Path, address: str, told: str):
    """The message names the setting."""
    run = run_of(tmp_path, **{"warehouse.engine": "spark", "warehouse.metastore": address})
    with pytest.raises(NoWarehouse, match=told):
        warehouse.of(tmp_path, run.settings).ready()
    with pytest.raises(BadSetting, match="metastore"):
        settings.parse({"warehouse": {"metastore": "metastore:9083"}})


@pytest.mark.slow
def test_a_whole_night_is_published_to_spark_and_read_from_there(
    night: Run, house: SparkSql, capsys: pytest.CaptureFixture
):
    """Every table with its rows, by key, equal to the file's, to a reader of Spark SQL and to `show`."""
    (house.home / "runs").symlink_to(night.home / "runs")
    judged = warehouse.judged(night)
    warehouse.publish(replace(night, home=house.home, settings=house.told), judged)
    with duckdb.connect(str(judged.path), read_only=True) as file, warehouse.connect(house.home) as release:
        for table in contracts.tables("serving").values():
            order = ", ".join(f'"{key}"' for key in table.key)
            rows = file.execute(f"select * from {table.name} order by {order}").to_arrow_table()
            assert release.execute(f"select * from {table.name}").to_arrow_table().equals(rows), table.name
            assert SparkSession.active().table(f"{house.views}.{table.name}").toArrow().equals(rows), table.name
    show.demo(Console(width=200), house.home)
    told = capsys.readouterr().out
    for words in ("from user_recommendations", "from rejected_rows", house.where, judged.name):
        assert words in told
