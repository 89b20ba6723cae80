"""The SQL means what its examples say."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines import build, contracts
from pipelines.run import Run


def results(folder: Path, kind: str) -> dict[str, str]:
    """What became of each test of one kind, by the last word of its name."""
    told = json.loads((folder / "run_results.json").read_text())["results"]
    return {r["unique_id"].rpartition(".")[2]: r["status"] for r in told if r["unique_id"].startswith(f"{kind}.")}


@pytest.mark.slow
def test_every_unit_test_of_the_tables_passes(night: Run, tmp_path: Path):
    """All that the property files have. The night has performed the tests of its data, and none of these."""
    files = [yaml.safe_load(path.read_text()) for path in contracts.DBT.glob("models/*/*.yml")]
    names = {test["name"] for file in files for test in file.get("unit_tests", [])}
    marts = tmp_path / "marts.duckdb"
    shutil.copy(night.of("build", "marts.duckdb"), marts)
    build.dbt(night, tmp_path, marts, "test", "--select", "test_type:unit")
    assert results(tmp_path, "unit_test") == dict.fromkeys(names, "pass")
    assert results(night.of("build"), "unit_test") == {}
    assert set(results(night.of("build"), "test").values()) == {"pass"}
