"""Train ALS: once on the days before the held-out ones, to be measured, and once on all days, to be published."""

from pathlib import Path

from models import als
from pipelines.marts import Marts
from pipelines.run import Run, stage


@stage
def run(run: Run, folder: Path) -> None:
    marts, settings = Marts(run), run.settings
    for part, until in marts.cuts.items():
        model = als.fit(
            marts.interactions(until),
            factors=settings.als.factors,
            regularization=settings.als.regularization,
            alpha=settings.als.alpha,
            epochs=settings.als.epochs,
            seed=settings.seed,
            threads=settings.machine.threads,
            teachers=marts.people(until),
        )
        model.save(folder / part)
