"""An earlier night's encoder may be kept: only what changed is read, and the folder says what it knows."""

import datetime as dt
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models import encoder as encoding
from models import stamp, together
from models.encoder import Remembered, encode, remember
from models.errors import ForeignVocabulary
from models.item_text import TextTokenizer
from models.profile import ProfileConfig
from models.vocabulary import Vocabulary
from pipelines import encoders, settings, spark, train_profile
from pipelines.marts import Marts
from pipelines.run import Run
from tests.lake import built, lay

pytestmark = pytest.mark.slow

FIRST = dt.date(2026, 3, 1)
COUNT = 200
SMALL = {
    f"profile.{name}": 8 for name in ("embedding_size", "hidden_size", "sequence_size", "max_tokens", "batch_size")
}
SMALL |= {f"profile.{name}": 1 for name in ("steps", "history_steps", "sequence_epochs", "layers")}
SMALL |= {"holdout.days": 3, "profile.keep_days": 2, "profile.vocabulary_size": 400}


def purchase(user: int, item: int, day: dt.date) -> dict[str, object]:
    name = f"u{user}-i{item}-{day}"
    return {"event_id": name, "user_id": f"u{user}", "event_type": "purchase", "item_id": f"i{item}", "quantity": 1} | {
        "occurred_at": f"{day} 10:00:00"
    }


def item(number: int, title: str) -> dict[str, object]:
    return {"item_id": f"i{number}", "title": title}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night of 1 March is trained; on 2 March one item of two hundred has another title, and one is new."""
    home = tmp_path_factory.mktemp("kept")
    days = [FIRST - dt.timedelta(days=age) for age in (12, 9, 6, 2)]
    lay(home, "items", "2026-02-01", [item(n, f"thing {n % 150}") for n in range(1, COUNT + 1)])
    bought = [purchase(user, 1 + (user + k) % 5, day) for user in range(6) for k, day in enumerate(days)]
    lay(home, "events", "2026-03-01", bought)
    train_profile.run(built(home, FIRST, **SMALL))
    lay(home, "items", "2026-03-02", [item(7, "other thing"), item(0, "new thing")])
    lay(home, "events", "2026-03-02", [purchase(9, 1, FIRST + dt.timedelta(days=1))])
    return home


@pytest.fixture(scope="module")
def later(home: Path) -> tuple[Run, dict[str, int]]:
    """The night after, and how many texts its trainings cut into tokens and read."""
    counted, read, cut = {"cut": 0, "read": 0}, encoding.as_tensors, TextTokenizer.encode_items

    def count_read(tokens, encoder):
        counted["read"] += len(tokens)
        return read(tokens, encoder)

    def count_cut(tokenizer, fields, max_tokens):
        counted["cut"] += len(fields["title"])
        return cut(tokenizer, fields, max_tokens)

    run = built(home, FIRST + dt.timedelta(days=1), **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "as_tensors", count_read)
        patch.setattr(TextTokenizer, "encode_items", count_cut)
        train_profile.run(run)
    return run, counted


def told(run: Run) -> dict[str, object]:
    return json.loads(run.of("train_profile", "model.json").read_text())


def test_only_what_changed_is_read(later: tuple[Run, dict[str, int]]):
    """Of 201 items two have a text that the kept encoder did not read: two texts per training."""
    run, counted = later
    assert counted == dict.fromkeys(("cut", "read"), 2 * len(Marts(run).cuts))


def test_remembered_vectors_are_those_of_their_items(home: Path, later: tuple[Run, dict[str, int]]):
    """A new item stands before all others in the alphabet, and each item still has the vector of its own text."""
    run, _ = later
    vectors = np.load(run.of("train_profile", "final", "item_vectors.npy"))
    before = np.load(home / "runs" / "2026-03-01.nightly" / "train_profile" / "final" / "item_vectors.npy")
    marts = Marts(run)
    tokens = TextTokenizer.load(run.of("train_profile")).encode_items(encoders.item_texts(marts), 8)
    np.testing.assert_allclose(vectors, encode(encoding.load(run.of("train_profile", "final")), tokens), atol=1e-6)
    changed = marts.items.positions(["i0", "i7"])
    old = np.delete(before, sorted(f"i{n}" for n in range(1, COUNT + 1)).index("i7"), axis=0)
    np.testing.assert_array_equal(np.delete(vectors, changed, axis=0), old)


def test_a_kept_encoder_says_what_it_knows(later: tuple[Run, dict[str, int]]):
    """Days up to its own cuts, none of which is after tonight's, and whose it is."""
    run, _ = later
    cuts = {part: dt.date.fromisoformat(day) for part, day in told(run)["cuts"].items()}
    assert told(run)["trained_on"] == "2026-03-01"
    assert all(cuts[part] <= until for part, until in Marts(run).cuts.items())
    assert told(run)["encoder"]["final"] == {"kept_from": "2026-03-01.nightly"}


