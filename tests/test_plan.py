"""A night is foretold before it starts, and one that the machine has no room for does not start."""

import datetime as dt
import json
import shutil
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import plan
from pipelines.__main__ import app
from pipelines.costs import costs
from pipelines.errors import NightTooLarge
from pipelines.fuse.ablation import ABLATED_USERS
from pipelines.fuse.lessons import WEIGHED_USERS
from pipelines.fuse.sources import USERS_PER_BLOCK
from pipelines.night import STAGES
from pipelines.open import described, open_run
from pipelines.plan import Estimate, needs, room
from pipelines.plan import size as sizes
from pipelines.plan.needs import MARGIN, MIB, NEEDS
from pipelines.plan.size import Night, Size
from pipelines.raw import Dialect, RawFile
from pipelines.run import Override, Run
from pipelines.settings import Settings, load, parse
from pipelines.shortages import LOWER
from tests.conftest import LAST_DAY, SMALL, linked

DAY = dt.date(2026, 3, 1)
TOLD = Settings()
GENERATED = Size(67_232, 2001, 600, 69_973, 233)
RETAIL = Size(398_867, 3825, 3700, 410_254, 768)
HUNDRED_THOUSAND = Size(1_270_539, 99_260, 20_000, 1_320_000, 93)
LARGE = Size(50_000_000, 1_000_000, 100_000, 50_000_000, 400)
UNCOUNTED = ("admit", "build")  # `admit` holds no arrays; threads and days of pairs save `build` what nobody counted
TIB, TAKEN = 1 << 40, (100.0, 2000.0, 5 << 20)  # TAKEN: seconds, peak MiB and bytes of each stage of a night that was


def night_of(size: Size, told: Settings = TOLD) -> Night:
    """A night that was, all of whose stages took the same."""
    seconds, peak, left = TAKEN
    run = Run(Path("home"), "2026-02-28.nightly", DAY, "nightly", dt.datetime(2026, 3, 1), told, {}, "", {})
    took = {stage: {"wall_seconds": seconds, "cpu_seconds": seconds, "peak_memory_mb": peak} for stage in STAGES}
    return Night(run, size, took, dict.fromkeys(STAGES, left))


def by_stage(size: Size, told: Settings = TOLD, last: Night | None = None) -> dict[str, Estimate]:
    return {stage: plan.estimate(stage, size, told, last) for stage in NEEDS}


def times(size: Size, factor: int) -> Size:
    return Size(*(count * factor for count in vars(size).values()))


def test_every_stage_of_the_night_is_foretold():
    """In the night's order."""
    assert tuple(NEEDS) == STAGES


@pytest.mark.parametrize(
    ("size", "told", "measured_seconds"),
    [(GENERATED, {}, 311), (RETAIL, {"holdout": {"days": 28}}, 320), (HUNDRED_THOUSAND, {}, 1948)],
    ids=["generated shop", "Online Retail", "a hundred thousand users"],
)
def test_the_table_foretells_the_nights_that_it_was_made_from(size: Size, told: dict, measured_seconds: float):
    """The sum stands between what benchmarks/README.md says that they took, in CPU seconds, and two and a half times as
    much: one of them has no searches, and its encoder stopped early."""
    foretold = sum(one.wall_seconds for one in by_stage(size, parse(told)).values())
    assert measured_seconds < foretold < 2.5 * measured_seconds


def test_a_night_like_the_last_one_takes_what_that_took():
    """Whatever the table says; only what is left in the lake and the warehouse is told by it."""
    seconds, peak, left = TAKEN
    outside = {"clean": MARGIN * needs.cleaning_disk(GENERATED, TOLD), "publish": 0}
    for stage, one in by_stage(GENERATED, last=night_of(GENERATED)).items():
        assert (one.wall_seconds, one.memory_bytes, one.is_known) == (seconds, pytest.approx(peak * MIB), True)
        assert one.disk_bytes == outside.get(stage, left)


