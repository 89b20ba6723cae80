"""ALS alone by the protocol of the graph-network papers, with settings that the search of `nightshelf tune` finds.

    python benchmarks/als_quality.py FOLDER --minutes 60                                # train.txt and test.txt
    python benchmarks/als_quality.py --online-retail FILE --until 2011-09-16 --minutes 5  # pairs from the UCI table
    python benchmarks/als_quality.py --online-retail FILE --by-chance --minutes 5         # split as the papers split
    python benchmarks/als_quality.py --synthetic --minutes 0 --also 30 60 256            # seconds at Gowalla's size
    … --minutes 0 --spark                                                                # MLlib's factors beside them

The layout is that of LightGCN (He et al., 2020): a line is a user and the items that it met, numbered from 0. The
search sees train.txt alone, of which it holds a tenth of each user's items back. Then all of train.txt teaches, and for
every user of test.txt all items are ranked but those of the user's own line in train.txt. recall@20 and NDCG@20 are
those of models/metrics.py, which are the papers' own: hits over all test items of the user, an ideal list that is cut
at 20, the mean over users with a test item. A night's figures differ in what they ask: held-out days instead of a split
by chance, events that weigh and age, and lists on which what was bought may return.
"""

import argparse
import datetime as dt
import re
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import sparse

from models import als, metrics, retrieval
from pipelines import online_retail
from pipelines.errors import BadInput
from pipelines.settings import Settings
from pipelines.tune import MEASURED_AT, Judge, Values, search

NAMES = ("als.alpha", "als.regularization", "als.factors")
HELD_BACK = 0.1  # of each user's training items, to search on
TESTED = 0.2  # of each user's items, where chance says which
JUDGED = 5000  # users at most who judge a trial
TEST_DAYS = dt.timedelta(days=28)  # of the pairs made from Online Retail
PUBLISHED = {  # recall@20 and NDCG@20 on the papers' own files, by the letters that the folder's name begins with
    "gowalla": {
        "MF-BPR": (0.163, 0.138),
        "EASE": (0.177, 0.147),
        "LightGCN": (0.182, 0.155),
        "UltraGCN": (0.186, 0.158),
    },
    "amazoncds": {"UltraGCN": (0.162, 0.104)},
}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path, nargs="?", help="where train.txt and test.txt are")
    ask.add_argument("--online-retail", type=Path, metavar="FILE")
    ask.add_argument("--until", type=dt.date.fromisoformat, help="last day of its train.txt; four weeks are test.txt")
    ask.add_argument("--by-chance", action="store_true", help="a fifth of each user's items is test.txt, of all days")
    ask.add_argument("--synthetic", action="store_true", help="a pair of Gowalla's size, for its seconds")
    ask.add_argument("--minutes", type=float, default=10.0, help="how long to search; 0: not at all")
    ask.add_argument("--also", nargs=3, type=float, action="append", default=[], metavar=("ALPHA", "REG", "FACTORS"))
    ask.add_argument("--spark", action="store_true", help="the defaults once more, learnt by Spark's MLlib")
    ask.add_argument("--threads", type=int, default=2)
    told = ask.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = told.folder or Path(scratch)
        if told.online_retail:
            write(folder, *bought(told.online_retail, told.until, told.by_chance))
        elif told.synthetic:
            write(folder, *synthetic())
        contest = Contest(*read(folder), told.threads)
        also = [dict(zip(NAMES, map(_number, one), strict=True)) for one in told.also]
        table = compared(contest, told.minutes * 60, also, published(folder))
        if told.spark:
            add_mllib(table, contest, Path(scratch))
        Console(width=110).print(table)


def read(folder: Path) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """(U, I) 1 where the user met the item, in train.txt and in test.txt; raises BadInput."""
    train, test = (_pairs(folder / f"{part}.txt") for part in ("train", "test"))
    users, items = (int(max(train[side].max(initial=-1), test[side].max(initial=-1))) + 1 for side in (0, 1))
    return _matrix(*train, (users, items)), _matrix(*test, (users, items))


