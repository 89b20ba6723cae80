"""The lake in an object store: what is copied, what goes, and what a home whose disk is lost gets back."""

import datetime as dt
import itertools
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import forget, offsite, retention, settings
from pipelines.__main__ import app
from pipelines.errors import BadSetting, NoStore, NothingPublished
from pipelines.objects import Objects
from pipelines.run import Run, release_lease
from tests.conftest import deliver, event
from tests.test_clean import cleaned
from tests.test_object_store import Folder, fails

DAYS = [dt.date(2026, 3, n) for n in range(1, 6)]


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder that the settings name as the place of the copy."""
    monkeypatch.setenv("NIGHTSHELF_STORE__LAKE", f"file://{tmp_path}/share")
    return Folder(tmp_path / "share")


def lay(home: Path, day: int, rows: str = "rows", key: str = "0123") -> Path:
    """A partition as cleaning leaves it."""
    folder = home / "lake" / "events" / f"arrival_date=2026-03-{day:02}" / key
    (folder / "verdict=accepted").mkdir(parents=True)
    (folder / "verdict=accepted" / "part.parquet").write_text(rows)
    (folder / "books.json").write_text("[]")
    return folder


def follow(home: Path) -> int:
    return offsite.follow(home, settings.load(home))


def restored(home: Path, share: Folder) -> dict[str, str]:
    """What a home that is lost right now would get back."""
    target = home.with_name(f"{home.name}-again")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    offsite.restore(target, settings.load(target))
    return contents(target)


def contents(home: Path) -> dict[str, str]:
    paths = [path for path in (home / "lake").rglob("*") if path.is_file()]
    return {str(p.relative_to(home)): p.read_text() for p in paths if p.name not in ("copied.json", ".lock")}


def test_only_what_is_new_is_copied(tmp_path: Path, share: Folder, monkeypatch: pytest.MonkeyPatch):
    """A partition that was copied is not read again; one that cleaning has not finished waits."""
    home = tmp_path / "home"
    lay(home, 1)
    (lay(home, 2) / "books.json").unlink()
    assert follow(home) == 2
    assert (lay(home, 3), follow(home))[1] == 2
    monkeypatch.setattr(Objects, "_send", None)
    assert follow(home) == 0
    days = {name.split("/")[2] for name in share.names if name.startswith("lake/")}
    assert days == {"arrival_date=2026-03-01", "arrival_date=2026-03-03"}


def test_what_goes_here_goes_there(tmp_path: Path, share: Folder):
    """So do rows that were taken out of a file: nothing holds them any more."""
    home = tmp_path / "home"
    shutil.rmtree((lay(home, 1), lay(home, 2, "anna bert"), follow(home))[0])
    (home / "lake/events/arrival_date=2026-03-02/0123/verdict=accepted/part.parquet").write_text("bert anyw")
    assert follow(home) == 1
    assert not [name for name in share.names if b"anna" in share.read(name) or "2026-03-01" in name]
    assert restored(home, share) == contents(home)


def test_a_store_that_fails_at_any_request_holds_one_whole_lake(tmp_path: Path, share: Folder):
    """The one before or the new one can be restored from it; then the copy goes on, and nothing is left over."""
    laid = tmp_path / "laid"
    gone = lay(laid, 1)
    lay(laid, 2)
    follow(laid)
    there, before = {name: share.read(name) for name in share.names}, contents(laid)
    shutil.rmtree(gone)
    (laid / "lake/events/arrival_date=2026-03-02/0123/verdict=accepted/part.parquet").write_text("fewer")
    lay(laid, 3)
    for requests in itertools.count():
        home = Path(shutil.copytree(laid, tmp_path / str(requests)))
        share.lay(there)
        failed = fails(requests, lambda home=home: follow(home))
        assert restored(home, share) in ((before, contents(home)) if failed else (contents(home),))
        follow(home)
        assert restored(home, share) == contents(home)
        assert len(share.names) == 1 + len(contents(home))
        if not failed:
            break
    assert requests > 10


def test_two_homes_do_not_copy_to_one_place(tmp_path: Path, share: Folder):
    """Nor does an older copy of a home take away what came since; a home that was restored goes on."""
    home, old = tmp_path / "home", tmp_path / "old"
    lay(home, 1)
    follow(home)
    shutil.copytree(home, old)
    lay(home, 2)
    follow(home)
    lay(tmp_path / "other", 3)
    before = share.names
    for other in (old, tmp_path / "other"):
        for act in (follow, lambda one: offsite.ready(one, settings.load(one))):
            with pytest.raises(NoStore, match="another home copies its lake there, or this one is an older copy"):
                act(other)
    assert share.names == before
    restored(home, share)
    lay(tmp_path / "home-again", 3)
    assert follow(tmp_path / "home-again") == 2


def test_a_lake_is_restored_where_there_is_none(tmp_path: Path, share: Folder):
    """And from where one was copied to; a file that was changed there is not taken for it."""
    with pytest.raises(NothingPublished, match=r"share/lake\.json does not exist: no lake was copied there"):
        restored(tmp_path / "home", share)
    lay(tmp_path / "home", 1)
    follow(tmp_path / "home")
    with pytest.raises(BadSetting, match="only a home without any is restored"):
        offsite.restore(tmp_path / "home", settings.load(tmp_path))
    (name,) = [name for name in share.names if name.endswith(".parquet")]
    (share.folder / name).write_text("other")
    with pytest.raises(NoStore, match="is not what was written there"):
        restored(tmp_path / "home", share)


@pytest.mark.slow
def test_a_night_goes_on_from_the_copy(shop: Path, share: Folder, tmp_path_factory: pytest.TempPathFactory):
    """With days whose raw files are gone: the next night of the new home reads the same partitions, and cleans only
    what has arrived since. A user who is forgotten is in no object."""
    for n, day in enumerate(DAYS[:4], 1):
        deliver(shop, "events", str(day), [event(n, str(day)), event(10 + n, str(day), user_id="bert")])
    run = cleaned(shop, DAYS[3], **{"retention.raw_days": 2})
    release_lease(shop, run.run_id, "airflow:test")
    follow(shop)
    assert retention.clear_raw(run, dt.datetime.now(dt.UTC)) == ["2026-03-01", "2026-03-02"]
    assert follow(shop) == 1
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(shop / "raw", other / "raw")
    assert (
        "files of the lake are back"
        in CliRunner().invoke(app, ["store", "restore"], env={"NIGHTSHELF_HOME": str(other)}).output
    )
    deliver(other, "events", "2026-03-05", [event(5, "2026-03-05")])
    night = cleaned(other, DAYS[4])
    assert json.loads(night.of("clean", "cleaned.json").read_text())["count_days"] == 1
    assert _partitions(night)[:4] == _partitions(run)[:4]
    shutil.rmtree(shop / "runs" / run.run_id)
    forget.forget(["bert"], "asked for it", "anna", shop)
    assert not [name for name in share.names if b"bert" in share.read(name)]


def _partitions(run: Run) -> list[str]:
    folders = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    return [str(Path(folder).relative_to(run.home)) for folder in folders]
