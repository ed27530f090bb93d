"""Worker processes that decode batches, and how their failures reach the training.

Batches travel through pipes, not through PyTorch's shared memory: a small /dev/shm does not matter, no batch needs a
file descriptor, and a kill leaves nothing. A batch of 64 images of 384 x 128 pixels costs the training about 10 ms.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from rrid_edge.errors import UsageError, unforeseen

Batch = tuple[Tensor, Tensor]
"""Images, uint8 (B, height, width, 3), and their persons, int64 (B,), in [0, persons)."""

_WATCH_S = 0.5
"""Seconds between two looks of a worker at its parent."""


@dataclass(frozen=True)
class Decoded:
    """A batch on its way from a worker.

    Attributes:
        images: uint8 (B, height, width, 3).
        persons: int64 (B,).
    """

    images: NDArray[np.uint8]
    persons: NDArray[np.int64]

    def tensors(self) -> Batch:
        """The batch as the training takes it, without a copy."""
        return torch.from_numpy(self.images), torch.from_numpy(self.persons)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory. PyTorch's thread for it looks for a method of this name."""
        images, persons = self.tensors()
        return images.pin_memory(), persons.pin_memory()


@dataclass(frozen=True)
class Failure:
    """What a worker sends in place of a batch.

    Attributes:
        error: the exception; it can be pickled.
        trace: its traceback in the worker, for ``--debug``.
    """

    error: Exception
    trace: str


class BatchReader(Dataset[tuple[Tensor, int]]):
    """Reads whole batches. In a worker process it returns an exception as a :class:`Failure`.

    PyTorch itself would send the text of the traceback, and raise it as an error of another kind.

    Args:
        images: the images, one item each.
    """

    def __init__(self, images: Dataset[tuple[Tensor, int]]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)  # type: ignore[arg-type]

    def __getitems__(self, items: Sequence[Any]) -> Decoded | Failure:
        """One batch."""
        if get_worker_info() is None:
            return self._read(items)
        try:
            return self._read(items)
        except Exception as error:
            trace = traceback.format_exc()
            return Failure(_portable(machine_error(error) or error), trace)

    def _read(self, items: Sequence[Any]) -> Decoded:
        images, persons = zip(*(self._images[item] for item in items), strict=True)
        return Decoded(torch.stack(images).numpy(), np.array(persons, np.int64))


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        return RuntimeError(unforeseen(error))
    return error


def read_batches(loader: DataLoader[Any]) -> Iterator[Batch]:
    """The batches of ``loader``, whose dataset is a :class:`BatchReader`.

    Raises:
        UsageError: the machine gave too little memory, files or processes; or a worker was killed.
        RridEdgeError: a worker met this error, for example an image that cannot be decoded.
    """
    if not loader.num_workers:
        for decoded in loader:
            yield decoded if isinstance(decoded, tuple) else decoded.tensors()
        return
    try:
        with quiet_about_cores():
            batches: Any = iter(loader)
    except OSError as error:
        raise machine_error(error) or error from error
    with _deferred_child_signals():
        try:
            yield from _received(batches)
        finally:
            with suppress(RuntimeError, AttributeError):  # here, not whenever the object is freed
                batches._shutdown_workers()


def end_with_parent(_worker: int = 0) -> None:
    """Let this worker process end soon after the training process, however that dies.

    PyTorch's own watch is not enough: a worker that still has a batch to send would wait for a reader for ever. Ctrl-C
    reaches workers too. They ignore it: the training process ends them after its step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


@contextmanager
def quiet_about_cores() -> Iterator[None]:
    """Hide PyTorch's warning that there are more workers than cores, which it repeats every epoch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")
        yield


def _received(batches: Iterator[Batch | Decoded | Failure]) -> Iterator[Batch]:
    while True:
        try:
            found = next(batches)
        except StopIteration:
            return
        except (RuntimeError, OSError) as error:
            raise _end_of_worker(batches) or machine_error(error) or error from error
        if isinstance(found, Failure):
            raise found.error from RuntimeError(found.trace)
        yield found.tensors() if isinstance(found, Decoded) else found


@contextmanager
def _deferred_child_signals() -> Iterator[None]:
    """Let the death of a worker show when the next batch is waited for.

    PyTorch's handler of SIGCHLD raises an exception in the middle of a step, and the weights are then half updated.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def deferred(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):
            handler(number, frame)

    signal.signal(signal.SIGCHLD, deferred)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _end_of_worker(batches: object) -> UsageError | None:
    """The error for a worker that ended before its time; None if all are alive."""
    ended = [worker for worker in getattr(batches, "_workers", ()) if worker.exitcode]
    if not ended:
        return None
    worker = next((one for one in ended if one.exitcode == -signal.SIGKILL), ended[0])
    if worker.exitcode == -signal.SIGKILL:
        return _too_little_memory(f"the worker process {worker.pid} was killed (SIGKILL), as the kernel does if memory")
    name = signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else f"exit code {worker.exitcode}"
    return UsageError(
        f"the worker process {worker.pid} ended ({name}), expected it to run to the end of the epoch; resume the run, "
        "or set num_workers 0",
        parameter=("resume", "num_workers"),
    )


def machine_error(error: BaseException) -> UsageError | None:
    """The error for what the machine refused: memory, files or processes; None for other exceptions."""
    at: BaseException | None = error
    while at is not None:
        number = at.errno if isinstance(at, OSError) else None
        if number == errno.ENOSPC:
            return UsageError(
                "no space for the locks of the worker processes: expected some KiB in /dev/shm; empty it or "
                "make it larger (docker run --shm-size 1g), or set num_workers 0",
                parameter="num_workers",
            )
        if number in (errno.EMFILE, errno.ENFILE):
            return UsageError(
                "too many open files for the worker processes: expected a higher limit; raise it (ulimit -n 65536), or "
                "set fewer num_workers",
                parameter="num_workers",
            )
        if number == errno.EAGAIN:
            return UsageError(
                "the system starts no more processes: expected room for the worker processes; raise the limit (ulimit "
                "-u, docker run --pids-limit), or set fewer num_workers",
                parameter="num_workers",
            )
        if number == errno.ENOMEM or isinstance(at, MemoryError):
            return _too_little_memory("the system refused memory to the worker processes, as it does if memory")
        at = at.__cause__ or at.__context__
    return None


def _too_little_memory(what: str) -> UsageError:
    return UsageError(
        f"{what} runs out; give this machine or container more memory, or set fewer num_workers or a smaller "
        "batch_size; then resume the run",
        parameter=("num_workers", "batch_size", "resume"),
    )
