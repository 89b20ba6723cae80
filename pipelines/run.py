"""A run: one day's work under one configuration, in one folder; and what makes a function a stage of it."""

import datetime as dt
import functools
import getpass
import hashlib
import importlib.metadata
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import Damaged, Diverged, ForeignVocabulary, NothingToLearn, ProcessLost
from pipelines import markets, settings, shortages
from pipelines.costs import Meter
from pipelines.errors import BadSetting, NotTrained, RunBusy, StageNotReady
from pipelines.rules.rule import Rule

LOG = logging.getLogger("nightshelf")
PACKAGES = (
    "apache-airflow",
    "dbt-core",
    "dbt-duckdb",
    "duckdb",
    "great-expectations",
    "implicit",
    "numpy",
    "pyspark",
    "torch",
)
FORGETTING = "forgetting"  # what holds a lease of its own while users are forgotten: no run is opened then
BACKFILL = "backfill"  # label of the runs that build days again
LEASE_HOURS = 6.0  # a run whose owner has not begun a stage for so long is taken for dead


def home(environment: Mapping[str, str] = os.environ, is_new: bool = False) -> Path:
    """Root of raw/, lake/, runs/ and warehouse/: `NIGHTSHELF_HOME`, in it that of `NIGHTSHELF_MARKET` where there are
    markets; raises BadSetting as `markets.home` does."""
    return markets.home(markets.root(environment), environment.get("NIGHTSHELF_MARKET"), is_new)


@dataclass(frozen=True)
class Override:
    """Leave for one run to go on past a stop; raises BadSetting without a reason."""

    reason: str
    who: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise BadSetting("Leave wants a reason, which is kept with the night. Say why the night is right.")

    def __str__(self) -> str:
        return f"{self.reason} ({self.who})"


