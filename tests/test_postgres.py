"""PostgreSQL keeps the promise that files keep: one whole release, three roles, and nothing else to be seen."""

import datetime as dt
import itertools
import os
import random
import string
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import psycopg2
import pytest
from psycopg2.extensions import parse_dsn
from rich.console import Console

from pipelines import asked as answering
from pipelines import contracts, hotfix, retention, settings, show, warehouse, why
from pipelines.errors import BadSetting, HeldBack, NoRoom, NothingPublished, NoWarehouse, ReadersInTheWay
from pipelines.run import Run
from pipelines.warehouse import postgres
from pipelines.warehouse.manifest import Judged
from pipelines.warehouse.postgres import Postgres
from tests.conftest import linked
from tests.lake import run_of
from tests.postgres import ROLES, Server
from tests.test_warehouse import seconds_of
from tests.test_why import TABLES, TITLES, insert

pytestmark = pytest.mark.slow

LONG = "".join(random.Random(17).choices(string.ascii_letters, k=20_000))  # more than an index takes
HARD = "a,\"b\"\n\\.\n'c'\\N\t[ü]"
FULL = """
create function no_room() returns event_trigger language plpgsql as
$$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$;
create event trigger no_room on ddl_command_end when tag in ('CREATE INDEX') execute function no_room()
"""
FACTS = {"varchar": "'a'", "bigint": "1", "double": "0.1", "date": "date '2026-03-01'"}
ITEMS = (("i1", HARD, "", 100), ("i2", "Mug", None, None))


@pytest.fixture
def run(tmp_path: Path, house: Postgres) -> Run:
    return run_of(tmp_path, **{"warehouse.engine": "postgres"})


def made(run: Run, day: str, number: int, items: tuple = ITEMS) -> Judged:
    """A release of two tables, each of which says its number."""
    path, serving = run.home / f"{day}-{number}.duckdb", contracts.tables("serving")
    if not path.exists():
        with duckdb.connect(str(path)) as release:
            for name in ("items", "user_recommendations"):
                release.execute(serving[name].ddl())
            for row in items:
                told = "item_id, title, category, price_cents, is_available, run_id"
                release.execute(f"insert into items ({told}) values (?, ?, ?, ?, true, ?)", [*row, f"run {number}"])
            facts = {c.name: FACTS[c.data_type] for c in serving["user_recommendations"].columns if c.is_required}
            columns, values = zip(*(facts | {"run_id": f"'run {number}'"}).items(), strict=True)
            quoted = ", ".join(f'"{column}"' for column in columns)
            release.execute(f"insert into user_recommendations ({quoted}) values ({', '.join(values)})")
    tables = {"items": {"count_rows": len(items)}, "user_recommendations": {"count_rows": 1}}
    manifest = {"code_version": "1", "settings": {}, "inputs": {}, "tables": tables}
    return Judged(path, {"release": f"{day}.nightly.{number:08x}", **manifest})


def publish(run: Run, day: str, number: int, items: tuple = ITEMS) -> str:
    on_day = replace(run, day=dt.date.fromisoformat(day), run_id=f"{day}.nightly")
    return warehouse.publish(on_day, made(run, day, number, items))["release"]


def asked(house: Postgres, query: str, role: str = "reader") -> list[tuple]:
    with psycopg2.connect(house.environment[f"WAREHOUSE_{role.upper()}"]) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_readers_see_the_rows_as_they_were_judged(run: Run, house: Postgres):
    """Quotes, line ends, backslashes, empty text beside no text, and the same number to the last bit."""
    publish(run, "2026-03-01", 1)
    assert asked(house, "select item_id, title, category, price_cents from nightshelf.items order by 1") == list(ITEMS)
    with warehouse.connect(run.home) as release:
        assert release.execute("select item_id, title, category, price_cents from items order by 1").fetchall() == list(
            ITEMS
        )
        assert release.execute("select score from user_recommendations").fetchall() == [(0.1,)]


