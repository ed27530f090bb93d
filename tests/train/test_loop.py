"""Training of a tiny network: resume, signals, checkpoints, settings, several processes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from rrid_edge.cli.app import app, register
from rrid_edge.errors import ArtefactError, CheckFailedError, CheckpointError, UsageError
from rrid_train import loop, stepping, validation
from rrid_train.checkpoint import load_checkpoint
from rrid_train.config import config_from_dict, make_config
from rrid_train.distributed import join_processes, leave_processes
from rrid_train.loop import Trainer, train
from rrid_train.losses import rrid_loss
from rrid_train.monitor import read_metrics
from rrid_train.schedule import rate_factor
from rrid_train.settings import PRESETS, TrainConfig
from rrid_train.validation import to_input
from support import small_training
from support.commands import refused, rrid_edge
from support.datasets import write_dataset
from support.small_training import make_trainings_small

TINY = dataclasses.replace(small_training.CONFIG, block_width=8, num_val=1, batch_size=8)


@pytest.fixture
def config(tmp_path):
    write_dataset(tmp_path / "data")
    return dataclasses.replace(TINY, dataset_path=str(tmp_path / "data"), exp_dir=str(tmp_path / "run"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The settings of a finished run, and its duration in seconds. Tests read its folder and must not change it."""
    root = tmp_path_factory.mktemp("finished")
    config = dataclasses.replace(TINY, dataset_path=str(write_dataset(root / "data")), exp_dir=str(root / "run"))
    started = time.perf_counter()
    assert train(config) == root / "run" / "best.safetensors"
    return config, time.perf_counter() - started


@pytest.fixture
def earlier_run(config, finished):
    """Settings whose folder already holds a finished run. The test may change it."""
    shutil.copytree(finished[0].exp_dir, config.exp_dir)
    return config


def _weights(path):
    return load_checkpoint(path).state


def _equal(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_writes_all_documented_files(finished):
    config, _ = finished
    folder = Path(config.exp_dir)
    assert {path.name for path in folder.iterdir()} >= {
        "best.safetensors",
        "last.safetensors",
        "last.state.pt",
        "config.json",
        "metrics.jsonl",
        "curves.png",
        "tensorboard",
    }
    checkpoint = load_checkpoint(folder / "best.safetensors")
    assert checkpoint.training_data == "tiny"
    assert checkpoint.num_persons == 3
    assert config_from_dict(checkpoint.config, where="x") == config
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2]
    steps = [row for row in rows if row["kind"] == "train"]
    assert {"loss", "precision", "data_ms", "step_ms", "images_per_s"} <= steps[0].keys()
    assert all(row["step_ms"] > 0 for row in steps)


class _Stopping(Trainer):
    """Receives SIGTERM after its third step."""

    def _optimise(self, group):
        terms = super()._optimise(group)
        if self.step == 2:
            # Call the handler directly: native libraries of other tests can break signals in this process. Another test
            # sends a real signal to a separate process.
            handler = signal.getsignal(signal.SIGTERM)
            assert callable(handler)
            handler(signal.SIGTERM, None)
        return terms


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    request, config, tmp_path, monkeypatch, capsys, amp
):
    if amp == "none":
        config, _ = request.getfixturevalue("finished")
    else:
        # Slow on processors without bfloat16: one epoch of small batches, and one convolution instead of the backbone.
        make_trainings_small(monkeypatch)
        config = dataclasses.replace(config, amp=amp, channels_last=True, epochs=1, batch_size=4, batch_sample=2)
        train(config)
    expected = _weights(Path(config.exp_dir) / "last.safetensors")
    other = dataclasses.replace(config, exp_dir=str(tmp_path / "other"))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "Trainer", _Stopping)
        train(other)
    assert (
        f"stopped by SIGTERM at step 3; resume with: rrid-edge train --resume {tmp_path / 'other'}"
        in capsys.readouterr().err
    )
    train(TrainConfig(exp_dir=str(tmp_path / "other")), resume=True)
    _equal(_weights(tmp_path / "other" / "last.safetensors"), expected)


