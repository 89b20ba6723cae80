"""Train the item profile: a Transformer that reads items and queries, and the attention that reads a user's history.

Measured weights learn from the days before the held-out ones; the published ones go on from there over all days.
"""

import datetime as dt
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from models import personalization, profile, profile_training
from models.encoder import Shape, TextEncoder, encode
from models.errors import NothingToLearn, UnknownEncoder
from models.item_text import TextTokenizer, Tokens
from models.profile import HistoryAttention, ProfileConfig
from models.profile_training import Histories, Training
from models.sequence import SequenceConfig, SequenceModel
from models.sequence_training import train_sequence, withhold_last_day
from models.vocabulary import Vocabulary
from pipelines.errors import BadSetting
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json

LOG = logging.getLogger("nightshelf")
CONTINUED = 0.25  # share of the steps that a later training takes on top of the one before
SEQUENCE_CONTINUED = 0.5  # and of the passes over the histories
ENCODING_BATCH = 512
TESTED_EVERY = 10  # one person in so many is kept apart, with the last day of the history, to choose a network


@stage
def run(run: Run, folder: Path) -> None:
    marts = Marts(run)
    texts = item_texts(marts)
    tokenizer, shape = _beginnings(run, texts)
    tokenizer.save(folder)
    items = tokenizer.encode_items(texts, run.settings.profile.max_tokens)
    encoder, sequence, told = None, None, {}
    for part, until in marts.cuts.items():
        encoder, training = _train_encoder(run, marts, tokenizer, items, until, shape, encoder)
        told[part] = _summary(training)
        encoder.save(folder / part)
        item_vectors = encode(encoder, items, ENCODING_BATCH)
        profile.check_vectors(item_vectors, run.settings.seed)
        np.save(folder / part / "item_vectors.npy", item_vectors)
        attention = _train_history(run, marts, item_vectors, until)
        attention.save(folder / part)
        vectors, _ = profile_training.user_vectors(attention, item_vectors, marts.histories(until))
        np.save(folder / part / "user_vectors.npy", vectors)
        sequence = _personalize(run, marts, item_vectors, until, attention, sequence, folder / part)
    write_json(folder / "model.json", {"trained_on": marts.cuts["final"], "cuts": marts.cuts, "encoder": told})


def _beginnings(run: Run, texts: dict[str, list[str | None]]) -> tuple[TextTokenizer, Shape]:
    """The tokenizer, trained on the catalogue or a pretrained encoder's, and the shape of the encoder behind it."""
    settings = run.settings.profile
    if not settings.encoder:
        tokenizer = TextTokenizer.train(_corpus(texts), settings.vocabulary_size)
        return tokenizer, ProfileConfig(
            vocabulary_size=tokenizer.vocabulary_size,
            embedding_size=settings.embedding_size,
            layers=settings.layers,
            heads=settings.heads,
            hidden_size=settings.hidden_size,
            max_tokens=settings.max_tokens,
        )
    from models import pretrained  # importing transformers takes seconds

    try:
        return pretrained.read(settings.encoder, settings.embedding_size, settings.max_tokens, settings.fine_tune)
    except UnknownEncoder as error:
        raise BadSetting(f"profile.encoder: {error}") from error


def _summary(training: Training) -> dict[str, object]:
    """What is kept of a training: which rule ended it after how many steps, and the loss on pairs kept apart."""
    return {
        "ended_by": training.ended_by,
        "steps": len(training.losses),
        "validation_loss": min(training.validation),
    }


def _personalize(
    run: Run,
    marts: Marts,
    item_vectors: np.ndarray,
    until: dt.date,
    attention: HistoryAttention,
    start: SequenceModel | None,
    folder: Path,
) -> SequenceModel | None:
    """Write sequence_users and sequence_items of the better network, measured on the last days of some people.

    The attention has learnt from those days and the sequence has not: a tie of true worth goes to the attention.
    """
    histories, people = marts.histories(until), marts.people(until)
    readable = replace(histories, positions=np.where(people[:, None], histories.positions, -1))
    tested = np.flatnonzero(people)[::TESTED_EVERY]
    seen, wanted = withhold_last_day(readable, tested)
    figures = {"attention": personalization.measure(attention, item_vectors, seen, tested, wanted), "sequence": np.nan}
    sequence = start
    try:
        sequence = _train_sequence(run, item_vectors, seen, start)
        sequence.save(folder)
        figures["sequence"] = personalization.measure(sequence, item_vectors, seen, tested, wanted)
    except NothingToLearn as error:
        LOG.warning("%s reads histories by the simple attention: %s", folder.name, error)
    personalization.keep_better(folder, **figures)
    users, items, _ = personalization.read_history(personalization.load(folder), item_vectors, histories)
    np.save(folder / "sequence_users.npy", users)
    np.save(folder / "sequence_items.npy", items)
    return sequence


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
        seed=run.settings.seed,
        threads=run.settings.machine.threads,
        start=start,
    )


def item_texts(marts: Marts) -> dict[str, list[str | None]]:
    """What the encoder reads of each item, by field."""
    catalogue = marts.catalogue
    texts: dict[str, list[str | None]] = {
        name: [value if isinstance(value, str) else None for value in catalogue[name]]
        for name in ("title", "category", "brand", "description")
    }
    return texts | {"price_band": [f"price band {band}" for band in catalogue["price_band"]]}


def _corpus(texts: dict[str, list[str | None]]) -> list[str]:
    return [text for column in texts.values() for text in column if text]


def _train_encoder(
    run: Run,
    marts: Marts,
    tokenizer: TextTokenizer,
    items: Tokens,
    until: dt.date,
    shape: Shape,
    start: TextEncoder | None,
) -> tuple[TextEncoder, Training]:
    settings = run.settings.profile
    queries = Vocabulary(marts.queries()["query"])
    clicks = marts.query_clicks(queries, until).tocoo()
    return profile_training.train_encoder(
        items,
        tokenizer.encode_queries(list(queries.ids), settings.max_tokens),
        marts.item_pairs(until, run.settings.seed),
        np.stack([clicks.row, clicks.col], axis=1).astype(np.int64),
        marts.popularity(until),
        shape,
        steps=settings.steps if start is None else max(int(settings.steps * CONTINUED), 1),
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        patience=settings.patience,
        max_minutes=settings.max_minutes,
        seed=run.settings.seed,
        threads=run.settings.machine.threads,
        start=start,
    )


def _train_history(run: Run, marts: Marts, item_vectors: np.ndarray, until: dt.date) -> HistoryAttention:
    """Without anybody who came back, age and weight alone decide: the attention as it is before training."""
    settings = run.settings.profile
    histories, targets = marts.history_examples(until)
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
        )
    except NothingToLearn:
        return HistoryAttention(item_vectors.shape[1]).eval()
