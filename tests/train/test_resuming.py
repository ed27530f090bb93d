"""Runs that go on with other settings, on another machine, or from a state within an epoch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rrid_edge.errors import CheckpointError, OutputError, UsageError
from rrid_edge.machine.threads import ThreadChoice
from rrid_edge.stopping import kept_of
from rrid_train import keeping, loop, monitor, resuming, run_folder, stepping, threads
from rrid_train.checkpoint import load_checkpoint, load_training_state
from rrid_train.keeping import SaveTimer
from rrid_train.loop import train
from rrid_train.monitor import read_metrics
from rrid_train.resuming import machine_remarks, resumed_config
from rrid_train.schedule import epochs_remark
from rrid_train.settings import TrainConfig, resume_settings
from rrid_train.threads import measured_threads
from support.commands import refused, rrid_edge
from support.datasets import write_dataset
from support.pictures import noise
from support.small_training import assert_same_runs, make_trainings_small, resume, small_config

MACHINE = ("dataset_path", "epochs", "gpus", "num_workers", "threads", "val_every", "save_every", "print_freq")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainings_small(monkeypatch)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data``; a run of two epochs in ``run``; and in ``1`` and ``3`` what a kill in both epochs would have left.

    The run saved after every step. There are two steps per epoch.
    """
    root = tmp_path_factory.mktemp("root")
    data = write_dataset(root / "data", train=2)
    real = stepping.Stepper._optimise

    def before_step(trainer: Any, group: Any) -> Any:
        if trainer.step in (1, 3):
            shutil.copytree(root / "run", root / str(trainer.step))
        return real(trainer, group)

    with pytest.MonkeyPatch.context() as patch:
        make_trainings_small(patch)
        patch.setattr(keeping.SaveTimer, "is_due", lambda _timer: True)
        patch.setattr(stepping.Stepper, "_optimise", before_step)
        train(small_config(data, root / "run", save_every="1s"))
    return root


@pytest.fixture
def cut(root: Path, tmp_path: Path) -> Path:
    """What a kill after the third of four steps left."""
    return Path(shutil.copytree(root / "3", tmp_path / "cut"))


