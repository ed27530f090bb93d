"""One process or several: started by ``torchrun``, gloo on CPUs, nccl on GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed

from rrid_edge.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: its number.
        world: how many there are.
        device: where it computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0


def join_processes(gpus: int) -> Processes:
    """Join the processes that ``torchrun`` started, or stand alone.

    Raises:
        UsageError: more GPUs asked for than there are, or than processes were started.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus > torch.cuda.device_count():
        raise UsageError(
            f"gpus {gpus}: this machine offers {torch.cuda.device_count()}; take 0 for the CPU", parameter="gpus"
        )
    if gpus > 1 and world == 1:
        raise UsageError(
            f"gpus {gpus} needs one process per GPU: torchrun --nproc-per-node {gpus} -m rrid_edge.cli train ...",
            parameter="gpus",
        )
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if gpus else "gloo")
    return Processes(rank, world, device)


def leave_processes() -> None:
    """Leave the group, where one was joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
