"""The search finds better settings within its ranges, and the settings file keeps its comments."""

from pathlib import Path

import numpy as np
import pytest

from pipelines import tune
from pipelines.errors import BadSetting
from pipelines.tune import Tuned, Values

PRESENT: Values = {"weights.half_life_days": 60.0, "als.alpha": 1.0, "als.regularization": 20.0, "als.factors": 64}


def judge(values: Values) -> np.ndarray:
    """Forty users whom a strong regularisation and width serve best."""
    strength = np.log10(values["als.regularization"]) / 2.5 + values["als.factors"] / 512
    return np.full(40, float(strength))


def test_the_search_finds_what_serves_better():
    """By itself, from the present settings on; equal seeds find equal values, of three digits."""
    found, count = tune.search(judge, PRESENT, seconds=60, seed=3, trials=40)
    assert count == 40
    assert judge(found).mean() > judge(PRESENT).mean() + 0.4
    assert found["als.regularization"] > 100
    assert found == tune.search(judge, PRESENT, seconds=60, seed=3, trials=40)[0]
    assert all(float(f"{value:.3g}") == value for value in found.values())


def test_the_present_settings_are_the_first_trial():
    """Also where they lie outside the ranges: then the nearest that may be tried."""
    tried = []

    def note(values: Values) -> np.ndarray:
        tried.append(dict(values))
        return np.ones(3)

    tune.search(note, PRESENT | {"als.factors": 100, "als.alpha": 0.001}, seconds=60, seed=1, trials=1)
    assert tried == [PRESENT | {"als.factors": 100, "als.alpha": 0.05}]


def test_only_what_is_named_is_searched():
    """Where events have no age there is no half-life to find."""
    present: Values = {"als.alpha": 1.0, "als.regularization": 20.0, "als.factors": 64}
    found, _ = tune.search(judge, present, seconds=60, seed=1, trials=12)
    assert set(found) == set(present)


def test_factors_are_raised_last_and_while_that_pays():
    """Half of the trials keep the present factors; the step to 256 gains nothing here, so that 128 are kept."""
    tried = []

    def note(values: Values) -> np.ndarray:
        tried.append(values["als.factors"])
        return np.full(3, 0.5 if values["als.factors"] < 128 else 0.6)

    found, _ = tune.search(note, PRESENT, seconds=60, seed=1, trials=20)
    assert tried == [64] * 10 + [128, 256] + [128] * 8
    assert found["als.factors"] == 128


def test_the_search_ends_in_its_budget(monkeypatch: pytest.MonkeyPatch):
    """No trial begins that would end too late; twice the factors are taken to cost four times the seconds."""
    clock, tried = [0.0], []
    monkeypatch.setattr("pipelines.tune.time.monotonic", lambda: clock[0])

    def slow(values: Values) -> np.ndarray:
        tried.append(values["als.factors"])
        clock[0] += values["als.factors"] ** 2 / 400
        return np.full(3, float(values["als.factors"]))

    tune.search(slow, PRESENT, seconds=200, seed=1)
    assert tried == [64] * 10 + [128] * 2
    assert clock[0] < 200


def test_what_cannot_be_trained_is_worth_nothing():
    """Settings that diverge end their trial, not the search."""

    def fragile(values: Values) -> np.ndarray:
        if values["als.alpha"] > 0.5:
            raise ValueError("the largest confidence is too large")
        return np.ones(3)

    found, _ = tune.search(fragile, PRESENT, seconds=60, seed=1, trials=30)
    assert found["als.alpha"] <= 0.5


@pytest.mark.parametrize(("gain", "is_better"), [(0.05, True), (0.0, False), (-0.05, False)])
def test_only_a_gain_beyond_chance_counts(gain: float, is_better: bool):
    """On the days that confirm; those that chose flatter what they chose."""
    before = np.random.default_rng(0).random(400)
    told = Tuned(PRESENT, PRESENT, 1, (before, before + 1.0), (before, before + gain))
    assert told.is_better is is_better
    assert not Tuned(PRESENT, PRESENT, 1, (before, before + 1.0), (before[:0], before[:0])).is_better


def test_the_settings_file_keeps_its_comments(tmp_path: Path):
    """What is there stays, in its order; what is found comes into its sections."""
    path = tmp_path / "nightshelf.toml"
    path.write_text('# ours\n[als]\nfactors = 32  # small\nepochs = 9\n\n[shop]\nname = "Us"\n')
    assert tune.write({"als.factors": 128, "weights.half_life_days": 45.5}, tmp_path, {}) == path
    assert path.read_text() == (
        '# ours\n[als]\nfactors = 128  # small\nepochs = 9\n\n[shop]\nname = "Us"\n\n[weights]\nhalf_life_days = 45.5\n'
    )


def test_a_wrong_value_is_not_written(tmp_path: Path):
    """The file is parsed as the next night will before it is replaced; without a file there is one afterwards."""
    with pytest.raises(BadSetting, match=r"als\.factors"):
        tune.write({"als.factors": 0}, tmp_path, {})
    assert not (tmp_path / "nightshelf.toml").exists()
    tune.write({"als.factors": 64}, tmp_path, {})
    assert (tmp_path / "nightshelf.toml").read_text() == "[als]\nfactors = 64\n"