@dataclass(frozen=True)
class Run:
    """One run, as its `run.json` tells it. Stages take it whole and pass on nothing but its id."""

    home: Path
    run_id: str
    day: dt.date
    label: str
    opened_at: dt.datetime
    settings: settings.Settings
    inputs: Mapping[str, str]
    code_version: str
    packages: Mapping[str, str]
    rules: tuple[Rule, ...] = ()  # in force on the day on which people see the release, in their order of precedence
    admit_anyway: Override | None = None  # decides whether the night goes on, not its rows: no part of the fingerprint
    start_anyway: Override | None = None  # nor does this: it lets a night begin that seems to have no room
    publish_anyway: Override | None = None  # nor does this: it lets out what only a person may
    models_of: str | None = None  # the run whose models serve here instead of new ones
    proof_of: str | None = None  # the run whose rankings and figures on held-out days serve here, proved there
    proves_because: str | None = None  # why no earlier proof serves, where one could have: it decides no row
    follows: str | None = None  # the release that readers had before the run's day, where shelves shall differ from it
    asked: str | None = None  # hash of `audit.csv`, whose pairs are told of; the users that it names are not kept here

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.run_id

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def last_arrival(self) -> dt.date:
        """The last day on which something arrived that the run reads: beyond `day` only for new stock of a rescore."""
        arrived = (Path(path).parts[2].removeprefix("dt=") for path in self.inputs)
        return max([self.day, *map(dt.date.fromisoformat, arrived)])

    @property
    def cuts(self) -> dict[str, dt.date]:
        """The trainings of a night, oldest first, and the last day that each may see.

        `holdout` is measured on the held-out days after it; the windows before (`holdout_2`, …) only teach the ranker;
        `final` is published, and all that a night trains which carries a proof.
        """
        if self.proof_of:
            return {"final": self.day}
        windows = range(2, self.settings.holdout.windows + 1)
        names = {"final": 0, "holdout": 1} | {f"holdout_{number}": number for number in windows}
        return {name: self._before_proof(number) for name, number in reversed(names.items())}

    @property
    def holdout_cuts(self) -> list[dt.date]:
        """The days before the run's own between which the windows lie, oldest first."""
        days = map(self._before_proof, range(self.settings.holdout.windows, -1, -1))
        return [day for day in days if day < self.day]

    @property
    def holdout_cut(self) -> dt.date:
        """Last day that the measured models may see; the held-out days follow it."""
        return self._before_proof(1)

    @property
    def proved_by(self) -> str:
        """The run that proved the rankings: itself, or an earlier one."""
        return self.proof_of or self.models_of or self.run_id

    @property
    def proved_on(self) -> dt.date:
        """The last of the held-out days: the run's own, or that of the run whose proof it carries."""
        return dt.date.fromisoformat(self.proof_of.partition(".")[0]) if self.proof_of else self.day

    @property
    def ranked_by(self) -> str | None:
        """The run whose rankings and figures serve here instead of new ones."""
        return self.models_of or self.proof_of

    def _before_proof(self, windows: int) -> dt.date:
        return self.proved_on - dt.timedelta(days=self.settings.holdout.days * windows)

    @property
    def told_rules(self) -> list[dict[str, Any]]:
        """The rules as plain values, without what they leave open."""
        return [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the run's rows: day, settings (but for what is kept of earlier nights, and
        where copies go), code, inputs, rules, whose models and proof serve, the release it follows, what is asked."""
        told = self.settings.model_dump(mode="json", exclude={"retention", "store"})
        decided = [self.code_version, dict(self.inputs), self.told_rules, self.models_of, self.follows]
        decided += [self.asked] if self.asked else []
        decided += [{"proof_of": self.proof_of}] if self.proof_of else []
        return digest([self.run_id, told, *decided])

    def has(self, stage: str) -> bool:
        """Whether the stage has finished under this configuration."""
        return _fingerprint_of(self.folder / stage) == self.fingerprint

    def of(self, stage: str, *path: str) -> Path:
        """A finished stage's folder, or a file in it; raises StageNotReady when the stage has not finished, or has
        under another configuration, so that a night never mixes two."""
        if not self.has(stage):
            raise StageNotReady(
                f"{self.run_id}: stage {stage} has not finished. Run `nightshelf {stage} {self.run_id}`."
            )
        return self.folder.joinpath(stage, *path)

    def adopted(self, stage: str) -> Path:
        """That stage of the run whose models, or whose proof, serve here; raises StageNotReady when it is gone."""
        assert self.ranked_by is not None
        return Run.load(self.ranked_by, self.home).of(stage)

    def save(self) -> None:
        """Write `run.json`, unless it says so already."""
        record = {
            "run_id": self.run_id,
            "day": self.day.isoformat(),
            "label": self.label,
            "opened_at": self.opened_at.isoformat(),
            "settings": self.settings.model_dump(mode="json"),
            "inputs": dict(self.inputs),
            "code_version": self.code_version,
            "packages": dict(self.packages),
            "rules": self.told_rules,
            "admit_anyway": self.admit_anyway and asdict(self.admit_anyway),
            "start_anyway": self.start_anyway and asdict(self.start_anyway),
            "publish_anyway": self.publish_anyway and asdict(self.publish_anyway),
            "models_of": self.models_of,
            "proof_of": self.proof_of,
            "proves_because": self.proves_because,
            "follows": self.follows,
            "asked": self.asked,
        }
        path = self.folder / "run.json"
        if not path.exists() or json.loads(path.read_text()) != record:
            write_json(path, record)

    @classmethod
    def load(cls, run_id: str, home_: Path | None = None) -> "Run":
        root = home_ or home()
        path = root / "runs" / run_id / "run.json"
        if not path.exists():
            known = sorted(p.parent.name for p in path.parent.parent.glob("*/run.json"))
            raise StageNotReady(
                f"No run {run_id} under {path.parent.parent}. Known runs: {', '.join(known) or 'none'}."
            )
        record = json.loads(path.read_text())
        return cls(
            home=root,
            run_id=record["run_id"],
            day=dt.date.fromisoformat(record["day"]),
            label=record["label"],
            opened_at=dt.datetime.fromisoformat(record["opened_at"]),
            settings=settings.parse(record["settings"]),
            inputs=record["inputs"],
            code_version=record["code_version"],
            packages=record["packages"],
            rules=tuple(map(Rule.model_validate, record.get("rules", []))),
            admit_anyway=Override(**record["admit_anyway"]) if record.get("admit_anyway") else None,
            start_anyway=Override(**record["start_anyway"]) if record.get("start_anyway") else None,
            publish_anyway=Override(**record["publish_anyway"]) if record.get("publish_anyway") else None,
            models_of=record.get("models_of"),
            proof_of=record.get("proof_of"),
            proves_because=record.get("proves_because"),
            follows=record.get("follows"),
            asked=record.get("asked"),
        )

    @classmethod
    def newest(cls, home_: Path, *stages: str) -> "Run":
        """Of the runs that finished all `stages` the one of the latest day, of that day the one opened last; raises
        StageNotReady when there is none."""
        opened = list((home_ / "runs").glob("*/run.json"))
        done = [path for path in opened if all((path.parent / one / "stage.json").exists() for one in stages)]
        if not done:
            told = "` and `".join(stages)
            raise StageNotReady(f"No run under {home_ / 'runs'} has finished `{told}`. Run `nightshelf night` first.")
        records = (json.loads(path.read_text()) for path in done)
        return cls.load(max(records, key=lambda record: (record["day"], record["opened_at"]))["run_id"], home_)


def stage(function: Callable[[Run, Path], None]) -> Callable[[Run], None]:
    """Make `function(run, folder)` a stage `run(run)`, named after its module.

    The folder is filled as `<stage>.<attempt>.partial` and renamed when the function returns, so that a folder that
    exists is whole. A stage that finished under the same fingerprint is not done again; when the function raises,
    nothing stays; for want of room or memory, NoRoom or NoMemory is raised. An attempt takes away the folders of those
    before it: one that was thought dead and comes back ends with RunBusy instead of its work.
    """
    name = function.__module__.rpartition(".")[2]

    @functools.wraps(function)
    def run(run: Run) -> None:
        done = run.folder / name
        if run.has(name):
            LOG.info("%s %s: already done", run.run_id, name)
            return
        for earlier in run.folder.glob(f"{name}.*partial"):
            shutil.rmtree(earlier, ignore_errors=True)
        partial = done.with_name(f"{name}.{secrets.token_hex(4)}.partial")
        try:
            with shortages.named(run.home, run.run_id, name), _told_of_models(run.run_id, name):
                seconds = _attempt(function, run, partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(done, ignore_errors=True)
        os.replace(partial, done)
        LOG.info("%s %s: done in %.1f s", run.run_id, name, seconds)

    return run


@contextmanager
def _told_of_models(run_id: str, stage: str) -> Iterator[None]:
    """What goes wrong in `models/` as errors of ours, which name run and stage: NotTrained where nothing could be
    learnt, StageNotReady where what was learnt earlier cannot be used."""
    try:
        yield
    except (Diverged, NothingToLearn, ProcessLost) as error:
        raise NotTrained(f"{run_id} {stage}: {error}") from error
    except (Damaged, ForeignVocabulary) as error:
        raise StageNotReady(f"{run_id} {stage}: {error}.") from error


def _attempt(function: Callable[[Run, Path], None], run: Run, partial: Path) -> float:
    """Have the folder of one attempt filled, with what that took; returns the seconds."""
    partial.mkdir(parents=True)
    keep_lease(run)
    meter = Meter()
    function(run, partial)
    keep_attempt(run, partial)
    cost, stage = meter.read(), partial.name.partition(".")[0]
    write_json(partial / "stage.json", {"stage": stage, "fingerprint": run.fingerprint, **cost})
    return cost["wall_seconds"]


def keep_attempt(run: Run, attempt: Path) -> None:
    """Raise RunBusy when a later attempt at the stage has begun, and taken this one's folder away."""
    if not attempt.exists():
        raise RunBusy(
            f"{run.run_id} {attempt.name.partition('.')[0]}: another attempt has begun since this one did, and its "
            "work counts instead. Nothing to do."
        )


