"""Candidates come in blocks of whole users, with the users who have none, and what rules did adds up over blocks."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.shelve import blocks
from pipelines.shelve.effects import Tally, effects

GROUPS = [[1, 2, 4], [5, 6, 7], [40, 41], [60, 61, 62]]  # users of each row group, placement by placement


def read(path: Path, count_users: int) -> list[tuple[np.ndarray, pd.DataFrame]]:
    """The blocks of all parts."""
    return [block for number in range(blocks.count(path)) for block in blocks.part(path, count_users, number)]


def candidates(path: Path, groups: list[list[int]]) -> Path:
    schema = pa.schema([("placement", pa.string()), ("user", pa.int32())])
    with pq.ParquetWriter(path, schema) as writer:
        for users in groups:
            names = np.repeat(["for_you", "discover"], len(users))
            writer.write_table(pa.table({"placement": names, "user": np.tile(users, 2)}, schema))
    return path


@pytest.mark.parametrize(("groups", "size"), [(1, 8), (2, 8), (4, 100), (1, 3)])
def test_every_user_comes_once_with_all_own_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int, size: int
):
    """Seventy users, of whom eleven have candidates, whatever is read and placed at once."""
    monkeypatch.setattr(blocks, "GROUPS", groups)
    monkeypatch.setattr(blocks, "BLOCK", size)
    found = read(candidates(tmp_path / "candidates.parquet", GROUPS), 70)
    assert np.concatenate([users for users, _ in found]).tolist() == list(range(70))
    assert max(len(users) for users, _ in found) <= size
    for users, rows in found:
        own = [user for group in GROUPS for user in group if user in users]
        assert sorted(rows["user"]) == sorted(own * 2)
        assert rows.loc[rows["placement"] == "discover", "user"].tolist() == own


@pytest.mark.parametrize("count", [0, 5])
def test_a_shop_without_candidates_has_one_block(tmp_path: Path, count: int):
    """So that tables without rows are written all the same."""
    ((users, rows),) = read(candidates(tmp_path / "candidates.parquet", []), count)
    assert (users.tolist(), len(rows), list(rows)) == (list(range(count)), 0, ["placement", "user"])


def placed(users: list[int], fate: list[int], rules: list[list[int]]) -> SimpleNamespace:
    """A block of lists on one placement with one rule; `fate` of a candidate each, `rules` of the rows of lists."""
    rule = SimpleNamespace(rule_id="out", is_about=lambda placement: True)
    placing = SimpleNamespace(placement="for_you", shares=(), draws=None, rules=(rule,))
    block = SimpleNamespace(users=np.array(users), items=np.zeros_like(rules), rules=np.array(rules))
    told = pd.DataFrame({"user": users})
    return SimpleNamespace(placing=placing, candidates=told, blocks=[block] if users else [], fate=np.array(fate))


def test_what_rules_did_adds_up_over_blocks():
    """A rule dropped a candidate of each of two users in one block and of one in another; a block without lists adds
    nothing."""
    one, other, none = placed([0, 1], [0, 0], [[-1], [-1]]), placed([2], [0], [[-1]]), placed([], [], [])
    told = Tally()
    for block in (none, one, none, other):
        told.add([block])
    assert [row for row in told.rows if row[1] == "out"] == [("for_you", "out", 3, 0, 3)]
    assert len(told.rows) == len(list(effects(one)))
