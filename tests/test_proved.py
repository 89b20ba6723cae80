"""A night may carry the proof of an earlier one: it trains what is published, and says whose figures it has."""

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines import compare, encoders, fuse, plan, proved, rescore, retention, train_als, warehouse
from pipelines import night as nights
from pipelines.errors import BadSetting
from pipelines.forget import forget
from pipelines.marts import Marts
from pipelines.open import open_run
from pipelines.plan import size as sizes
from pipelines.rules.preview import preview
from pipelines.run import Run
from pipelines.settings import Settings
from tests.conftest import LAST_DAY, SMALL, deliver, event, linked
from tests.lake import run_of
from tests.test_forget import holding
from tests.test_rescore import RULES

NEXT = LAST_DAY + dt.timedelta(days=1)
PASSED = {"admit.filled_stop_below": 0, "admit.mix_stop_above": 100}  # a day on which people did nothing but buy
CARRYING = SMALL | PASSED | {"holdout.keep_days": 7}
NEW_ITEM = {"item_id": "a-new-thing", "title": "Brass lantern", "description": "A lantern of brass.", "brand": "Lumen"}
NEW_ITEM |= {"category": "Cycling > Lights", "parent_id": "a-new-thing", "tags": None, "seller": "Generated shop"}
NEW_ITEM |= {"price_cents": 1500, "is_available": True}
FROM_PROOF = {
    "select metric, value, low, high": "metrics where kind = 'quality' order by metric",
    "select * exclude run_id": "held_out_lists order by all",
}
CHOSEN = (("train_profile", "final", "personalization.json"), ("fuse", "fusion.json"), ("fuse", "for_you.json"))


def next_day(marts: Marts) -> Iterable[dict[str, object]]:
    """What people did on the day after: sixty of them bought the new thing and an old one, a newcomer six old ones."""
    items, users = list(marts.items.ids), list(marts.users.ids)[:60]
    acts = [(n, user, item) for n, user in enumerate(users) for item in (NEW_ITEM["item_id"], items[n])]
    acts += [(len(users), "a-newcomer", item) for item in items[:6]]
    for n, (visit, user, item) in enumerate(acts):
        told = {"event_type": "purchase", "quantity": 1, "price_cents": 1500, "query": None}
        told |= {"session_id": f"next-visit-{visit}", "order_id": f"next-order-{visit}"}
        yield event(n, str(NEXT), event_id=f"next-{n}", user_id=user, item_id=item, **told)


