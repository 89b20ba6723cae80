"""Under a key nothing outside the raw files tells who a user is, and whoever knows an id finds what it became."""

import hmac
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import build, check, forgotten, pseudonyms, quarantine, settings
from pipelines.errors import BadInput, BadSetting
from pipelines.forget import forget
from pipelines.open import open_run
from pipelines.pseudonyms import Names
from pipelines.run import Run, release_lease
from pipelines.settings import Clean
from tests.conftest import KEY, LAST_DAY, deliver, event
from tests.lake import run_of
from tests.test_clean import DAY, accepted, cleaned
from tests.test_forget import holding

CANARY = "canary-7f3a"
NAMED = Names(KEY.encode())


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.setenv("NIGHTSHELF_CLEAN__PSEUDONYM_KEY", "SHOP_KEY")


def test_a_name_is_the_keyed_hash_of_the_id():
    """HMAC-SHA256, hexadecimal, of the id without the space around it; of a name, itself."""
    name = hmac.new(KEY.encode(), b"anna", "sha256").hexdigest()
    assert NAMED.of(" anna ") == NAMED.of(name) == name
    assert NAMED.column(pa.chunked_array([["anna", None], ["anna"]])).to_pylist() == [name, None, name]
    assert Names().of("anna") == "anna"
    assert KEY not in repr(NAMED)


def test_merged_ids_have_one_name():
    """Where spellings do not count, they do not count for the name either."""
    merged = Names(KEY.encode(), is_merged=True)
    assert merged.of("Anna  B") == merged.of("anna b") == merged.column(pa.array(["ANNA B"]))[0].as_py()


@pytest.mark.parametrize("value", [None, "short"])
def test_a_key_that_is_missing_or_short_is_found_before_the_night(
    shop: Path, monkeypatch: pytest.MonkeyPatch, keyed: None, value: str | None
):
    """The message names the variable, never its value."""
    if value is None:
        monkeypatch.delenv("SHOP_KEY")
    else:
        monkeypatch.setenv("SHOP_KEY", value)
    with pytest.raises(BadSetting, match=r"SHOP_KEY, which (is not set|holds 5 characters)") as told:
        check.inputs(shop, settings.load(shop), DAY)
    assert "short" not in str(told.value)


def test_another_key_is_found_before_the_night(shop: Path, monkeypatch: pytest.MonkeyPatch, keyed: None):
    """Every user would be another one; neither key is told."""
    pseudonyms.keep(shop, settings.load(shop).clean)
    monkeypatch.setenv("SHOP_KEY", "q" * 32)
    with pytest.raises(BadSetting, match="another key than before") as told:
        check.inputs(shop, settings.load(shop), DAY)
    assert "qqq" not in str(told.value) + (shop / pseudonyms.RECORD).read_text()


@pytest.mark.parametrize("wrong", [{"pseudonym_key": "NIGHTSHELF_KEY"}, {"pseudonym_key": "K", "ids": "reject"}])
def test_what_cannot_work_is_refused(wrong: dict[str, str]):
    """A variable that would be taken for a setting; and spellings are not compared once they are hashed."""
    with pytest.raises(BadSetting, match=r"is a setting|compares how ids are written"):
        settings.parse({"clean": wrong})


def test_a_known_name_needs_no_key(monkeypatch: pytest.MonkeyPatch):
    """Who reads tables has names from them; only an id has to be hashed."""
    monkeypatch.delenv("SHOP_KEY", raising=False)
    told = Clean(pseudonym_key="SHOP_KEY")
    assert pseudonyms.of(told, NAMED.of("anna")) == NAMED.of("anna")
    with pytest.raises(BadSetting, match="SHOP_KEY"):
        pseudonyms.of(told, "anna")


def test_a_message_about_a_file_shows_no_row(shop: Path, keyed: None):
    """It ends up in logs; without the key it does show one."""
    deliver(shop, "events", "2026-03-01", [{"who": CANARY, "item_id": "i1"}])
    with pytest.raises(BadInput, match="event_type") as told:
        check.inputs(shop, settings.load(shop), DAY)
    assert CANARY not in str(told.value)
    with pytest.raises(BadInput, match=CANARY):
        check.inputs(shop, settings.load(shop, {"clean.pseudonym_key": ""}), DAY)


