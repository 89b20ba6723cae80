"""When a training ends before its last step: it no longer gets better, or its time is up."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

from torch import Tensor, nn

EVALUATIONS = 20  # of a whole training


class Watch:
    """Measures a training from time to time, remembers its best weights, and says when it is over.

    Args:
        measure: the loss on what is kept apart.
        patience: evaluations in a row that may bring nothing better.
        max_seconds: the safety stop; a training that it ends is not repeatable.
        clock: seconds since any moment.

    Attributes:
        figures: what was measured so far.
        ended_by: "steps", "patience" or "minutes".
    """

    def __init__(
        self,
        measure: Callable[[], float],
        patience: int,
        max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.measure, self.patience, self.clock = measure, patience, clock
        self.deadline = clock() + max_seconds
        self.figures: list[float] = []
        self.ended_by = "steps"
        self.best: dict[str, Tensor] = {}

    def is_over(self, module: nn.Module, step: int, steps: int) -> bool:
        """Whether step `step` (from 1) of `steps` is to be the last."""
        if self.clock() > self.deadline:
            self.ended_by = "minutes"
        if self.ended_by == "minutes" or step == steps or step % max(steps // EVALUATIONS, 1) == 0:
            self.look(module)
        return self.ended_by != "steps"

    def look(self, module: nn.Module) -> None:
        """Measure the weights as they are, and remember them if they are the best so far."""
        self.figures.append(self.measure())
        waited = len(self.figures) - 1 - self.figures.index(min(self.figures))
        if not waited:
            self.best = copy.deepcopy(module.state_dict())
        elif waited >= self.patience and self.ended_by == "steps":
            self.ended_by = "patience"
