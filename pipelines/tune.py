"""Tune: search the hyper-parameters of collaborative filtering on days that the night's own figures never look at."""

import datetime as dt
import logging
import math
import os
import time
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
FACTORS = (32, 64, 128, 256, 512, 768)
NARROW = 0.5  # of the budget goes to the present number of factors
WORTH = 1.01  # what more factors must gain at least: every night pays for them
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
    """The values with the largest mean, and how many were tried within the seconds.

    What `present` names of RANGES is varied from there on. Factors cost most, so that they are raised last, and only
    while that pays; never lowered, for a strong regularisation does what fewer would.
    """
    attempts, factors = Attempts(judge, present, seconds, seed, trials), int(present["als.factors"])
    attempts.perform(present, factors)
    while attempts.spent < NARROW and attempts.affords(factors):
        attempts.perform(None, factors)
    for wider in (one for one in FACTORS if one > factors):
        before, values = attempts.best
        if not attempts.affords(wider) or attempts.perform(values, wider) < WORTH * before:
            break
        factors = wider
    while attempts.affords(factors):
        attempts.perform(None, factors)
    return attempts.best[1], len(attempts.tried)


class Attempts:
    """What was tried so far, and whether the budget holds one more."""

    def __init__(self, judge: Judge, present: Values, seconds: float, seed: int, trials: int | None):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.judge, self.seconds, self.trials = judge, seconds, trials or math.inf
        self.names = [name for name in RANGES if name in present]
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self.tried: list[tuple[float, Values]] = []
        self.took: dict[int, float] = {}  # seconds of the slowest trial by factors
        self.begun = time.monotonic()

    @property
    def best(self) -> tuple[float, Values]:
        return max(self.tried, key=lambda one: one[0])

    @property
    def spent(self) -> float:
        """Share of the budget, 1 when nothing is left."""
        return max((time.monotonic() - self.begun) / self.seconds, len(self.tried) / self.trials)

    def affords(self, factors: int) -> bool:
        """Whether one more trial ends in time: the work on a row grows at most with the square of its factors."""
        narrower = max(one for one in self.took if one <= factors)
        expected = self.took[narrower] * (factors / narrower) ** 2
        return self.spent + expected / self.seconds < 1 and len(self.tried) < self.trials

    def perform(self, values: Values | None, factors: int) -> float:
        """Try these values, else what a tree-structured Parzen estimator (Bergstra et al., 2011) proposes."""
        if values:
            self.study.enqueue_trial({name: _within(name, values[name]) for name in self.names})
        begun, trial = time.monotonic(), self.study.ask()
        chosen: Values = {name: _rounded(trial.suggest_float(name, *RANGES[name], log=True)) for name in self.names}
        chosen["als.factors"] = factors
        score = self._score(chosen)
        self.study.tell(trial, score)
        self.tried.append((score, chosen))
        self.took[factors] = max(self.took.get(factors, 0.0), time.monotonic() - begun)
        return score

    def _score(self, values: Values) -> float:
        """What diverges is worth nothing."""
        try:
            return float(np.mean(self.judge(values)))
        except (Diverged, ValueError) as error:
            LOG.info("%s: %s", values, error)
            return 0.0


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


def _within(name: str, value: float) -> float:
    """The nearest value that the search may try."""
    low, high = RANGES[name]
    return min(max(value, low), high)


def _rounded(value: float) -> float:
    """Three significant digits: nobody can measure more."""
    return float(f"{value:.3g}")