@pytest.mark.parametrize("said", [CANARY, NAMED.of(CANARY)])
def test_a_run_has_those_who_are_allowed_by_their_names(shop: Path, keyed: None, said: str):
    """Whatever they were called in the settings, which go with the run to readers."""
    run = open_run(owner="airflow:test", day=LAST_DAY, overrides={"bots.allow": [said, "s 1"]}, home=shop)
    assert run.settings.bots.allow == [NAMED.of(CANARY), NAMED.of("s 1")]
    assert holding(shop, CANARY) == []
    assert settings.load(shop, {"clean.pseudonym_key": "", "bots.allow": said}).bots.allow == [said]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"clean.pseudonym_key": "SHOP_KEY"}, {NAMED.of("Anna  B"), NAMED.of("s 1"), "s 1"}),
        ({"clean.ids": "merge"}, {"Anna  B", "anna b", "s 1"}),
        ({}, {"Anna  B", "s 1"}),
    ],
)
def test_users_and_sessions_are_allowed_as_the_tables_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], expected: set[str]
):
    """Users by their names; sessions, which have none, by their ids; sessions that nobody named are not among them."""
    monkeypatch.setenv("SHOP_KEY", KEY)
    run = run_of(tmp_path, **changes, **{"bots.allow": ["Anna  B", "s 1"]})
    run = replace(run, settings=pseudonyms.settled(run.settings))
    with duckdb.connect(str(tmp_path / "marts.duckdb")) as marts:
        marts.execute("create schema lake")
        marts.execute("create table lake.events as select unnest(['s 1', 's 2', null, 's 1']) as session_id")
    assert set(build.allowed(run, tmp_path / "marts.duckdb")) == expected


@pytest.mark.parametrize("allowed", [CANARY, NAMED.of(CANARY)])
@pytest.mark.parametrize("said", [CANARY, NAMED.of(CANARY)])
def test_who_is_allowed_by_either_name_is_not_forgotten(shop: Path, keyed: None, said: str, allowed: str):
    """The setting would name the user still: it is refused, and says where."""
    (shop / "nightshelf.toml").write_text(f'bots.allow = ["{allowed}"]')
    with pytest.raises(BadSetting, match=r"bots\.allow names 1 of these users"):
        forget([said], "asked for it", "bert", shop)


@pytest.fixture
def dirty(shop: Path, keyed: None) -> Run:
    """The canary is in true rows of text and Parquet, in a rejected one, and in one that cannot be read."""
    rows = [event(1), event(2, user_id=CANARY), event(3, user_id=CANARY, item_id="i99"), f'{{"user_id": "{CANARY}']
    deliver(shop, "events", "2026-03-01", rows)
    path = shop / "raw" / "users" / "dt=2026-03-01" / "users.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [CANARY, "anna"]}), path)
    return cleaned(shop)


@pytest.mark.slow
def test_nothing_but_raw_files_holds_the_id(dirty: Run, caplog: pytest.LogCaptureFixture):
    """Neither the lake, nor its quarantine, nor the run; the rows of the user are there under the name."""
    assert {place.partition("/")[0] for place in holding(dirty.home, CANARY)} == {"raw"}
    assert holding(dirty.home, KEY) == []
    assert set(accepted(dirty, "user_id")) == {(NAMED.of("anna"),), (NAMED.of(CANARY),)}
    assert CANARY not in caplog.text


@pytest.mark.slow
def test_quarantine_reads_from_raw_files_what_it_does_not_keep(dirty: Run, tmp_path: Path):
    """Rows come back as they were delivered, while their file is there."""
    texts = {row.rule: row.original for row in quarantine.open_rows(dirty, quarantine.Wanted())}
    assert set(texts) == {"unknown_item", "unparsable_row"}
    assert json.loads(texts["unknown_item"])["user_id"] == CANARY
    assert texts["unparsable_row"] == f'{{"user_id": "{CANARY}'


@pytest.mark.slow
@pytest.mark.parametrize("said", [CANARY, NAMED.of(CANARY)])
def test_a_user_is_forgotten_by_id_or_by_name(dirty: Run, said: str):
    """The rows leave raw files and lake; of one that cannot be read only the id tells whose it is."""
    release_lease(dirty.home, dirty.run_id, "airflow:test")
    counts = forget([said], "asked for it", "anna", dirty.home)["counts"]
    assert counts["raw_rows"] == (4 if said == CANARY else 3)
    assert holding(dirty.home, NAMED.of(CANARY)) == []
    assert NAMED.of(CANARY) in forgotten.load(dirty.home)