def test_spark_keeps_the_release_once_more():
    """As Parquet beside the file that was judged, and not within the run."""
    told = parse({"warehouse": {"engine": "spark"}})
    for last in (None, night_of(GENERATED, told)):
        assert by_stage(GENERATED, told, last)["publish"].disk_bytes == MARGIN * needs.validate_disk(GENERATED, told)


@pytest.mark.parametrize("stage", ["clean", "build", "train_als", "shelve", "validate"])
def test_twice_the_rows_take_twice_as_long_but_for_the_start(stage: str):
    """What does not grow is what the table says that starting takes."""
    seconds, start = TAKEN[0], NEEDS[stage].fixed_seconds
    foretold = by_stage(times(GENERATED, 2), last=night_of(GENERATED))[stage].wall_seconds
    assert foretold == pytest.approx(start + 2 * (seconds - start))


def test_a_stage_that_was_quicker_than_its_start_does_not_grow_below_nothing():
    """On a fast machine all that it took is taken for its start."""
    assert plan.grown(seconds=3, fixed=37, ratio=10) == 3


def test_a_night_of_far_fewer_rows_says_nothing():
    """One day cleaned does not tell how long it takes to clean them all again; the table does."""
    last = night_of(replace(GENERATED, pending_rows=800, pending_days=3))
    told, alone = by_stage(GENERATED, last=last), by_stage(GENERATED)
    assert told["clean"] == alone["clean"]
    assert told["build"].is_known


def test_arrays_are_counted_cell_by_cell():
    """Twice the factors are (U + I) × F × 4 bytes more for each of three cuts, and the margin, beyond the last."""
    wide = parse({"als": {"factors": 2 * TOLD.als.factors}})
    more = by_stage(GENERATED, wide, night_of(GENERATED))["train_als"].memory_bytes - TAKEN[1] * MIB
    assert more == pytest.approx(MARGIN * 3 * (2001 + 600) * TOLD.als.factors * 4)


def test_processes_that_train_together_are_counted():
    """Three more than the one that waits for them; one trains where it is."""
    one, three = (by_stage(GENERATED, parse({"profile": {"processes": n}}))["train_profile"] for n in (1, 3))
    assert three.memory_bytes - one.memory_bytes == 3 * needs.LEARNING


@pytest.mark.parametrize(
    ("stage", "section", "ours", "theirs"),
    [
        ("train_als", "als", {"engine": "implicit"}, {"engine": "spark"}),
        ("train_profile", "profile", {"processes": 2}, {"processes": 2, "launcher": "spark"}),
        ("fuse", "fuse", {"engine": "local"}, {"engine": "spark"}),
        ("shelve", "shelve", {"engine": "local"}, {"engine": "spark"}),
        ("publish", "warehouse", {"engine": "duckdb"}, {"engine": "spark"}),
    ],
)
def test_java_is_counted_where_spark_works(stage: str, section: str, ours: dict, theirs: dict):
    """Its heap and what it takes beside that stand on top of our own process, and a refusal names the heap."""
    here, there = (parse({section: one}) for one in (ours, theirs))
    more = by_stage(RETAIL, there)[stage].memory_bytes - by_stage(RETAIL, here)[stage].memory_bytes
    assert more == TOLD.clean.memory_mb * MIB + needs.BEYOND_HEAP
    assert "clean.memory_mb (2048)" in plan._lower(stage, there)
    assert "clean.memory_mb" not in plan._lower(stage, here)
    if stage in plan.ENGINES:
        assert [f'{section}.engine = "spark"' in plan._lower(stage, one) for one in (here, there)] == [True, False]


def test_one_process_needs_no_launcher():
    """Spark starts the processes that train together, and one trains where it is."""
    assert not needs.uses_spark("train_profile", parse({"profile": {"launcher": "spark"}}))


