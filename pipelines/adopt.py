"""Adopt: models of another run in place of trained ones, carried to the users and items that this run has."""

import shutil
from pathlib import Path

from models.als import ALSModel
from models.neighbours import Neighbours
from models.personalization import RECORD
from models.profile import HistoryAttention
from models.sequence import SequenceModel
from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.run import Run


def als(run: Run, marts: Marts, folder: Path) -> None:
    """Item factors as they are, users folded in."""
    before, known = run.adopted("train_als"), _items(run)
    for part, until in marts.cuts.items():
        model = ALSModel.load(before / part, items=known).carried(known, marts.items, marts.interactions(until))
        model.save(folder / part, users=marts.users, items=marts.items)
    marts.items.save(folder / "items.json")
    shutil.copy(before / "model.json", folder)


def neighbours(run: Run, marts: Marts, folder: Path) -> None:
    before, known = run.adopted("train_neighbours"), _items(run)
    for part in marts.cuts:
        Neighbours.load(before / part).carried(known, marts.items).save(folder / part)


def readers(run: Run, marts: Marts, part: str, folder: Path) -> None:
    """The networks that read histories, and which of them foretold better."""
    before = run.adopted("train_profile") / part
    HistoryAttention.load(before).save(folder)
    if (before / "sequence.json").exists():  # nothing to learn for it, else
        SequenceModel.load(before).carried(_items(run), marts.items).save(folder)
    shutil.copy(before / RECORD, folder)


def _items(run: Run) -> Vocabulary:
    """The items at whose positions the models know them."""
    return Vocabulary.load(run.adopted("train_als") / "items.json")