def write(folder: Path, train: sparse.csr_matrix, test: sparse.csr_matrix) -> None:
    """What `read` reads."""
    for part, matrix in (("train", train), ("test", test)):
        rows = enumerate(np.split(matrix.indices, matrix.indptr[1:-1]))
        lines = [" ".join(map(str, [user, *items])) + "\n" for user, items in rows if len(items)]
        (folder / f"{part}.txt").write_text("".join(lines))


class Contest:
    """Rankings that know train (U, I), measured on test (U, I)."""

    def __init__(self, train: sparse.csr_matrix, test: sparse.csr_matrix, threads: int):
        self.train, self.test, self.threads = train, test, threads

    def fit(self, values: Values, learn: als.Learner = als.by_implicit) -> als.ALSModel:
        """The stage's own ALS, each event of weight 1."""
        return als.fit(
            self.train,
            factors=int(values["als.factors"]),
            regularization=float(values["als.regularization"]),
            alpha=float(values["als.alpha"]),
            epochs=Settings().als.epochs,
            seed=Settings().seed,
            threads=self.threads,
            learn=learn,
        )

    def measure(self, user_vectors: np.ndarray, item_vectors: np.ndarray, most: int | None = None) -> np.ndarray:
        """recall@20 and NDCG@20 of each user with a test item, or of the first `most` by chance: (2, users)."""
        users = np.flatnonzero(np.diff(self.test.indptr))
        users = np.random.default_rng(0).permutation(users)[:most]
        ranked, _ = retrieval.top_items(user_vectors[users], item_vectors, MEASURED_AT, self.train[users])
        wanted = self.test[users]
        return np.stack([rate(ranked, wanted, MEASURED_AT) for rate in (metrics.recall_at, metrics.ndcg_at)])

    def popularity(self) -> np.ndarray:
        """Items by how many users met them, for everybody alike."""
        counts = np.diff(self.train.tocsc().indptr).astype(np.float32)
        return self.measure(np.ones((self.train.shape[0], 1), np.float32), counts[:, None])

    def judge(self) -> Judge:
        """NDCG@20 per user on a part of train that the rest foretells."""
        learnt, wanted = held_back(self.train)
        inner = Contest(learnt, wanted, self.threads)

        def judge(values: Values) -> np.ndarray:
            model = inner.fit(values)
            return inner.measure(model.user_factors, model.item_factors, JUDGED)[1]

        return judge


def held_back(train: sparse.csr_matrix, share: float = HELD_BACK) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """What stays and what is taken out: of each user with two items or more a share, at least one, by chance."""
    rows = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
    order = np.lexsort((np.random.default_rng(0).random(train.nnz), rows))
    lengths = np.diff(train.indptr)
    count = np.where(lengths > 1, np.maximum(np.rint(share * lengths), 1), 0)
    is_out = np.empty(train.nnz, dtype=bool)
    is_out[order] = np.arange(train.nnz) - train.indptr[rows] < count[rows]
    stays, out = (_matrix(rows[part], train.indices[part], train.shape) for part in (~is_out, is_out))
    return stays, out


def compared(contest: Contest, seconds: float, also: list[Values], known: dict[str, tuple[float, float]]) -> Table:
    """Popularity, the defaults, what the search finds, other values, and what papers report."""
    users, items = contest.train.shape
    title = f"{users:,} users, {items:,} items, {contest.train.nnz:,} pairs teach, {contest.test.nnz:,} are foretold"
    table = Table("ranked by", "alpha", "regularization", "factors", "recall@20", "NDCG@20", "CPU s", title=title)
    table.add_row("popularity", "", "", "", *_shown(contest.popularity()), "")
    _add(table, contest, "ALS, defaults", defaults())
    if seconds:
        found, count = search(contest.judge(), defaults(), seconds, Settings().seed)
        _add(table, contest, f"ALS, found in {count} trials", found)
    for values in also:
        _add(table, contest, "ALS", values)
    for name, figures in known.items():
        table.add_row(f"{name}, published", "", "", "", *(f"{figure:.3f}" for figure in figures), "")
    return table


def defaults() -> Values:
    return {name: getattr(Settings().als, name.removeprefix("als.")) for name in NAMES}


def published(folder: Path) -> dict[str, tuple[float, float]]:
    letters = re.sub("[^a-z]", "", folder.resolve().name.lower())
    return next((figures for name, figures in PUBLISHED.items() if letters.startswith(name)), {})


