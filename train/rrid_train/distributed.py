"""Training in one process, or in several that ``torchrun`` starts (gloo on CPUs, NCCL on GPUs)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from rrid_edge.errors import RridEdgeError, UsageError
from rrid_edge.machine.advice import driver_update
from rrid_edge.machine.gpu import this_gpu

_LONGEST_WAIT = timedelta(hours=24)
"""The other processes wait for the main one while it validates. torchrun ends those that wait for a dead one."""


class OtherProcessError(RridEdgeError):
    """Another process failed. The main process tells the error, so the others end without a line of their own.

    Args:
        error: the error of the other process, whose message and exit code this one takes.
    """

    def __init__(self, error: RridEdgeError) -> None:
        super().__init__(error.message, parameter=error.parameters)
        self.exit_code = error.exit_code


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

    def agree(self, stop_signal: int | None, error: RridEdgeError | None = None) -> int | None:
        """Tell all processes of a signal and an error of this one; all of them must call this at the same step.

        Args:
            stop_signal: signal that this process got, or None.
            error: error of this process, or None.

        Returns:
            The signal of any process; None without one.

        Raises:
            RridEdgeError: a process gave an error. The main process raises the error of the first such process.
            OtherProcessError: the same, in the other processes.
        """
        if self.world == 1:
            if error is not None:
                raise error
            return stop_signal
        flags = torch.tensor([stop_signal or 0, int(error is not None)], device=self.device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        if flags[1]:
            errors: list[RridEdgeError | None] = [None] * self.world
            distributed.all_gather_object(errors, error)
            first = next(found for found in errors if found is not None)
            raise first if self.is_main else OtherProcessError(first)
        return int(flags[0]) or None

    @contextmanager
    def sharing_errors(self) -> Iterator[None]:
        """Run a block in all processes. If it fails in one of them, it fails in all, as :meth:`agree` says."""
        failure: RridEdgeError | None = None
        try:
            yield
        except RridEdgeError as error:
            failure = error
        self.agree(None, failure)


@contextmanager
def lost_connections(processes: Processes) -> Iterator[None]:
    """Turn the failure to reach another process into one line of the main process.

    Raises:
        RridEdgeError: another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        if processes.world == 1 or not _is_lost_connection(error):
            raise
        ended = UsageError(
            "another training process ended, expected all to run to the end; its own message or torchrun's report says "
            "why (SIGKILL: memory ran out); resume the run",
            parameter="resume",
        )
        raise (ended if processes.is_main else OtherProcessError(ended)) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or any(
        word in str(error) for word in ("Connection closed by peer", "Connection reset by peer", "gloo", "Broken pipe")
    )


def join_processes(gpus: int) -> Processes:
    """Join the process group that ``torchrun`` started; without ``torchrun``, train in this process alone.

    Args:
        gpus: number of GPUs; 0 is the CPU.

    Raises:
        UsageError: this machine has fewer GPUs, or several GPUs were asked for without ``torchrun``.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus > (found := torch.cuda.device_count()):
        raise UsageError(
            f"gpus {gpus}: expected at most {found}, the GPUs of this machine{_why_none()}; use 0 for the CPU",
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
        distributed.init_process_group("nccl" if gpus else "gloo", timeout=_LONGEST_WAIT)
    return Processes(rank, world, device)


def _why_none() -> str:
    """Why torch finds no GPU although the machine has one, as a part of a message; empty if there is no reason."""
    gpu, built = this_gpu(), torch.version.cuda
    if torch.cuda.device_count() or gpu.kind in ("none", "jetson"):
        return ""
    if built is None:
        return f" (torch {torch.__version__} is built for the CPU)"
    if reason := gpu.why_not(int(built.split(".")[0])):
        other = f"a torch built for CUDA {gpu.cuda_major}"
        return f" (torch {torch.__version__} {reason}: {driver_update(gpu)}, or {other})"
    return ""


def leave_processes() -> None:
    """Leave the process group; does nothing if none was joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
