"""Several processes that learn as one take the steps of one, and end together."""

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models import together
from models.encoder import encode
from models.errors import Diverged, ProcessLost
from models.item_text import TextTokenizer
from models.profile import ProfileConfig
from models.profile_training import train_encoder
from models.together import ALONE, Team
from pipelines import settings, spark

WORDS = ["spade", "seeds", "hose", "rake", "pan", "knife", "whisk", "bowl", "oven", "spoon"]
DICE = np.random.default_rng(0)
TITLES = [" ".join(DICE.choice(WORDS, 1 + row % 7)) for row in range(150)]  # of unlike lengths
PAIRS = DICE.integers(len(TITLES), size=(3000, 2))
CLICKS = np.column_stack([DICE.integers(len(WORDS), size=800), DICE.integers(len(TITLES), size=800)])


@pytest.fixture(scope="module")
def lesson():
    """What `train_encoder` takes of a shop of 150 items."""
    tokenizer = TextTokenizer.train(TITLES, vocabulary_size=400)
    items = tokenizer.encode_items({"title": TITLES}, max_tokens=12)
    shape = ProfileConfig(
        tokenizer.vocabulary_size, embedding_size=16, hidden_size=16, layers=1, heads=2, max_tokens=12, dropout=0.3
    )
    return items, tokenizer.encode_queries(WORDS), PAIRS, CLICKS, np.ones(len(TITLES)), shape


@pytest.fixture
def in_place():
    """The work of new processes is done by this one."""
    return {"processes": 2, "launch": lambda work, count, *arguments: work(ALONE, *arguments)}


@pytest.mark.slow
def test_processes_take_the_steps_of_one(lesson):
    """Three processes have each step's loss, each look at the pairs kept apart, and the vectors of one process."""
    asked = {"steps": 12, "batch_size": 129, "learning_rate": 5e-3, "seed": 3}
    alone, by_one = train_encoder(*lesson, **asked)
    team, by_three = train_encoder(*lesson, **asked, processes=3)
    np.testing.assert_allclose(by_three.losses, by_one.losses, rtol=2e-5)
    np.testing.assert_allclose(by_three.validation, by_one.validation, rtol=2e-5)
    np.testing.assert_allclose(encode(team, lesson[0]), encode(alone, lesson[0]), atol=1e-3)
    assert by_one.losses[-1] < by_one.losses[0] - 0.1


def end_the_second(team: Team, folder: Path) -> None:
    (folder / f"told{team.rank}").write_text(str(team.told(7.0 - team.rank)))
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    team.told(0.0)


@pytest.mark.slow
def test_a_killed_process_ends_all_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names the process and the signal; no process and no file is left. Until then the first decides."""
    told, left = tmp_path / "told", tmp_path / "left"
    told.mkdir()
    left.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left))
    with pytest.raises(ProcessLost, match=r"process 1 \(0 to 1\) of a training was ended by SIGKILL"):
        together.run(end_the_second, 2, told)
    assert multiprocessing.active_children() == []
    assert list(left.iterdir()) == []
    assert [path.read_text() for path in sorted(told.iterdir())] == ["7.0", "7.0"]


def test_what_new_processes_learnt_comes_back(lesson, in_place):
    """By files: the weights go on from those that were given, and are those that one process ends with."""
    start, _ = train_encoder(*lesson, steps=1)
    expected, told = train_encoder(*lesson, steps=2, start=start)
    found, retold = train_encoder(*lesson, steps=2, start=start, **in_place)
    np.testing.assert_array_equal(encode(found, lesson[0]), encode(expected, lesson[0]))
    assert retold == told


def test_divergence_comes_back(lesson, in_place):
    """As the error that it is, with its cure."""
    with pytest.raises(Diverged, match=r"lower learning_rate 1e\+30"):
        train_encoder(*lesson, steps=9, learning_rate=1e30, **in_place)


@pytest.fixture
def tasks(tmp_path: Path):
    """What starts tasks in a Spark session of two cores."""
    from models import together_spark

    run = SimpleNamespace(home=tmp_path, run_id="r", settings=settings.Settings())
    with spark.session(run, 1):
        yield together_spark.run


@pytest.mark.slow
def test_tasks_of_spark_take_the_steps_of_one(lesson, tasks, tmp_path: Path):
    """Two other processes, going on from given weights, have the losses and the vectors of one, and leave no file."""
    told, left = tmp_path / "told", tmp_path / "left"
    told.mkdir()
    left.mkdir()

    def tell_and_work(team: Team, work, *arguments) -> None:  # sent as it stands: no executor can import a test
        (told / f"{team.rank} of {team.count}").write_text(str(os.getpid()))
        work(team, *arguments)

    start, _ = train_encoder(*lesson, steps=1)
    asked = {"steps": 4, "batch_size": 129, "seed": 3, "start": start}
    alone, by_one = train_encoder(*lesson, **asked)
    launch = {"launch": lambda work, *rest: tasks(tell_and_work, rest[0], work, *rest[1:]), "scratch": left}
    team, by_two = train_encoder(*lesson, **asked, processes=2, **launch)
    np.testing.assert_allclose(by_two.losses, by_one.losses, rtol=2e-5)
    np.testing.assert_allclose(encode(team, lesson[0]), encode(alone, lesson[0]), atol=1e-3)
    assert sorted(path.name for path in told.iterdir()) == ["0 of 2", "1 of 2"]
    assert len({str(os.getpid()), *(path.read_text() for path in told.iterdir())}) == 3
    assert not list(left.iterdir())


@pytest.mark.slow
def test_more_tasks_than_cores_are_told_before_they_start(tasks, tmp_path: Path):
    """Spark would look for ten minutes for what a session of this machine never gets."""
    with pytest.raises(ProcessLost, match=r"9 tasks of Spark has \d cores .* lower profile.processes"):
        tasks(end_the_second, 9, tmp_path)
    assert not list(tmp_path.glob("told*"))
