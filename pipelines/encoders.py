"""Tonight's encoders, one for each of the run's cuts: trained, or kept from an earlier night; and what they read."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from models import encoder as encoding
from models import profile, profile_training, together
from models.encoder import Remembered, Shape, TextEncoder
from models.errors import UnknownEncoder
from models.item_text import TextTokenizer, Tokens, item_contents
from models.profile import ProfileConfig
from models.profile_training import Training
from models.together import Launch
from models.vocabulary import Vocabulary
from pipelines import device
from pipelines.errors import BadSetting
from pipelines.marts import Marts
from pipelines.run import Run, digest

CONTINUED = 0.25  # share of the steps that a later training takes on top of the one before
INDIFFERENT = {"keep_days", "processes", "launcher", "history_steps", "history_length"} | {
    f"sequence_{name}" for name in ("size", "epochs", "half_life_days")
}  # settings under [profile] that no encoder depends on, but for rounding


def write(run: Run, marts: Marts, folder: Path) -> dict[str, object]:
    """Write the tokenizer, and encoder and item vectors of each cut; what is told of them for model.json."""
    texts = item_texts(marts)
    earlier = run.adopted("train_profile") if run.ranked_by else _kept(run, marts)  # a ranking brings what it reads
    told = _keep(run, marts, texts, earlier, folder) if earlier else _train(run, marts, texts, folder)
    return told | {"recipe": recipe(run)}


def item_texts(marts: Marts) -> dict[str, list[str | None]]:
    """What the encoder reads of each item, by field."""
    catalogue = marts.catalogue
    texts: dict[str, list[str | None]] = {
        name: [value if isinstance(value, str) else None for value in catalogue[name]]
        for name in ("title", "category", "brand", "description")
    }
    return texts | {"price_band": [f"price band {band}" for band in catalogue["price_band"]]}


def recipe(run: Run) -> str:
    """Hash of the settings that an encoder depends on: one that was made by another is not kept."""
    return digest([run.settings.seed, run.settings.profile.model_dump(mode="json", exclude=INDIFFERENT)])


def _train(run: Run, marts: Marts, texts: dict[str, list[str | None]], folder: Path) -> dict[str, object]:
    """Measured weights learn from the days before the held-out ones; the published ones go on from there."""
    tokenizer, shape = _beginnings(run, texts)
    tokenizer.save(folder)
    texts = {name: column for name, column in texts.items() if name in shape.reads}
    items, encoder, told = tokenizer.encode_items(texts, run.settings.profile.max_tokens), None, {}
    remembered = None
    with _launcher(run) as launch:
        for part, until in marts.cuts.items():
            encoder, training = _learn(run, marts, tokenizer, items, until, shape, launch, folder, encoder)
            told[part] = _summary(training)
            remembered = _write(run, encoder, texts, items.take, folder / part, remembered)
    return {"trained_on": marts.cuts["final"], "cuts": marts.cuts, "encoder": told}


def _beginnings(run: Run, texts: dict[str, list[str | None]]) -> tuple[TextTokenizer, Shape]:
    """The tokenizer, trained on the catalogue or a pretrained encoder's, and the shape of the encoder behind it."""
    settings = run.settings.profile
    if not settings.encoder:
        corpus = [text for column in texts.values() for text in column if text]
        tokenizer = TextTokenizer.train(corpus, settings.vocabulary_size)
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
        return pretrained.read(settings.encoder, settings.max_tokens, settings.fine_tune)
    except UnknownEncoder as error:
        raise BadSetting(f"profile.encoder: {error}") from error


def _learn(
    run: Run,
    marts: Marts,
    tokenizer: TextTokenizer,
    items: Tokens,
    until: dt.date,
    shape: Shape,
    launch: Launch,
    scratch: Path,
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
        processes=settings.processes,
        launch=launch,
        scratch=scratch,
        start=start,
        device=device.chosen(run.settings),
    )


@contextmanager
def _launcher(run: Run) -> Iterator[Launch]:
    """What starts the processes of a training, for as long as there are trainings."""
    settings = run.settings.profile
    if settings.launcher == "local" or settings.processes == 1:
        yield together.run
        return
    from models import together_spark  # importing PySpark takes a second
    from pipelines import spark

    with spark.session(run, count_rows=0):
        yield together_spark.run


def _summary(training: Training) -> dict[str, object]:
    """What is kept of a training: which rule ended it after how many steps, and the loss on pairs kept apart."""
    return {
        "ended_by": training.ended_by,
        "steps": len(training.losses),
        "validation_loss": min(training.validation, default=None),
    }


def _keep(run: Run, marts: Marts, texts: dict[str, list[str | None]], earlier: Path, folder: Path) -> dict[str, object]:
    """Tokenizer and encoders of an earlier night; only texts that it had not are read."""
    before, chosen = json.loads((earlier / "model.json").read_text()), _parts(earlier, marts)
    tokenizer = TextTokenizer.load(earlier)
    tokenizer.save(folder)

    def tokens_of(rows: np.ndarray) -> Tokens:
        some = {name: [column[row] for row in rows] for name, column in texts.items()}
        return tokenizer.encode_items(some, run.settings.profile.max_tokens)

    for part, one in chosen.items():
        encoder = encoding.load(earlier / one)
        texts = {name: column for name, column in texts.items() if name in encoder.config.reads}
        _write(run, encoder, texts, tokens_of, folder / part, Remembered.load(earlier / one))
    return {
        "trained_on": before["cuts"][chosen["final"]],
        "cuts": {part: before["cuts"][one] for part, one in chosen.items()},
        "encoder": {part: {"kept_from": earlier.parent.name} for part in chosen},
    }


def _write(
    run: Run,
    encoder: TextEncoder,
    texts: dict[str, list[str | None]],
    tokens_of: Callable[[np.ndarray], Tokens],
    folder: Path,
    earlier: Remembered | None = None,
) -> Remembered:
    """Write an encoder and what it makes of the items; what equal weights made of equal texts `earlier` is not read."""
    encoder.save(folder)
    found = encoding.remember(encoder.to(device.chosen(run.settings)), item_contents(texts), tokens_of, earlier)
    profile.check_vectors(found.vectors, run.settings.seed)
    found.save(folder)
    return found


def _kept(run: Run, marts: Marts) -> Path | None:
    """The folder of the newest earlier run of the label whose encoders may serve: of the same recipe, young enough."""
    days = (run.day - dt.timedelta(days=age) for age in range(1, run.settings.profile.keep_days + 1))
    folders = (run.home / "runs" / f"{day}.{run.label}" / "train_profile" for day in days)
    return next((one for one in folders if _may_serve(run, marts, one)), None)


def _may_serve(run: Run, marts: Marts, folder: Path) -> bool:
    if not (folder / "model.json").exists():
        return False
    told = json.loads((folder / "model.json").read_text())
    age = run.day - dt.date.fromisoformat(told["trained_on"])
    is_young = age.days <= run.settings.profile.keep_days
    return is_young and told["recipe"] == recipe(run) and len(_parts(folder, marts)) == len(marts.cuts)


def _parts(folder: Path, marts: Marts) -> dict[str, str]:
    """For each of tonight's cuts the earlier encoder that knows most of the days up to it, and none after it."""
    told = json.loads((folder / "model.json").read_text())["cuts"]
    known = {part: dt.date.fromisoformat(day) for part, day in told.items()}
    able = {part: [one for one, day in known.items() if day <= until] for part, until in marts.cuts.items()}
    return {part: max(ones, key=known.__getitem__) for part, ones in able.items() if ones}
