"""Shelve: build each user's lists from the ranked candidates under the shop's rules, each row with its reason."""

import json
from pathlib import Path

from pipelines import beside
from pipelines.marts import Marts
from pipelines.rules.withheld import withhold
from pipelines.run import Run, stage, write_json
from pipelines.shelve import audit, effects, worth
from pipelines.shelve.building import Builder


@stage
def run(run: Run, folder: Path) -> None:
    """Write the users' shelves and what became of their candidates, the lists beside them, rules, their effects and the
    audit."""
    builder = Builder.load(run)
    marts, told = builder.marts, builder.write(folder)
    beside.write(run, marts, folder)
    effects.write(run, marts, told, withhold(run, marts, folder), folder)
    audit.write(run, marts, builder.made, folder)
    write_json(folder / "metrics.json", _figures(run, marts))


def _figures(run: Run, marts: Marts) -> list[dict]:
    """What the held-out days say of lists and rhythms; where another run's rankings serve, it said so."""
    if run.ranked_by:
        return json.loads((run.adopted("shelve") / "metrics.json").read_text())
    return [*beside.proof(run, marts), *worth.figures(run, marts)]
