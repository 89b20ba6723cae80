"""Processes of a Spark cluster that learn as one: the team of models/together.py, started by TorchDistributor."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession
from torch import distributed

from models.errors import ProcessLost
from models.together import Team


def run(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Have `count` tasks of the active Spark session do `work(team, *arguments)` at the same time, and wait for them.

    A task that is lost ends the others, and all begin anew as often as Spark tries a task. What work returns is
    nobody's: it leaves files.

    Raises:
        ProcessLost: they failed for good, or a session of this machine has fewer cores than that.
    """
    context = SparkSession.active().sparkContext
    is_here = str(context.master).startswith("local[")
    if is_here and context.defaultParallelism < count:  # Spark would look for more for ten minutes
        raise ProcessLost(
            f"a training by {count} tasks of Spark has {context.defaultParallelism} cores ({context.master}): lower "
            "profile.processes, or raise machine.threads"
        )
    try:
        TorchDistributor(num_processes=count, local_mode=False, use_gpu=False).run(_join, work, *arguments)
    except (RuntimeError, PySparkException, Py4JError) as error:
        raise ProcessLost(
            f"a training by {count} tasks of Spark ended early: what ended a task was printed before this; cure it, "
            "lower profile.processes, or start the same again"
        ) from error


def _join(work: Callable[..., None], *arguments: Any) -> None:
    """Meet the others where the distributor says, and work."""
    if os.environ["MASTER_ADDR"] in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo")
    work(Team(distributed.get_rank(), distributed.get_world_size()), *arguments)
    distributed.destroy_process_group()
