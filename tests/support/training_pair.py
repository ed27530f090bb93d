"""Two processes that train together, forked from a clean process: autograd forbids forks once it has run in the parent.

As a program it reads orders from stdin, one JSON list a line: the folder of the logs, the name of the run, the name of
the sabotage in process 1, and the command line. It answers each with a JSON list of both exit codes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typing_extensions import Self

from rrid_edge.cli.app import run
from rrid_edge.errors import ImageError
from rrid_train import loop, stepping
from rrid_train.data.loader import accumulation_groups
from rrid_train.losses import rrid_loss
from support.datasets import write_dataset
from support.small_training import make_trainings_small

OPTIONS = "--backbone resnet18 --height 32 --width 32 --stripes 2 --block-width 4 --backbone-weights none --threads 1"
OPTIONS += " --epochs 2 --batch-size 16 --num-workers 0 --combine-trainval --val-every 1 --print-freq 1"


class TrainingPair:
    """The clean process, and the runs of its pairs in the folder ``root``. A context manager."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, write_dataset(root / "data", train=2)

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def train(self, name: str, *, resume: bool = False, sabotage: str = "nothing") -> list[int]:
        """Train into the folder ``name``. Return both exit codes."""
        where = ["--resume", str(self.root / name)]
        if not resume:
            where = ["--dataset-path", str(self.data), "--exp-dir", str(self.root / name), *OPTIONS.split()]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(self.root), name, sabotage, ["train", *where]]) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes

    def log(self, name: str, rank: int) -> str:
        """All that a process said."""
        return _log(self.root, name, rank).read_text()

    def errors(self, name: str) -> list[list[str]]:
        """Lines that report an error, per process."""
        logs = [self.log(name, rank) for rank in range(2)]
        assert not any("Traceback" in log for log in logs), logs
        return [[line for line in log.splitlines() if line.startswith("rrid-edge: ")] for log in logs]

    def said(self, name: str) -> str:
        """All that the main process said."""
        return self.log(name, 0)


def _log(root: Path, name: str, rank: int) -> Path:
    return root / f"{name}-{rank}.log"


def _cut() -> None:
    """The fourth group of batches holds a damaged image."""
    steps: list[object] = []

    def failing(*arguments):
        for group in accumulation_groups(*arguments):
            if len(steps) == 3:
                raise ImageError("a.jpg", "it is cut; copy it again")
            steps.append(group)
            yield group

    setattr(loop, "accumulation_groups", failing)  # noqa: B010 - mypy knows no such name of this module


def _stop() -> None:
    """SIGTERM arrives at every step."""
    real = stepping.Stepper._optimise

    def stopping(trainer, group):
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)
        return real(trainer, group)

    stepping.Stepper._optimise = stopping  # type: ignore[method-assign]


def _nan() -> None:
    """The loss is no number."""

    def broken(*arguments, **names):
        terms = rrid_loss(*arguments, **names)
        return terms._replace(total=terms.total * float("nan"))

    setattr(stepping, "rrid_loss", broken)  # noqa: B010 - mypy knows no such name of this module


def _die() -> None:
    """The process is killed at its first step."""

    def dying(_trainer, _group):
        os.kill(os.getpid(), signal.SIGKILL)

    stepping.Stepper._optimise = dying  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "cut": _cut,
    "stop": _stop,
    "nan": _nan,
    "die": _die,
}


def _start(rank: int, port: int, order: tuple[Path, str, str, list[str]]) -> int:
    """Fork process ``rank`` of a pair. Return its number."""
    child = os.fork()
    if child:
        return child
    root, name, sabotage, arguments = order
    code = 1
    try:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = str(port)
        log = _log(root, name, rank).open("a", buffering=1)
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        sys.stdout = sys.stderr = log
        with pytest.MonkeyPatch.context() as patch:
            make_trainings_small(patch)
            if rank == 1:
                SABOTAGES[sabotage]()
            code = run(arguments)
    finally:
        os._exit(code)


def main() -> None:
    """Answer all orders."""
    for line in sys.stdin:
        root, *rest = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [_start(rank, port, (Path(root), *rest)) for rank in range(2)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
