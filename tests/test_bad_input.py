"""Bad input ends with one clear message and a non-zero exit, leaves nothing half-written, and touches no release."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import deliver, event


def nightshelf(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "NIGHTSHELF_HOME": str(home), "COLUMNS": "300", **environment}
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], env=env, capture_output=True, text=True, timeout=300
    )


def refused(home: Path, *arguments: str, **environment: str) -> str:
    """What a night says when it is refused; it must exit with 1, without a traceback, and leave nothing."""
    (home / "warehouse").mkdir(exist_ok=True)
    current = home / "warehouse" / "current.duckdb"
    current.write_text("last night")
    told = nightshelf(home, "night", *arguments, **environment)
    assert told.returncode == 1, told.stdout + told.stderr
    assert "Traceback" not in told.stderr
    assert current.read_text() == "last night"
    assert not [path for path in home.rglob("*.partial") if "airflow" not in path.parts]
    assert not list((home / "runs").glob("*.lease")) or "RunBusy" in told.stderr
    return " ".join(told.stderr.split())


def test_a_missing_raw_folder(tmp_path: Path):
    """No raw/ at all: the message offers to lay files there, to import and to generate."""
    assert "No raw folder" in (told := refused(tmp_path, "--day", "2026-03-01"))
    assert "nightshelf generate" in told


def test_a_day_without_data(shop: Path):
    """The nearest days that arrived are named."""
    told = refused(shop, "--day", "2026-03-05")
    assert "NoDataForDay: No events arrived on 2026-03-05" in told
    assert "2026-03-01" in told
    assert not (shop / "runs").exists()


def test_an_empty_day(shop: Path):
    """A folder whose file has no rows is no day."""
    deliver(shop, "events", "2026-03-02", [])
    assert "raw/events/dt=2026-03-02 holds no rows" in refused(shop, "--day", "2026-03-02")


@pytest.mark.parametrize("name", ["part.jsonl.gz", "part.parquet", "part.csv.gz"])
def test_a_file_that_is_cut_off(shop: Path, name: str):
    """The file and the cure are named, before anything is cleaned."""
    path = deliver(shop, "events", "2026-03-02", [], name)
    path.write_bytes(gzip.compress(os.urandom(4000))[:1500])
    told = refused(shop, "--day", "2026-03-02")
    assert f"{name} is cut off or broken" in told
    assert "Deliver the file of 2026-03-02 again" in told


def test_a_missing_column(shop: Path):
    """The column, the nearest one in the file, the line for nightshelf.toml and the first row are shown."""
    row = event(2, day="2026-03-02")
    row["ocurred"] = row.pop("occurred_at")
    deliver(shop, "events", "2026-03-02", [row])
    told = refused(shop, "--day", "2026-03-02")
    assert "events.occurred_at in raw/events/dt=2026-03-02/part.jsonl: column 'occurred_at' is missing" in told
    assert '[columns.events] occurred_at = "ocurred"' in told
    assert "anna" in told


@pytest.mark.slow
def test_a_wrong_column_type(shop: Path):
    """A column that is text where a number should be stops the night with rule, count and example."""
    deliver(shop, "events", "2026-03-02", [event(n, day="2026-03-02", price_cents="cheap") for n in range(2, 30)])
    told = refused(shop, "--day", "2026-03-02")
    assert "28 of 29 rows" in told
    assert "unreadable_price_cents" in told
    assert not (shop / "lake" / "events").exists()


def test_a_setting_that_does_not_exist(shop: Path):
    """The nearest setting is offered."""
    told = refused(shop, "--day", "2026-03-01", "--set", "als.factrs=8")
    assert "BadSetting: als.factrs is no setting. Did you mean als.factors?" in told
    assert not (shop / "runs").exists()


def test_a_second_run_of_the_same_day(shop: Path):
    """The one that came second ends at once, says who works, and leaves the first one's lease."""
    lease = shop / "runs" / "2026-03-01.nightly.lease"
    lease.parent.mkdir()
    lease.write_text(f'{{"owner": "cli:{os.uname().nodename}:{os.getpid()}"}}')
    told = refused(shop, "--day", "2026-03-01")
    assert f"RunBusy: 2026-03-01.nightly is being worked on by cli:{os.uname().nodename}:{os.getpid()}" in told
    assert [path.name for path in (shop / "runs").iterdir()] == [lease.name]


def test_check_says_it_before_anything_is_written(shop: Path):
    """`nightshelf check` exits with 1 and the same message, and with 0 when all is well."""
    good = nightshelf(shop, "check")
    assert (good.returncode, "1 events" in good.stdout) == (0, True)
    deliver(shop, "items", "2026-03-01", [{"item_id": "i1", "name": "Mug"}], "more.jsonl")
    bad = nightshelf(shop, "check")
    assert bad.returncode == 1
    assert "items.title" in bad.stderr
    assert not (shop / "runs").exists()


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("price_cents", "cheap", "a bigint"),
        ("occurred_at", "yesterday", "a timestamp"),
        ("event_type", "look", "one of search"),
    ],
)
def test_check_names_a_column_whose_values_are_wrong(shop: Path, column: str, value: str, kind: str):
    """Type or words are not those of the contract: the column, how many, an example and a row are shown."""
    deliver(shop, "events", "2026-03-01", [event(1), *(event(n, **{column: value}) for n in range(2, 6))])
    told = nightshelf(shop, "check")
    assert told.returncode == 1
    assert f"events.{column} in raw/events/dt=2026-03-01/part.jsonl: 4 of the first" in told.stderr
    assert f"values are not {kind}" in told.stderr
    assert f"for example '{value}'" in told.stderr


def test_check_allows_the_words_that_are_mapped(shop: Path):
    """`[event_types]` makes the shop's own word a right one."""
    deliver(shop, "events", "2026-03-01", [event(1, event_type="Look")])
    (shop / "nightshelf.toml").write_text('[event_types]\nlook = "view"\n')
    assert nightshelf(shop, "check").returncode == 0


def test_a_run_that_does_not_exist(shop: Path):
    """A stage of an unknown run names the known ones."""
    told = nightshelf(shop, "build", "2026-01-01.nightly")
    assert told.returncode == 1
    assert "No run 2026-01-01.nightly" in told.stderr