def test_factors_by_mllib_are_foretold_to_take_longer():
    """Also beside a night whose factors were ours: by as much as a sweep was measured to."""
    there = parse({"als": {"engine": "spark"}})
    seconds = [by_stage(LARGE, told, night_of(LARGE))["train_als"].wall_seconds for told in (TOLD, there)]
    by_table = [by_stage(LARGE, told)["train_als"].wall_seconds for told in (TOLD, there)]
    assert by_table[1] / by_table[0] == pytest.approx(needs.MLLIB, rel=0.01)
    assert seconds[1] > seconds[0]


def test_lowered_settings_lower_what_a_night_held_in_proportion():
    """Half of the arrays hold half of what the rows held, however much the table overrates them."""
    half = parse({"fuse": {"learn_users": 10_000, "memory_mb": 16}})
    whole, less = (by_stage(LARGE, told, night_of(LARGE))["fuse"].memory_bytes for told in (TOLD, half))
    assert needs.PYTHON < less < whole == TAKEN[1] * MIB
    assert plan.held(was=100, then=1000, now=500) == 50


def test_what_teaches_the_ranker_stops_growing_with_the_shop():
    """Beyond `fuse.learn_users` buyers more of them want no more; the bounds counted with are those of the stage."""
    one, ten = (needs.lesson_arrays(replace(LARGE, count_users=count), TOLD) for count in (100_000, 1_000_000))
    assert one == ten < needs.ROW_SHOWN * needs.lesson_rows(LARGE, TOLD) / 3
    assert (needs.WEIGHED_USERS, needs.ABLATED_USERS) == (WEIGHED_USERS, ABLATED_USERS)
    assert needs.SHOWN == USERS_PER_BLOCK


def test_a_pass_over_histories_stops_growing_with_the_shop():
    """Beyond `profile.sequence_users` a user is read, once, but not learnt from."""
    work = [needs.profile_work(replace(LARGE, count_users=count), TOLD) for count in (10_000, 50_000, 90_000)]
    learnt = needs.cuts(TOLD) * TOLD.profile.sequence_epochs * 40_000
    assert work[2] - work[1] == pytest.approx(needs.READ_ONLY * 40_000)
    assert work[1] - work[0] == pytest.approx(learnt + needs.READ_ONLY * (40_000 + TOLD.holdout.windows * 15_000))


def test_ease_takes_what_its_matrix_takes():
    """A catalogue of 10,000 items wants more than three times 8 I², one item more is served by sparse neighbours."""
    dense, sparse = (by_stage(replace(GENERATED, count_items=count))["train_neighbours"] for count in (10_000, 10_001))
    assert dense.memory_bytes > 3 * 8 * 10_000**2
    assert sparse.memory_bytes < dense.memory_bytes / 2
    assert dense.disk_bytes == MARGIN * 3 * 4 * 10_000**2