def test_a_text_that_no_index_takes_is_published_and_found(run: Run, house: Postgres):
    """Somebody typed or delivered twenty thousand characters."""
    publish(run, "2026-03-01", 1, ((LONG, "Long", None, None), *ITEMS))
    assert asked(house, f"select title from nightshelf.items where item_id = '{LONG}'") == [("Long",)]


def test_publishing_and_going_back_are_as_with_files(run: Run, house: Postgres):
    """The newest day is shown, an older one is not; the way back, its bar and its history are the same."""
    with pytest.raises(NothingPublished, match="schema nightshelf of the database in WAREHOUSE_READER"):
        warehouse.connect(run.home)
    first, second = publish(run, "2026-03-01", 1), publish(run, "2026-03-02", 2)
    publish(run, "2026-02-27", 3)
    assert warehouse.current(run.home) == second
    assert warehouse.rollback(run.home, None, "bad prices", "anna") == first
    assert asked(house, "select distinct run_id from nightshelf.items") == [("run 1",)]
    with pytest.raises(HeldBack, match=f"{second}, which .* by anna: bad prices"):
        publish(run, "2026-03-03", 4)
    assert [(r["action"], r["release"], r["is_current"]) for r in warehouse.history(run.home)] == [
        ("publish", first, True),
        ("publish", second, True),
        ("publish", "2026-02-27.nightly.00000003", False),
        ("rollback", first, True),
    ]


def test_a_release_that_is_kept_is_read_by_its_name(run: Run, house: Postgres):
    """As the loader, who made it, whatever readers see now."""
    first, second = publish(run, "2026-03-01", 1), publish(run, "2026-03-02", 2)
    assert warehouse.seen_before(run.home, run.settings, dt.date(2026, 3, 2)) == first
    for name, told in ((first, "run 1"), (second, "run 2"), (None, "run 2")):
        with house.connect(name) as release:
            assert release.execute("select run_id from user_recommendations").fetchall() == [(told,)]


def test_the_reader_sees_nothing_but_the_current_views(run: Run, house: Postgres):
    """Neither releases nor history, and it changes nothing; the loader cannot move views, the publisher not load."""
    name = publish(run, "2026-03-01", 1)
    for query in (
        f'select * from "{name}".items',
        "select * from nightshelf_audit.releases",
        "delete from nightshelf.items returning 1",
        "create table nightshelf.mine as select 1 returning 1",
        "create schema mine",
    ):
        with pytest.raises(psycopg2.Error):
            asked(house, query)
    for role, query in (("loader", "drop view nightshelf.items"), ("publisher", f'drop table "{name}".items')):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            asked(house, query, role)


def test_a_snapshot_older_than_the_release_sees_its_rows(run: Run, house: Postgres):
    """A transaction that began before the release was loaded does not find the new views empty."""
    publish(run, "2026-03-01", 1)
    with psycopg2.connect(house.environment["WAREHOUSE_READER"]) as connection, connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select 1")
        publish(run, "2026-03-02", 2)
        cursor.execute("select distinct run_id from nightshelf.items")
        assert cursor.fetchall() == [("run 2",)]


def test_other_columns_and_other_tables_follow_the_release(run: Run, house: Postgres):
    """A release of an older contract has fewer columns and tables; the views show what it has."""
    publish(run, "2026-03-01", 1)
    house.place(made(run, "2026-03-02", 2))
    with psycopg2.connect(house.environment["WAREHOUSE_LOADER"]) as connection, connection.cursor() as cursor:
        cursor.execute('alter table "2026-03-02.nightly.00000002".items drop column brand')
        cursor.execute('drop table "2026-03-02.nightly.00000002".user_recommendations')
    connection.close()
    warehouse.rollback(run.home, "2026-03-02.nightly.00000002", "an older contract", "anna")
    columns = len(contracts.tables("serving")["items"].columns)
    query = "select table_name, count(*) from information_schema.columns where table_schema = 'nightshelf' group by 1"
    assert asked(house, query) == [("items", columns - 1)]
    warehouse.rollback(run.home, "2026-03-01.nightly.00000001", "and back", "anna")
    assert sorted(asked(house, query))[0] == ("items", columns)


