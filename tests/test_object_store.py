"""Readers of an object store see one whole release, whatever a publication dies of; nothing else stays there."""

import io
import itertools
import json
import os
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

from pipelines import night as whole_night
from pipelines import retention, settings, warehouse
from pipelines.__main__ import app
from pipelines.errors import BadSetting, NoStore, NotAsJudged, NothingPublished
from pipelines.forget.delivered import mentions
from pipelines.objects import Objects
from pipelines.run import Run
from pipelines.warehouse import mirror
from pipelines.warehouse.manifest import Judged, sha256
from tests import object_store
from tests.conftest import LAST_DAY, SMALL, linked
from tests.lake import run_of
from tests.object_store import Server
from tests.test_forget import holding

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
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


class Reader:
    """Somebody who knows nothing but where the pointer is."""

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
        return sorted({name.split("/")[1].rpartition(".")[0] for name in self.names if name.startswith("releases/")})


class Bucket(Reader):
    def __init__(self, server: Server, name: str) -> None:
        self.s3, self.name = server.s3, name

    def read(self, name: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=f"night/{name}")["Body"].read()

    @property
    def names(self) -> set[str]:
        listed = self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {one["Key"].removeprefix("night/") for one in listed if not one["Key"].endswith("/")}

    def lay(self, there: dict[str, bytes]) -> None:
        """Have there what was there, and nothing else."""
        for one in self.s3.list_objects_v2(Bucket=self.name).get("Contents", []):
            self.s3.delete_object(Bucket=self.name, Key=one["Key"])
        for name, content in there.items():
            self.s3.put_object(Bucket=self.name, Key=f"night/{name}", Body=content)


