"""Tables of Spark SQL keep the promise that files keep: a statement sees one whole release, and nobody is locked out."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipelines import settings, spark, warehouse
from pipelines.errors import HeldBack, NothingPublished
from pipelines.run import Run
from pipelines.warehouse.spark_sql import SparkSql
from tests.lake import run_of
from tests.metastore import Metastore
from tests.test_postgres import ITEMS, publish

MOVES = 100 if os.environ.get("LONG_FAULTS") else 6
SCHEMAS = itertools.count(1)


@pytest.fixture(scope="module")
def metastore() -> Iterator[Metastore]:
    server = Metastore()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(metastore: Metastore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session of Spark SQL, started once: to start one takes longer than all that is asked of it here."""
    with spark.catalog(tmp_path_factory.mktemp("spark"), settings.Settings(), metastore.address) as session:
        yield session


@pytest.fixture
def house(
    tmp_path: Path, metastore: Metastore, session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> SparkSql:
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
    """The newest day is shown, an older one is not; the way back, its bar and its history are the same; a release that
    is kept is read by its name, whatever readers see."""
    with pytest.raises(NothingPublished, match=f"schema {house.views} of the metastore thrift://"):
        warehouse.connect(run.home)
    first, second = publish(run, "2026-03-01", 1), publish(run, "2026-03-02", 2)
    older = publish(run, "2026-02-27", 3)
    assert warehouse.current(run.home) == second
    assert warehouse.rollback(run.home, None, "bad prices", "anna") == first
    assert asked(house, "select distinct run_id from {views}.items") == [("run 1",)]
    with pytest.raises(HeldBack, match=f"{second}, which .* by anna: bad prices"):
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
    root, pipes = Path(__file__).parents[1], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, **pipes) as reader:
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
