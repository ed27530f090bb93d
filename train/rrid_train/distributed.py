"""Training in one process, or in several that ``torchrun`` starts (gloo on CPUs, NCCL on GPUs)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed

from rrid_edge.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process in the group of training processes.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        device: the device it computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints progress."""
        return self.rank == 0


def join_processes(gpus: int) -> Processes:
    """Join the process group that ``torchrun`` started; without ``torchrun``, train in this process alone.

    Args:
        gpus: number of GPUs; 0 is the CPU.

    Raises:
        UsageError: this machine has fewer GPUs, or several GPUs were asked for without ``torchrun``.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus > torch.cuda.device_count():
        raise UsageError(
            f"gpus {gpus}: expected at most {torch.cuda.device_count()}, the GPUs of this machine; use 0 for the CPU",
            parameter="gpus",
        )
    if gpus > 1 and world == 1:
        raise UsageError(
            f"gpus {gpus} needs one process per GPU, but only one runs; start them with: "
            f"torchrun --nproc-per-node {gpus} -m rrid_edge.cli train ...",
            parameter="gpus",
        )
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if gpus else "gloo")
    return Processes(rank, world, device)


def leave_processes() -> None:
    """Leave the process group; does nothing if none was joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
