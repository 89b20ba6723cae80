"""The benchmark of ALS reads the papers' layout and measures by their protocol, on pairs whose answers are known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import als_quality
from benchmarks.als_quality import Contest
from pipelines.errors import BadInput

COUNT = 20
FRIENDS = np.equal.outer(np.arange(COUNT) % 2, np.arange(COUNT) % 2)  # even users like even items, odd users odd ones


@pytest.fixture
def gowalla(tmp_path: Path) -> Path:
    """A folder of that name: each user's own item is foretold by all other items of its kind."""
    folder = tmp_path / "Gowalla"
    folder.mkdir()
    rows, own = np.nonzero(FRIENDS & ~np.eye(COUNT, dtype=bool)), np.arange(COUNT)
    als_quality.write(folder, *(als_quality._matrix(*pairs, FRIENDS.shape) for pairs in (rows, (own, own))))
    return folder


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *told: object) -> list[list[str]]:
    """The cells of the table that the command prints."""
    monkeypatch.setattr("sys.argv", ["als_quality.py", *map(str, told)])
    als_quality.main()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()[4:-1]]


def test_a_line_is_a_user_and_its_items(tmp_path: Path):
    """Users without items and blanks at the end of a line are as the papers' files have them."""
    (tmp_path / "train.txt").write_text("0 2 1\n1 0 \n3 1\n")
    (tmp_path / "test.txt").write_text("0 4\n1\n")
    train, test = als_quality.read(tmp_path)
    assert train.toarray().tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert np.argwhere(test.toarray()).tolist() == [[0, 4]]


def test_a_line_of_words_is_named(tmp_path: Path):
    """Another layout is told by file and line."""
    (tmp_path / "train.txt").write_text("0 2 1\n")
    with pytest.raises(BadInput, match=r"test\.txt does not exist"):
        als_quality.read(tmp_path)
    (tmp_path / "test.txt").write_text("0 4\nuser,item\n")
    with pytest.raises(BadInput, match=r"test\.txt, line 2: 'user,item' is not numbers"):
        als_quality.read(tmp_path)


def test_the_protocol_by_hand(tmp_path: Path):
    """Train items are masked, all others ranked; users without a test item do not count."""
    (tmp_path / "train.txt").write_text("0 0 1\n1 0\n2 0 1 2\n3 2\n")
    (tmp_path / "test.txt").write_text("0 3\n1 1 3\n")
    recall, ndcg = Contest(*als_quality.read(tmp_path), threads=1).popularity()
    third = 1 / math.log2(3)  # popularity ranks 2, 3 for user 0 and 1, 2, 3 for user 1
    assert sorted(recall) == [1, 1]
    np.testing.assert_allclose(sorted(ndcg), [third, (1 + 1 / math.log2(4)) / (1 + third)])


def test_a_tenth_of_each_user_is_held_back():
    """At least one item, but never the only one; together both parts are what there was."""
    lengths = [0, 1, 2, 14, 30]
    rows = np.repeat(np.arange(5), lengths)
    train = als_quality._matrix(rows, np.concatenate([np.arange(length) for length in lengths]), (5, 30))
    stays, out = als_quality.held_back(train)
    assert np.diff(out.indptr).tolist() == [0, 0, 1, 1, 3]
    assert (stays + out != train).nnz == 0


def test_the_command_compares(gowalla: Path, monkeypatch, capsys):
    """The defaults and what is found beat popularity; the papers' figures stand beside a folder of that name."""
    rows = command(monkeypatch, capsys, gowalla, "--minutes", 0.01, "--threads", 1, "--also", 30, 60.5, 8)
    assert [row[0].split(" in ")[0] for row in rows] == [
        *("popularity", "ALS, defaults", "ALS, found", "ALS"),
        *("MF-BPR, published", "EASE, published", "LightGCN, published", "UltraGCN, published"),
    ]
    assert rows[3][1:4] == ["30", "60.5", "8"]
    assert rows[7][4:6] == ["0.186", "0.158"]
    assert all(float(ranked[5]) > float(rows[0][5]) for ranked in rows[1:4])


def test_the_search_sees_train_alone(gowalla: Path):
    """What judges a trial is the same whatever is to be foretold."""
    train, test = als_quality.read(gowalla)
    first, again = (Contest(train, one, 1).judge()(als_quality.defaults()) for one in (test, test[::-1]))
    np.testing.assert_array_equal(first, again)


def test_pairs_of_online_retail(tmp_path: Path, monkeypatch, capsys):
    """First purchases after the day, within four weeks, of users and items that were known by then; or a fifth of what
    each user bought by chance, whenever that was."""
    day = {"old": "2011-01-03", "new": "2011-01-20", "late": "2011-03-01"}
    bought = [
        *((user, f"2000{item}", "old") for user, item in [(1, 1), (1, 2), (2, 1), (2, 3), (3, 3)]),
        *((1, item, "new") for item in ("20001", "20003", "20009")),  # bought again, new to the user, new to all
        *((9, "20001", "new"), (3, "20001", "late"), (3, "POST", "new")),
    ]
    frame = pd.DataFrame(bought, columns=["CustomerID", "StockCode", "when"])
    frame["InvoiceDate"] = pd.to_datetime(frame.pop("when").map(day))
    frame = frame.assign(InvoiceNo="536365", Description="A THING", Quantity=1, UnitPrice=1.0, Country="France")
    frame.to_parquet(tmp_path / "retail.parquet")
    train, test = als_quality.bought(tmp_path / "retail.parquet", pd.Timestamp("2011-01-10").date())
    assert (train.shape, train.nnz) == ((3, 3), 5)
    assert np.argwhere(test.toarray()).tolist() == [[0, 2]]
    train, test = als_quality.bought(tmp_path / "retail.parquet", None, by_chance=True)
    assert np.diff(test.indptr).tolist() == [1, 1, 1, 0]  # user 9 has one item, which stays
    assert ((train.multiply(test)).nnz, train.nnz + test.nnz) == (0, 9)
    told = ("--online-retail", tmp_path / "retail.parquet", "--until", "2011-01-10", "--minutes", 0)
    assert [row[0] for row in command(monkeypatch, capsys, *told)] == ["popularity", "ALS, defaults"]
