"""Weight files in all supported forms, and files that try to run code."""

from __future__ import annotations

import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from rrid_edge.errors import CheckpointError, UsageError
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig
from rrid_train.weights import load_backbone, load_weights
from support import reference

TINY = ModelConfig("resnet18", 96, 32, (3, 2), 8)


@pytest.fixture(scope="module")
def model() -> RRID:
    torch.manual_seed(0)
    return RRID(TINY, 5).eval()


def _same(found, model):
    expected = model.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", ["state dict", "parallel state dict", "nested", "module", "parallel module"])
def test_every_form_of_weight_file_loads(model, tmp_path, zipped, form):
    content = {
        "state dict": lambda: model.state_dict(),
        "parallel state dict": lambda: nn.DataParallel(model).state_dict(),
        "nested": lambda: {"epoch": 3, "state_dict": model.state_dict()},
        "module": lambda: model,
        "parallel module": lambda: nn.DataParallel(model),
    }[form]()
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    _same(load_weights(tmp_path / "w.pth").tensors, model)


@pytest.fixture(scope="module")
def published_state():
    """The published network's tensors. Tests must not change them."""
    return reference.state_dict(20)


def _published_file(form, state, path):
    """Write the published network's tensors to a file, as training code does."""
    network = RRID.from_state_dict(state)
    if form == "state dict":
        torch.save(network.state_dict(), path)
    else:  # A whole pickled module, whose class cannot be imported when it is read.
        kind = type("RelationNetwork", (RRID,), {"__module__": "somebodys_models"})
        network.__class__ = kind
        module = types.ModuleType("somebodys_models")
        module.__dict__["RelationNetwork"] = kind
        sys.modules["somebodys_models"] = module
        try:
            torch.save(nn.DataParallel(network), path, _use_new_zipfile_serialization=form == "module, new format")
        finally:
            del sys.modules["somebodys_models"]


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("form", ["state dict", "module, old format", "module, new format"])
def test_published_weights_give_the_published_descriptors_from_every_form(form, published_state, tmp_path):
    _published_file(form, published_state, tmp_path / "published.pth")
    model = RRID.from_state_dict(load_weights(tmp_path / "published.pth").tensors).eval()
    assert model.num_persons == 751
    pixels = reference.images(20)
    with torch.inference_mode():
        one, two = (model(reference.normalised(view)).blocks.flatten(1) for view in (pixels, pixels[:, :, ::-1]))
    found = functional.normalize((one + two) / 2).numpy()
    np.testing.assert_allclose(found, reference.expected()["descriptor"], atol=1e-5)


class _Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class _Sneaky:
    """Tries to run code by calling a class instead of a function."""

    def __reduce__(self):
        import subprocess

        return subprocess.Popen, (["true"],)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["alone", "inside"])
def test_a_file_that_tries_to_run_code_is_refused_by_name(tmp_path, zipped, where):
    marker = tmp_path / "was_here"
    evil = _Malicious(marker)
    content = evil if where == "alone" else {"weight": torch.zeros(1), "extra": evil}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil.pth: refused, it tries to call posix.system") as refusal:
        load_weights(tmp_path / "evil.pth")
    assert not marker.exists()
    assert refusal.value.exit_code == 4


def test_calling_a_class_and_bare_pickles_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(1), "extra": _Sneaky()}, tmp_path / "sneaky.pth")
    with pytest.raises(CheckpointError, match=r"it tries to call .*Popen"):
        load_weights(tmp_path / "sneaky.pth")
    # A bare pickle with no PyTorch around it.
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(_Malicious(tmp_path / "marker")))
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "bare.pth")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04 no zip", b"\x80\x02}q\x00."])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError) as refusal:
        load_weights(tmp_path / "w.pth")
    assert "\n" not in refusal.value.message


def test_missing_files_and_files_without_tensors_are_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no tensors found"):
        load_weights(tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no such weight file"):
        load_weights(tmp_path / "none.pth")
    (tmp_path / "w.safetensors").write_bytes(b"xx")
    with pytest.raises(CheckpointError, match="not a safetensors file, or damaged"):
        load_weights(tmp_path / "w.safetensors")


def test_a_backbone_loads_from_a_file_in_torchvision_naming(model, tmp_path):
    import torchvision

    torch.manual_seed(5)
    source = torchvision.models.resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "r18.pth")
    fresh = RRID(TINY, 5)
    load_backbone(fresh, str(tmp_path / "r18.pth"))
    assert torch.equal(fresh.base.get_parameter("layer4.0.conv1.weight"), source.layer4[0].conv1.weight)
    with pytest.raises(CheckpointError, match="missing"):
        load_backbone(RRID(ModelConfig("resnet34", 96, 32, (3, 2), 8), 5), str(tmp_path / "r18.pth"))


def test_a_failed_download_suggests_a_file_or_none(monkeypatch, tmp_path, model):
    def offline(*_arguments, **_options):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UsageError, match=r"cannot be downloaded.*give a file .*or none"):
        load_backbone(model, "imagenet")
