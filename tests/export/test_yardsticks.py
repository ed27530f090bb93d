"""The benchmark's baselines give the descriptors of the network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rrid_edge.parity.agreement import row_cosines
from rrid_export import torch_engine
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine
from rrid_export.yardsticks import CompiledTorchEngine, PublishedEngine
from rrid_train.model import RRID
from rrid_train.reference import describe
from rrid_train.settings import ModelConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 192, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    network = RRID(ModelConfig("resnet18", 192, 64, block_width=16), 5).eval()
    return SourceNetwork(network, Path("random"), "", "none")


@pytest.mark.parametrize("allowed", [True, False])
def test_the_reference_multiplies_in_float32_whatever_the_process_allows(source, monkeypatch, allowed):
    """PyTorch lets GPUs round float32 convolutions to TF32 by default."""
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    during = []

    def watched(*arguments, **options):
        during.append([place.allow_tf32 for place in places])
        return describe(*arguments, **options)

    monkeypatch.setattr(torch_engine, "describe", watched)
    try:
        for place in places:
            place.allow_tf32 = allowed
        with TorchEngine(source) as reference:
            reference.run(IMAGES)
        assert during == [[False, False]]
        assert [place.allow_tf32 for place in places] == [allowed, allowed]
    finally:
        for place, one in zip(places, before, strict=True):
            place.allow_tf32 = one


@pytest.mark.parametrize("flip", [True, False])
def test_the_published_loop_gives_the_descriptors_of_the_reference(source, flip):
    with TorchEngine(source, flip=flip) as reference, PublishedEngine(source, flip=flip) as published:
        np.testing.assert_allclose(published.run(IMAGES), reference.run(IMAGES), atol=1e-6)


def test_compiled_pytorch_computes_in_bfloat16_and_channels_last(source, monkeypatch):
    """Only the compiler's input is tested: compiling takes half a minute and is PyTorch's part."""
    given = []

    def compile_nothing(branch, **_):
        given.append(branch)
        return branch

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with TorchEngine(source) as reference, CompiledTorchEngine(source) as compiled, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert row_cosines(compiled.run(IMAGES), reference.run(IMAGES)).min() > 0.999
    assert compiled.arithmetic == "bf16"
    weights = [parameter for parameter in given[0].backbone.parameters() if parameter.ndim == 4]
    assert all(weight.dtype == torch.bfloat16 for weight in weights)
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
