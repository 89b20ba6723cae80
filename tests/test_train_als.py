"""When training diverges, an earlier night's factors serve for some days, and the folder says so."""

import datetime as dt
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.als import ALSModel
from models.errors import Diverged
from pipelines import report, train_als
from pipelines.errors import NotTrained
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.shelve import building
from tests.lake import built, lay

pytestmark = pytest.mark.slow

FIRST = dt.date(2026, 3, 1)
SMALL = {"als.factors": 4, "holdout.days": 3, "als.serve_days": 2}
SHELF = pd.DataFrame(
    [
        {"placement": "for_you", "user": 0, "rank": 1, "item": 1, "score": 1.0, **dict.fromkeys(building.SCORES, 0.0)}
        | {
            "reason": "people_like_you",
            "evidence": -1,
            "query": None,
            "fallback": None,
            "rule_id": None,
            "propensity": 1.0,
        }
    ]
)


def purchase(user: int, item: int, day: dt.date) -> dict[str, object]:
    name = f"u{user}-i{item}-{day}"
    return {"event_id": name, "user_id": f"u{user}", "event_type": "purchase", "item_id": f"i{item}", "quantity": 1} | {
        "occurred_at": f"{day} 10:00:00"
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the night of 1 March is trained."""
    home = tmp_path_factory.mktemp("home")
    days = [FIRST - dt.timedelta(days=age) for age in (12, 9, 6, 2)]
    lay(home, "items", "2026-02-01", [{"item_id": f"i{n}", "title": f"thing {n}"} for n in range(1, 6)])
    bought = [purchase(user, 1 + (user + k) % 5, day) for user in range(6) for k, day in enumerate(days)]
    lay(home, "events", "2026-03-01", bought)
    train_als.run(built(home, FIRST, **SMALL))
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """The night of 1 March is trained; on 2 March item i0 arrives, before all others in the alphabet."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    lay(tmp_path, "items", "2026-03-02", [{"item_id": "i0", "title": "thing 0"}])
    lay(tmp_path, "events", "2026-03-02", [purchase(9, 1, FIRST + dt.timedelta(days=1))])
    return tmp_path


@pytest.fixture
def _diverging(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*args: object, **settings: object) -> None:
        raise Diverged("ALS left NaN factors")

    monkeypatch.setattr("models.als.fit", diverge)


def later(home: Path, days: int) -> Run:
    return built(home, FIRST + dt.timedelta(days=days), **SMALL)


def told(run: Run) -> dict[str, object]:
    return json.loads(run.of("train_als", "model.json").read_text())


def page(run: Run) -> str:
    report.run(run)
    return run.of("report", "report.html").read_text()


def test_a_normal_night_says_what_its_models_know(home):
    """Without trouble each part knows all days up to its cut, and no reason stands there or on the page."""
    run = later(home, 1)
    train_als.run(run)
    assert told(run) == {"trained_on": "2026-03-02", "cuts": {p: str(day) for p, day in Marts(run).cuts.items()}}
    assert "collaborative filtering serves" not in page(run)


@pytest.mark.usefixtures("_diverging")
def test_the_last_good_model_serves(home):
    """Items keep the factors of the night before at their new places, and who came since is folded in; each row and
    the page say so."""
    run = later(home, 1)
    train_als.run(run)
    marts, before = Marts(run), home / "runs" / "2026-03-01.nightly" / "train_als"
    model = ALSModel.load(run.of("train_als", "final"), users=marts.users, items=marts.items)
    assert told(run)["trained_on"] == "2026-03-01"
    assert told(run)["fallback_because"] == "ALS left NaN factors"
    assert not model.item_factors[0].any()
    np.testing.assert_array_equal(model.item_factors[1:], np.load(before / "final" / "item_factors.npy"))
    assert model.user_factors[marts.users.positions(["u9"])[0]].any()
    assert building.named(run, marts, SHELF)["trained_on"].tolist() == [FIRST]
    assert "it knows the days up to 2026-03-01" in page(run)
    assert "ALS left NaN factors." in page(run)


@pytest.mark.usefixtures("_diverging")
def test_no_part_knows_a_day_after_its_cut(home):
    """What is measured on held-out days does not come from a model that saw them."""
    run = later(home, 1)
    train_als.run(run)
    cuts = {part: dt.date.fromisoformat(day) for part, day in told(run)["cuts"].items()}
    assert set(cuts) == set(Marts(run).cuts)
    assert all(cuts[part] <= until for part, until in Marts(run).cuts.items())


@pytest.mark.usefixtures("_diverging")
def test_age_counts_from_the_day_that_the_factors_know(home):
    """A night that was served does not make its factors younger: after `als.serve_days` the stage stops."""
    train_als.run(later(home, 1))
    train_als.run(later(home, 2))
    with pytest.raises(NotTrained, match="train_als: ALS left NaN factors"):
        train_als.run(later(home, 3))


def test_mllib_learns_in_the_place_of_implicit(home: Path):
    """The folder is read as ever, and what Spark remembered of its sweeps is gone."""
    run = built(home, FIRST + dt.timedelta(days=1), **SMALL | {"als.engine": "spark"})
    train_als.run(run)
    marts = Marts(run)
    model = ALSModel.load(run.of("train_als", "final"), users=marts.users, items=marts.items)
    met = marts.interactions(run.day).getnnz(axis=0) > 0
    assert model.item_factors.any(axis=1).tolist() == met.tolist()
    assert np.isfinite(model.user_factors).all()
    assert not list(home.rglob("checkpoints"))