class Folder(Reader):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    @property
    def names(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def lay(self, there: dict[str, bytes]) -> None:
        shutil.rmtree(self.folder)
        for name, content in there.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)


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
    told = {"code_version": str(number), "settings": {}, "inputs": {}, "tables": tables, "sha256": sha256(path)}
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
    assert told["tables"]["two"]["columns"] == {"n": "integer", "day": "date"}
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
    forget(tmp_path)
    for name in reader.names:
        assert b"anna" not in reader.read(name), name
    told = reader.pointer()["tables"]["one"]
    assert pd.read_parquet(io.BytesIO(reader.read(told["path"])))["user_id"].tolist() == ["bert"]
    assert reader.shown() == 2
    assert before & reader.names == {"current.json", "home/book.json"}
    assert len(before) == len(reader.names)


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of three nights that no store follows, and the release of a fourth."""
    home = tmp_path_factory.mktemp("laid")
    for day in (1, 2, 3):
        publish(home, day, day)
    made(home, "2026-03-04.nightly.00000004", 4)
    return home


def forget(home: Path) -> None:
    house = warehouse.of(home)
    with house.locked():
        for name in house.kept():
            house.erase(name, ["anna"], mentions(["anna"]).pattern)


def follow(home: Path) -> None:
    """What `nightshelf store follow` does."""
    with warehouse.of(home).locked():
        pass


WAYS: dict[str, tuple[Callable[[Path], object], int]] = {
    "publish": (lambda home: publish(home, 4, 4), 4),
    "rollback": (lambda home: warehouse.rollback(home, None, "wrong prices", "anna"), 2),
    "forget": (forget, 3),
    "clear": (lambda home: retention.clear_releases(home, settings.load(home, {"retention.releases": 1})), 3),
}


def test_a_night_brings_its_release_and_its_lake(
    night: Run, tmp_path: Path, reader: Bucket, monkeypatch: pytest.MonkeyPatch
):
    """Every table has the hash that was judged, and no file of the home has the secret; another home gets all of it."""
    home = linked(night.home, tmp_path / "home")
    shutil.rmtree(home / "warehouse")
    shutil.rmtree(home / "runs" / night.run_id / "publish")
    monkeypatch.setenv("NIGHTSHELF_STORE__LAKE", f"s3://{reader.name}/lake")
    run = whole_night.run(day=LAST_DAY, overrides=SMALL, home=home)
    told, manifest = reader.pointer(), warehouse.of(home).manifest(warehouse.current(home))
    assert {*told["tables"]} == {*manifest["tables"]}
    for name, one in told["tables"].items():
        (path := tmp_path / f"{name}.parquet").write_bytes(reader.read(one["path"]))
        with duckdb.connect() as release:
            found = warehouse.tables.summed(release, f"read_parquet('{path}')", name)
        assert found.items() <= manifest["tables"][name].items()
        assert one["columns"] == manifest["tables"][name]["columns"]
    assert json.loads(run.of("publish", "release.json").read_text())["copied_lake_files"] > 100
    assert holding(home, os.environ["AWS_SECRET_ACCESS_KEY"]) == []
    monkeypatch.setenv("NIGHTSHELF_HOME", str(other := tmp_path / "other"))
    assert CliRunner().invoke(app, ["store", "restore"]).exit_code == 0
    assert sha256(other / "warehouse" / "current.duckdb") == manifest["sha256"] == told["file"]["sha256"]
    assert {*lake_files(other)} == {*lake_files(home)}
    size = sum(one["size"] for one in told["tables"].values())
    print(f"{len(told['tables'])} tables: {size:,} bytes as Parquet beside a file of {told['file']['size']:,}")


def test_the_page_tells_how_to_read(tmp_path: Path, server: Server, reader: Bucket):
    """Its lines give a table of the current release."""
    publish(tmp_path, 1, 1)
    (code,) = re.findall("```python\n(.*?)```", (ROOT / "docs" / "runbook.md").read_text(), re.DOTALL)
    host = server.address.removeprefix("http://")
    address = f"s3://{reader.name}/night?endpoint_override={host}&scheme=http"
    told: dict = {}
    exec(code.replace("s3://bucket/night", address).replace("'items'", "'two'"), told)
    assert told["items"].to_pydict()["n"] == [1]


def lake_files(home: Path) -> list[tuple[str, int]]:
    found = (home / "lake").glob("*/arrival_date=*/**/*")
    return [(str(path.relative_to(home)), path.stat().st_size) for path in found if path.is_file()]


class Failing:
    """A store of which the n-th request fails, and every one after it; half of what it was to write may be there."""

    def __init__(self, store: fs.FileSystem | None, requests: int) -> None:
        self.store, self.left = store, requests

    def __getattr__(self, name: str) -> Callable:
        return partial(self.ask, getattr(self.store, name))

    def ask(self, method: Callable, *told: object) -> object:
        self.left -= 1
        if self.left < 0:
            raise OSError("the store is gone")
        return method(*told)

    def open_output_stream(self, target: str) -> object:
        if not self.left and not target.endswith(".json"):  # these are a single request each
            return Half(self, target)
        return self.ask(self.store.open_output_stream, target)


class Half(io.BytesIO):
    """What is written there is cut off in the middle."""

    def __init__(self, failing: Failing, target: str) -> None:
        super().__init__()
        self.failing, self.target = failing, target

    def close(self) -> None:
        with self.failing.store.open_output_stream(self.target) as stream:
            stream.write(self.getvalue()[: len(self.getvalue()) // 2])
        super().close()
        self.failing.ask(lambda: None)


def fails(requests: int, act: Callable[[], object]) -> bool:
    """Whether `act` ended with NoStore since the store failed at one of its requests."""
    connect = Objects.place.func
    failing = Failing(None, requests)

    def place(self: Objects) -> tuple[Failing, str]:
        failing.store, folder = connect(self)
        return failing, folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "place", property(place))
        try:
            act()
        except NoStore as error:
            said = str(error)
        else:
            return False
    assert "the store is gone" in said
    return True


def check(home: Path, reader: Bucket | Folder, way: str, step: int, tmp_path: Path) -> None:
    """Fail at each `step`-th request of a move, and then do what is left."""
    act, after = WAYS[way]
    follow(home)
    there = {name: reader.read(name) for name in reader.names}
    for requests in itertools.count(step=step):
        copy = Path(shutil.copytree(home, tmp_path / str(requests), symlinks=True))
        reader.lay(there)
        failed = fails(requests, partial(act, copy))
        assert reader.shown() in ((3, after) if failed else (after,))
        follow(copy)
        kept = warehouse.of(copy).kept()
        assert (reader.shown(), reader.releases()) == (after, kept)
        assert len(reader.names) == 2 + 4 * len(kept)
        if not failed:
            break
    assert requests > 4
    print(f"{way}: the store fails at each of {requests} requests, by {step}")


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_that_fails_at_any_request_leads_to_one_whole_release(
    laid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
):
    """The one before or the new one; when the store has followed again, the move is whole and nothing is left over."""
    monkeypatch.setenv("NIGHTSHELF_STORE__RELEASES", f"file://{tmp_path}/share")
    check(laid, Folder(tmp_path / "share"), way, 9 if way == "forget" else 1, tmp_path)


def test_a_store_that_fails_at_a_request_leads_to_one_whole_release(laid: Path, tmp_path: Path, reader: Bucket):
    """So does a server that speaks S3."""
    check(laid, reader, "publish", 4, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "ACCESS_DENIED"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "ACCESS_DENIED"),
        ({"NIGHTSHELF_STORE__RELEASES": "s3://no-such-bucket/night"}, "NO_SUCH_BUCKET"),
        ({"NIGHTSHELF_STORE__ENDPOINT": "http://127.0.0.1:1"}, "NETWORK_CONNECTION"),
    ],
)
def test_a_store_that_refuses_is_found_out_before_the_night(
    tmp_path: Path, reader: Bucket, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], told: str
):
    """The message names setting and variables, not what is in them; a publication that finds it out leaves readers
    where they were, and `nightshelf store follow` brings what they missed."""
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
    done = CliRunner().invoke(app, ["store", "follow"])
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
    assert f"Readers see {first}." in CliRunner().invoke(app, ["store", "restore"]).output
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
    reader.s3.put_object(Bucket=reader.name, Key="night/current.json", Body=b"{")
    with pytest.raises(NoStore, match=r"current\.json is no JSON: remove it"):
        house.ready()


def test_what_arrives_otherwise_is_not_shown(tmp_path: Path, reader: Bucket, monkeypatch: pytest.MonkeyPatch):
    """A store that takes in half of a file, and says nothing."""
    publish(tmp_path, 1, 1)
    send = Objects._send

    def half(self: Objects, path: Path, target: str) -> None:
        if path.suffix == ".parquet":
            path.write_bytes(path.read_bytes()[:-1])
        send(self, path, target)

    monkeypatch.setattr(Objects, "_send", half)
    with pytest.raises(NoStore, match=r"one\.parquet is not what was sent there"):
        publish(tmp_path, 2, 2)
    assert reader.shown() == 1


def test_each_market_has_a_folder_there(tmp_path: Path, reader: Bucket):
    """Releases of two markets may have one name."""
    for number, market in enumerate(("at", "ch"), start=1):
        publish(tmp_path / "markets" / market, 1, number)
    assert {name.partition("/")[0] for name in reader.names} == {"at", "ch"}


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
    with pytest.raises(BadSetting, match=r"store\.releases = '\w+://…':") as told:
        settings.load(tmp_path, {"store.releases": url})
    assert "s3cr" not in str(told.value)
