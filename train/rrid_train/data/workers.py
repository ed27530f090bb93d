"""Worker processes that decode batches: how their failures reach the training, and the shared memory that they need."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from rrid_edge.errors import UsageError, unforeseen
from rrid_edge.files import scratch_folder

Batch = tuple[Tensor, Tensor]
"""Images, uint8 (B, height, width, 3), and their persons, int64 (B,), in [0, persons)."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies, not a temporary file
MOST_AHEAD = 4
"""Batches that each worker process decodes ahead if the shared memory holds them."""
_SHARE_TO_USE = 0.9
_LONGEST_SOCKET_FOLDER = 70
"""Bytes. The path of a socket in it has about 35 bytes more, and the system allows 107."""


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

    def __getitems__(self, items: Sequence[Any]) -> Batch | Failure:
        """One batch, in shared memory if this is a worker process."""
        if get_worker_info() is None:
            return self._read(items)
        try:
            images, persons = self._read(items)
            # Shared here, where a failure can be caught: the queue's own thread would lose it, and the training hang.
            for tensor in (images, persons):
                tensor.share_memory_()  # type: ignore[no-untyped-call]
            return images, persons
        except Exception as error:
            trace = traceback.format_exc()
            return Failure(_portable(machine_error(error) or error), trace)

    def _read(self, items: Sequence[Any]) -> Batch:
        images, persons = default_collate([self._images[item] for item in items])
        return images, persons


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        return RuntimeError(unforeseen(error))
    return error


def read_batches(loader: DataLoader[Any]) -> Iterator[Batch]:
    """The batches of ``loader``, whose dataset is a :class:`BatchReader`.

    Raises:
        UsageError: the machine gave too little memory, shared memory, files or processes; or a worker was killed.
        RridEdgeError: a worker met this error, for example an image that cannot be decoded.
    """
    if not loader.num_workers:
        yield from loader
        return
    with scratch_folder() as sockets:
        try:
            with _temporary_files_in(sockets):
                batches = iter(loader)
        except OSError as error:
            raise machine_error(error) or error from error
        with _deferred_child_signals():
            yield from _received(batches)


def _received(batches: Iterator[Batch | Failure]) -> Iterator[Batch]:
    while True:
        try:
            found = next(batches)
        except StopIteration:
            return
        except (RuntimeError, OSError) as error:
            raise _end_of_worker(batches) or machine_error(error) or error from error
        if isinstance(found, Failure):
            raise found.error from RuntimeError(found.trace)
        yield found


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let worker processes that start here make their sockets in ``folder``, which is removed even after kills."""
    before = tempfile.tempdir
    if len(os.fsencode(folder)) <= _LONGEST_SOCKET_FOLDER:
        tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


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


def batches_ahead(batch_bytes: int, workers: int, held: int) -> int:
    """How many batches each worker decodes ahead: fewer if the shared memory is small.

    Args:
        batch_bytes: bytes of one batch, of all training processes of this machine together.
        workers: worker processes per training process.
        held: batches that the training itself holds at a time.

    Raises:
        UsageError: there is too little shared memory for one batch per worker.
    """
    space = _shared_memory()
    if space is None:
        return MOST_AHEAD
    for ahead in range(MOST_AHEAD, 0, -1):
        if batch_bytes * (workers * ahead + held) <= _SHARE_TO_USE * space[0]:
            return ahead
    raise _too_little_shared_memory(f"{workers} worker processes need {_mib(batch_bytes * (workers + held))} MiB")


def too_few_ahead(ahead: int) -> str:
    """One line that says why workers decode fewer than :data:`MOST_AHEAD` batches ahead."""
    free = _mib((_shared_memory() or (0, 0))[0])
    return (
        f"{SHARED_MEMORY} has {free} MiB free: each worker decodes {ahead} of {MOST_AHEAD} batches ahead; for full "
        "speed give it more (containers: --shm-size 1g)"
    )


def _shared_memory() -> tuple[int, int] | None:
    """Free and all bytes of shared memory; None if it cannot be told."""
    try:
        facts = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize


def _mib(size_bytes: int) -> int:
    return size_bytes // (1 << 20)


def _too_little_shared_memory(need: str) -> UsageError:
    free, size = _shared_memory() or (0, 0)
    return UsageError(
        f"{SHARED_MEMORY} has {_mib(free)} MiB free of {_mib(size)} MiB, but {need}; give it more (containers: "
        "--shm-size 1g), or set num_workers 0, or a smaller batch_size",
        parameter=("num_workers", "batch_size"),
    )


def _end_of_worker(batches: object) -> UsageError | None:
    """The error for a worker that ended before its time; None if all are alive."""
    ended = [worker for worker in getattr(batches, "_workers", ()) if worker.exitcode]
    if not ended:
        return None
    worker = next((one for one in ended if -one.exitcode in (signal.SIGKILL, signal.SIGBUS)), ended[0])
    if worker.exitcode == -signal.SIGBUS:
        return _too_little_shared_memory("the batches of the worker processes need more")
    if worker.exitcode == -signal.SIGKILL:
        return _too_little_memory(f"the worker process {worker.pid} was killed (SIGKILL), as the kernel does if memory")
    name = signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else f"exit code {worker.exitcode}"
    return UsageError(
        f"the worker process {worker.pid} ended ({name}), expected it to run to the end of the epoch; resume the run, "
        "or set num_workers 0",
        parameter=("resume", "num_workers"),
    )


def machine_error(error: BaseException) -> UsageError | None:
    """The error for what the machine refused: shared memory, memory, files or processes; None for other exceptions."""
    at: BaseException | None = error
    while at is not None:
        number, text = (at.errno if isinstance(at, OSError) else None), str(at)
        if "shared memory" in text or "</torch_" in text:
            return _too_little_shared_memory("the batches of the worker processes need more")
        if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text or "ancdata" in text:
            return UsageError(
                "too many open files for the worker processes: expected a higher limit; raise it (ulimit -n 65536), or "
                "set fewer num_workers",
                parameter="num_workers",
            )
        if number == errno.EAGAIN:
            return UsageError(
                "the system starts no more processes: expected room for the worker processes; raise the limit (ulimit "
                "-u; containers: --pids-limit), or set fewer num_workers",
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