@pytest.mark.parametrize("role", ROLES)
def test_a_missing_or_wrong_secret_is_found_before_the_night(
    role: str, server: Server, house: Postgres, monkeypatch: pytest.MonkeyPatch
):
    """The message names the variable and never says its value."""
    variable = f"WAREHOUSE_{role.upper()}"
    for value in ("", server.address(role, "canary"), "canary", f"postgresql://canary@/none?host={server.folder}"):
        monkeypatch.setenv(variable, value)
        with pytest.raises(NoWarehouse, match=variable) as caught:
            house.ready()
        assert "canary" not in str(caught.value)
        assert str(server.folder) not in str(caught.value)


def test_a_role_without_rights_is_found_before_the_night(
    server: Server, house: Postgres, monkeypatch: pytest.MonkeyPatch
):
    """A database that nobody prepared: the message says what prepares it."""
    for role in ROLES:
        monkeypatch.setenv(f"WAREHOUSE_{role.upper()}", server.address(role))
    with pytest.raises(NoWarehouse, match=r"WAREHOUSE_LOADER: .* `nightshelf warehouse init`"):
        house.ready()


def test_old_releases_go_but_for_what_a_transaction_reads(run: Run, house: Postgres):
    """A reader inside a transaction keeps its release and holds the next publication up; afterwards both go on."""
    nights = [publish(run, f"2026-03-0{n}", n) for n in (1, 2, 3)]
    told = settings.parse({"retention": {"releases": 1}, "warehouse": {"engine": "postgres"}})
    with psycopg2.connect(house.environment["WAREHOUSE_READER"]) as connection, connection.cursor() as cursor:
        cursor.execute("select 1 from nightshelf.items")
        assert not house.drop(nights[2])
        assert retention.clear_releases(run.home, told) == [nights[0]]
    connection.close()
    assert not house.drop(nights[2])  # nobody reads it now, and the views lead there
    assert asked(house, "select count(*) from nightshelf.items") == [(2,)]
    assert house.kept() == nights[1:]


def test_markets_share_a_database_and_nothing_in_it(tmp_path: Path, house: Postgres):
    """Each moves alone, keeps its own releases, also where both have one of the same name, and clears no other's."""
    runs = [run_of(tmp_path / "markets" / name, **{"warehouse.engine": "postgres"}) for name in ("at", "ch-fr")]
    at, ch = (warehouse.of(run.home, run.settings) for run in runs)
    for run, market in zip(runs, (at, ch), strict=True):
        run.home.mkdir(parents=True)
        market.init()
        market.ready()
    first = publish(runs[0], "2026-03-01", 1)
    assert publish(runs[1], "2026-03-01", 1) == first
    later = [publish(runs[1], f"2026-03-{day:02}", day) for day in (2, 3, 4)]
    assert (at.current(), ch.current(), house.current()) == (first, later[-1], None)
    views = "select distinct run_id from nightshelf_{}.items"
    assert [asked(house, views.format(name)) for name in ("at", "ch_fr")] == [[("run 1",)], [("run 4",)]]
    with ch.connect(first) as release:
        assert release.execute("select distinct run_id from items").fetchall() == [("run 1",)]
    told = {"warehouse": {"engine": "postgres"}, "retention": {"releases": 1}}
    retention.clear_releases(runs[0].home, settings.parse(told))
    assert (at.kept(), ch.kept(), house.kept()) == ([first], [first, *later], [])
    assert warehouse.rollback(runs[1].home, None, "bad prices", "anna") == later[-2]
    assert (at.current(), len(at.history())) == (first, 1)


def test_a_name_that_the_server_would_cut_is_refused():
    """Two schemas could else become one."""
    with pytest.raises(BadSetting, match="longer than the 63 bytes of a name"):
        Postgres(settings.Warehouse(views="x" * 51), "zurich")


