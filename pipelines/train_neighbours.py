"""Train the neighbours: what one item of a history says for another, as of each of the night's cuts."""

from pathlib import Path

from scipy import sparse

from models import neighbours
from models.neighbours import Neighbours
from pipelines import adopt
from pipelines.marts import Marts
from pipelines.run import Run, stage
from pipelines.settings import NeighbourModel


@stage
def run(run: Run, folder: Path) -> None:
    marts = Marts(run)
    if run.models_of:
        adopt.neighbours(run, marts, folder)
        return
    for part, until in marts.cuts.items():
        fit(marts.tastes(until)[marts.people(until)], run.settings.neighbours).save(folder / part)


def fit(tastes: sparse.csr_matrix, settings: NeighbourModel) -> Neighbours:
    """EASE where its dense matrix fits, else sparse neighbours."""
    if tastes.shape[1] <= settings.largest_dense:
        return neighbours.ease(tastes, settings.regularization, settings.largest_dense)
    return neighbours.nearest(tastes, settings.weighting, settings.kept)
