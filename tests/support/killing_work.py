"""Kills training, export and calibration at random moments, and checks what the next run makes of it.

A parent imports everything once and forks a child per run, in a session of its own. A child gets SIGKILL, SIGTERM,
SIGINT, or SIGSTOP and then SIGKILL or SIGCONT. ``python tools/kill_training.py 100`` kills 100 times.
"""

from __future__ import annotations

import dataclasses
import filecmp
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP SIGKILL", "SIGSTOP SIGCONT")
_MOST_RUNS = 40
_ORPHANS_END_S = 20.0
_SESSION_FILE = ".ses"
"""What ONNX Runtime keeps in the folder for temporary files."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Something to kill.

    Attributes:
        name: what it is called.
        begin: does it from the start, into a folder.
        go_on: does it again after a kill, in the same folder.
        is_done: whether a folder holds the whole result after a run that ended with exit code 0.
        compare: raises AssertionError if two folders with results differ.
    """

    name: str
    begin: Callable[[Path], None]
    go_on: Callable[[Path], None]
    is_done: Callable[[Path], bool]
    compare: Callable[[Path, Path], None]


def kill_and_check(root: Path, works: list[Work], *, kills: int, seed: int) -> Counter[str]:
    """Kill works in turn until ``kills`` signals struck; return the number of runs by work and way.

    Checks that each result equals that of an uninterrupted run, that no temporary file is left in its folder, in the
    folder for temporary files or in shared memory, and that no process outlives its parent.
    """
    generator = random.Random(seed)
    struck: Counter[str] = Counter()
    (root / "tmp").mkdir()
    os.environ["TMPDIR"] = str(root / "tmp")
    took = {work.name: _uninterrupted(root, work) for work in works}
    round_ = 0
    while sum(struck.values()) < kills:
        work = works[round_ % len(works)]
        round_ += 1
        folder = root / f"{work.name}-{round_}"
        for run in range(_MOST_RUNS):
            again = partial(work.go_on if run else work.begin, folder)
            way = generator.choice(WAYS) if run < _MOST_RUNS - 1 else None
            ended = _run(again, way, generator.uniform(0, 1.1 * took[work.name]))
            struck[f"{work.name}, {way}, {'exit code 0' if ended == 0 else 'ended'}"] += 1
            if ended == 0 and work.is_done(folder):
                break
        assert work.is_done(folder), f"{folder}: not done (seed {seed}, round {round_})"
        try:
            work.compare(folder, root / work.name)
            _check_left_overs(root, folder)
        except AssertionError as error:
            raise AssertionError(f"{work.name}, seed {seed}, round {round_}, {folder}: {error}") from error
        shutil.rmtree(folder)
    return struck


def _uninterrupted(root: Path, work: Work) -> float:
    started = time.monotonic()
    assert _run(partial(work.begin, root / work.name), None, 0) == 0, work.name
    _check_left_overs(root, root / work.name)
    return time.monotonic() - started


def _run(work: Callable[[], None], way: str | None, delay_s: float) -> int:
    """Run ``work`` in a child, and send it signals after ``delay_s``. Return its exit code, or minus the signal."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setsid()
            silence = os.open(os.devnull, os.O_WRONLY)
            log = os.open(Path(os.environ["TMPDIR"]).parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(silence, 1)
            os.dup2(log, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if way is not None:
        time.sleep(delay_s)
        for number, name in enumerate(way.split()):
            if number:
                time.sleep(0.2)
            os.kill(child, signal.Signals[name])
    _, status = os.waitpid(child, 0)
    _wait_for_orphans(child)
    code = os.waitstatus_to_exitcode(status)
    expected = {0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130}
    assert code in expected, f"exit code {code} after {way}, see {os.environ['TMPDIR']}/../log"
    return code


def _wait_for_orphans(session: int) -> None:
    """Check that the processes of a session end by themselves."""
    deadline = time.monotonic() + _ORPHANS_END_S
    while found := _processes_of(session):
        assert time.monotonic() < deadline, f"processes {found} outlive their parent {session}"
        time.sleep(0.05)


def _processes_of(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                facts = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(facts[3]) == session and facts[0] != "Z":
                found.append(int(entry.name))
    return found


def _check_left_overs(root: Path, folder: Path) -> None:
    hidden = list(folder.rglob(".*"))
    assert not hidden, f"left in the folder: {hidden}"
    left = [path for path in (root / "tmp").rglob("*") if path.name != _SESSION_FILE]
    assert not left, f"left in the folder for temporary files: {left}"
    shared = [path for path in Path("/dev/shm").glob("torch_*") if path.owner() == _own_name()]
    assert not shared, f"left in shared memory: {shared}"


def _own_name() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def training_work(root: Path, *, workers: int) -> Work:
    """A small training that saves after every step, see :mod:`support.small_training`."""
    from rrid_train import keeping
    from rrid_train.checkpoint import load_training_state
    from rrid_train.loop import train
    from rrid_train.settings import TrainConfig
    from support.datasets import write_dataset
    from support.small_training import assert_same_runs, make_trainings_small, small_config

    data = write_dataset(root / f"data-{workers}", train=3)

    def make_small() -> None:  # in the child only
        patch = pytest.MonkeyPatch()
        make_trainings_small(patch)
        patch.setattr(keeping.SaveTimer, "is_due", lambda _timer: True)

    def begin(folder: Path) -> None:
        make_small()
        train(small_config(data, folder, epochs=3, num_workers=workers))

    def go_on(folder: Path) -> None:
        make_small()
        if (folder / "config.json").exists():
            train(TrainConfig(exp_dir=str(folder)), resume=True)
        else:
            begin(folder)

    def is_done(folder: Path) -> bool:
        if not (folder / "last.state.pt").exists():
            return False
        return bool(load_training_state(folder / "last.state.pt")["validated"] == 3)

    return Work(f"training-{workers}", begin, go_on, is_done, assert_same_runs)


def export_work(root: Path) -> Work:
    """The export of a tiny network."""
    import torch

    from rrid_edge.cli.app import run
    from support.networks import TINY, tiny_network
    from support.pictures import save_crops

    torch.save(tiny_network().state_dict(), root / "tiny.pth")
    save_crops(root / "crops", 8)
    size = ["--height", str(TINY.height_px), "--width", str(TINY.width_px)]

    def begin(folder: Path) -> None:
        _succeed(run(["export", str(root / "tiny.pth"), *size, "-o", str(folder), "--crops", str(root / "crops")]))

    return Work("export", begin, begin, Path.is_dir, _same_files)


def calibration_work(root: Path, exported: Path) -> Work:
    """The calibration of the exported network."""
    from rrid_edge.cli.app import run
    from support.datasets import write_dataset

    data = write_dataset(root / "data-calibration", train=8, size=(96, 32))
    options = ["--count", "8", "--method", "minmax", "--rounding", "nearest"]

    def begin(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        output = str(folder / "rrid.int8.onnx")
        _succeed(run(["calibrate", str(exported / "rrid.onnx"), "--images", str(data), "-o", output, *options]))

    return Work("calibration", begin, begin, Path.is_dir, _same_files)


def _succeed(code: int) -> None:
    if code:
        os._exit(code)


def _same_files(found: Path, expected: Path) -> None:
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in found.iterdir()) == names
    differing = filecmp.cmpfiles(found, expected, names, shallow=False)[1:]
    assert differing == ([], []), f"these files differ: {differing}"
