"""Tune: search the hyper-parameters of collaborative filtering on days that the night's own figures never look at."""

import datetime as dt
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import tomlkit
from rich.table import Table
from scipy import sparse

from models import als, metrics, retrieval
from models.errors import Diverged
from pipelines import settings
from pipelines.errors import NightshelfError
from pipelines.marts import Marts
from pipelines.run import Run, write_text

LOG = logging.getLogger("nightshelf")
MEASURED_AT = 20
RANGES = {  # wide enough for repeated purchases in a small shop and single ones in a large; searched by logarithm
    "weights.half_life_days": (7.0, 1000.0),
    "als.alpha": (0.05, 100.0),
    "als.regularization": (0.5, 300.0),
}
FACTORS = (32, 64, 128, 256)
Values = dict[str, float | int]
Judge = Callable[[Values], np.ndarray]  # NDCG per user under some values


@dataclass(frozen=True)
class Tuned:
    """What a search found: both settings, with NDCG@20 per user on the days that chose and on the days that confirm."""

    present: Values
    found: Values
    count_trials: int
    chosen: tuple[np.ndarray, np.ndarray]  # present, found
    confirmed: tuple[np.ndarray, np.ndarray]

    @property
    def is_better(self) -> bool:
        """On days that had no part in the search, beyond chance."""
        before, after = self.confirmed
        return len(before) > 0 and metrics.bootstrap_interval(after - before, seed=0)[1] > 0


def tune(run: Run, minutes: float) -> Tuned:
    """Search on the window that ends where the night's own held-out days begin; confirm on the window before it.

    Judged are items that the user had never bought: what is bought again is another source's work.

    Raises:
        NightshelfError: nobody bought anything new in those days.
    """
    marts, days = Marts(run), dt.timedelta(days=run.settings.holdout.days)
    present: Values = {name: _value(run.settings, name) for name in (*RANGES, "als.factors")}
    judges = [judge_of(run, marts, run.holdout_cut - days * n, run.holdout_cut - days * (n - 1)) for n in (1, 2)]
    if not len(judges[0](present)):
        raise NightshelfError(
            f"Nobody bought an item for the first time from {run.holdout_cut - days} to {run.holdout_cut}: there is "
            "nothing to tune on. Wait for more days, or lower holdout.days."
        )
    found, count_trials = search(judges[0], present, minutes * 60, run.settings.seed)
    chosen, confirmed = ((judge(present), judge(found)) for judge in judges)
    return Tuned(present, found, count_trials, chosen, confirmed)


def judge_of(run: Run, marts: Marts, cut: dt.date, until: dt.date) -> Judge:
    """NDCG@20 per person who bought something new after the cut and up to `until`, of factors that know the cut."""
    bought, people = marts.bought(cut), marts.people(until)
    wanted = marts.bought(until, after=cut).multiply(people[:, None])
    wanted = sparse.csr_matrix(wanted - wanted.multiply(bought))
    wanted.eliminate_zeros()
    users, known, teachers = np.flatnonzero(np.diff(wanted.indptr)), marts.known_items(cut), marts.people(cut)

    def judge(values: Values) -> np.ndarray:
        model = als.fit(
            marts.interactions(cut, float(values["weights.half_life_days"])),
            factors=int(values["als.factors"]),
            regularization=float(values["als.regularization"]),
            alpha=float(values["als.alpha"]),
            epochs=run.settings.als.epochs,
            seed=run.settings.seed,
            threads=run.settings.machine.threads,
            teachers=teachers,
        )
        ranked, _ = retrieval.top_items(
            model.user_factors[users], model.item_factors, MEASURED_AT, bought[users], known
        )
        return metrics.ndcg_at(ranked, wanted[users], MEASURED_AT)

    return judge


def search(judge: Judge, present: Values, seconds: float, seed: int, trials: int | None = None) -> tuple[Values, int]:
    """The values with the largest mean, and how many were tried, by a tree-structured Parzen estimator (Bergstra et
    al., 2011) that begins with the present ones. What diverges is worth nothing."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({name: _within(name, value) for name, value in present.items()})

    def objective(trial: optuna.Trial) -> float:
        values: Values = {name: trial.suggest_float(name, *RANGES[name], log=True) for name in RANGES}
        values["als.factors"] = trial.suggest_categorical("als.factors", FACTORS)
        try:
            return float(np.mean(judge(values)))
        except (Diverged, ValueError) as error:
            LOG.info("%s: %s", values, error)
            return 0.0

    study.optimize(objective, n_trials=trials, timeout=seconds)
    return {name: _rounded(value) for name, value in study.best_params.items()}, len(study.trials)


def table(tuned: Tuned) -> Table:
    """Both settings with their NDCG@20 on the days that chose and on those that confirm."""
    shown = Table("", "present", "found", title=f"{tuned.count_trials} trials, NDCG@20 on items new to the user")
    for name, value in tuned.present.items():
        shown.add_row(name, f"{value:g}", f"{tuned.found[name]:g}")
    for name, figures in (("days that chose", tuned.chosen), ("days before them", tuned.confirmed)):
        shown.add_row(name, *(f"{figure.mean():.4f}" if len(figure) else "nothing to measure" for figure in figures))
    return shown


def write(values: Mapping[str, float | int], home: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Put the values into the shop's settings file; its comments and order stay."""
    path = settings.file(home, environment)
    document = tomlkit.parse(path.read_text()) if path.exists() else tomlkit.document()
    for name, value in values.items():
        section, key = name.split(".")
        document.setdefault(section, tomlkit.table())[key] = value
    settings.parse(document.unwrap())
    write_text(path, tomlkit.dumps(document))
    return path


def _value(told: settings.Settings, name: str) -> float | int:
    section, key = name.split(".")
    return getattr(getattr(told, section), key)


def _within(name: str, value: float | int) -> float | int:
    """The nearest value that the search may try."""
    if name == "als.factors":
        return min(FACTORS, key=lambda one: abs(one - value))
    low, high = RANGES[name]
    return min(max(value, low), high)


def _rounded(value: float | int) -> float | int:
    """Three significant digits: nobody can measure more."""
    return value if isinstance(value, int) else float(f"{value:.3g}")