def _stored(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings in both places."""
    state = load_training_state(folder / "last.state.pt")
    return json.loads((folder / "config.json").read_text()), json.loads(state["config"])


@pytest.mark.parametrize("step", [1, 3])
def test_a_kill_within_an_epoch_goes_on_at_the_last_save_and_ends_exactly(root, tmp_path, step):
    run = Path(shutil.copytree(root / str(step), tmp_path / "run"))
    state = load_training_state(run / "last.state.pt")
    assert (state["step"], state["epoch"]) == (step, step // 2)
    assert load_checkpoint(run / "last.safetensors").epoch == step // 2
    resume(run)
    assert_same_runs(run, root / "run")


def test_saves_within_an_epoch_are_timed():
    now = [100.0]
    timer, never = SaveTimer(600, lambda: now[0]), SaveTimer(0, lambda: now[0])
    found = []
    for moment in (100, 699, 700, 900):
        now[0] = moment
        found.append((timer.is_due(), never.is_due()))
    assert found == [(False, False), (False, False), (True, False), (True, False)]
    timer.restart()
    assert not timer.is_due()


def test_a_save_within_an_epoch_draws_the_curves_and_an_error_of_it_is_one_line(root, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(monitor.Monitor, "draw", lambda _monitor, **_names: drawn.append(1))
    monkeypatch.setattr(keeping.SaveTimer, "is_due", lambda _timer: True)
    train(small_config(root / "data", tmp_path / "run"))
    assert len(drawn) == 4 + 1  # each step, and the end

    def full(*_arguments: object) -> None:
        raise OutputError("no space")

    monkeypatch.setattr(run_folder.RunFolder, "save", full)
    with pytest.raises(OutputError, match="no space"):
        train(small_config(root / "data", tmp_path / "full"))
    assert [row["step"] for row in read_metrics(tmp_path / "full")] == [1]


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90s", 90), ("10m", 600), ("2h", 7200), ("10", None), ("-1m", None), ("m", None)]
)
def test_the_time_between_saves_has_a_unit(text, seconds):
    if seconds is None:
        with pytest.raises(UsageError, match=r"save_every '.*' does not work: expected a whole number and s, m or h"):
            TrainConfig(save_every=text)
    else:
        assert TrainConfig(save_every=text).save_every_s == seconds


def test_a_run_that_goes_on_takes_machine_settings_keeps_them_and_ends_exactly(root, cut, tmp_path, capsys):
    moved = Path(shutil.copytree(root / "data", tmp_path / "moved"))
    changes = {"dataset_path": str(moved), "num_workers": 1, "save_every": "2h", "threads": 1}
    resume(cut, **changes)
    assert_same_runs(cut, root / "run")
    assert not any(word in capsys.readouterr().err for word in ("rounding", "exact"))
    for values in _stored(cut):
        assert {name: values[name] for name in changes} == changes
    resume(cut, val_every=7)
    for values in _stored(cut):
        assert (values["val_every"], values["num_workers"], values["dataset_path"]) == (7, 1, str(moved))


def test_validations_and_progress_lines_change_no_weights(root, cut):
    resume(cut, val_every=0, print_freq=2)
    found, expected = (load_checkpoint(folder / "last.safetensors").state for folder in (cut, root / "run"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [row["step"] for row in read_metrics(cut) if row["kind"] == "train"] == [1, 2, 3, 4]


def test_a_kill_right_after_new_settings_loses_none_of_them(cut, monkeypatch):
    def killed(_trainer: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(loop.Trainer, "run", killed)
        with pytest.raises(SystemExit):
            resume(cut, val_every=9)
    assert [values["val_every"] for values in _stored(cut)] == [9, 9]


def test_settings_that_a_run_keeps_are_refused_with_those_it_takes(root, tmp_path):
    assert resume_settings() == MACHINE
    with pytest.raises(UsageError, match=f"keeps its lr: expected only {', '.join(MACHINE)}; leave lr out") as caught:
        resume(root / "run", lr=0.5)
    assert caught.value.parameters == ("lr",)
    (tmp_path / "own.toml").write_text("val_every = 3\nlr = 0.5\n")
    flags = ", ".join("--" + name.replace("_", "-") for name in MACHINE)
    for options, name in (
        (("--lr", 0.5), "--lr"),
        (("--threads", 1, "--combine-trainval"), "--combine-trainval"),
        (("--preset", "demo"), "--preset"),
        (("--overwrite",), "--overwrite"),
        (("--exp-dir", "x"), "--exp-dir"),
        (("--config", tmp_path / "own.toml"), f"lr in {tmp_path / 'own.toml'}"),
    ):
        words = f"only {flags} anew: leave out {name}, or start a new run"
        refused(rrid_edge("train", "--resume", root / "run", *options), 2, words)


def test_a_file_of_machine_settings_counts_less_than_the_command_line(cut, tmp_path):
    (tmp_path / "machine.toml").write_text('val_every = 3\nsave_every = "3m"\n')
    outcome = rrid_edge("train", "--resume", cut, "--config", tmp_path / "machine.toml", "--val-every", 1)
    assert outcome.code == 0, outcome
    for values in _stored(cut):
        assert (values["val_every"], values["save_every"]) == (1, "3m")


def _drop_image(data: Path) -> None:
    meta = json.loads((data / "meta.json").read_text())
    meta["identities"][0][0].pop()
    (data / "meta.json").write_text(json.dumps(meta))


def _rename_image(data: Path) -> None:
    text = (data / "meta.json").read_text().replace("00000001_01_0001", "renamed")
    (data / "meta.json").write_text(text)
    (data / "images" / "00000001_01_0001.jpg").rename(data / "images" / "renamed.jpg")


def _other_pixels(data: Path) -> None:
    for number, path in enumerate(sorted((data / "images").iterdir())):
        noise(number, 64, 24).save(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_drop_image, "other numbers of people or images"),
        (_rename_image, "other file names, people or cameras"),
        (_other_pixels, "other images under the same names"),
    ],
)
def test_another_dataset_is_refused_and_nothing_is_written(root, cut, tmp_path, change, reason):
    data = Path(shutil.copytree(root / "data", tmp_path / "other"))
    change(data)
    before = {path: path.read_bytes() for path in cut.iterdir()}
    words = (
        rf"other: not the dataset that the run in \S*cut began with \({reason}\): expected tiny with 2 training people"
    )
    with pytest.raises(UsageError, match=words) as caught:
        resume(cut, dataset_path=str(data))
    assert caught.value.parameters == ("dataset_path",)
    assert {path: path.read_bytes() for path in cut.iterdir()} == before


def test_a_state_without_a_sound_identity_is_damaged(cut):
    for identity in (None, "{}", "[" * 9999):
        state = load_training_state(cut / "last.state.pt")
        torch.save({**state, "dataset": identity}, cut / "last.state.pt")
        with pytest.raises(CheckpointError, match=r"last.state.pt: .*damaged"):
            resume(cut)


def test_more_epochs_of_a_staircase_end_as_a_run_that_was_begun_with_them(root, cut, tmp_path, capsys):
    resume(cut, epochs=3)
    said = "epochs 3, not 2: the exact resume ends here; the staircase stays (learning rates fall at epochs: 40, 60)"
    assert said in capsys.readouterr().err
    train(small_config(root / "data", tmp_path / "three", epochs=3))
    assert_same_runs(cut, tmp_path / "three")
    assert [values["epochs"] for values in _stored(cut)] == [3, 3]


def test_fewer_epochs_than_begun_are_refused(cut):
    with pytest.raises(UsageError, match=r"cut: epochs 1 does not work: expected 2 or more, the epochs that the"):
        resume(cut, epochs=1)


def test_a_run_that_ends_earlier_validates_its_last_epoch(root, tmp_path, monkeypatch):
    class Stopping(loop.Trainer):
        def _validate(self, monitor: Any) -> None:
            super()._validate(monitor)
            _receive(signal.SIGTERM)

    config = small_config(root / "data", tmp_path / "run", epochs=9, val_every=0)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "Trainer", Stopping)
        assert train(config) is None
    assert not (tmp_path / "run" / "best.safetensors").exists()
    resume(tmp_path / "run", epochs=1)
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").epoch == 1


def test_the_cosine_over_other_epochs_is_said_in_rates():
    old = TrainConfig(cosine=True, epochs=2)
    (line,) = epochs_remark(old, dataclasses.replace(old, epochs=3), 15, 10)  # at epoch 1.5
    # (1 + cos(pi 1.5 / 3)) / 2 and (1 + cos(pi 1.5 / 2)) / 2
    assert line.endswith("0 at epoch 3: the learning rates go on at 0.500 of their start values, not at 0.146")
    assert epochs_remark(old, old, 15, 10) == []


def _receive(number: signal.Signals) -> None:
    """Call the handler directly: native libraries of other tests can break signals in this process."""
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


def test_after_ctrl_c_only_the_line_that_goes_on_is_printed(root, tmp_path, monkeypatch, capsys):
    real = stepping.Stepper._optimise

    def interrupted(trainer: Any, group: Any) -> Any:
        if trainer.step == 1:
            capsys.readouterr()
            _receive(signal.SIGINT)
        return real(trainer, group)

    monkeypatch.setattr(stepping.Stepper, "_optimise", interrupted)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(small_config(root / "data", run))
    expected = f"stopped by SIGINT at step 2; resume with: rrid-edge train --resume {run}\n"
    assert capsys.readouterr().err == expected
    outcome = rrid_edge("train", "--resume", run)  # goes on, from its first step on
    assert outcome.code == 0, outcome
    assert_same_runs(run, root / "run")


def test_a_stopped_run_names_no_next_step_and_ends_with_the_code_of_its_signal(cut, monkeypatch):
    real = stepping.Stepper._optimise
    stops = [signal.SIGINT, signal.SIGTERM]

    def stopped(trainer: Any, group: Any) -> Any:
        _receive(stops[0])
        return real(trainer, group)

    again = Path(shutil.copytree(cut, cut.with_name("again")))
    monkeypatch.setattr(stepping.Stepper, "_optimise", stopped)
    for folder, code in ((cut, 130), (again, 0)):
        outcome = rrid_edge("train", "--resume", folder, "--epochs", 9)
        assert (outcome.code, outcome.out) == (code, "")
        assert outcome.err.endswith(f"at step 4; resume with: rrid-edge train --resume {folder}\n")
        stops.pop(0)


def test_ctrl_c_while_the_last_curves_are_drawn_hides_no_result(root, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "draw_curves", lambda _folder: _receive(signal.SIGINT))
    run = Path(shutil.copytree(root / "run", tmp_path / "run"))
    assert resume(run) == run / "best.safetensors"


def test_ctrl_c_before_the_first_step_says_how_to_go_on(root, tmp_path, monkeypatch, capsys):
    def interrupted(*_arguments: object, **_names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "load_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(small_config(root / "data", tmp_path / "run"))
    assert kept_of(stop.value) == f"no step was done; resume with: rrid-edge train --resume {tmp_path / 'run'}"
    assert capsys.readouterr().err == ""


def test_the_number_of_threads_is_measured_once_and_kept(root, tmp_path, monkeypatch, capsys):
    choices = iter([ThreadChoice(1, {1: 0.1, 2: 0.31}), ThreadChoice(1, {})])
    monkeypatch.setattr(threads, "measured_threads", lambda _config: next(choices))
    run = tmp_path / "run"
    train(small_config(root / "data", run, threads=0, epochs=1))
    said = "threads: 1 (measured 3.1x faster than 2: other programs use the cores)\n"
    assert capsys.readouterr().err.startswith(said)
    assert [values["threads"] for values in _stored(run)] == [1, 1]
    resume(run)
    assert "threads" not in capsys.readouterr().err
    resume(run, threads=0)
    assert capsys.readouterr().err.startswith("threads: 1\n")


def test_the_measurement_draws_no_random_numbers_and_changes_nothing():
    random, before = torch.get_rng_state(), torch.get_num_threads()
    config = small_config(Path(), Path())
    for amp, channels_last in (("none", False), ("bf16", True)):
        varied = dataclasses.replace(config, amp=amp, channels_last=channels_last)
        assert measured_threads(varied, (1, 2)).threads in (1, 2)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"gpus": 1}, {"gpus": 0, "threads": 2}, "on a CPU, not a GPU: the weights may differ in rounding"),
        ({"threads": 2}, {"gpus": 1}, "on a GPU, not a CPU: the weights may differ in rounding"),
        ({"threads": 2}, {"threads": 4}, "threads 4, not 2: the weights may differ in rounding"),
        ({"threads": 9}, {"threads": 9}, "the run keeps its 9 threads, but only 4 cores are usable; threads 0 meas"),
        ({"threads": 4}, {"num_workers": 9, "threads": 4}, ""),
        ({"gpus": 1}, {"gpus": 1, "threads": 3}, ""),
    ],
)
def test_what_another_machine_changes_is_said(old, new, words, monkeypatch):
    monkeypatch.setattr(resuming, "usable_cores", lambda: 4)
    remarks = machine_remarks(TrainConfig(**old), TrainConfig(**new))
    assert "; ".join(remarks).startswith(words)
    assert bool(remarks) == bool(words)


def test_a_run_in_fp16_goes_on_only_on_a_gpu():
    with pytest.raises(UsageError, match="gpus 0: the run computes in fp16, which needs a GPU"):
        resumed_config(TrainConfig(gpus=1, amp="fp16"), {"gpus": 0})


def _changed_state(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    state = load_training_state(folder / "last.state.pt")
    change(state)
    torch.save(state, folder / "last.state.pt")


def test_another_number_of_processes_is_said_or_refused(cut, capsys):
    _changed_state(cut, lambda state: state.update(processes=2))
    resume(cut)
    assert "1 process(es), not 2: each mines triplets and takes batch statistics in its own" in capsys.readouterr().err
    _changed_state(cut, lambda state: state.update(processes=2, steps_per_epoch=1))
    with pytest.raises(UsageError, match=r"an epoch has 2 steps with 1 process\(es\), expected 1 as with 2 before"):
        resume(cut)


def test_a_run_that_goes_on_needs_its_backbone_file_no_more(cut, root):
    state = load_training_state(cut / "last.state.pt")
    values = {**json.loads(state["config"]), "backbone_weights": str(cut / "moved.pth")}
    torch.save({**state, "config": json.dumps(values)}, cut / "last.state.pt")
    resume(cut)
    assert_same_runs(cut, root / "run")