@pytest.mark.parametrize("changes", [{"profile.keep_days": 0}, {"profile.layers": 2}, {"seed": 3}])
def test_another_recipe_is_not_kept(later: tuple[Run, dict[str, int]], changes: dict[str, object]):
    """Nor is any where none is to be kept."""
    run, _ = later
    other = Run(**{**vars(run), "settings": run.settings.model_validate(_nested(run, changes))})
    assert encoders._kept(run, Marts(run)) is not None
    assert encoders._kept(other, Marts(run)) is None


def test_age_counts_from_the_day_that_the_encoder_knows(later: tuple[Run, dict[str, int]]):
    """Keeping does not make it younger: on the fourth day the encoder of the first learns anew."""
    run, _ = later
    third, fourth = (Run(**{**vars(run), "day": FIRST + dt.timedelta(days=age)}) for age in (2, 3))
    assert encoders._kept(third, Marts(run)) == run.folder / "train_profile"
    assert encoders._kept(fourth, Marts(run)) is None


def test_artefacts_name_their_ids(later: tuple[Run, dict[str, int]]):
    """Vectors are refused beside other users or items than those they were made for."""
    run, _ = later
    marts, folder = Marts(run), run.of("train_profile", "final")
    stamp.check(folder, users=marts.users, items=marts.items)
    with pytest.raises(ForeignVocabulary, match="train that model again"):
        stamp.check(folder, items=Vocabulary(["i1"]))


def test_other_weights_remember_nothing():
    """A key is what was read and by which weights: nothing is taken over from another encoder."""
    tokenizer = TextTokenizer.train(["spade", "rake"] * 2, vocabulary_size=300)
    texts = tokenizer.encode_queries(["spade", "rake", "spade"])
    one, other = (ProfileConfig(300, embedding_size=8, hidden_size=8, layers=1).build() for _ in range(2))
    found = remember(one, texts.contents, texts.take)
    planted = Remembered(found.keys, found.vectors + 1)
    np.testing.assert_array_equal(remember(one, texts.contents, texts.take, planted).vectors, planted.vectors)
    np.testing.assert_array_equal(remember(other, texts.contents, texts.take, planted).vectors, encode(other, texts))
    np.testing.assert_array_equal(found.vectors[0], found.vectors[2])


def _nested(run: Run, changes: dict[str, object]) -> dict[str, object]:
    tree = run.settings.model_dump()
    for dotted, value in changes.items():
        *section, name = dotted.split(".")
        (tree[section[0]] if section else tree)[name] = value
    return tree


@pytest.mark.parametrize(("asked", "starts"), [((2, "spark"), 1), ((1, "spark"), 0), ((2, "local"), 0)])
def test_spark_starts_for_several_processes_alone(monkeypatch: pytest.MonkeyPatch, asked: tuple[int, str], starts: int):
    """And where `profile.launcher` says so; else this machine starts them, or none."""
    from models import together_spark

    processes, launcher = asked
    sessions = []
    monkeypatch.setattr(spark, "session", lambda run, count_rows: nullcontext(sessions.append(run)))
    told = settings.parse({"profile": {"processes": processes, "launcher": launcher}})
    with encoders._launcher(SimpleNamespace(settings=told)) as launch:
        assert launch is (together_spark.run if starts else together.run)
    assert len(sessions) == starts
