"""Worker processes: their errors reach the training whole, and what the machine lacks is one line with its remedy."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from rrid_edge.errors import ImageError, RridEdgeError, UsageError, item_at_work, item_of
from rrid_train.data.workers import BatchReader, Failure, machine_error, read_batches
from support import killed_training


class _Images(Dataset[tuple[torch.Tensor, int]]):
    """Images whose pixels are their number. Number 5 does something else."""

    def __init__(self, fifth: Callable[[], Any]) -> None:
        self._fifth = fifth

    def __len__(self) -> int:
        return 8

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        if item == 5:
            self._fifth()
        return torch.full((2, 2, 3), item, dtype=torch.uint8), item


def _loader(fifth: Callable[[], Any], count: int = 1) -> DataLoader[Any]:
    options: dict[str, Any] = {"prefetch_factor": 1} if count else {}
    images = BatchReader(_Images(fifth))
    return DataLoader(images, batch_size=2, collate_fn=lambda batch: batch, num_workers=count, **options)


def _raise(error: BaseException) -> None:
    raise error


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for dead workers every 0.1 s, not every 5 s."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))


def _failure(fifth: Callable[[], Any], count: int = 1) -> Exception:
    with pytest.raises((RridEdgeError, RuntimeError, ValueError)) as caught:
        list(read_batches(_loader(fifth, count)))
    return caught.value


@pytest.mark.parametrize("count", [0, 2])
def test_batches_come_in_order(count):
    batches = list(read_batches(_loader(lambda: None, count)))
    assert [persons.tolist() for _, persons in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [images[:, 0, 0, 0].tolist() for images, _ in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert batches[0][0].shape == (2, 2, 2, 3)


@pytest.mark.parametrize("count", [0, 1])
def test_an_error_of_a_worker_is_that_of_a_training_without_workers(count):
    error = _failure(lambda: _raise(ImageError("a/b.jpg", "it is cut; copy it again")), count)
    assert type(error) is ImageError
    assert (error.message, error.path, error.exit_code) == ("a/b.jpg: it is cut; copy it again", Path("a/b.jpg"), 2)


def _unforeseen() -> None:
    with item_at_work("a/b.jpg"):
        raise ValueError("nobody\nforesaw this")


class _LocalError(Exception):
    """Cannot be pickled: it needs two arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_nobody_foresaw_keeps_its_kind_and_its_item():
    error = _failure(_unforeseen)
    assert type(error) is ValueError
    assert item_of(error) == "a/b.jpg"
    assert "_unforeseen" in str(error.__cause__)  # the traceback of the worker, for --debug
    error = _failure(lambda: _raise(_LocalError(1, 2)))
    assert type(error) is RuntimeError
    assert str(error) == "_LocalError: 1 and 2"


def test_a_killed_worker_is_one_line_with_the_remedy():
    error = _failure(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert type(error) is UsageError
    assert "was killed (SIGKILL), as the kernel does if memory runs out; give this machine or container" in str(error)
    assert error.parameters == ("num_workers", "batch_size", "resume")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os._exit(3), r"ended \(exit code 3\), expected it to run to the end of the epoch; resume the run"),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), r"ended \(SIGUSR1\)"),
    ],
    ids=["exit", "SIGUSR1"],
)
def test_a_worker_that_ends_is_named_with_its_reason(end, words):
    with pytest.raises(UsageError, match=words):
        list(read_batches(_loader(end)))


def test_the_death_of_a_worker_waits_for_the_end_of_a_step():
    """PyTorch's handler would raise in the middle of this test."""
    batches = read_batches(_loader(lambda: time.sleep(60)))
    next(batches)
    handler = signal.getsignal(signal.SIGCHLD)
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    assert callable(handler)
    handler(signal.SIGCHLD, None)
    with pytest.raises(UsageError, match="was killed"):
        list(batches)
    assert signal.getsignal(signal.SIGCHLD) is not handler


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "^no space for the locks .* .docker run --shm-size 1g., or",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "^too many open files .* raise it .ulimit -n"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "^the system starts no more processes"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "^the system refused memory .* set fewer num_workers"),
        (MemoryError(), "^the system refused memory"),
    ],
    ids=["shared memory", "files", "processes", "memory", "Python"],
)
def test_what_the_machine_lacks_is_one_line_with_the_remedy(error, words):
    for found in (machine_error(error), _failure(lambda: _raise(error))):
        with pytest.raises(UsageError, match=words):
            _raise(found or error)
        assert "num_workers" in getattr(found, "parameters", ())
        assert "\n" not in str(found)
    behind = ImageError("a.jpg", "it cannot be opened")
    behind.__cause__ = error
    assert str(machine_error(behind)) == str(machine_error(error))
    assert machine_error(ImageError("a.jpg", "it is cut")) is None


def test_batches_need_no_shared_memory_and_no_sockets(tmp_path, monkeypatch):
    """Containers give 64 MB of /dev/shm. A batch in it would be a file descriptor, which is sent through a socket."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def refuse(*_arguments: object) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_9_8_7>: No space left on device (28)"
        )

    for name in ("_new_shared", "_share_fd_cpu_", "_share_filename_cpu_"):
        monkeypatch.setattr(torch.UntypedStorage, name, refuse)
    found: list[Path] = []
    for _, persons in read_batches(_loader(lambda: None, 2)):
        found += list(tmp_path.iterdir())
        assert not persons.is_shared()
    assert not found


def test_workers_end_with_a_training_that_is_killed():
    """They have batches to send that fill the pipe. So they still wait for a reader when the training is dead."""
    # A program of its own: to fork a process in which servers of other tests run can end it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    training = subprocess.Popen(
        [sys.executable, killed_training.__file__], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert training.stdout is not None
    pids = [int(pid) for pid in training.stdout.readline().split()]
    time.sleep(0.2)  # until the pipe is full
    training.kill()
    training.wait()
    training.stdout.close()
    assert len(pids) == 2
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            break
        time.sleep(0.1)
    orphans = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    assert not orphans


def test_processes_that_cannot_be_started_are_one_line(monkeypatch):
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(UsageError, match="the system starts no more processes"):
        list(read_batches(_loader(lambda: None)))


def test_batches_for_a_gpu_are_pinned_by_the_thread_of_pytorch(monkeypatch):
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor + 100

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    decoded = BatchReader(_Images(lambda: None)).__getitems__([3, 4])
    images, persons = pin_memory(decoded)
    assert images.dtype == torch.uint8
    assert images[:, 0, 0, 0].tolist() == [103, 104]
    assert persons.tolist() == [103, 104]
    assert len(pinned) == 2
    assert pin_memory(Failure(ValueError("a"), "trace")).trace == "trace"
