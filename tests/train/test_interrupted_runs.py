"""Runs that are killed, stopped or fail at any moment: each goes on and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rrid_edge import files
from rrid_edge.errors import CheckpointError, ImageError, OutputError, UsageError
from rrid_train import loop, monitor, run_folder, stepping
from rrid_train.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
    save_training_state,
)
from rrid_train.loop import train
from rrid_train.model import RRID
from rrid_train.monitor import read_metrics
from rrid_train.settings import ModelConfig
from support.commands import rrid_edge
from support.datasets import write_dataset
from support.pictures import noise
from support.small_training import assert_same_runs, make_trainings_small, resume, small_config, validate


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainings_small(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "set", train=2)


@pytest.fixture(scope="module")
def moments(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in ``run``, and in ``0``, ``1``, ... what a kill at each of its moments would have left.

    Moments: before each renaming of a file, and before each step.
    """
    root = tmp_path_factory.mktemp("moments")
    numbers: Iterator[int] = iter(range(1000))

    def snapshot_before(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **names: Any) -> Any:
            if (root / "run").exists():
                shutil.copytree(root / "run", root / str(next(numbers)))
            return real(*arguments, **names)

        patch.setattr(owner, name, call)

    with pytest.MonkeyPatch.context() as patch:
        make_trainings_small(patch)
        for owner, name in ((Path, "replace"), (stepping.Stepper, "_optimise")):
            snapshot_before(owner, name)
        train(small_config(data, root / "run"))
    return root


def test_a_run_that_is_killed_at_any_moment_ends_as_an_uninterrupted_one(moments):
    snapshots = sorted((path for path in moments.iterdir() if path.name != "run"), key=lambda path: int(path.name))
    for snapshot in snapshots:
        if (snapshot / "config.json").exists():
            resume(snapshot)
            assert_same_runs(snapshot, moments / "run")
        else:
            with pytest.raises(UsageError, match=r"no such training state"):
                resume(snapshot)
    assert len(snapshots) == 1 + 4 + 2 * 2 + 2 * 2 + 2  # settings; steps; saved; validated; best
    rows = read_metrics(moments / "run")
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4]


def test_a_checkpoint_is_written_before_its_validation(data, tmp_path, monkeypatch):
    seen = []

    def looking(*arguments: Any, **names: Any) -> dict[str, float]:
        folder = tmp_path / "run"
        state = load_training_state(folder / "last.state.pt")
        seen.append((load_checkpoint(folder / "last.safetensors").epoch, state["epoch"], state["validated"]))
        return validate(*arguments, **names)

    monkeypatch.setattr(loop, "validate", looking)
    train(small_config(data, tmp_path / "run"))
    assert seen == [(1, 1, 0), (2, 2, 1)]


def test_a_signal_ends_a_validation_at_once_and_it_is_made_up_for(data, moments, tmp_path, monkeypatch, capsys):
    def stopped(*arguments: Any, **names: Any) -> dict[str, float]:
        _receive(signal.SIGTERM)
        return validate(*arguments, **names)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "validate", stopped)
        train(small_config(data, tmp_path / "run"))
    said = capsys.readouterr().err
    assert f"stopped by SIGTERM at step 2; resume with: rrid-edge train --resume {tmp_path / 'run'}" in said
    assert not (tmp_path / "run" / "best.safetensors").exists()
    resume(tmp_path / "run")
    assert_same_runs(tmp_path / "run", moments / "run")


def _receive(number: signal.Signals) -> None:
    """Call the handler directly: native libraries of other tests can break signals in this process."""
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