@pytest.fixture(scope="module")
def later(night: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The night of that day, in a home of its own; user and item stand before all others in the alphabet."""
    home = linked(night.home, tmp_path_factory.mktemp("proved") / "home")
    deliver(home, "items", str(NEXT), [NEW_ITEM])
    deliver(home, "events", str(NEXT), next_day(Marts(night)))
    return nights.run(day=NEXT, overrides=CARRYING, home=home)


@pytest.fixture
def proof(night: Run, later: Run) -> Run:
    """The night whose proof that one carries, where both lie."""
    return Run.load(night.run_id, later.home)


def rows(home: Path, query: str) -> pd.DataFrame:
    with warehouse.connect(home) as release:
        return release.execute(query).df()


def on(later: Run, day: dt.date, **changes: Any) -> Run:
    """A run of another day that nobody has opened."""
    fresh = {"day": day, "run_id": f"{day}.nightly", "proof_of": None, "proves_because": None}
    return dataclasses.replace(later, **(fresh | changes))


def under(told: Settings, section: str, **changes: object) -> Settings:
    return told.model_copy(update={section: getattr(told, section).model_copy(update=changes)})


def test_its_days_are_those_of_the_proof_but_for_what_is_published(tmp_path: Path):
    """Two windows of a week before the fourth, and the seventh, on which the only training ends."""
    day = dt.date(2026, 3, 7)
    own = run_of(tmp_path, day, **{"holdout.days": 7, "holdout.windows": 2})
    run = dataclasses.replace(own, proof_of="2026-03-04.nightly")
    assert own.cuts == {"holdout_2": dt.date(2026, 2, 21), "holdout": dt.date(2026, 2, 28), "final": day}
    assert (own.proved_on, own.holdout_cuts) == (day, [dt.date(2026, 2, 21), dt.date(2026, 2, 28)])
    assert (run.cuts, run.proved_on, run.holdout_cut) == ({"final": day}, dt.date(2026, 3, 4), dt.date(2026, 2, 25))
    assert run.holdout_cuts == [dt.date(2026, 2, 18), dt.date(2026, 2, 25), dt.date(2026, 3, 4)]
    assert run.fingerprint != own.fingerprint


@pytest.mark.slow
def test_it_has_the_figures_and_lists_of_the_proof_and_says_so(proof: Run, later: Run):
    """Every figure on held-out days and every held-out list is of the earlier night, which `runs` and run.json name;
    its gate compares nothing with the release that has the same proof, and passed."""
    assert json.loads((later.folder / "run.json").read_text())["proof_of"] == proof.run_id
    told = rows(later.home, "select models_of, proof_of, proved_on::varchar as proved_on from runs").to_dict("records")
    assert told == [{"models_of": later.run_id, "proof_of": proof.run_id, "proved_on": str(LAST_DAY)}]
    with warehouse.connect(later.home) as now:
        now.execute(f"attach '{proof.of('validate', 'release.duckdb')}' as before (read_only)")
        for told, rest in FROM_PROOF.items():
            ours, theirs = (now.execute(f"{told} from {place}{rest}").df() for place in ("", "before."))
            pd.testing.assert_frame_equal(ours, theirs)
            assert len(ours) > 100
    checks = rows(later.home, "select * from quality_checks where check_name like '%\\_against\\_current' escape '\\'")
    told = f"nothing to measure: both are ranked as {proof.run_id} proved, equal by definition"
    assert checks["observed"].tolist() == [told] * 3


@pytest.mark.slow
def test_it_trains_what_is_published_and_no_window(proof: Run, later: Run):
    """Factors learn anew from all days, the network of histories goes on where it reads, all else stays."""
    for stage in ("train_als", "train_neighbours", "train_profile"):
        assert [path.name for path in sorted(later.of(stage).iterdir()) if path.is_dir()] == ["final"]
    model = json.loads(later.of("train_als", "model.json").read_text())
    assert model == {"trained_on": str(NEXT), "cuts": {"final": str(NEXT)}}
    told = json.loads(later.of("train_profile", "model.json").read_text())
    assert told["encoder"] == {"final": {"kept_from": proof.run_id}}
    for stage, *path in (
        ("train_profile", "final", "personalization.json"),
        ("fuse", "fusion.json"),
        ("fuse", "for_you.json"),
    ):
        assert proof.of(stage, *path).read_bytes() == later.of(stage, *path).read_bytes()


@pytest.mark.slow
def test_people_and_things_of_the_day_are_served(later: Run):
    """The newcomer has shelves of the newcomer's own, and the new thing stands on shelves of others."""
    newcomer = (
        "select count(*) filter (where fallback is null) as n from user_recommendations where user_id = 'a-newcomer'"
    )
    assert rows(later.home, newcomer)["n"][0] > 0
    shown = f"select count(*) as n from user_recommendations where item_id = '{NEW_ITEM['item_id']}'"
    assert rows(later.home, f"{shown} and fallback is null and placement <> 'buy_again'")["n"][0] > 0
    marts = Marts(later)
    assert marts.items.positions([NEW_ITEM["item_id"]])[0] == marts.users.positions(["a-newcomer"])[0] == 0


@pytest.mark.slow
def test_it_is_decided_once(later: Run, tmp_path: Path):
    """Opened again it is the same run, also when the proof is gone that it has read; one that has still to read it
    proves anew, and says why."""
    told = f"carries the proof of {later.proof_of}: it trains what is published alone"
    assert proved.told(later) == f"{later.run_id} {told}"
    home = linked(later.home, tmp_path / "home")
    again = open_run(owner="airflow:test", day=NEXT, overrides=CARRYING, home=home)
    assert (again.fingerprint, again.proof_of) == (later.fingerprint, later.proof_of)
    shutil.rmtree(home / "runs" / str(later.proof_of))
    assert proved.settled(dataclasses.replace(again, proof_of=None)).proof_of == later.proof_of
    shutil.rmtree(again.folder / "shelve")
    told = proved.settled(dataclasses.replace(again, proof_of=None))
    because = "no nightly run of the 7 days before has a proof"
    assert (told.proof_of, proved.told(told)) == (None, f"{later.run_id} proves its rankings anew: {because}")


@pytest.mark.slow
def test_what_a_proof_hangs_on_proves_anew(proof: Run, later: Run, monkeypatch: pytest.MonkeyPatch):
    """Another setting of the models, of search or of shelves, other code, days beyond the bound, another label, a
    release that readers were taken back from: each is named. What decides no figure changes nothing."""
    day = NEXT + dt.timedelta(days=6)
    told = later.settings
    harmless = under(under(told, "gates", ask=True), "clean", memory_mb=4096)
    assert proved.settled(on(later, day, settings=harmless)).proof_of == proof.run_id
    wanted = {
        f"{proof.run_id} has other settings: als.factors": {"settings": under(told, "als", factors=8)},
        f"{proof.run_id} has other settings: shelve.diversity": {"settings": under(told, "shelve", diversity=0.0)},
        f"{proof.run_id} is of other code, {proof.code_version}": {"code_version": "0"},
        "no nightly run of the 7 days before has a proof": {"day": day + dt.timedelta(days=1)},
        "no other run of the 7 days before has a proof": {"label": "other"},
        None: {"settings": under(told, "holdout", keep_days=0)},
    }
    for because, changes in wanted.items():
        found = proved.settled(on(later, **({"day": day} | changes)))
        assert (found.proof_of, found.proves_because) == (None, because)
    monkeypatch.setattr(warehouse, "barred", lambda book: {f"{later.run_id}.12345678": {}})
    because = f"readers were taken back from {later.run_id}.12345678, which is ranked by {proof.run_id}"
    assert proved.settled(on(later, day)).proves_because == because


@pytest.mark.slow
def test_a_proof_that_the_gate_stopped_is_not_carried(later: Run, tmp_path: Path):
    """Nor one that is not whole."""
    home = linked(later.home, tmp_path / "home")
    verdict = home / "runs" / str(later.proof_of) / "validate" / "verdict.json"
    told = json.loads(verdict.read_text())
    verdict.unlink()  # a link to the other home's
    verdict.write_text(json.dumps(told | {"failed": ["for_you_against_popularity"]}))
    wanted = on(later, NEXT + dt.timedelta(days=1), home=home)
    assert proved.settled(wanted).proves_because == f"{later.proof_of} did not pass the gate"
    shutil.rmtree(home / "runs" / str(later.proof_of) / "search")
    assert proved.settled(wanted).proves_because == f"{later.proof_of} did not finish search"


@pytest.mark.slow
def test_a_night_that_proves_anew_does_without_what_was_carried(proof: Run, later: Run):
    """Factors and encoders as of the windows are those of the night that trained them, not of the one since."""
    wanted = on(later, NEXT + dt.timedelta(days=1), settings=under(later.settings, "profile", keep_days=7))
    marts = SimpleNamespace(cuts=wanted.cuts)
    assert train_als._last_good(wanted, marts) == proof.of("train_als")
    assert encoders._kept(wanted, marts) == proof.of("train_profile")


@pytest.mark.slow
def test_the_plan_knows_that_it_is_cheaper(proof: Run, later: Run):
    """It is foretold from a night that proved: training takes less, the ranking may, nothing takes more."""
    wanted, last = on(later, NEXT + dt.timedelta(days=1)), sizes.last_night(later.home)
    assert last.run.proof_of is None
    less, more = (
        {one.stage: one.wall_seconds for one in plan.foretell(run, last)}
        for run in (dataclasses.replace(wanted, proof_of=proof.run_id), wanted)
    )
    cheaper = {stage for stage in less if less[stage] < more[stage]}
    assert {"train_profile"} <= cheaper <= {"train_als", "train_neighbours", "train_profile", "fuse"}
    assert all(less[stage] == more[stage] for stage in less.keys() - cheaper)


@pytest.mark.slow
def test_the_proof_stays_as_long_as_it_is_carried(proof: Run, later: Run, tmp_path: Path):
    """However few runs are kept; for the run that opens, too."""
    home, few = linked(later.home, tmp_path / "home"), Settings.model_validate({"retention": {"runs": 1}})
    retention.clear_runs(home, few, later.opened_at)
    assert {path.name for path in (home / "runs").glob("*/")} == {later.run_id, proof.run_id}
    record = home / "runs" / later.run_id / "run.json"
    told = json.loads(record.read_text())
    record.unlink()
    record.write_text(json.dumps(told | {"proof_of": None}))
    retention.clear_runs(home, few, later.opened_at, needed=[proof.run_id])
    assert (home / "runs" / proof.run_id).exists()
    assert retention.clear_runs(home, few, later.opened_at) == [proof.run_id]


@pytest.mark.slow
def test_runs_of_one_proof_compare_as_equal_and_others_not_at_all(proof: Run, later: Run):
    """Their lists are the same; a run that proves on other days is refused, with the cure."""
    assert [(one.difference, one.low, one.high) for one in compare.compare(later, proof)] == [(0, 0, 0)] * 2
    with pytest.raises(BadSetting, match=r"a run of the day of that proof, with holdout\.keep_days=0"):
        compare.compare(on(later, NEXT), later)


@pytest.mark.slow
def test_a_preview_tells_losses_by_the_run_that_proved(later: Run, tmp_path: Path):
    """Its candidates lie there; one that is gone tells none, and the rest of the preview all the same."""
    home = linked(later.home, tmp_path / "home")
    draft = tmp_path / "draft.csv"
    rule = f"no-lantern,deny,{NEW_ITEM['item_id']},anna,broken"
    draft.write_text(f"rule_id,action,item_id,owner,reason\n{rule}\n")
    told = preview(dataclasses.replace(later, home=home), draft)
    assert [one["metric"] for one in told.losses] == ["for_you", "discover"]
    assert all(one["before"] > 0 for one in told.losses)
    assert told.touched["leave"].sum() > 0
    shutil.rmtree(home / "runs" / str(later.proof_of))
    assert preview(dataclasses.replace(later, home=home), draft).losses == []


@pytest.mark.slow
def test_a_forgotten_user_does_not_come_back_with_the_proof(later: Run, tmp_path: Path):
    """Held-out lists of the user leave both runs: what a later night carries has none."""
    home = linked(later.home, tmp_path / "home")
    (home / "truth").rename(tmp_path / "truth")  # what the generator knows, no shop has
    user = pd.read_parquet(later.of("fuse", "held_out_lists.parquet"))["user_id"].iloc[0]
    assert [place for place in holding(home, user) if "held_out_lists" in place]
    forget([user], "asked for it", "anna", home)
    assert holding(home, user) == []
    fuse._adopt(Run.load(later.run_id, home), tmp_path)
    assert user not in set(pd.read_parquet(tmp_path / "held_out_lists.parquet")["user_id"])


@pytest.mark.slow
def test_a_rescore_of_it_has_its_models_and_the_same_proof(later: Run, tmp_path: Path):
    """Candidates are those of the night, figures those of the proof."""
    home = linked(later.home, tmp_path / "home")
    run = rescore.perform(overrides=RULES | PASSED, home=home)
    told = rows(home, "select models_of, proof_of, proved_on::varchar as proved_on from runs").to_dict("records")
    assert told == [{"models_of": later.run_id, "proof_of": later.proof_of, "proved_on": str(LAST_DAY)}]
    names = ["placement", "user", "item", "score"]
    ours, theirs = (pd.read_parquet(one.of("fuse", "candidates.parquet"))[names] for one in (run, later))
    pd.testing.assert_frame_equal(ours, theirs)
    np.testing.assert_array_equal(*(np.load(one.of("train_als", "final", "item_factors.npy")) for one in (run, later)))
