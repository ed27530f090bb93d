"""The checkpoint's file format, which every later version has to read."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rrid_edge.errors import CheckpointError
from rrid_train.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
    save_training_state,
)
from rrid_train.config import stored_config
from rrid_train.model import RRID
from rrid_train.settings import TrainConfig
from support.networks import TINY, tiny_network


def test_the_facts_keep_the_keys_of_format_1(tmp_path):
    network = tiny_network()
    save_checkpoint(tmp_path / "c.safetensors", network, Checkpoint(TINY, network.num_persons, "drawn people", 1, {}))
    with safe_open(tmp_path / "c.safetensors", "pt") as stored:
        facts = json.loads(stored.metadata()["rrid.checkpoint"])
    assert {key: facts[key] for key in ("format", "num_identities", "training_data")} == {
        "format": 1,
        "num_identities": 5,
        "training_data": "drawn people",
    }
    assert sorted(facts) == [
        "config", "epoch", "format", "metrics", "model", "num_identities", "training_data", "version",
    ]  # fmt: skip


def test_a_file_of_version_0_1_loads(tmp_path):
    """Written key by key, as version 0.1 wrote it."""
    network = tiny_network(3)
    facts = {
        "format": 1,
        "version": "0.1.0",
        "model": {"backbone": "resnet18", "height_px": 96, "width_px": 32, "stripes": [3, 2], "block_width": 8},
        "num_identities": 5,
        "training_data": "market1501",
        "epoch": 2,
        "config": {},
        "metrics": {"map": 0.5},
    }
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, tmp_path / "old.safetensors", metadata={"rrid.checkpoint": json.dumps(facts)})
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    assert (loaded.model, loaded.num_persons, loaded.training_data, loaded.epoch) == (TINY, 5, "market1501", 2)
    model = RRID(loaded.model, loaded.num_persons)
    model.load_state_dict(loaded.state)
    images = torch.rand(1, 3, 96, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images).blocks, network(images).blocks)


def test_a_checkpoint_can_be_read_by_whom_other_new_files_can_be_read(tmp_path):
    before = os.umask(0o027)
    try:
        facts = Checkpoint(TINY, 3, "drawn", epoch=1, config={})
        save_checkpoint(tmp_path / "best.safetensors", tiny_network(), facts)
    finally:
        os.umask(before)
    assert (tmp_path / "best.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("value", [-1, 1 << 70, 1.5, True, "3", None], ids=repr)
@pytest.mark.parametrize("name", ["step", "epoch", "validated"])
def test_a_state_with_counters_that_are_none_is_refused(tmp_path, name, value):
    save_training_state(tmp_path / "last.state.pt", {"step": 3, "epoch": 1, "validated": 0, name: value})
    with pytest.raises(CheckpointError, match=rf"last\.state\.pt: the training state is damaged \({name} is "):
        load_training_state(tmp_path / "last.state.pt")


def test_a_run_without_one_of_its_settings_is_refused():
    settings = TrainConfig().to_dict()
    assert stored_config(settings, where="run/last.state.pt") == TrainConfig()
    for name in ("epochs", "lr", "seed"):
        rest = {key: value for key, value in settings.items() if key != name}
        with pytest.raises(CheckpointError, match=f"run/last.state.pt: damaged settings .the setting '{name}' is"):
            stored_config(rest, where="run/last.state.pt")