def test_readers_in_the_way_are_named(run: Run, house: Postgres, monkeypatch: pytest.MonkeyPatch):
    """A transaction that is left open stops a publication, never another reader; the message says whose it is."""
    first = publish(run, "2026-03-01", 1)
    monkeypatch.setattr(postgres, "PATIENCE_SECONDS", 0.3)
    with psycopg2.connect(house.environment["WAREHOUSE_READER"], application_name="left open") as connection:
        connection.cursor().execute("select 1 from nightshelf.items")
        with pytest.raises(ReadersInTheWay, match=r"\d+ \(reader, left open\)"):
            publish(run, "2026-03-02", 2)
        assert asked(house, "select count(*) from nightshelf.items") == [(2,)]
    connection.close()
    assert warehouse.current(run.home) == first
    assert [record["release"] for record in warehouse.history(run.home)] == [first]


def test_a_server_without_room_keeps_the_release_before(server: Server, run: Run, house: Postgres):
    """The variable of its address is named, no half of a release stays; with room the same night is published."""
    first = publish(run, "2026-03-01", 1)
    database = parse_dsn(house.environment["WAREHOUSE_ADMIN"])["dbname"]
    server.perform(FULL, database=database)
    with pytest.raises(NoRoom, match=r"server in WAREHOUSE_LOADER is full \(could not extend file\)"):
        publish(run, "2026-03-02", 2)
    assert house.kept() == [warehouse.current(run.home)] == [first]
    server.perform("drop event trigger no_room", database=database)
    assert publish(run, "2026-03-02", 2) == warehouse.current(run.home)


@pytest.fixture
def small_disk(server: Server, house: Postgres) -> Iterator[Path]:
    """Two MiB of memory as the disk of what the loader makes; the warehouse goes with it: the server outlives both."""
    place = server.folder / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:  # takes rights that not every machine gives; what the server says is tried everywhere, above
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        os.chown(place, server.user or os.geteuid(), -1)
        server.perform(
            f"create tablespace small location '{place}'",
            "grant create on tablespace small to loader",
            "alter role loader set default_tablespace = small",
        )
        yield place
        database = parse_dsn(house.environment["WAREHOUSE_ADMIN"])["dbname"]
        server.perform(
            "alter role loader reset default_tablespace",
            f"drop database {database} with (force)",
            "drop tablespace small",
        )
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_of_the_server_keeps_the_release_before(run: Run, house: Postgres, small_disk: Path):
    """Not a byte is left amid the filling; readers read on, and with room the same night is published."""
    first = publish(run, "2026-03-01", 1)
    large = tuple((f"i{n}", LONG, "", n) for n in range(300))  # 6 MB that do not shrink
    with pytest.raises(NoRoom, match=r"server in WAREHOUSE_LOADER is full \(could not extend file .* No space left"):
        publish(run, "2026-03-02", 2, large)
    assert asked(house, "select count(*) from nightshelf.items") == [(2,)]
    assert house.kept() == [warehouse.current(run.home)] == [first]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert publish(run, "2026-03-02", 2, large) == warehouse.current(run.home)
    assert asked(house, "select count(*) from nightshelf.items") == [(300,)]


def test_a_rollback_takes_less_than_a_second(run: Run, house: Postgres):
    """There and back, the faster way of several: the machine may be busy."""
    nights = [publish(run, f"2026-03-0{n}", n) for n in (1, 2)]
    assert min(seconds_of(lambda n=n: warehouse.rollback(run.home, nights[n % 2], "x", "a")) for n in range(6)) < 1


def test_why_and_why_not_tell_the_same_from_the_views(run: Run, house: Postgres):
    """Stories and verdicts of a release that was written by hand, read from the file and as the reader."""
    path = run.home / "why.duckdb"
    with duckdb.connect(str(path)) as file:
        for name, rows in TABLES.items():
            file.execute(contracts.tables("serving")[name].ddl())
            insert(file, name, rows)
    tables = {name: {"count_rows": len(rows)} for name, rows in TABLES.items()}
    warehouse.publish(run, Judged(path, {"release": "2026-03-01.nightly.0000000a", "tables": tables}))
    with duckdb.connect(str(path), read_only=True) as file, warehouse.connect(run.home) as views:
        for placement, item in itertools.product(("for_you", "discover", "buy_again"), TITLES):
            asked = why.Asked("anna", item, placement)
            assert why.story(views, asked) == why.story(file, asked)
            assert why.verdict(views, asked) == why.verdict(file, asked)


