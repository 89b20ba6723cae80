"""Only what the gate judged goes out: a release, a manifest or a verdict that was changed afterwards is refused."""

import json
from pathlib import Path

import duckdb
import pytest

from pipelines import contracts, warehouse
from pipelines.errors import GateFailed, NotAsJudged, StageNotReady
from pipelines.publish import let_out
from pipelines.run import Override, Run, stage, write_json
from tests.lake import run_of

CHECK = {"table_name": "items", "check_name": "unique", "level": "stop", "observed": "0", "expected": "0"}


def judged(home: Path, is_ok: bool = True, level: str = "stop") -> Run:
    """A run whose gate has judged a release of one item."""
    run = run_of(home)

    def judge(run: Run, folder: Path) -> None:
        with duckdb.connect(str(folder / "release.duckdb")) as release:
            for name in ("items", "quality_checks"):
                release.execute(contracts.tables("serving")[name].ddl())
            release.execute("insert into items by name select 'i1' as item_id, 'Mug' as title, true as is_available,"
                            f" '{run.run_id}' as run_id")  # fmt: skip
            told = CHECK | {"level": level}
            names, values = ", ".join(told), ", ".join(f"'{value}'" for value in told.values())
            release.execute(f"insert into quality_checks ({names}, is_ok, run_id) values ({values}, {is_ok}, 'r')")
        warehouse.seal(run, folder, {"items": {"count_rows": 1, "hash": "aa"}})

    judge.__module__ = "pipelines.validate"
    stage(judge)(run)
    return run


def edit(path: Path, **changes: object) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


def test_the_manifest_tells_what_the_release_is_and_was_made_from(tmp_path: Path):
    """Rows and hash by table, the file's sha256, code, settings, seed and input."""
    run = judged(tmp_path)
    made = warehouse.judged(run)
    assert made.manifest["tables"] == {"items": {"count_rows": 1, "hash": "aa"}}
    assert (made.manifest["code_version"], made.manifest["seed"], made.manifest["inputs"]) == ("test", 17, {})
    assert made.manifest["settings"]["als"]["factors"] == run.settings.als.factors
    assert made.name.startswith("2026-03-01.nightly.")


def test_a_table_that_changed_after_the_verdict_is_not_published(tmp_path: Path):
    """One price more in the file, and its bytes are not those of the manifest."""
    run = judged(tmp_path)
    with duckdb.connect(str(run.of("validate", "release.duckdb"))) as release:
        release.execute("update items set price_cents = 1")
    with pytest.raises(NotAsJudged, match=r"release.duckdb was changed after the verdict"):
        warehouse.judged(run)


@pytest.mark.parametrize("change", [{"seed": 18}, {"tables": {}}, {"sha256": "00"}])
def test_a_manifest_edited_by_hand_is_not_published(tmp_path: Path, change: dict):
    """The verdict is bound to its bytes."""
    run = judged(tmp_path)
    edit(run.of("validate", "manifest.json"), **change)
    with pytest.raises(NotAsJudged, match=r"manifest.json was changed after the verdict"):
        warehouse.judged(run)


def test_a_verdict_edited_by_hand_is_not_published(tmp_path: Path):
    """The checks in the release say that one failed, whatever the verdict says."""
    run = judged(tmp_path, is_ok=False)
    with pytest.raises(GateFailed, match=r"items.unique: 0, expected 0"):
        warehouse.judged(run)
    edit(run.of("validate", "verdict.json"), failed=[])
    with pytest.raises(NotAsJudged, match=r"verdict.json does not say what the checks in the release say"):
        warehouse.judged(run)


def test_what_a_person_may_let_pass_waits_for_a_reason(tmp_path: Path):
    """Nothing is published before somebody says why; the release history keeps who and why."""
    run = judged(tmp_path, is_ok=False, level="ask")
    assert warehouse.doubts(run) == ["items.unique: 0, expected 0"]
    with pytest.raises(GateFailed, match=r"waits for a person's word: .*`nightshelf publish 2026-03-01.nightly --why"):
        warehouse.judged(run)
    let_out(run, Override("a new season", "anna"))
    allowed = Run.load(run.run_id, tmp_path)
    warehouse.publish(allowed, warehouse.judged(allowed))
    (record,) = warehouse.history(tmp_path)
    assert (record["why"], record["who"]) == ("a new season", "anna")


def test_no_reason_lets_out_what_is_plainly_wrong(tmp_path: Path):
    """A check of level `stop` stops, whoever says what."""
    run = judged(tmp_path, is_ok=False)
    let_out(run, Override("a new season", "anna"))
    assert warehouse.doubts(run) == []
    with pytest.raises(GateFailed, match="validation failed"):
        warehouse.judged(Run.load(run.run_id, tmp_path))


@pytest.mark.parametrize("name", ["release.duckdb", "manifest.json", "verdict.json"])
def test_what_is_gone_or_cut_off_is_not_published(tmp_path: Path, name: str):
    """Each of the three must be there, whole."""
    run = judged(tmp_path)
    path = run.of("validate", name)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(NotAsJudged):
        warehouse.judged(run)
    path.unlink()
    with pytest.raises(NotAsJudged, match=r"is not whole .*`nightshelf validate 2026-03-01.nightly`"):
        warehouse.judged(run)


def test_the_verdict_of_another_run_is_none(tmp_path: Path):
    """A folder that was copied over belongs to the run that made it."""
    run = judged(tmp_path)
    other = run_of(tmp_path, seed=18)
    with pytest.raises(StageNotReady):
        warehouse.judged(other)
    edit(run.folder / "validate" / "stage.json", fingerprint=other.fingerprint)
    with pytest.raises(NotAsJudged, match="holds what another run made"):
        warehouse.judged(other)
