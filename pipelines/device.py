"""The device of a run: decided once, when the run opens, so that all of its stages compute on the same."""

from models.retrieval import Sieve
from pipelines.errors import BadSetting
from pipelines.settings import Settings


def settled(told: Settings) -> Settings:
    """The settings with the device that `chosen` finds here; raises BadSetting as it does."""
    device = chosen(told)
    if device != "cpu" and told.profile.launcher == "spark" and told.profile.processes > 1:
        raise BadSetting(
            "profile.launcher is spark, whose tasks learn on processors. Set machine.device to cpu, or "
            "profile.launcher to local."
        )
    machine = told.machine.model_copy(update={"device": device})
    return told.model_copy(update={"machine": machine})


def chosen(told: Settings) -> str:
    """What PyTorch calls the device of these settings; raises BadSetting where this machine lacks it."""
    asked = told.machine.device
    if asked == "cpu":
        return "cpu"
    import torch  # takes seconds

    if torch.cuda.is_available():
        return "cuda"
    if asked == "auto":
        return "cpu"
    lacks = "finds no GPU that it can use" if torch.version.cuda else "was built without CUDA"
    raise BadSetting(
        f"machine.device is cuda, and PyTorch {torch.__version__} {lacks}. Install PyTorch for CUDA and the GPU's "
        "driver on this machine, or set machine.device to cpu or auto."
    )


def sieve(told: Settings) -> Sieve | None:
    """What seeks items on the run's device; None: the processor, as `top_items` does by itself."""
    if (device := chosen(told)) == "cpu":
        return None
    from models import retrieval_torch  # importing torch takes seconds

    return retrieval_torch.on(device)