def take_lease(root: Path, run_id: str, owner: str, now: dt.datetime) -> None:
    """Claim the run for `owner`, `cli:<host>:<pid>` or `airflow:<dag run>`; raises RunBusy while another holds it.

    The same owner may claim again (a retried task). A holder that is a dead process of this host, or has been silent
    for LEASE_HOURS, is replaced.
    """
    path = _lease(root, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    claim = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    record = {"owner": owner, "since": now.isoformat()}
    try:
        write_json(claim, record)
        os.link(claim, path)  # whole, and only where there is none
        return
    except FileExistsError:
        holder = json.loads(path.read_text() or "{}").get("owner", "unknown")
    finally:
        claim.unlink(missing_ok=True)
    if holder != owner and is_worked_on(root, run_id, now):
        silent_minutes = (now.timestamp() - path.stat().st_mtime) / 60
        raise RunBusy(
            f"{run_id} is being worked on by {holder} (last sign of life {silent_minutes:.0f} minutes ago). Wait "
            f"for it, or open a run with another --label. If it is surely dead, delete {path}."
        )
    write_json(path, record)


def is_worked_on(root: Path, run_id: str, now: dt.datetime) -> bool:
    """Whether somebody holds the run who is not a dead process of this host and gave a sign of life lately."""
    path = _lease(root, run_id)
    if not path.exists():
        return False
    holder = json.loads(path.read_text() or "{}").get("owner", "unknown")
    return not _is_dead(holder) and now.timestamp() - path.stat().st_mtime < LEASE_HOURS * 3600


def keep_lease(run: Run) -> None:
    """A sign of life, given at the start of each stage."""
    if (path := _lease(run.home, run.run_id)).exists():
        os.utime(path)


def holder(run: Run) -> str:
    """Who works on the run: Airflow's DAG run that holds its lease, else this process's user."""
    path = _lease(run.home, run.run_id)
    owner = json.loads(path.read_text())["owner"] if path.exists() else ""
    return owner if owner.startswith("airflow:") else getpass.getuser()


def release_lease(root: Path, run_id: str, owner: str) -> None:
    path = _lease(root, run_id)
    if path.exists() and json.loads(path.read_text()).get("owner") == owner:
        path.unlink()


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code_version() -> str:
    """The package's version and a hash of its own sources: an edited stage is not taken for a finished one."""
    root = Path(__file__).resolve().parents[1]
    sources = [
        *root.glob("pipelines/**/*.py"),
        *root.glob("models/**/*.py"),
        *root.glob("dbt/**/*.sql"),
        *root.glob("dbt/**/*.yml"),
    ]
    hashed = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources) if "target" not in path.parts))
    return f"{importlib.metadata.version('nightshelf')}+{hashed.hexdigest()[:12]}"


def package_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _lease(root: Path, run_id: str) -> Path:
    return root / "runs" / f"{run_id}.lease"


def _is_dead(holder: str) -> bool:
    kind, _, rest = holder.partition(":")
    host, _, pid = rest.rpartition(":")
    return kind == "cli" and host == os.uname().nodename and not Path(f"/proc/{pid}").exists()


def _fingerprint_of(done: Path) -> str | None:
    record = done / "stage.json"
    return json.loads(record.read_text())["fingerprint"] if record.exists() else None
