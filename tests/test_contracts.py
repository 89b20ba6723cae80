"""The contract reader understands every constraint of the property files, or says that it does not."""

from pathlib import Path

import duckdb
import pytest

from pipelines import contracts


def write(tmp_path: Path, column: str) -> Path:
    path = tmp_path / "models.yml"
    path.write_text(
        "version: 2\nmodels:\n  - name: mugs\n    description: Mugs.\n    columns:\n"
        f"      - {{ name: size, data_type: bigint, description: Size., {column} }}\n"
    )
    return path


def test_a_constraint_that_is_not_understood_raises(tmp_path: Path):
    """A silent rule is no rule."""
    with pytest.raises(contracts.UnknownConstraint, match=r"mugs.size: constraint 'is_prime'"):
        list(contracts._read(write(tmp_path, "data_tests: [is_prime]")))


def test_a_type_that_is_not_known_raises(tmp_path: Path):
    """Types outside the list have no DDL on both warehouses."""
    with pytest.raises(contracts.UnknownConstraint, match="data_type 'blob'"):
        list(contracts._read(write(tmp_path, "data_type: blob")))


def test_constraints_are_read(tmp_path: Path):
    """not_null, unique, accepted_values, ranges and relationships become facts of the column."""
    tests = (
        "data_tests: [not_null, unique, { accepted_values: { arguments: { values: [1, 2] } } },"
        " { in_range: { arguments: { minimum: 1, maximum: 9 } } },"
        " { relationships: { arguments: { to: ref('shelves'), field: id } } }]"
    )
    (table,) = contracts._read(write(tmp_path, tests))
    column = table["size"]
    assert (column.is_required, column.is_unique, column.accepted_values) == (True, True, (1, 2))
    assert (column.minimum, column.maximum, column.references) == (1, 9, ("shelves", "id"))
    assert table.key == ("size",)


@pytest.mark.parametrize("layer", contracts.LAYERS)
def test_every_table_has_a_key_and_says_its_grain(layer: str):
    """The description of each table ends with its grain, and the DDL is valid SQL."""
    for table in contracts.tables(layer).values():
        assert table.key, table.name
        assert set(table.key) <= set(table.names), table.name
        assert "one row per " in table.description, table.name
        duckdb.connect().execute(table.ddl())


def test_references_lead_to_columns():
    """Every relationship of a published table names a published table and its column."""
    serving = contracts.tables("serving")
    for table in serving.values():
        for column in table.columns:
            if column.references:
                other, key = column.references
                assert key in serving[other].names


def test_contract_version_1_is_complete():
    """None of the published tables may disappear without a word."""
    promised = {"user_recommendations", "search_results", "similar_items", "bought_together", "popular_items", "items"}
    promised |= {"runs", "metrics", "quality_checks", "rejected_rows", "rule_effects", "item_history"}
    promised |= {"arrivals", "bot_flags", "user_candidates", "candidate_audit", "user_history", "held_out_lists"}
    promised |= {"user_preferences", "user_search_results", "search_parts", "rules", "short_shelves"}
    promised |= {"trending_items", "replenishments", "user_rhythms"}
    promised |= {"queries", "query_synonyms", "query_suggestions", "query_facets", "zero_result_queries"}
    assert set(contracts.tables("serving")) == promised
