"""Queries that nobody typed yet are answered from the current release, at once and then every night."""

import shutil
from pathlib import Path

import pytest

from pipelines import asked, settings, warehouse
from pipelines.errors import BadSetting, GateFailed, NightshelfError, NothingPublished
from pipelines.settings import Settings

QUERIES = ["Wooden  GARDEN gloves", "tea strainer"]
FOLDED = ["wooden garden gloves", "tea strainer"]


@pytest.fixture(scope="module")
def released(night, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has nothing but the night's releases."""
    home = tmp_path_factory.mktemp("asked")
    shutil.copytree(night.home / "warehouse", home / "warehouse", symlinks=True)
    return home


@pytest.mark.slow
def test_a_list_is_published_at_once_and_kept_for_the_nights(released: Path):
    """The new release is the one before with further answers and checks; asked again, the list is refused."""
    house, before = warehouse.of(released), warehouse.current(released)
    run, new = asked.answer(released, QUERIES, "cli:here:1")
    after = house.manifest(warehouse.current(released))
    changed = {name for name, told in after["tables"].items() if told != house.manifest(before)["tables"][name]}
    assert changed == {"search_results", "quality_checks"}
    assert (after["inputs"], new) == ({f"warehouse/{before}": house.manifest(before)["sha256"]}, sorted(FOLDED))
    with warehouse.connect(released) as release:
        told = "select distinct query from search_results where run_id = ?"
        assert {query for (query,) in release.execute(told, [run.run_id]).fetchall()} == set(FOLDED)
        failed = "select count(*) from quality_checks where check_name like 'asked/%' and not is_ok"
        assert release.execute(failed).fetchone() == (0,)
    assert settings.load(released).search.queries == FOLDED
    with pytest.raises(NightshelfError, match="answered in the current release already"):
        asked.answer(released, QUERIES, "cli:here:1")
    assert warehouse.history(released)[-1]["replaced"] == before


@pytest.mark.slow
def test_answers_that_fail_a_gate_change_nothing(released: Path, monkeypatch: pytest.MonkeyPatch):
    """Of two queries one finds nothing, and the shop wants nine of ten answered: readers keep what they have."""
    monkeypatch.setenv("NIGHTSHELF_GATES__MIN_QUERIES_ANSWERED", "0.9")
    monkeypatch.setattr(asked, "checked", lambda queries, told: list(queries))
    before, kept = warehouse.current(released), settings.load(released).search.queries
    with pytest.raises(GateFailed, match="asked/queries_answered"):
        asked.answer(released, ["paper lantern", "??"], "cli:here:1")
    assert (warehouse.current(released), settings.load(released).search.queries) == (before, kept)


@pytest.mark.slow
def test_each_night_answers_what_is_kept(night):
    """`search.queries` of the night, which nobody typed, have results."""
    with warehouse.connect(night.home) as release:
        query = "select count(*) from queries where list_contains(?, query)"
        assert release.execute(query, [night.settings.search.queries]).fetchone() == (0,)
        told = "select distinct query from search_results where list_contains(?, query)"
        found = {query for (query,) in release.execute(told, [night.settings.search.queries]).fetchall()}
    assert found == set(night.settings.search.queries) != set()


@pytest.mark.parametrize("queries", [[], ["mug", "  "], ["mug", "??"], ["x" * 257], ["\N{SLIGHTLY SMILING FACE}"]])
def test_a_wrong_list_is_refused_before_anything_is_written(queries: list[str], tmp_path: Path):
    """Nothing to answer, a query without a word, or one that nobody would read to its end."""
    with pytest.raises(BadSetting, match="Nothing was written"):
        asked.answer(tmp_path, queries, "cli:here:1")
    assert list(tmp_path.iterdir()) == []


def test_before_the_first_night_there_is_nothing_to_derive_from(tmp_path: Path):
    """The error says what to do, and nothing is kept."""
    with pytest.raises(NothingPublished, match="Run a night"):
        asked.answer(tmp_path, ["mug"], "cli:here:1")
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_folded_as_the_tables_are():
    """Case and spaces do not make another query."""
    assert asked.checked(["Tea  strainer", " tea strainer ", "mug"], Settings()) == ["tea strainer", "mug"]


def test_kept_queries_are_read_by_their_heading(tmp_path: Path):
    """Quotes and commas survive; a row without a query is named by its line."""
    asked.keep(tmp_path, ['5" pot, blue', "mug"])
    asked.keep(tmp_path, ["mug", "Cup "])
    assert settings.load(tmp_path, {}, {}).search.queries == ['5" pot, blue', "mug", "cup"]
    (tmp_path / "queries.csv").write_text("search\nmug\n")
    with pytest.raises(BadSetting, match=r"queries\.csv, line 2: no query"):
        settings.load(tmp_path, {}, {})