def test_a_whole_night_is_published_to_postgres_and_read_from_there(
    night: Run, house: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Every table with its rows, equal to the file's; `show`, `why` and the gates read the views as the reader."""
    (tmp_path / "runs").symlink_to(night.home / "runs")
    run = replace(night, home=tmp_path)
    judged = warehouse.judged(night)
    name = warehouse.publish(replace(run, settings=settings.load(tmp_path)), judged)["release"]
    with warehouse.connect(tmp_path) as views, duckdb.connect(str(judged.path), read_only=True) as file:
        for table in contracts.tables("serving").values():
            query = f"select * from {table.name} order by " + ", ".join(f'"{key}"' for key in table.key)
            assert views.execute(query).df().equals(file.execute(query).df()), table.name
        user, item = file.execute(
            "select user_id, item_id from user_recommendations where placement = 'for_you'"
        ).fetchone()
    assert warehouse.current(tmp_path) == name
    show.demo(Console(width=200), tmp_path)
    why.why(Console(width=200), tmp_path, why.Asked(user, item))
    why.why_not(Console(width=200), tmp_path, why.Asked(user, "nothing"))
    told = capsys.readouterr().out
    for words in ("from user_recommendations", "from rejected_rows", "WAREHOUSE_READER", name, "candidate", "nearest"):
        assert words in told


@pytest.mark.slow
def test_answers_are_published_beside_the_night_on_postgres(night: Run, house: Postgres, tmp_path: Path):
    """The release that they derive has all rows of the one before, and theirs; both are kept, and going back works."""
    told = settings.load(tmp_path)
    before = warehouse.publish(replace(night, home=tmp_path, settings=told), warehouse.judged(night))["release"]
    run, new = answering.answer(tmp_path, ["Wooden  GARDEN gloves", "tea strainer"], "cli:here:1")
    after = warehouse.current(tmp_path)
    assert house.kept() == [before, after]
    assert new == ["tea strainer", "wooden garden gloves"]
    answered = f"select distinct query from nightshelf.search_results where run_id = '{run.run_id}' order by 1"
    assert asked(house, answered) == [(query,) for query in new]
    old, now = (house.manifest(name)["tables"] for name in (before, after))
    assert {name for name in now if now[name] != old[name]} == {"search_results", "quality_checks"}
    assert warehouse.rollback(tmp_path, None, "wrong answers", "anna") == before
    assert asked(house, answered) == []


@pytest.mark.slow
def test_a_recalled_item_leaves_the_views_of_postgres(night: Run, house: Postgres, tmp_path: Path):
    """The release that is derived shows it nowhere, fills its places, and stands beside the one before."""
    home = linked(night.home, tmp_path / "shop")
    told = night.settings.model_copy(update={"warehouse": settings.load(home).warehouse})
    base = replace(night, home=home, settings=told)
    base.save()
    for stage in (*hotfix.TAKEN_OVER, *hotfix.DONE_AGAIN):
        hotfix.take_over(night, base, stage)  # as if the night had been told of PostgreSQL
    before = warehouse.publish(base, warehouse.judged(night))["release"]
    ((recalled,),) = asked(house, "select item_id from nightshelf.popular_items where segment = 'all' and rank = 1")
    rows = "select count(*) from nightshelf.user_recommendations where placement in ('for_you', 'discover')"
    shown = f"{rows} and item_id = '{recalled}'"
    full = asked(house, rows)
    assert asked(house, shown) != [(0,)]
    run = hotfix.exclude(home, recalled, "recalled", "anna", "cli:here:1", base.opened_at)
    assert hotfix.current(home).run_id == run.run_id
    assert (asked(house, rows), asked(house, shown)) == (full, [(0,)])
    assert set(house.kept()) == {before, warehouse.current(home)}
    assert warehouse.rollback(home, None, "a wrong item", "anna") == before
    assert asked(house, shown) != [(0,)]
