"""RRID: against values of the published network, and against the paper's formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from rrid_edge.errors import CheckpointError, UsageError
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig
from support import reference

TINY = ModelConfig(backbone="resnet18", height_px=96, width_px=32, stripes=(3, 2), block_width=8)


@pytest.fixture(scope="module")
def published() -> RRID:
    return RRID.from_state_dict(reference.state_dict(20)).eval()


def test_tensors_carry_the_published_names_shapes_and_order(published):
    expected = json.loads((reference.DATA / "rrid_state_dict.json").read_text())
    found = [(name, list(tensor.shape)) for name, tensor in published.state_dict().items()]
    assert found == list(expected.items())


def test_blocks_and_logits_equal_the_published_network(published):
    expected = reference.expected()
    with torch.inference_mode():
        output = published(reference.normalised(reference.images(20)))
    raw = output.blocks.flatten(1).numpy()
    assert np.abs(raw - expected["raw"]).max() <= 1e-4 * np.abs(expected["raw"]).max()
    names = ("logits_local_rest", "logits_local", "logits_rest", "logits_global")
    logits = np.concatenate([expected[name] for name in names])
    assert output.logits.shape == (45, 3, 751)
    np.testing.assert_allclose(output.logits[:, :, :16].numpy(), logits, atol=1e-4 * np.abs(logits).max())


def test_a_loaded_network_draws_no_random_weights_and_lacks_none():
    torch.manual_seed(0)
    trained = RRID(TINY, 7)
    stored = {name: value for name, value in trained.state_dict().items() if not name.endswith("num_batches_tracked")}
    before = torch.get_rng_state()
    loaded = RRID.from_state_dict(stored, height_px=96, width_px=32)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_sizes_are_inferred_from_the_tensors():
    model = RRID(TINY, 7)
    again = RRID.from_state_dict(model.state_dict(), height_px=96, width_px=32)
    assert again.config == TINY
    assert again.num_persons == 7


@pytest.mark.parametrize("backbone", ["resnet34", "resnet101", "resnet152"])
def test_every_backbone_is_inferred_and_has_stride_16(backbone):
    with torch.device("meta"), torch.inference_mode():  # shapes only: drawing and running 60 million weights takes long
        model = RRID(ModelConfig(backbone, 96, 32, (3, 2), 4), 2).eval()
        assert model.feature_map(torch.zeros(1, 3, 96, 32)).shape[2:] == (6, 2)
    state = {name: torch.zeros((), dtype=one.dtype).expand(one.shape) for name, one in model.state_dict().items()}
    assert RRID.from_state_dict(state, height_px=96, width_px=32).config.backbone == backbone


def _project(model: RRID, name: str, value: torch.Tensor) -> torch.Tensor:
    """1x1 convolution, batch norm and ReLU of vectors (B, C), as plain matrix operations."""
    conv, norm = model.get_submodule(f"{name}.0"), model.get_submodule(f"{name}.1")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert conv.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    linear = value @ conv.weight.flatten(1).t() + conv.bias
    return torch.relu((linear - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias)


def test_head_equals_the_formulas_of_the_paper():
    """r_i is the mean of the other stripes, and q_i = p_i' + relation(p_i', r_i'); the same for max and contrast."""
    torch.manual_seed(0)
    model = RRID(TINY, 5).eval()
    features = torch.randn(2, 512, 6, 2).relu()
    with torch.inference_mode():
        output = model.head(features)
        blocks = []
        for count in (3, 2):
            stripes = features.reshape(2, 512, count, -1).amax(3)
            for index in range(count):
                others = [stripes[:, :, other] for other in range(count) if other != index]
                rest = torch.stack(others).sum(0) / len(others)
                local = _project(model, f"local_{count}_conv_list.{index}", stripes[:, :, index])
                both = torch.cat([local, _project(model, f"rest_{count}_conv_list.{index}", rest)], 1)
                blocks.append(local + _project(model, f"relation_{count}_conv_list.{index}", both))
        for count in (3, 2):
            stripes = features.reshape(2, 512, count, -1).amax(3)
            peak = features.amax((2, 3))
            contrast = (stripes.sum(2) - peak) / (count - 1)
            local = _project(model, f"global_{count}_max_conv_list.0", peak)
            both = torch.cat([local, _project(model, f"global_{count}_rest_conv_list.0", contrast)], 1)
            blocks.append(local + _project(model, f"global_{count}_pooling_conv_list.0", both))
    np.testing.assert_allclose(output.blocks.numpy(), torch.stack(blocks, 1).numpy(), rtol=1e-4, atol=1e-4)
    assert output.logits.shape == (3 * 5 + 3 * 2, 2, 5)


def test_every_parameter_belongs_to_backbone_or_head():
    model = RRID(TINY, 5)
    together = len(list(model.backbone_parameters())) + len(list(model.head_parameters()))
    assert together == len(list(model.parameters()))


def test_wrong_sizes_are_refused_by_name():
    with pytest.raises(UsageError, match="height 256 px does not fit"):
        ModelConfig(height_px=256)
    with pytest.raises(UsageError, match="backbone 'vgg16' is unknown: expected one of resnet18"):
        ModelConfig(backbone="vgg16")
    with pytest.raises(UsageError, match="block width 0"):
        ModelConfig(block_width=0)
    with pytest.raises(UsageError, match="a network for 0 people does not work: expected at least 1"):
        RRID(TINY, 0)
    words = r"images of shape \(1, 3, 96, 48\) do not fit the network: expected \(batch, 3, 96, 32\); resize them"
    with pytest.raises(UsageError, match=words):
        RRID(TINY, 5)(torch.zeros(1, 3, 96, 48))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("local_3_conv_list.1.0.bias"), r"1 missing \(first: 'local_3_conv_list.1.0.bias'\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unknown \(first: 'extra'\)"),
        (
            lambda state: state.update({"fc_rest_2_list.0.bias": torch.zeros(9)}),
            r"1 of another shape \(first: 'fc_rest_2_list.0.bias'\)",
        ),
        (lambda state: state.pop("base.layer1.0.conv1.weight"), r"1 missing \(first: 'base.layer1"),
    ],
)
def test_missing_extra_and_misshapen_tensors_are_named(change, words):
    state = RRID(TINY, 5).state_dict()
    change(state)
    with pytest.raises(CheckpointError, match=words) as refusal:
        RRID.from_state_dict(state, height_px=96, width_px=32, where="weights.pth")
    assert refusal.value.message.startswith("weights.pth: ")
    assert refusal.value.exit_code == 4


def test_another_network_is_refused():
    with pytest.raises(CheckpointError, match="not an RRID network"):
        RRID.from_state_dict({"conv1.weight": torch.zeros(64, 3, 7, 7)})
