"""Train ALS: once on the days before the held-out ones, to be measured, and once on all days, to be published.

When training diverges, the factors of an earlier night serve for some days; `model.json` says which day they know.
"""

import datetime as dt
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from models import als
from models.als import ALSModel, Learner
from models.errors import Diverged
from models.vocabulary import Vocabulary
from pipelines import adopt
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json

LOG = logging.getLogger("nightshelf")


@stage
def run(run: Run, folder: Path) -> None:
    marts = Marts(run)
    if run.models_of:
        adopt.als(run, marts, folder)
        return
    try:
        with _learner(run, marts, folder / "checkpoints") as learn:
            models = {part: _train(run, marts, until, learn) for part, until in marts.cuts.items()}
        cuts, because = marts.cuts, {}
    except Diverged as error:
        models, cuts = _serve_again(run, marts, error)
        because = {"fallback_because": str(error)}
    for part, model in models.items():
        model.save(folder / part, users=marts.users, items=marts.items)
    marts.items.save(folder / "items.json")
    write_json(folder / "model.json", {"trained_on": cuts["final"], "cuts": cuts, **because})


@contextmanager
def _learner(run: Run, marts: Marts, checkpoints: Path) -> Iterator[Learner]:
    """What learns the item factors of all parts, one after the other; Spark's checkpoints are gone afterwards."""
    if run.settings.als.engine == "implicit":
        yield als.by_implicit
        return
    from models.als_mllib import by_mllib
    from pipelines import spark

    with spark.session(run, marts.interactions(run.day).nnz) as session:
        session.sparkContext.setCheckpointDir(str(checkpoints))
        try:
            yield partial(by_mllib, session)
        finally:
            shutil.rmtree(checkpoints, ignore_errors=True)


def _train(run: Run, marts: Marts, until: dt.date, learn: Learner) -> ALSModel:
    settings = run.settings
    return als.fit(
        marts.interactions(until),
        factors=settings.als.factors,
        regularization=settings.als.regularization,
        alpha=settings.als.alpha,
        epochs=settings.als.epochs,
        seed=settings.seed,
        threads=settings.machine.threads,
        teachers=marts.people(until),
        learn=learn,
    )


def _serve_again(run: Run, marts: Marts, error: Diverged) -> tuple[dict[str, ALSModel], dict[str, dt.date]]:
    """The last good models, tonight's users folded in, and the last day that each knows; raises the error without.

    Each part takes what knows most of the days up to its own cut, and nothing after it.
    """
    earlier = _last_good(run, marts)
    if earlier is None:
        raise error
    known, chosen = _cuts(earlier), _parts(earlier, marts)
    LOG.warning("%s train_als: %s. The factors of %s serve tonight.", run.run_id, error, known["final"])
    before = Vocabulary.load(earlier / "items.json")
    models = {
        part: ALSModel.load(earlier / chosen[part], items=before).carried(
            before, marts.items, marts.interactions(until)
        )
        for part, until in marts.cuts.items()
    }
    return models, {part: known[one] for part, one in chosen.items()}


def _last_good(run: Run, marts: Marts) -> Path | None:
    """The folder of the newest earlier run of the label with factors for each part, at most `als.serve_days` old."""
    oldest = run.day - dt.timedelta(days=run.settings.als.serve_days)
    days = (run.day - dt.timedelta(days=age) for age in range(1, run.settings.als.serve_days + 1))
    folders = (run.home / "runs" / f"{day}.{run.label}" / "train_als" for day in days)
    young = (one for one in folders if (one / "model.json").exists() and _cuts(one)["final"] >= oldest)
    return next((one for one in young if len(_parts(one, marts)) == len(marts.cuts)), None)


def _parts(folder: Path, marts: Marts) -> dict[str, str]:
    """For each of tonight's cuts the earlier factors that know most of the days up to it, and none after it."""
    known = _cuts(folder)
    able = {part: [one for one, day in known.items() if day <= until] for part, until in marts.cuts.items()}
    return {part: max(ones, key=known.__getitem__) for part, ones in able.items() if ones}


def _cuts(folder: Path) -> dict[str, dt.date]:
    """The last day that each part of a finished training knows."""
    told = json.loads((folder / "model.json").read_text())["cuts"]
    return {part: dt.date.fromisoformat(day) for part, day in told.items()}
