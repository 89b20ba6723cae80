"""ALS as a night trains it, beside plain `implicit`, LensKit and Spark's MLlib on the same generated purchases.

    .venv/bin/pip install -r benchmarks/requirements.txt      # brings LensKit
    python benchmarks/als.py                                  # 50,000 users, 10,000 items, some minutes
    python benchmarks/als.py --users 200000 --items 50000 --rounds 1

Each contender has a process of its own, and they take turns. It trains with one sweep, once to warm up, and with
`--sweeps` more, so that seconds per sweep are those between; what comes before and after is in the whole. Memory is the
most that the process tree held at once. The loss is that of the paper (Hu, Koren and Volinsky, 2008, equation 3) for
the factors of the longer training, under the same confidences and regularisation. MLlib weighs the squared norm of a
user or item by the number of its ratings: it gets the regularisation over the mean of that for users, and minimises
another loss.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cleaning import cost_of
from rich.console import Console
from rich.table import Table
from scipy import sparse

ROWS = 1 << 16
AS_IT_COMES = ("OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")  # what plain `implicit` is not told


@dataclass(frozen=True)
class Task:
    """Purchases (U, I), how to learn from them, and a folder for what Spark spills."""

    bought: sparse.csr_matrix
    scratch: Path
    factors: int
    regularization: float
    alpha: float
    threads: int

    @classmethod
    def load(cls, folder: Path) -> "Task":
        told = json.loads((folder / "task.json").read_text())
        return cls(sparse.csr_matrix(sparse.load_npz(folder / "bought.npz")), folder, **told)


Trained = tuple[np.ndarray, np.ndarray]  # (U, F) and (I, F)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=50_000)
    ask.add_argument("--items", type=int, default=10_000)
    ask.add_argument("--sweeps", type=int, default=5, help="between the shorter training and the longer one")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    ask.add_argument("--one", nargs=2, metavar=("CONTENDER", "FOLDER"), help="train one here; for this script itself")
    told = ask.parse_args()
    if told.one:
        train(told.one[0], Path(told.one[1]), told.sweeps)
        return
    with tempfile.TemporaryDirectory() as folder:
        Console(width=110).print(compared(told, Path(folder)))


def compared(told: argparse.Namespace, folder: Path) -> Table:
    """Medians over the rounds."""
    from topn import purchases

    from pipelines.settings import Settings

    bought, defaults = purchases(told.users, told.items), Settings().als
    sparse.save_npz(folder / "bought.npz", bought)
    task = {name: getattr(defaults, name) for name in ("factors", "regularization", "alpha")}
    (folder / "task.json").write_text(json.dumps(task | {"threads": told.threads}))
    found: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    for _ in range(told.rounds):
        for name, figures in found.items():
            figures.append(figures_of(name, folder, told))
    title = f"{told.users:,} users, {told.items:,} items, {bought.nnz:,} pairs, {defaults.factors} factors"
    table = Table("trained by", "s per sweep", "CPU s per sweep", "CPU s in all", "peak GiB", "loss", title=title)
    for name, figures in found.items():
        *costs, loss = np.median(figures, axis=0)
        table.add_row(name, *(f"{value:.2f}" for value in costs), f"{loss:,.0f}")
    return table


def figures_of(name: str, folder: Path, told: argparse.Namespace) -> list[float]:
    """Wall and CPU seconds per sweep, CPU seconds of the longer training, peak GiB, loss."""
    command = [sys.executable, __file__, "--one", name, folder, "--sweeps", told.sweeps]
    plain = ["env", *(f"--unset={variable}" for variable in AS_IT_COMES)] if name == PLAIN else []
    peak_gib = cost_of([*plain, *command]).peak_gib
    one = json.loads((folder / "told.json").read_text())
    return [one["wall_per_sweep"], one["cpu_per_sweep"], one["cpu"], peak_gib, one["loss"]]


def train(name: str, folder: Path, sweeps: int) -> None:
    """Write what a sweep costs and where the longer training ends."""
    task = Task.load(folder)
    took = [seconds_of(CONTENDERS[name], task, epochs) for epochs in (1, 1, 1 + sweeps)]
    _, (short_wall, short_cpu, _), (wall, cpu, trained) = took
    per_sweep = {"wall_per_sweep": (wall - short_wall) / sweeps, "cpu_per_sweep": (cpu - short_cpu) / sweeps}
    (folder / "told.json").write_text(json.dumps(per_sweep | {"cpu": cpu, "loss": loss(task, *trained)}))


def seconds_of(contender: "Contender", task: Task, epochs: int) -> tuple[float, float, Trained]:
    """Wall seconds, CPU seconds of this process and of those that it started, and what was trained."""
    import psutil

    def cpu() -> float:
        tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in tree)

    began, spent = time.perf_counter(), cpu()
    trained = contender(task, epochs)
    return time.perf_counter() - began, cpu() - spent, trained


def by_nightshelf(task: Task, epochs: int) -> Trained:
    """Users are solved for exactly at the end."""
    from models import als

    model = als.fit(
        task.bought,
        factors=task.factors,
        regularization=task.regularization,
        alpha=task.alpha,
        epochs=epochs,
        threads=task.threads,
    )
    return model.user_factors, model.item_factors


def by_implicit(task: Task, epochs: int) -> Trained:
    """As its documentation has it, with as many threads of BLAS as come; confidences as it wants them."""
    from implicit.cpu.als import AlternatingLeastSquares

    told = {"factors": task.factors, "regularization": task.regularization, "iterations": epochs}
    model = AlternatingLeastSquares(**told, alpha=1.0, num_threads=task.threads, random_state=0)
    confidences = task.bought.copy()
    confidences.data = 1 + task.alpha * confidences.data
    model.fit(confidences, show_progress=False)
    return model.user_factors, model.item_factors


def by_lenskit(task: Task, epochs: int) -> Trained:
    """From pairs of ids, each of the same weight, as it wants them."""
    import pandas as pd
    from lenskit.als import ImplicitMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.parallel import initialize
    from lenskit.training import TrainingOptions

    initialize(threads=task.threads, backend_threads=1)  # says so and does nothing more the second time
    rows, columns = task.bought.nonzero()
    told = {"embedding_size": task.factors, "regularization": task.regularization, "weight": task.alpha}
    model = ImplicitMFScorer(**told, epochs=epochs)
    pairs = pd.DataFrame({"user_id": rows, "item_id": columns})
    model.train(from_interactions_df(pairs), TrainingOptions(rng=0))
    count_users, count_items = task.bought.shape
    users = in_order(model.users.ids(), model.user_embeddings, count_users)
    return users, in_order(model.items.ids(), model.item_embeddings, count_items)


def by_mllib(task: Task, epochs: int) -> Trained:
    import pandas as pd
    from pyspark.ml.recommendation import ALS

    spark, (rows, columns) = session(task), task.bought.nonzero()
    pairs = pd.DataFrame({"user": rows, "item": columns, "rating": task.bought.data.astype(float)})
    ratings_per_user = task.bought.nnz / task.bought.shape[0]
    learner = ALS(
        rank=task.factors,
        maxIter=epochs,
        regParam=task.regularization / ratings_per_user,
        alpha=task.alpha,
        implicitPrefs=True,
        seed=0,
        userCol="user",
        itemCol="item",
    )
    model = learner.fit(spark.createDataFrame(pairs))
    sides = zip((model.userFactors, model.itemFactors), task.bought.shape, strict=True)
    frames = ((vectors.toPandas(), count) for vectors, count in sides)
    users, items = (in_order(one["id"], np.stack(list(one["features"])), count) for one, count in frames)
    return users, items


def session(task: Task):
    """One Spark for both trainings; with Arrow, without which most of the time would go to handing pairs over."""
    from pyspark.sql import SparkSession

    from pipelines import java

    os.environ["JAVA_HOME"] = str(java.find(task.scratch))
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.master(f"local[{task.threads}]").config("spark.driver.memory", "4g")
    builder = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false").config("spark.local.dir", str(task.scratch))
    return builder.getOrCreate()


def in_order(positions, vectors: np.ndarray, count: int) -> np.ndarray:
    """(count, F) with vectors (N, F) at positions (N,), zero where there is none."""
    found = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    found[np.asarray(positions)] = vectors
    return found


def loss(task: Task, users: np.ndarray, items: np.ndarray) -> float:
    """Σ c (p - xy)² + λ (Σ|x|² + Σ|y|²) over all cells (U, I): those that are empty by the products of the factors."""
    x, y = users.astype(np.float64), items.astype(np.float64)
    everywhere = np.sum((x.T @ x) * (y.T @ y))  # Σ (xy)²
    stored, score = task.bought.tocoo(), np.empty(task.bought.nnz)
    for start in range(0, len(score), ROWS):  # all rows at once would hold more than the training did
        part = slice(start, start + ROWS)
        score[part] = np.einsum("rf,rf->r", x[stored.row[part]], y[stored.col[part]])
    confidence = 1 + task.alpha * stored.data
    return float(
        everywhere
        + np.sum(confidence * (1 - score) ** 2 - score**2)
        + task.regularization * (np.sum(x**2) + np.sum(y**2))
    )


Contender = Callable[[Task, int], Trained]
PLAIN = "implicit, as it comes"
CONTENDERS: dict[str, Contender] = {
    "Nightshelf": by_nightshelf,
    PLAIN: by_implicit,
    "LensKit": by_lenskit,
    "Spark MLlib": by_mllib,
}

if __name__ == "__main__":
    main()