def test_data_of_one_camera_trains_to_the_end(tmp_path, capsys):
    data = write_dataset(tmp_path / "data", train=2, cameras=1, shots=4)
    options = "--backbone resnet18 --height 32 --width 32 --stripes 2 --block-width 4 --backbone-weights none"
    options += " --epochs 2 --batch-size 8 --num-workers 0 --threads 1 --combine-trainval --val-every 1"
    outcome = rrid_edge("train", "--dataset-path", data, "--exp-dir", tmp_path / "run", *options.split())
    assert outcome.code == 0, outcome
    assert outcome.out.strip() == str(tmp_path / "run" / "last.safetensors")
    assert outcome.err.count("mAP and CMC cannot be measured; training goes on without validation") == 1
    assert "nothing was measured: the checkpoint is that of the last epoch, last.safetensors" in outcome.err
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").epoch == 2
    assert rrid_edge("train", "--resume", tmp_path / "run").out == outcome.out
    assert not (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize("failure", [ImageError("a.jpg", "it is cut"), RuntimeError("some\nlibrary"), MemoryError()])
def test_a_validation_that_fails_is_told_once_and_training_goes_on(data, tmp_path, monkeypatch, capsys, failure):
    def failing(*_arguments: Any, **_names: Any) -> dict[str, float]:
        raise failure

    monkeypatch.setattr(loop, "validate", failing)
    assert train(small_config(data, tmp_path / "run")) == tmp_path / "run" / "last.safetensors"
    reason = {ImageError: "a.jpg: it is cut", RuntimeError: "RuntimeError: some library", MemoryError: "MemoryError"}
    expected = f"this validation could not measure: {reason[type(failure)]}; training goes on\n"
    assert capsys.readouterr().err.count(expected) == 1


def test_the_best_of_the_measured_epochs_counts_if_one_fails(data, tmp_path, monkeypatch):
    def second_fails(*arguments: Any, **names: Any) -> dict[str, float]:
        if load_checkpoint(tmp_path / "run" / "last.safetensors").epoch == 2:
            raise ImageError("a.jpg", "it is cut")
        return validate(*arguments, **names)

    monkeypatch.setattr(loop, "validate", second_fails)
    assert train(small_config(data, tmp_path / "run")) == tmp_path / "run" / "best.safetensors"
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").epoch == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cut_training_image_is_one_line_and_mending_it_goes_on_exactly(moments, tmp_path, capsys, workers):
    data = write_dataset(tmp_path / "data", train=2)
    victim = data / "images" / "00000001_00_0000.jpg"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    config = small_config(data, tmp_path / "run", num_workers=workers)
    with pytest.raises(ImageError) as caught:
        train(config)
    assert caught.value.path == victim
    assert "\n" not in caught.value.message
    assert caught.value.message == _message_without_workers(victim)
    victim.write_bytes(whole)
    resume(tmp_path / "run")
    assert_same_runs(tmp_path / "run", moments / "run")
    assert "Traceback" not in capsys.readouterr().err


def _message_without_workers(path: Path) -> str:
    from rrid_edge.crops.images import read_image

    with pytest.raises(ImageError) as caught:
        read_image(path, 32, 32)
    return caught.value.message


def _disk_is_full(after: int, monkeypatch: pytest.MonkeyPatch, real: Callable[[Path], None] = files.sync_path) -> None:
    left = [after]

    def sync(path: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(files, "sync_path", sync)


@pytest.mark.parametrize("writes", [2, 3, 4, 6, 8, 9])
def test_a_full_disk_is_one_line_and_space_lets_the_run_go_on(data, moments, tmp_path, monkeypatch, writes):
    with monkeypatch.context() as patched:
        _disk_is_full(writes, patched)
        with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\); give a path on a wr"):
            train(small_config(data, tmp_path / "run"))
    resume(tmp_path / "run")
    assert_same_runs(tmp_path / "run", moments / "run")


def test_a_row_that_cannot_be_written_is_one_line_and_the_step_is_saved(data, moments, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"

    def full(_value: object) -> str:
        if (run / "metrics.jsonl").exists() and len(read_metrics(run)) == 3:
            raise OSError(28, "No space left on device")
        return json.dumps(_value)

    with monkeypatch.context() as patched:
        patched.setattr(monitor, "json_text", full)
        with pytest.raises(OutputError, match=r"metrics.jsonl: cannot be written \(No space left on device\); free sp"):
            train(small_config(data, run))
    assert f"saved at step 3; resume with: rrid-edge train --resume {run}" in capsys.readouterr().err
    resume(run)
    expected = [row["step"] for row in read_metrics(moments / "run")]
    del expected[3]  # the row that was lost
    assert [row["step"] for row in read_metrics(run)] == expected


def test_rows_that_a_kill_cut_or_doubled_are_removed(tmp_path):
    rows = [{"kind": "train", "step": 1}, {"kind": "validation", "step": 1, "epoch": 1}, {"kind": "train", "step": 2}]
    rows += [{"kind": "validation", "step": 2, "epoch": 2}, {"kind": "train", "step": 3}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    odd = ('{"kind": "train", "step": "two"}\n', '{"kind": "train", "step": 1, "loss": []}\n', "[" * 99_999)
    for end in ("", '{"kind": "tra', "17\n", "\0\0\0", *odd):
        (tmp_path / "metrics.jsonl").write_text(text + end)
        monitor.keep_rows(tmp_path, step=2, epoch=1)
        assert read_metrics(tmp_path) == rows[:3]
        assert (tmp_path / "metrics.jsonl").read_text() == "".join(json.dumps(row) + "\n" for row in rows[:3])
    monitor.keep_rows(tmp_path / "none", step=2, epoch=1)


def test_curves_that_cannot_be_drawn_end_nothing_and_hide_nothing(data, tmp_path, monkeypatch, capsys):
    def broken(_folder: Path) -> None:
        raise ValueError("no fonts")

    monkeypatch.setattr(monitor, "draw_curves", broken)
    assert train(small_config(data, tmp_path / "run", epochs=1)) == tmp_path / "run" / "best.safetensors"
    assert "the curves could not be drawn (ValueError: no fonts)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no such dataset"):
        train(small_config(data / "none", tmp_path / "none", epochs=1))
    monkeypatch.setattr(loop.Trainer, "_run_epoch", _refuse)
    with pytest.raises(ImageError):
        train(small_config(data, tmp_path / "failed", epochs=1))
    assert "curves" not in capsys.readouterr().err


def _refuse(*_arguments: object) -> None:
    raise ImageError("a.jpg", "it is cut")


def test_a_kill_while_an_old_run_is_deleted_leaves_a_run_or_none(moments, data, tmp_path, monkeypatch):
    """The settings go first, then the state: in between, the old run can still be resumed."""
    run = tmp_path / "run"
    shutil.copytree(moments / "run", run)
    (run / "config.json").unlink()
    assert resume(run) == run / "best.safetensors"
    (run / "last.state.pt").unlink()
    with pytest.raises(UsageError, match="no such training state"):
        resume(run)
    config = small_config(data, run)
    with pytest.raises(UsageError, match="already holds a run"):
        run_folder.RunFolder(run).begin(config, overwrite=False)
    begun = run_folder.RunFolder(run)
    begun.begin(config, overwrite=True)
    assert (run / "best.safetensors").exists()
    begun.replace_earlier()
    assert [path.name for path in run.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("step"), "KeyError: 'step'"),
        (lambda state: state["model"].popitem(), "Missing key"),
        (lambda state: state.update(config="[1]"), "damaged settings of a run"),
        (lambda state: state.update(config='{"a":' * 9_999), "damaged settings of a run"),
        (lambda state: state.update(config='{"epochs": "many"}'), "damaged settings .epochs = 'many' does not work"),
        (lambda state: state.update(config='{"epoch": 3}'), "damaged settings .the setting 'epoch' is unknown"),
        (lambda state: state.pop("config"), "it holds no settings"),
        (lambda state: state.update(torch_random=3), "the training state is damaged"),
        (lambda state: state.update(epoch=float("inf")), "the training state is damaged"),
        (lambda state: state.update(optimiser={}), "the training state is damaged"),
    ],
    ids=[
        "step",
        "model",
        "config",
        "deep config",
        "wrong type",
        "unknown setting",
        "no config",
        "random",
        "endless",
        "optimiser",
    ],
)
def test_a_damaged_state_is_one_line(moments, tmp_path, change, words):
    import torch

    state = load_training_state(moments / "run" / "last.state.pt")
    change(state)
    torch.save(state, tmp_path / "last.state.pt")
    with pytest.raises(CheckpointError, match=words):
        resume(tmp_path)