@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for stage in LOWER if stage not in UNCOUNTED for name in LOWER[stage]]
)
def test_what_a_refusal_names_lowers_the_stage(stage: str, name: str):
    """A tenth of each setting makes its stage want less memory, on a large shop of few items or of many."""
    section, _, last = name.partition(".")
    lowered = parse({section: {last: max(attrgetter(name)(TOLD) // 10, 512 if stage == "clean" else 1)}})
    shops = [LARGE, replace(LARGE, count_items=8000)]
    assert any(by_stage(s, lowered)[stage].memory_bytes < by_stage(s)[stage].memory_bytes for s in shops)


@pytest.mark.parametrize(
    ("rows", "count"), [([1000], 1000), ([1000, 998, 1001], 1001), ([1000, 20, 30], 1050), ([], 0)]
)
def test_whole_catalogues_are_not_counted_twice(rows: list[int], count: int):
    """Deliveries about as long as each other are whole ones; short ones after a long one are changes."""
    days = [dt.date(2026, 3, 1) + dt.timedelta(days=n) for n in range(len(rows))]
    files = [RawFile("items", day, "", (), n, "", Dialect("parquet")) for day, n in zip(days, rows, strict=True)]
    assert sizes.delivered(files, "items") == count


@pytest.mark.parametrize(
    ("places", "limits", "mib"),
    [
        ("0::/", {}, 2048),
        ("0::/", {"memory.max": "max"}, 2048),
        ("0::/", {"memory.max": str(512 * MIB)}, 512),
        ("0::/pod/box", {"pod/memory.max": str(700 * MIB), "pod/box/memory.max": "max"}, 700),
        ("4:memory:/box\n2:cpu:/", {"memory/box/memory.limit_in_bytes": str(300 * MIB)}, 300),
        ("4:memory:/", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, 2048),
    ],
)
def test_memory_is_what_the_narrowest_group_allows(places: str, limits: dict[str, str], mib: int, tmp_path: Path):
    """Control groups of both versions, this process's and those around it, and the machine itself."""
    files = {"proc/meminfo": "MemFree: 1 kB\nMemTotal: 2097152 kB\n", "proc/self/cgroup": places}
    for name, text in (files | {f"groups/{name}": text for name, text in limits.items()}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert room.memory_bytes(tmp_path / "proc", tmp_path / "groups") == mib * MIB


def test_what_lies_on_one_disk_is_wanted_of_it_together(tmp_path: Path):
    """Spark's scratch adds to the home's where it lies beside it, although neither is there yet."""
    beside, elsewhere = room.disks({tmp_path / "home": 1.0, tmp_path / "home" / "spark": 2.0, Path("/proc/x"): 4.0})
    assert (len(beside.folders), beside.wanted_bytes) == (2, 3.0)
    assert (elsewhere.wanted_bytes, elsewhere.free_bytes) == (4.0, 0)


def test_spark_spills_where_its_own_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The first folder of a list."""
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    assert room.scratch(tmp_path) == tmp_path / "spark"
    monkeypatch.setenv("SPARK_LOCAL_DIRS", "/large,/other")
    assert room.scratch(tmp_path) == Path("/large")


@pytest.fixture
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "memory_bytes", lambda: 2500 * MIB)


@pytest.fixture
def without_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=3 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def opened(home: Path, **told: object) -> Run:
    return open_run(**({"owner": "airflow:test", "day": DAY, "home": home} | told))


@pytest.mark.usefixtures("without_memory")
def test_a_night_without_memory_is_not_opened(shop: Path):
    """The message names stage, figures, the setting with its value and the way past; neither run nor lease is left."""
    with pytest.raises(NightTooLarge) as refused:
        opened(shop)
    told = str(refused.value)
    assert "Memory: clean wants 2.9 GiB, and this machine has 2.4 GiB. Lower clean.memory_mb (2048)." in told
    assert '--start-anyway "<reason>"' in told
    assert list((shop / "runs").iterdir()) == []
    assert opened(shop, overrides={"clean.memory_mb": 1024}).settings.clean.memory_mb == 1024


@pytest.mark.usefixtures("without_disk")
def test_a_night_without_disk_is_not_opened(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """What is wanted and free, where, and what makes room."""
    monkeypatch.delenv("SPARK_LOCAL_DIRS")
    with pytest.raises(
        NightTooLarge, match=rf"under {shop} and {shop}/spark, and 3 MiB are free.*retention.runs \(14\)"
    ):
        opened(shop)
    assert list((shop / "runs").iterdir()) == []


@pytest.mark.usefixtures("without_memory")
def test_leave_to_start_is_of_one_run_and_kept(shop: Path):
    """Who gave it, and why; opened again without a word the run starts still, and is the same."""
    run = opened(shop, start_anyway=Override("the rest swaps", "anna"))
    assert Run.load(run.run_id, shop).start_anyway == Override("the rest swaps", "anna")
    assert json.loads((run.folder / "run.json").read_text())["start_anyway"]["who"] == "anna"
    assert opened(shop) == run
    assert replace(run, start_anyway=None).fingerprint == run.fingerprint
    with pytest.raises(NightTooLarge):
        opened(shop, label="other")


@pytest.mark.usefixtures("without_memory", "without_disk")
def test_a_run_that_trains_nothing_is_not_held_up(shop: Path):
    """New stock on the shelves is not kept from readers by what a whole night would want."""
    assert opened(shop, models_of="2026-02-28.nightly", fired_at=dt.datetime(2026, 3, 2, tzinfo=dt.UTC)).models_of


@pytest.mark.usefixtures("without_memory", "without_disk")
def test_stages_that_are_done_want_nothing_more(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """A night that stopped late goes on where it stopped."""
    run = described(shop, TOLD, DAY, "nightly", dt.datetime(2026, 3, 2, tzinfo=dt.UTC))
    told = plan.foretell(run, None)
    assert len(plan.shortages(run, told)) > 1
    monkeypatch.setattr(Run, "has", lambda run, stage: True)
    assert plan.shortages(run, told) == []


def test_plan_opens_nothing_and_ends_as_the_night_would(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """All stages with their sum, then the refusal; no run is left."""
    monkeypatch.setenv("COLUMNS", "120")
    told = CliRunner().invoke(app, ["plan"])
    words = [line.split()[1] for line in told.output.splitlines() if line.startswith("│")]
    assert (words, told.exit_code) == ([*STAGES, "the"], 0)
    assert "what was measured on other shops, 1.5 times" in told.output
    monkeypatch.setattr(room, "memory_bytes", lambda: 2500 * MIB)
    assert isinstance(CliRunner().invoke(app, ["plan", "--day", "2026-03-01"]).exception, NightTooLarge)
    assert CliRunner().invoke(app, ["plan", "--set", "clean.memory_mb=1024"]).exit_code == 0
    assert not (shop / "runs").exists()


@pytest.mark.slow
def test_the_next_night_is_foretold_by_the_last(night: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One day more: each figure within a fifth of what was recorded; cleaning, which has that day only, takes no longer
    than for all of them."""
    home = linked(night.home, tmp_path / "home")
    shutil.copytree(home / "raw/events/dt=2026-03-01", home / "raw/events/dt=2026-03-02")
    run = described(home, load(home, SMALL), dt.date(2026, 3, 2), "nightly", dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
    last = sizes.last_night(home)
    foretold = {one.stage: one for one in plan.foretell(run, last)}
    for stage, took in costs(night.folder).items():
        one = foretold[stage]
        assert took["peak_memory_mb"] * MIB == pytest.approx(one.memory_bytes, rel=0.2)
        if stage != "clean":
            assert took["wall_seconds"] == pytest.approx(one.wall_seconds, rel=0.2)
        if stage not in plan.OUTSIDE:
            assert last.disk_bytes[stage] == pytest.approx(one.disk_bytes, rel=0.2)
    assert foretold["clean"].wall_seconds <= costs(night.folder)["clean"]["wall_seconds"]
    assert sizes.of(run, last).pending_days == 1 < last.size.pending_days
    assert (last.size.count_users, last.size.count_items) == (301, 150)
    assert last.size.pending_rows > last.size.count_events > 5000
    monkeypatch.setenv("NIGHTSHELF_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "160")
    told = CliRunner().invoke(app, ["plan", "--day", "2026-03-02"])
    assert f"seconds on {LAST_DAY}" in told.output


@pytest.mark.slow
def test_a_night_of_unknown_settings_or_borrowed_models_tells_nothing(night: Run, tmp_path: Path):
    """Other code's records are passed over, and so are runs that trained nothing."""
    home = linked(night.home, tmp_path / "home")
    record = home / "runs" / night.run_id / "run.json"
    told = json.loads(record.read_text())
    record.unlink()  # a link to the other home's
    for changes in ({"models_of": "2026-02-28.nightly"}, {"settings": {"weights": {"gone": 1}}}):
        record.write_text(json.dumps(told | changes))
        assert sizes.last_night(home) is None
    record.write_text(json.dumps(told))
    assert sizes.last_night(home).run.run_id == night.run_id
