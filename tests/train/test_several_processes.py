"""Several training processes: an error or a signal of one ends all at the same step, with one line."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rrid_edge.cli.app import run
from rrid_edge.errors import ImageError, UsageError
from rrid_train import loop, stepping
from rrid_train.data.loader import accumulation_groups
from rrid_train.distributed import OtherProcessError, Processes, lost_connections
from rrid_train.losses import rrid_loss
from support.datasets import write_dataset
from support.small_training import assert_same_runs, make_trainings_small

OPTIONS = "--backbone resnet18 --height 32 --width 32 --stripes 2 --block-width 4 --backbone-weights none --threads 1"
OPTIONS += " --epochs 2 --batch-size 16 --num-workers 0 --combine-trainval --val-every 1 --print-freq 1"


class _Pair:
    """Two processes that train together, forked from this one."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, write_dataset(root / "data", train=2)

    def train(self, name: str, *, resume: bool = False, sabotage: Callable[[], None] = lambda: None) -> list[int]:
        """Train into the folder ``name``; ``sabotage`` runs first in process 1. Return both exit codes."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [self._start(rank, port, name, resume, sabotage) for rank in range(2)]
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    def _start(self, rank: int, port: int, name: str, resume: bool, sabotage: Callable[[], None]) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
            os.environ["MASTER_PORT"] = str(port)
            log = self._log(name, rank).open("a", buffering=1)
            for number in (1, 2):
                os.dup2(log.fileno(), number)
            sys.stdout = sys.stderr = log
            with pytest.MonkeyPatch.context() as patch:
                make_trainings_small(patch)
                if rank == 1:
                    sabotage()
                where = ["--resume", str(self.root / name)]
                if not resume:
                    where = ["--dataset-path", str(self.data), "--exp-dir", str(self.root / name), *OPTIONS.split()]
                code = run(["train", *where])
        finally:
            os._exit(code)

    def _log(self, name: str, rank: int) -> Path:
        return self.root / f"{name}-{rank}.log"

    def errors(self, name: str) -> list[list[str]]:
        """Lines that report an error, per process."""
        logs = [self._log(name, rank).read_text() for rank in range(2)]
        assert not any("Traceback" in log for log in logs), logs
        return [[line for line in log.splitlines() if line.startswith("rrid-edge: ")] for log in logs]

    def said(self, name: str) -> str:
        """All that the main process said."""
        return self._log(name, 0).read_text()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> _Pair:
    """Two processes, and a run of theirs in ``whole``."""
    found = _Pair(tmp_path_factory.mktemp("pair"))
    assert found.train("whole") == [0, 0], found.said("whole")
    return found


def test_only_the_main_process_prints(pair):
    assert pair.said("whole").endswith(f"{pair.root}/whole/best.safetensors\n")
    assert pair._log("whole", 1).read_text() == ""


def test_a_cut_image_of_one_process_ends_both_with_one_line_and_the_run_goes_on_exactly(pair):
    def cut() -> None:
        steps: list[object] = []

        def failing(*arguments):
            for group in accumulation_groups(*arguments):
                if len(steps) == 3:
                    raise ImageError("a.jpg", "it is cut; copy it again")
                steps.append(group)
                yield group

        setattr(loop, "accumulation_groups", failing)  # noqa: B010 - mypy knows no such name of this module

    assert pair.train("cut", sabotage=cut) == [2, 2]
    assert pair.errors("cut") == [["rrid-edge: a.jpg: it is cut; copy it again"], []]
    assert f"saved at step 3; resume with: rrid-edge train --resume {pair.root}/cut\n" in pair.said("cut")
    assert pair.train("cut", resume=True) == [0, 0]
    assert_same_runs(pair.root / "cut", pair.root / "whole")


def test_a_signal_to_one_process_stops_both_at_the_same_step(pair):
    def stop() -> None:
        real = stepping.Stepper._optimise

        def stopping(trainer, group):
            handler = signal.getsignal(signal.SIGTERM)
            assert callable(handler)
            handler(signal.SIGTERM, None)
            return real(trainer, group)

        stepping.Stepper._optimise = stopping  # type: ignore[method-assign]

    assert pair.train("stopped", sabotage=stop) == [0, 0]
    assert "stopped by SIGTERM at step 1; resume with" in pair.said("stopped")
    assert pair.train("stopped", resume=True) == [0, 0]
    assert_same_runs(pair.root / "stopped", pair.root / "whole")


def test_an_infinite_loss_in_one_process_ends_both_with_one_line(pair):
    def break_loss() -> None:
        def broken(*arguments, **names):
            terms = rrid_loss(*arguments, **names)
            return terms._replace(total=terms.total * float("nan"))

        setattr(stepping, "rrid_loss", broken)  # noqa: B010 - mypy knows no such name of this module

    assert pair.train("nan", sabotage=break_loss) == [1, 1]
    lines = pair.errors("nan")
    assert [len(found) for found in lines] == [1, 0]
    assert lines[0][0].startswith("rrid-edge: the loss is nan at step 0, expected a finite number; ")
    assert not (pair.root / "nan" / "last.state.pt").exists()


def test_the_death_of_one_process_is_one_line_of_the_other(pair):
    def die() -> None:
        def dying(_trainer, _group):
            os.kill(os.getpid(), signal.SIGKILL)

        stepping.Stepper._optimise = dying  # type: ignore[method-assign]

    assert pair.train("dead", sabotage=die) == [2, -signal.SIGKILL]
    lines = pair.errors("dead")
    assert [len(found) for found in lines] == [1, 0]
    assert "another training process ended, expected all to run to the end; its own message or torchrun" in lines[0][0]


def test_a_lost_connection_is_told_by_the_main_process_only():
    lost = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    cpu = torch.device("cpu")
    for rank, kind in ((0, UsageError), (1, OtherProcessError)):
        with (
            pytest.raises(kind, match="another training process ended") as caught,
            lost_connections(Processes(rank, 2, cpu)),
        ):
            raise lost
        assert caught.value.exit_code == 2
    for processes, error in ((Processes(0, 1, cpu), lost), (Processes(0, 2, cpu), RuntimeError("out of memory"))):
        with pytest.raises(RuntimeError, match=str(error)[-10:]), lost_connections(processes):
            raise error
