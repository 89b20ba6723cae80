"""Readers of an object store see one whole release, whatever a publication dies of; nothing else stays there."""

import io
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from typer.testing import CliRunner

from pipelines import objects, retention, settings, warehouse
from pipelines.__main__ import app
from pipelines.errors import BadSetting, NoStore, NotAsJudged, NothingPublished
from pipelines.forget.delivered import mentions
from pipelines.objects import Objects
from pipelines.warehouse import mirror
from pipelines.warehouse.manifest import Judged, sha256
from tests import object_store
from tests.lake import run_of
from tests.object_store import Server

pytestmark = pytest.mark.slow

BUCKETS = itertools.count(1)
USERS = ("anna", "bert")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with object_store.started() as server:
        yield server


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, which the settings name with a folder in it, and the keys to it in the environment."""
    name = f"shop{next(BUCKETS)}"
    server.s3.create_bucket(Bucket=name)
    for variable, told in (server.keys | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(variable, told)
    monkeypatch.setenv("NIGHTSHELF_STORE__RELEASES", f"s3://{name}/night")
    monkeypatch.setenv("NIGHTSHELF_STORE__ENDPOINT", server.address)
    return name


class Bucket:
    """What a reader of a bucket sees who knows nothing but the address of the pointer."""

    def __init__(self, server: Server, name: str) -> None:
        self.s3, self.name = server.s3, name

    def read(self, name: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=f"night/{name}")["Body"].read()

    @property
    def names(self) -> set[str]:
        listed = self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {one["Key"].removeprefix("night/") for one in listed if not one["Key"].endswith("/")}

    def pointer(self) -> dict:
        return json.loads(self.read("current.json"))

    def shown(self) -> int:
        """The number of the release that the pointer leads to, all of whose tables are there and say it."""
        pointer, found = self.pointer(), set()
        for name, told in pointer["tables"].items():
            rows = pq.read_table(io.BytesIO(self.read(told["path"]))).to_pandas()
            assert (len(rows), list(rows.columns)) == (told["count_rows"], list(told["columns"])), name
            found |= set(rows["n"])
        (number,) = found
        assert pointer["release"].endswith(f"{number:08x}")
        return number

    def releases(self) -> list[str]:
        return sorted({name.split("/")[1] for name in self.names if name.startswith("releases/")})


@pytest.fixture
def reader(server: Server, bucket: str) -> Bucket:
    return Bucket(server, bucket)


def made(home: Path, name: str, number: int) -> Judged:
    """A release of two tables, each of which says its number, and one of them whose row it is."""
    path = home / f"{name}.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with duckdb.connect(str(path)) as release:
            release.execute(f"create table one as select unnest({list(USERS)}) as user_id, {number} as n")
            release.execute(f"create table two as select {number} as n, date '2026-03-01' as day")
    with duckdb.connect(str(path), read_only=True) as release:
        tables = {table: warehouse.tables.summed(release, table, table) for table in ("one", "two")}
    told = {"code_version": "1", "settings": {}, "inputs": {}, "tables": tables, "sha256": sha256(path)}
    return Judged(path, {"release": name, **told})


def publish(home: Path, day: int, number: int) -> str:
    run = run_of(home)
    on_day = replace(
        run, day=run.day.replace(day=day), run_id=f"2026-03-{day:02}.nightly", settings=settings.load(home)
    )
    return warehouse.publish(on_day, made(home, f"{on_day.run_id}.{number:08x}", number))["release"]


def test_readers_of_the_store_follow_what_is_published(tmp_path: Path, reader: Bucket):
    """Each table is one Parquet file, in the order of the judged one and with its types; a day that is older than what
    readers have stands beside it and is not shown; going back leads readers back."""
    first = publish(tmp_path, 2, 1)
    assert reader.shown() == 1
    publish(tmp_path, 1, 9)
    assert (reader.shown(), len(reader.releases())) == (1, 2)
    second = publish(tmp_path, 3, 2)
    assert reader.shown() == 2
    told = reader.pointer()
    assert pd.read_parquet(io.BytesIO(reader.read(told["tables"]["one"]["path"])))["user_id"].tolist() == [*USERS]
    assert told["tables"]["two"]["columns"] == {"n": "INTEGER", "day": "DATE"}
    assert warehouse.rollback(tmp_path, first, "wrong prices", "anna") == first
    assert (reader.shown(), reader.pointer()["release"]) == (1, first)
    assert second in reader.releases()


def test_the_file_itself_stands_there_too(tmp_path: Path, reader: Bucket):
    """Byte for byte the one that was judged."""
    release = publish(tmp_path, 1, 1)
    (tmp_path / "fetched.duckdb").write_bytes(reader.read(reader.pointer()["file"]["path"]))
    assert sha256(tmp_path / "fetched.duckdb") == warehouse.of(tmp_path).manifest(release)["sha256"]


def test_what_is_cleared_here_is_cleared_there(tmp_path: Path, reader: Bucket):
    """And what readers have, and the release before it, stay."""
    names = [publish(tmp_path, day, day) for day in (1, 2, 3, 4)]
    told = settings.load(tmp_path, {"retention.releases": 1})
    assert retention.clear_releases(tmp_path, told) == names[:2]
    assert (reader.releases(), reader.shown()) == (names[2:], 4)


def test_a_forgotten_user_is_in_no_object(tmp_path: Path, reader: Bucket):
    """Of any release that is kept; the others' rows are there, under another address, for nothing is written twice."""
    publish(tmp_path, 1, 1)
    publish(tmp_path, 2, 2)
    before = reader.names
    house = warehouse.of(tmp_path)
    with house.locked():
        assert sum(house.erase(name, ["anna"], mentions(["anna"]).pattern) for name in house.kept()) == 2
    for name in reader.names:
        assert b"anna" not in reader.read(name), name
    told = reader.pointer()["tables"]["one"]
    assert pd.read_parquet(io.BytesIO(reader.read(told["path"])))["user_id"].tolist() == ["bert"]
    assert reader.shown() == 2
    assert before & reader.names == {"current.json", "home/book.json"}
    assert len(before) == len(reader.names)


