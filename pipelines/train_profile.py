"""Train the item profile: a Transformer that reads items and queries, and the networks that read a user's history."""

import datetime as dt
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from models import personalization, profile_training, stamp
from models.errors import NothingToLearn
from models.histories import Histories
from models.profile import HistoryAttention
from models.sequence import SequenceConfig, SequenceModel
from models.sequence_training import train_sequence, withhold_last_day
from pipelines import adopt, device, encoders
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json

LOG = logging.getLogger("nightshelf")
SEQUENCE_CONTINUED = 0.5  # share of the passes over the histories that a later training takes after the one before
TESTED_EVERY = 10  # one person in so many is kept apart, with the last day of the history, to choose a network
TESTED_USERS = 20_000  # and no more of them than so many


@stage
def run(run: Run, folder: Path) -> None:
    marts = Marts(run)
    told = encoders.write(run, marts, folder)
    sequence, ends = None, dict(pairwise(marts.cuts.values()))
    for part, until in marts.cuts.items():
        if run.models_of:
            adopt.readers(run, marts, part, folder / part)
        elif run.proof_of:
            _go_on(run, marts, until, folder / part)
        else:
            sequence = _train_readers(run, marts, until, sequence, folder / part)
        users = marts.window(until, ends[until])[0] if until in ends else np.arange(len(marts.users))
        _read_histories(marts, until, users, folder / part, device.chosen(run.settings))
        stamp.write(folder / part, users=marts.users.hash, items=marts.items.hash)
    write_json(folder / "model.json", told)


def _train_readers(
    run: Run, marts: Marts, until: dt.date, start: SequenceModel | None, folder: Path
) -> SequenceModel | None:
    """Write the networks that read histories, and which of them foretells better."""
    item_vectors = np.load(folder / "item_vectors.npy")
    attention = _train_history(run, marts, item_vectors, until)
    attention.save(folder)
    return _personalize(run, marts, item_vectors, until, attention, start, folder)


def _go_on(run: Run, marts: Marts, until: dt.date, folder: Path) -> None:
    """Write the networks of the carried proof that read histories, and which of them foretold better there. The one
    that knows items by themselves, where it is that one, is taught by the days up to now."""
    adopt.readers(run, marts, "final", folder)
    sequence = personalization.load(folder)
    if not isinstance(sequence, SequenceModel):
        return
    item_vectors = np.load(folder / "item_vectors.npy")
    try:
        _train_sequence(run, item_vectors, _readable(marts, until), sequence).save(folder)
    except NothingToLearn as error:
        LOG.warning("%s reads histories as the proof did: %s", folder.name, error)


def _readable(marts: Marts, until: dt.date) -> Histories:
    """The histories that teach: those of people."""
    histories = marts.histories(until)
    return replace(histories, positions=np.where(marts.people(until)[:, None], histories.positions, -1))


def _read_histories(marts: Marts, until: dt.date, users: np.ndarray, folder: Path, place: str) -> None:
    """Write what the attention makes of these users, positions, and what the better network makes of them and of items.
    Others have zeros: before the held-out days nobody is asked about but those who teach and judge."""
    item_vectors, histories = np.load(folder / "item_vectors.npy"), marts.histories(until).of(users)
    vectors, _ = profile_training.user_vectors(HistoryAttention.load(folder).to(place), item_vectors, histories)
    better = personalization.load(folder).to(place)
    read, items, _ = personalization.read_history(better, item_vectors, histories)
    for name, rows in (("user_vectors", vectors), ("sequence_users", read)):
        shape = len(marts.users), rows.shape[1]
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", rows.dtype, shape)[users] = rows
    np.save(folder / "sequence_items.npy", items)


def _personalize(
    run: Run,
    marts: Marts,
    item_vectors: np.ndarray,
    until: dt.date,
    attention: HistoryAttention,
    start: SequenceModel | None,
    folder: Path,
) -> SequenceModel | None:
    """Write the sequence network, and whether it is the better one, measured on the last days of some people.

    The attention has learnt from those days and the sequence has not: a tie of true worth goes to the attention.
    """
    tested = _tested(np.flatnonzero(marts.people(until)))
    seen, wanted = withhold_last_day(_readable(marts, until), tested)
    figures = {"attention": personalization.measure(attention, item_vectors, seen, tested, wanted), "sequence": np.nan}
    sequence = start
    try:
        sequence = _train_sequence(run, item_vectors, seen, start)
        sequence.save(folder)
        figures["sequence"] = personalization.measure(sequence, item_vectors, seen, tested, wanted)
    except NothingToLearn as error:
        LOG.warning("%s reads histories by the simple attention: %s", folder.name, error)
    personalization.keep_better(folder, **figures)
    return sequence


def _tested(people: np.ndarray) -> np.ndarray:
    """Those who are kept apart to choose a network."""
    return people[:: max(TESTED_EVERY, -(-len(people) // TESTED_USERS))]


def _train_sequence(
    run: Run, item_vectors: np.ndarray, histories: Histories, start: SequenceModel | None
) -> SequenceModel:
    settings = run.settings.profile
    epochs = settings.sequence_epochs if start is None else max(int(settings.sequence_epochs * SEQUENCE_CONTINUED), 1)
    return train_sequence(
        item_vectors,
        histories,
        SequenceConfig(len(item_vectors), item_vectors.shape[1], settings.sequence_size),
        epochs=epochs,
        half_life_days=settings.sequence_half_life_days,
        most_users=settings.sequence_users,
        seed=run.settings.seed,
        threads=run.settings.machine.threads,
        start=start,
        device=device.chosen(run.settings),
    )


def _train_history(run: Run, marts: Marts, item_vectors: np.ndarray, until: dt.date) -> HistoryAttention:
    """Without anybody who came back, age and weight alone decide: the attention as it is before training.

    It learns from no more examples than it draws.
    """
    settings = run.settings.profile
    histories, targets = marts.history_examples(until, settings.history_steps * settings.batch_size)
    popularity = np.bincount(targets, minlength=len(item_vectors)).astype(float)
    try:
        return profile_training.train_history(
            item_vectors,
            histories,
            targets,
            popularity,
            steps=settings.history_steps,
            batch_size=settings.batch_size,
            seed=run.settings.seed,
            threads=run.settings.machine.threads,
            device=device.chosen(run.settings),
        )
    except NothingToLearn:
        return HistoryAttention(item_vectors.shape[1]).eval()
