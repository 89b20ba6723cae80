"""Rescore: new stock and new rules on the shelves within minutes, by the models that readers' lists are made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines import night, run, warehouse
from pipelines.errors import BadSetting, NothingPublished
from pipelines.run import Run

LABEL = "rescore"
TRAINED = ("seed", "weights", "holdout", "als", "neighbours", "profile", "fuse")  # sections that models are made by


def perform(
    *,
    run_id: str | None = None,
    label: str = LABEL,
    overrides: Mapping[str, Any] | None = None,
    publish: bool = True,
    home: Path | None = None,
) -> Run:
    """A night of the same day without training, by the models of `run_id`, else of those behind the current release.

    Raises BadSetting for a setting that models are made by, or when the models are of other code.
    """
    root, told = home or run.home(), dict(overrides or {})
    models = behind(root, run_id)
    if fixed := sorted(name for name in told if name.partition(".")[0] in TRAINED):
        raise BadSetting(
            f"{', '.join(fixed)}: a rescore trains nothing, so that it takes this from {models.run_id}. Leave it out, "
            "or run a night with it."
        )
    settings = models.settings.model_dump(mode="json", include=set(TRAINED))
    return night.run(
        day=models.day, label=label, overrides=settings | told, publish=publish, home=root, models_of=models.run_id
    )


def behind(home: Path, run_id: str | None = None) -> Run:
    """The run that trained the models of `run_id`, or of the current release; raises NothingPublished without one."""
    chosen = run_id or (warehouse.current(home) or "").rpartition(".")[0]
    if not chosen:
        raise NothingPublished(
            "Nothing is published yet, so that there are no models. Run a night: `nightshelf night`."
        )
    found = Run.load(chosen, home)
    models = Run.load(found.models_of, home) if found.models_of else found
    if models.code_version != run.code_version():
        raise BadSetting(
            f"The models of {models.run_id} are of code {models.code_version}, and this is {run.code_version()}. Run a "
            "night: `nightshelf night`."
        )
    return models