class Failing:
    """A store whose n-th request fails, and every one after it; half of what was to be written then may be there."""

    def __init__(self, store: fs.FileSystem, requests: int, half: bool) -> None:
        self.store, self.left, self.half = store, requests, half

    def __getattr__(self, name: str) -> Callable:
        return partial(self.ask, getattr(self.store, name))

    def ask(self, method: Callable, *told: object, **named: object) -> object:
        self.left -= 1
        if self.left < 0:
            raise OSError("the store is gone")
        return method(*told, **named)

    def copy(self, path: str, target: str, here: fs.FileSystem, store: "Failing") -> None:
        if not self.left and self.half and not target.endswith("current.json"):  # that one is a single request
            half = Path(path).read_bytes()[: Path(path).stat().st_size // 2]
            with self.store.open_output_stream(target) as stream:
                stream.write(half)
        self.ask(fs.copy_files, path, target, here, self.store)


def fails(monkeypatch: pytest.MonkeyPatch, requests: int, half: bool, act: Callable[[], object]) -> bool:
    """Whether `act` ended with NoStore because the store failed at one of its requests."""
    place = Objects.place.func
    with monkeypatch.context() as patch:
        failing = None

        def found(self: Objects) -> tuple[Failing, str]:
            nonlocal failing
            store, folder = place(self)
            failing = failing or Failing(store, requests, half)
            return failing, folder

        patch.setattr(Objects, "place", property(found))
        patch.setattr(objects.fs, "copy_files", lambda *told, **named: failing.copy(*told))
        failed = None
        try:
            act()
        except NoStore as error:
            failed = error
    assert failed is None or "the store is gone" in str(failed)
    return failed is not None


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("way", ["publish", "rollback", "forget", "clear"])
def test_a_store_that_fails_at_any_request_leads_to_one_whole_release(
    tmp_path: Path, reader: Bucket, server: Server, monkeypatch: pytest.MonkeyPatch, way: str, half: bool
):
    """The one before or the new one; done again the move is whole, and nothing else is there."""
    laid = tmp_path / "laid"
    for day in (1, 2, 3):
        publish(laid, day, day)
    there = {name: reader.read(name) for name in reader.names}
    for requests in itertools.count():
        home = Path(shutil.copytree(laid, tmp_path / str(requests), symlinks=True))
        _lay(server, reader, there)
        act = {
            "publish": partial(publish, home, 4, 4),
            "rollback": partial(warehouse.rollback, home, None, "wrong prices", "anna"),
            "forget": partial(_forget, home),
            "clear": partial(retention.clear_releases, home, settings.load(home, {"retention.releases": 1})),
        }[way]
        after = {"publish": 4, "rollback": 2}.get(way, 3)
        failed = fails(monkeypatch, requests, half, act)
        assert reader.shown() in ((3, after) if failed else (after,))
        with mirror.of(home, settings.load(home)).locked():
            pass
        kept = warehouse.of(home).kept()
        assert (reader.shown(), reader.releases()) == (after, kept)
        assert len(reader.names) == 2 + 4 * len(kept)
        if not failed:
            break
    assert requests > 4
    print(f"{way}: the store fails at each of {requests} requests")


def _forget(home: Path) -> None:
    house = warehouse.of(home)
    with house.locked():
        for name in house.kept():
            house.erase(name, ["anna"], mentions(["anna"]).pattern)


def _lay(server: Server, reader: Bucket, there: dict[str, bytes]) -> None:
    """Have in the bucket what was there, and nothing else."""
    for one in server.s3.list_objects_v2(Bucket=reader.name).get("Contents", []):
        server.s3.delete_object(Bucket=reader.name, Key=one["Key"])
    for name, content in there.items():
        server.s3.put_object(Bucket=reader.name, Key=f"night/{name}", Body=content)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "SIGNATURE_DOES_NOT_MATCH"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "INVALID_ACCESS_KEY_ID"),
        ({"NIGHTSHELF_STORE__RELEASES": "s3://no-such-bucket/night"}, "NO_SUCH_BUCKET"),
        ({"NIGHTSHELF_STORE__ENDPOINT": "http://127.0.0.1:1"}, "NETWORK_CONNECTION"),
    ],
)
def test_a_store_that_refuses_is_found_out_before_the_night(
    tmp_path: Path, reader: Bucket, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], told: str
):
    """The message names setting and variables, not what is in them; a publication that finds it out leaves readers
    where they were, and `nightshelf warehouse mirror` brings what they missed."""
    publish(tmp_path, 1, 1)
    with monkeypatch.context() as patch:
        for variable, value in wrong.items():
            patch.setenv(variable, value)
        for act in (warehouse.of(tmp_path).ready, partial(publish, tmp_path, 2, 2)):
            with pytest.raises(NoStore, match=rf"store\.releases: .*{told}.* AWS_SECRET_ACCESS_KEY") as found:
                act()
            assert "guessed" not in str(found.value)
    assert reader.shown() == 1
    assert warehouse.current(tmp_path) == "2026-03-02.nightly.00000002"
    warehouse.of(tmp_path).ready()
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["warehouse", "mirror"])
    assert "current.json see 2026-03-02.nightly.00000002" in done.output
    assert reader.shown() == 2


