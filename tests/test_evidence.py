"""Evidence of a row is what of the user's own says most for it, however many rows are looked at together."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from models.neighbours import Neighbours
from pipelines import evidence
from pipelines.evidence import Attended, Evidence

DICE = np.random.default_rng(5)
TASTES = sparse.csr_matrix(sparse.random(30, 12, 0.3, random_state=5).toarray() * (np.arange(30)[:, None] != 3))
LIKE = np.round(DICE.random((12, 12)), 1).astype(np.float32)  # so coarse that some shares are equal
USERS, ITEMS = DICE.integers(30, size=400), DICE.integers(12, size=400)


def one_by_one(neighbours: Neighbours) -> list[int]:
    """Row by row, of the whole history: the first item with the largest share, the row's own item only if alone."""
    like, found = sparse.csr_matrix(neighbours.similarities).toarray(), []
    for user, item in zip(USERS, ITEMS, strict=True):
        history = TASTES[[user]]
        shares = like[history.indices, item] * history.data.astype(np.float32)
        shares[history.indices == item] = -np.inf
        found.append(int(history.indices[shares.argmax()]) if len(shares) else -1)
    return found


@pytest.mark.parametrize("size", [7, 1 << 12])
@pytest.mark.parametrize(
    "similarities", [LIKE, sparse.csr_matrix(np.where(LIKE > 0.6, LIKE, 0))], ids=["EASE", "sparse"]
)
def test_neighbours_point_to_the_largest_share(similarities, size: int, monkeypatch: pytest.MonkeyPatch):
    """Among equal shares to the first item; who has no history has no evidence."""
    monkeypatch.setattr(evidence, "ROWS_PER_SLICE", size)
    known = SimpleNamespace(_tastes=TASTES, _beside=Neighbours(similarities))
    found = evidence._in_slices(lambda users, items: Evidence._neighbours_of(known, users, items), USERS, ITEMS)
    assert found.tolist() == one_by_one(known._beside)
    assert set(found[USERS == 3]) == {-1}


def test_attention_points_to_the_same_in_slices_and_at_once(monkeypatch: pytest.MonkeyPatch):
    """An item of the history with more attention times similarity than the others, and -1 where there is none."""
    positions = np.where(DICE.random((30, 5)) < 0.7, DICE.integers(12, size=(30, 5)), -1)
    positions[3] = -1
    read = Attended(positions, DICE.random((30, 5)).astype(np.float32), DICE.random((12, 4)).astype(np.float32))
    whole = read.most_attended(USERS, ITEMS)
    monkeypatch.setattr(evidence, "ROWS_PER_SLICE", 7)
    assert read.most_attended(USERS, ITEMS).tolist() == whole.tolist()
    assert set(whole[USERS == 3]) == {-1}
    for row in (0, 9, 200):
        own = [place for place in range(5) if positions[USERS[row], place] not in (-1, ITEMS[row])]
        worth = [
            read.attention[USERS[row], place] * read.vectors[positions[USERS[row], place]] @ read.vectors[ITEMS[row]]
            for place in own
        ]
        assert whole[row] == positions[USERS[row], own[int(np.argmax(worth))]]