def test_kills_while_checkpoints_are_written_leave_whole_files_and_nothing_else(tmp_path):
    """Each child writes both files again and again until it is killed."""
    model = RRID(ModelConfig("resnet18", 32, 32, (2,), 4), 2)
    facts = Checkpoint(model.config, 2, "tiny", 1, {}, {})
    last, state = tmp_path / "last.safetensors", tmp_path / "last.state.pt"

    def write() -> None:
        save_checkpoint(last, model, facts)
        save_training_state(state, {"model": model.state_dict()})

    write()
    generator, left = random.Random(1), 0
    for _ in range(12):
        child = os.fork()
        if not child:
            try:
                while True:
                    write()
            finally:
                os._exit(1)
        time.sleep(generator.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left += len(list(tmp_path.glob(".*")))
        assert load_checkpoint(last).state.keys() == load_training_state(state)["model"].keys()
    assert left  # else no kill struck while a file was written
    save_checkpoint(last, model, facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == [last.name, state.name]


def test_a_preparation_that_was_killed_leaves_nothing_after_the_next(tmp_path):
    raw = tmp_path / "raw"
    for person in "1234":
        (raw / person).mkdir(parents=True)
        for camera in "12":
            for shot in "ab":
                noise(int(person + camera + str(ord(shot))), 32, 16).save(raw / person / f"c{camera}_{shot}.png")

    child = os.fork()
    if not child:
        try:
            real, written = Path.write_bytes, []

            def dying(path: Path, content: bytes) -> int:
                written.append(path)
                if len(written) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(path, content)

            Path.write_bytes = dying  # type: ignore[method-assign,assignment]
            rrid_edge("prepare", "folders", raw, tmp_path / "out")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert sorted(path.name[:4] for path in tmp_path.iterdir()) == [".rri", "raw"]
    outcome = rrid_edge("prepare", "folders", raw, tmp_path / "out")
    assert outcome.code == 0, outcome
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 16