def test_an_older_home_does_not_move_readers(tmp_path: Path, reader: Bucket):
    """A copy of the home of two nights ago, and another home that was led to the same address, change nothing there."""
    publish(tmp_path / "home", 1, 1)
    shutil.copytree(tmp_path / "home", tmp_path / "old", symlinks=True)
    publish(tmp_path / "home", 2, 2)
    before = reader.names
    for home in (tmp_path / "old", tmp_path / "other"):
        with pytest.raises(NoStore, match=r"of which .* knows nothing: another home publishes there"):
            publish(home, 4, 4)
        with pytest.raises(NoStore, match="knows nothing"):
            warehouse.of(home).ready()
    assert (reader.names, reader.shown()) == (before, 2)


def test_a_lost_home_gets_its_releases_back(tmp_path: Path, reader: Bucket, monkeypatch: pytest.MonkeyPatch):
    """Files, manifests and history as they were, also that readers were taken back from one; the next night goes on."""
    home, lost = tmp_path / "home", tmp_path / "lost"
    first = publish(home, 1, 1)
    publish(home, 2, 2)
    warehouse.rollback(home, None, "wrong prices", "anna")
    (home / "warehouse").rename(lost)
    monkeypatch.setenv("NIGHTSHELF_HOME", str(home))
    assert f"Readers see {first}." in CliRunner().invoke(app, ["warehouse", "restore"]).output
    for path in lost.rglob("*"):
        if path.is_file() and path.name != ".lock":
            assert (home / "warehouse" / path.relative_to(lost)).read_bytes() == path.read_bytes(), path
    assert warehouse.barred(warehouse.history(home))
    publish(home, 3, 3)
    assert reader.shown() == 3
    with pytest.raises(BadSetting, match="only a home without any is restored"):
        mirror.of(home, settings.load(home)).restore()