@pytest.mark.parametrize(("flags", "amp"), [({"avx2"}, "none"), ({"avx2", "avx512_bf16"}, "bf16")])
def test_auto_takes_bfloat16_only_from_a_cpu_that_has_it(config, tmp_path, monkeypatch, flags, amp):
    """Emulated, a step takes many times as long. The run records its choice, so that a resumed run is equal."""
    monkeypatch.setattr(validation, "cpu_flags", lambda: flags)
    monkeypatch.setattr(loop.Trainer, "run", lambda trainer: trainer.config.amp)
    assert train(dataclasses.replace(config, amp="auto")) == amp
    assert json.loads((tmp_path / "run" / "config.json").read_text())["amp"] == amp


@pytest.mark.slow
def test_sigterm_saves_the_state_and_prints_the_resume_command(config, tmp_path):
    folder = tmp_path / "run"
    options = (
        "--backbone resnet18 --height 32 --width 32 --stripes 2 --block-width 8 --backbone-weights none --num-val 1"
    )
    options += " --epochs 500 --batch-size 8 --num-workers 0 --threads 1 --print-freq 1 --val-every 0"
    command = [
        sys.executable,
        "-m",
        "rrid_edge.cli",
        "train",
        "--dataset-path",
        config.dataset_path,
        "--exp-dir",
        str(folder),
    ]
    with subprocess.Popen(
        [*command, *options.split()], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step 2/" in line:
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == 0
    assert f"resume with: rrid-edge train --resume {folder}" in rest
    assert torch.load(folder / "last.state.pt", weights_only=True)["step"] >= 2


def test_a_nan_loss_stops_the_run_and_names_the_step(earlier_run, monkeypatch):
    def broken(*arguments, **options):
        terms = real(*arguments, **options)
        return terms._replace(total=terms.total * float("nan"))

    real = rrid_loss
    monkeypatch.setattr(stepping, "rrid_loss", broken)
    words = r"the loss is nan at step 0, expected a finite number; .* \(last good checkpoint: none yet\)"
    with pytest.raises(CheckFailedError, match=words):
        train(earlier_run, overwrite=True)


def test_accumulated_batches_count_as_one_step(config):
    trainer = Trainer(dataclasses.replace(config, accumulate=2), join_processes(0))
    batches = list(trainer.loader)
    assert trainer.steps_per_epoch == -(-len(batches) // 2)
    trainer.network.eval()  # Without batch statistics, the mean of two gradients is the gradient of the mean loss.
    trainer._optimise(batches[:2])
    found = {name: one.grad.clone() for name, one in trainer.model.named_parameters() if one.grad is not None}
    again = Trainer(config, join_processes(0))
    again.network.eval()
    one, two = (
        rrid_loss(again.network(to_input(images, config, torch.device("cpu"))), persons, margin=1.2).total
        for images, persons in batches[:2]
    )
    ((one + two) / 2).backward()
    for name, parameter in again.model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_an_earlier_run_is_overwritten_only_on_request(earlier_run):
    words = "already holds a run, expected a new folder; resume the run, overwrite it, or give another folder"
    with pytest.raises(UsageError, match=words):
        train(earlier_run)
    train(dataclasses.replace(earlier_run, epochs=1), overwrite=True)


def test_resume_refuses_a_missing_and_a_damaged_state(config, tmp_path):
    with pytest.raises(UsageError, match="no such training state"):
        train(TrainConfig(exp_dir=str(tmp_path / "nowhere")), resume=True)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last.state.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="the training state is damaged"):
        train(TrainConfig(exp_dir=str(folder)), resume=True)


@pytest.mark.slow
def test_a_kill_while_writing_keeps_the_previous_checkpoint(earlier_run):
    """The process is killed while it writes another checkpoint. The first one must be intact."""
    last = Path(earlier_run.exp_dir) / "last.safetensors"
    before = last.read_bytes()
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        import rrid_train.checkpoint as checkpoint
        from rrid_train.checkpoint import load_checkpoint, save_checkpoint
        from rrid_train.model import RRID

        path = Path({str(last)!r})
        stored = load_checkpoint(path)
        model = RRID(stored.model, stored.num_persons)

        def dying(tensors, file, metadata):
            Path(file).write_bytes(b"half of a file")
            os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.save_file = dying
        save_checkpoint(path, model, stored)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert last.read_bytes() == before


def test_given_values_override_the_file_and_the_file_overrides_the_preset(tmp_path):
    assert PRESETS["paper"] == TrainConfig()
    (tmp_path / "my.toml").write_text("epochs = 7\nlr = 1\nstripes = [3, 2]\nheight = 96\n")
    settings = make_config("paper", tmp_path / "my.toml", {"epochs": 9, "seed": None})
    assert (settings.epochs, settings.lr, settings.stripes, settings.seed) == (9, 1.0, (3, 2), 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = 'many'", "epochs = 'many' does not work: expected int"),
        ("epochs = true", "epochs = True does not work"),
        ("epochs = ", r"damaged TOML \(.*\); correct the file"),
        ("epochs = 1\nepochs = 2", r"damaged TOML \(.*\); correct the file"),
        ("epochs = " + "[" * 5_000 + "]" * 5_000, r"damaged TOML \(.*(recursion|nested).*\); correct the file"),
        ("lr = nan", r"damaged TOML \(nan is not a finite number at lr\)"),
        (b"exp_dir = '\xff'", r"damaged TOML \(.*utf-8"),
        ("epochs = 9999999999", "9999999999 does not work: expected at most 2,147,483,647"),
        ("epochs = 99999999999999999999", r"damaged TOML \(a whole number of more than 64 bits at epochs\)"),
        ("stripes = [0x" + "f" * 10_000 + "]", r"damaged TOML \(a whole number of more than 64 bits at stripes\[0\]\)"),
        ("epochs = 1979-05-27", "does not work: expected int"),
        ("stripes = [[6], 4]", r"stripes = \[\[6\], 4\] does not work: expected a list of whole numbers"),
        ("stripes = " + repr([*range(2, 2000)]), "expected 1 to 16 different whole numbers"),
        ("exp_dir = {a = 1}", "exp_dir = {'a': 1} does not work: expected str"),
        ('exp_dir = "a\\u0000b"', "does not work: expected a text without zero characters"),
        ("epochs = 0", "epochs 0 does not work: expected a number above 0"),
        ("height = 100", "height 100 px does not fit"),
        ("amp = 'fp8'", "amp 'fp8' is unknown: expected one of none, bf16, fp16, auto"),
        ("momentum = 2", "momentum 2.0 does not work: expected a number from 0 to 1"),
        ("seed = -1", "seed -1 does not work: expected 0 or more"),
        ("save_every = 600", 'save_every = 600 does not work: expected a text such as "10m"'),
        (
            "save_every = '600'",
            "save_every '600' does not work: expected a whole number and s, m or h, for example 10m",
        ),
        ("lr = 'fast'", "lr = 'fast' does not work: expected float"),
        ("lr = true", "lr = True does not work: expected float"),
        ("cosine = 1", "cosine = 1 does not work: expected bool"),
        ("amp = 16", "amp = 16 does not work: expected str"),
        ("splits_file = 3", "splits_file = 3 does not work: expected str"),
        ("stripes = 6", "stripes = 6 does not work: expected a list of whole numbers"),
        ("stripes = [6, 4.0]", r"stripes = \[6, 4.0\] does not work: expected a list of whole numbers"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_damaged_settings_in_a_file_are_refused(tmp_path, text, words):
    path = tmp_path / "my.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ArtefactError, match=words) as caught:
        make_config("paper", path, {})
    assert type(caught.value).exit_code == 4
    assert caught.value.message.startswith(f"{path}: ")
    assert len(caught.value.message) < 400 + len(str(path))


@pytest.mark.parametrize(
    ("text", "given", "words"),
    [
        ("epoch = 7", {}, "the setting 'epoch' is unknown"),
        ("amp = 'fp16'", {}, "^amp fp16 needs a GPU"),
        ("height = 96", {"stripes": (5, 3)}, "^height 96 px does not fit"),  # the file alone is sound
        ("", {"epochs": 0}, "^epochs 0 does not work"),
    ],
)
def test_wrong_use_of_a_sound_file_is_refused(tmp_path, text, given, words):
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        make_config("paper", tmp_path / "my.toml", given)
    with pytest.raises(UsageError, match="no such TOML file"):
        make_config("paper", tmp_path / "none.toml", given)


def _train_options():
    """The options of ``train`` by parameter name, as Typer knows them."""
    register()
    commands: Any = get_command(app)
    return {option.name: option for option in commands.commands["train"].params}


def test_settings_and_options_correspond_and_all_have_help():
    options = _train_options()
    own = {"preset", "config", "resume", "overwrite"}
    fields = [field.name for field in dataclasses.fields(TrainConfig)]
    assert [name for name in options if name not in own] == fields
    assert all(option.help for option in options.values())
    assert all("--" + name.replace("_", "-") in options[name].opts for name in fields)


def test_the_help_of_a_setting_names_its_choices_and_defaults():
    options = _train_options()
    assert options["amp"].help == "Use automatic mixed precision: none, bf16, fp16, auto. [paper: none, demo: auto]"
    assert options["stripes"].help.endswith(" [default: 6,4,2]")
    assert options["cosine"].help.endswith(" [paper: staircase, demo: cosine]")
    assert options["cosine"].secondary_opts == ["--staircase"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lr", "0"), "lr 0.0 does not work: expected a number above 0"),
        (("--amp", "fp8"), "amp 'fp8' is unknown: expected one of none, bf16, fp16, auto"),
        (("--dataset-type", "x"), "dataset_type 'x' is unknown: expected one of auto, rrid"),
    ],
)
def test_invalid_options_are_refused(options, words, tmp_path):
    refused(rrid_edge("train", "--dataset-path", tmp_path, *options), 2, words)


def test_a_stored_setting_of_none_is_read_back():
    assert config_from_dict(TrainConfig().to_dict(), where="x") == TrainConfig()
    assert TrainConfig().to_dict()["splits_file"] is None


def test_train_help_needs_neither_pytorch_nor_numpy():
    code = textwrap.dedent(
        """
        import sys
        sys.modules |= dict.fromkeys(("torch", "torchvision", "numpy", "safetensors"))
        from rrid_edge.cli.app import run
        assert run(["train", "--help"]) == 0
        sys.exit(run(["train", "--dataset-path", "x"]))
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--label-smoothing" in done.stdout
    assert done.returncode == 3, done.stderr
    assert "rrid-edge[train]" in done.stderr


def test_learning_rate_follows_staircase_warm_up_and_cosine():
    paper = TrainConfig()
    factors = [rate_factor(paper, epoch * 10, 10) for epoch in (0, 39, 40, 59, 60, 79)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    rising = dataclasses.replace(paper, warm_up_epochs=2)
    assert [rate_factor(rising, step, 10) for step in (0, 10, 20)] == pytest.approx([0.1, 0.55, 1])
    cosine = dataclasses.replace(paper, cosine=True, epochs=4)
    assert [rate_factor(cosine, step, 1) for step in (0, 2, 4)] == pytest.approx([1, 0.5, 0])


def test_the_train_command_trains_and_refuses_wrong_use(tmp_path):
    write_dataset(tmp_path / "data")
    options = (
        "--backbone resnet18 --height 96 --width 32 --stripes 3,2 --block-width 8 --backbone-weights none --epochs 1"
    )
    options += " --batch-size 8 --num-val 1 --num-workers 0 --threads 1"
    outcome = rrid_edge("train", "--dataset-path", tmp_path / "data", "--exp-dir", tmp_path / "run", *options.split())
    assert outcome.code == 0, outcome
    assert outcome.out.strip() == str(tmp_path / "run" / "best.safetensors")
    evaluated = rrid_edge("evaluate", outcome.out.strip(), "--dataset", tmp_path / "data", "--json")
    assert evaluated.code == 0, evaluated
    assert 0 < json.loads(evaluated.out)["mean_ap"] <= 1
    refused(rrid_edge("train", "--resume", tmp_path / "run", "--lr", 3), 2, "leave out --lr")
    refused(rrid_edge("train"), 2, "no dataset: give --dataset-path")
    refused(
        rrid_edge("train", "--dataset-path", tmp_path / "none", "--exp-dir", tmp_path / "x"),
        2,
        "no such dataset folder",
    )
    refused(rrid_edge("train", "--stripes", "six", "--dataset-path", tmp_path), 2, "--stripes 'six'")


def _train_three_steps(config, processes) -> Trainer:
    trainer = Trainer(config, processes)
    trainer.network.train()
    for images in list(trainer.loader)[:3]:
        trainer._optimise([images])
        trainer.step += 1
    return trainer


_SECOND_PROCESS = """
import sys
sys.path[:0] = {path!r}
from rrid_train.config import config_from_dict
from rrid_train.distributed import join_processes, leave_processes
from rrid_train.loop import Trainer

print("ready", flush=True)
trainer = Trainer(config_from_dict({config!r}, where="test"), join_processes(0))
trainer.network.train()
for images in list(trainer.loader)[:3]:
    trainer._optimise([images])
    trainer.step += 1
leave_processes()
"""


@pytest.mark.slow
def test_two_processes_equal_one_that_averages_their_gradients(config, monkeypatch):
    """Two processes (gloo) against one that computes the half batches in turn and averages their gradients.

    Each half has its own batch-hard mining and batch statistics. After three steps the parameters are equal to 1e-5.
    Running statistics are those of the first process. Larger learning rates would amplify rounding errors. The first
    process is this one, and both have the environment that torchrun gives.
    """
    config = dataclasses.replace(config, batch_size=16, num_val=0, lr=1e-4, base_lr=1e-4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SECOND_PROCESS.format(path=sys.path, config=config.to_dict())]
    environment = {**os.environ, **shared, "RANK": "1", "LOCAL_RANK": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as second:
        assert second.stdout is not None
        assert second.stderr is not None
        assert second.stdout.readline() == "ready\n", second.stderr.read()
        with monkeypatch.context() as patched:
            for name, value in {**shared, "RANK": "0", "LOCAL_RANK": "0"}.items():
                patched.setenv(name, value)
            try:
                two = _train_three_steps(config, join_processes(0)).model.state_dict()
            finally:
                leave_processes()
        assert second.wait(60) == 0, second.stderr.read()
    trainer = Trainer(config, join_processes(0))
    trainer.network.train()
    before = trainer.model.base.get_parameter("conv1.weight").detach().clone()
    for images, persons in list(trainer.loader)[:3]:
        half = len(images) // 2
        trainer._optimise([(images[:half], persons[:half]), (images[half:], persons[half:])])
        trainer.step += 1
    assert (trainer.model.base.get_parameter("conv1.weight") - before).abs().max() > 1e-3  # far more than the tolerance
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(two[name], parameter.detach(), rtol=1e-4, atol=1e-5, msg=name)


def test_validation_time_is_not_counted_as_training_time(finished):
    """The first progress line after a validation must not count the validation as waiting for data."""
    config, elapsed = finished
    rows = read_metrics(Path(config.exp_dir))
    total = sum((row["data_ms"] + row["step_ms"]) * row["steps"] for row in rows if row["kind"] == "train")
    assert total / 1000 < elapsed
