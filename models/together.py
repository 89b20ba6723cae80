"""Processes of one machine that learn as one: each reads its share of a batch, and all of them take the same step."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
from torch import Tensor, distributed, nn

from models.errors import ProcessLost


@dataclass(frozen=True)
class Team:
    """Process `rank` of `count`, all of which have drawn the same batch. The only one does everything itself."""

    rank: int = 0
    count: int = 1

    def whole(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts; here only this one's own can be differentiated.

        Where each fills its own rows and leaves the others zero, it is what one process would have computed.
        """
        if self.count == 1:
            return part
        total = part.detach().clone()
        distributed.all_reduce(total)
        return part + (total - part.detach())

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the sum of all processes' gradients in the place of each one's own.

        Each has the same loss of the whole batch and differentiates it by its own share of the texts: the sum, not the
        mean that `DistributedDataParallel` takes, is the gradient of that loss.
        """
        if self.count == 1:
            return
        own = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        total = torch.cat([one.flatten() for one in own])
        distributed.all_reduce(total)
        for one, gradient in zip(parameters, total.split([one.numel() for one in own]), strict=True):
            one.grad = gradient.view_as(one)

    def told(self, number: float) -> float:
        """The number of the first process, which decides for all."""
        if self.count == 1:
            return number
        said = torch.tensor(number, dtype=torch.float64)
        distributed.broadcast(said, src=0)
        return said.item()


ALONE = Team()
Launch = Callable[..., None]  # what has new processes do some work, as `run` does


def run(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Have `count` new processes do `work(team, *arguments)` each, and wait for them.

    Raises:
        ProcessLost: one of them ended before its work did; the others are ended too.
    """
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        members = [
            context.Process(target=_join, args=(Team(rank, count), f"{folder}/met", work, arguments), daemon=True)
            for rank in range(count)
        ]
        try:
            for one in members:
                one.start()
            _wait(members)
        finally:
            for one in members:
                if one.pid:
                    one.kill()
                    one.join()


def _join(team: Team, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Meet the others on this machine's own network, work, and end when nobody waits for it any more."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=team.rank, world_size=team.count)
    work(team, *arguments)
    distributed.destroy_process_group()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # `run` has started this process
    connection.wait([parent.sentinel])
    os._exit(1)


def _wait(members: Sequence[SpawnProcess]) -> None:
    waiting = {one.sentinel for one in members}
    while waiting and not any(one.exitcode for one in members):
        waiting -= set(connection.wait(list(waiting)))
    failed = [(one.exitcode, rank) for rank, one in enumerate(members) if one.exitcode]
    if failed:
        code, rank = min(failed)  # a signal, which is negative, before the errors of those who miss its process
        raise ProcessLost(f"process {rank} (0 to {len(members) - 1}) of a training {_ended(code)}")


def _ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was ended by SIGKILL, as a system does that has no memory left: lower profile.processes"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}: start the same again"
    return f"ended with {code}: its own error was printed before this one"