def test_nothing_is_restored_from_nowhere(tmp_path: Path, bucket: str):
    """The message names the address."""
    with pytest.raises(NothingPublished, match=f"s3://{bucket}/night/current.json does not exist"):
        mirror.of(tmp_path, settings.load(tmp_path)).restore()


def test_a_release_that_was_changed_on_the_disk_does_not_go_out(tmp_path: Path, reader: Bucket):
    """Nor does an object that was changed in the store come back."""
    publish(tmp_path, 1, 1)
    judged = made(tmp_path, "2026-03-02.nightly.00000002", 2)
    house = warehouse.of(tmp_path)
    changed = replace(judged, manifest=judged.manifest | {"sha256": "0"})
    with pytest.raises(NotAsJudged, match="is not the file that its manifest tells of"):
        warehouse.publish(replace(run_of(tmp_path), settings=settings.load(tmp_path)), changed)
    assert reader.shown() == 1
    told = reader.pointer()["file"]
    reader.s3.put_object(Bucket=reader.name, Key=f"night/{told['path']}", Body=b"other")
    with pytest.raises(NoStore, match="is not what was written there"):
        house.store.fetch(told, tmp_path / "fetched")


def test_each_market_has_a_folder_there(tmp_path: Path, reader: Bucket):
    """Releases of two markets may have one name."""
    for number, market in enumerate(("at", "ch"), start=1):
        publish(tmp_path / "markets" / market, 1, number)
    assert {name.partition("/")[0] for name in reader.names} == {"at", "ch"}


def test_a_folder_is_followed_like_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A disk that many machines share; nothing half-written stays."""
    monkeypatch.setenv("NIGHTSHELF_STORE__RELEASES", f"file://{tmp_path}/share")
    for day in (1, 2):
        publish(tmp_path / "home", day, day)
    told = json.loads((tmp_path / "share" / "current.json").read_text())
    assert pd.read_parquet(tmp_path / "share" / told["tables"]["two"]["path"])["n"].tolist() == [2]
    assert not list((tmp_path / "share").rglob("*.partial"))


def test_no_other_engine_is_followed(tmp_path: Path, bucket: str):
    """Where PostgreSQL has the releases, there are no files to copy."""
    with pytest.raises(BadSetting, match=r"follows a warehouse\.engine of duckdb"):
        warehouse.of(tmp_path, settings.load(tmp_path, {"warehouse.engine": "postgres"}))


@pytest.mark.parametrize(
    "url",
    ["s3://key:s3cr/et@bucket", "s3://bucket/x?secret_key=s3cr/et", "abfs://c:s3cr/et@account.dfs.core.windows.net"],
)
def test_no_secret_has_a_place_in_an_address(tmp_path: Path, url: str):
    """Settings are kept with each night and told in messages: what lets in by stands in the environment alone."""
    with pytest.raises(BadSetting, match=re.escape("store.releases = 's3://…'").replace("s3", ".*")) as told:
        settings.load(tmp_path, {"store.releases": url})
    assert "s3cr" not in str(told.value)