def bought(file: Path, until: dt.date | None, by_chance: bool = False) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Who bought what up to a day (without: ever), and what the same users bought for the first time in the four weeks
    after it; or, by chance, a fifth of what each user bought up to it."""
    until = until or dt.date.max - TEST_DAYS
    rows = online_retail.events(online_retail.read(file))
    rows = rows[(rows["event_type"] == "purchase") & rows["is_product"] & rows["user_id"].notna()]
    first = rows.groupby(["user_id", "item_id"], as_index=False)["day"].min()
    train, test = first[first["day"] <= until], first[(first["day"] > until) & (first["day"] <= until + TEST_DAYS)]
    users, items = pd.Index(train["user_id"].unique()), pd.Index(train["item_id"].unique())
    test = test[test["user_id"].isin(users) & test["item_id"].isin(items)]
    shape = len(users), len(items)
    if by_chance:
        ever = _matrix(users.get_indexer(train["user_id"]), items.get_indexer(train["item_id"]), shape)
        return held_back(ever, TESTED)
    before, after = (
        _matrix(users.get_indexer(part["user_id"]), items.get_indexer(part["item_id"]), shape) for part in (train, test)
    )
    return before, after


def synthetic() -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """As many users, items and pairs as Gowalla has; users have two of 64 tastes, items one, and few are famous."""
    dice, tastes, (users, items, pairs) = np.random.default_rng(0), 64, (29_858, 40_981, 1_027_370)
    taste = np.sort(dice.integers(tastes, size=items))
    fame = np.concatenate([[0.0], np.cumsum(dice.permutation((np.arange(items) + 20.0) ** -0.7))])
    bounds = fame[np.searchsorted(taste, np.arange(tastes + 1))]
    lengths = dice.lognormal(sigma=0.9, size=users)
    rows = np.repeat(np.arange(users), np.maximum(np.rint(lengths / lengths.sum() * 1.2 * pairs), 8).astype(int))
    liked = dice.integers(tastes, size=(users, 2))[rows, dice.integers(2, size=len(rows))]
    met = bounds[liked] + dice.random(len(rows)) * (bounds[liked + 1] - bounds[liked])
    both = _matrix(rows, np.searchsorted(fame, met, side="right") - 1, (users, items)).tocoo()
    is_test = dice.random(both.nnz) < 0.2
    train, test = (_matrix(both.row[part], both.col[part], both.shape) for part in (~is_test, is_test))
    return train, test


def add_mllib(table: Table, contest: Contest, scratch: Path) -> None:
    """The defaults by Spark's MLlib in a session of its own; CPU seconds are those of this process alone."""
    from models.als_mllib import by_mllib
    from pipelines import spark
    from pipelines.run import Run

    begun, told = dt.datetime.now(dt.UTC), Settings()
    run = Run(scratch, "als_quality", begun.date(), "benchmark", begun, told, inputs={}, code_version="", packages={})
    with spark.session(run, contest.train.nnz) as session:
        session.sparkContext.setCheckpointDir(str(scratch / "checkpoints"))
        _add(table, contest, "ALS in MLlib, defaults", defaults(), partial(by_mllib, session))


def _add(table: Table, contest: Contest, name: str, values: Values, learn: als.Learner = als.by_implicit) -> None:
    begun = time.process_time()
    model = contest.fit(values, learn)
    took = time.process_time() - begun
    figures = _shown(contest.measure(model.user_factors, model.item_factors))
    table.add_row(name, *(f"{values[one]:g}" for one in NAMES), *figures, f"{took:.1f}")


def _shown(figures: np.ndarray) -> list[str]:
    return [f"{mean:.4f}" for mean in figures.mean(axis=1)]


def _pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of the pairs in a file of lines `user item item …`."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Name the folder that holds train.txt and test.txt.")
    users: list[int] = []
    items: list[int] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not re.fullmatch(r"[\d\s]*", line):
            raise BadInput(f"{path}, line {number}: {line[:40]!r} is not numbers with blanks between them.")
        user, *met = map(int, line.split() or ["0"])
        users += [user] * len(met)
        items += met
    return np.array(users, dtype=np.int64), np.array(items, dtype=np.int64)


def _matrix(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


if __name__ == "__main__":
    main()
