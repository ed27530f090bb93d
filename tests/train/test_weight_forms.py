"""Weight files as training programs write them: every form gives the same tensors and says what was taken off."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import pathlib
import pickle
import random
import types
import uuid

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rrid_edge.cli.steps import open_network
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import CheckpointError, UsageError
from rrid_export.source import load_source
from rrid_train.checkpoint import Checkpoint, is_checkpoint, save_checkpoint
from rrid_train.fitting import load_exactly
from rrid_train.model import RRID
from rrid_train.weight_files.choosing import choose_weights
from rrid_train.weight_files.opening import open_weights
from rrid_train.weights import load_backbone, load_weights
from support.commands import refused, rrid_edge
from support.networks import TINY, tiny_network
from support.weight_containers import called, zip_of
from support.weight_tricks import SHELL

S = {
    "base.conv1.weight": torch.arange(6.0).reshape(2, 3) / 7,
    "base.layer1.0.conv1.weight": torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2),
    "base.bn1.running_var": torch.tensor([0.5, 2.0]),
    "base.bn1.num_batches_tracked": torch.tensor(7),
    "fc_local_3_list.0.weight": torch.eye(3),
}
"""A network in miniature: what is tested is the file's form, and the anchor is in it."""
ZEROS = {name: torch.zeros_like(tensor) for name, tensor in S.items()}


def _with(prefix, state=S):
    return {prefix + name: tensor for name, tensor in state.items()}


def _as(dtype):
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in S.items()}


class _Ema:
    """An object that holds averaged weights, as many training programs pickle it."""

    def __init__(self):
        self.decay, self.shadow = 0.9, dict(S)


class _Settings(dict):
    """A dictionary of another class, with attributes."""


def _settings():
    made = _Settings(lr=0.1)
    made.__dict__["path"] = "x"
    return made


def _swapped(values):
    return values.astype(values.dtype.newbyteorder(">"))


FORMS = {
    "plain": (S, ()),
    "ordered": (collections.OrderedDict(S), ()),
    "data parallel": (_with("module."), ("prefix module. taken off",)),
    "compiled": (_with("_orig_mod."), ("prefix _orig_mod. taken off",)),
    "parallel of compiled": (_with("module._orig_mod."), ("prefix module._orig_mod. taken off",)),
    "compiled of parallel": (_with("_orig_mod.module."), ("prefix _orig_mod.module. taken off",)),
    "compiled inside": (
        {name.replace("base.", "base._orig_mod."): tensor for name, tensor in S.items()},
        ("inner wrapper(s) _orig_mod taken off",),
    ),
    "three wrappers": (_with("model.module.net."), ("prefix model.module.net. taken off",)),
    "state_dict": ({"state_dict": S, "epoch": 3}, ("state_dict taken off",)),
    "model": ({"model": _with("module."), "epoch": 3}, ("model, prefix module. taken off",)),
    "net": ({"net": S}, ("net taken off",)),
    "network": ({"network": S}, ("network taken off",)),
    "model_state_dict": ({"model_state_dict": S}, ("model_state_dict taken off",)),
    "unusual key": ({"reid": {"weights": S}}, ("reid > weights taken off",)),
    "a list": ([S, {"epoch": 3}], ("[0] taken off",)),
    "lightning": (
        {"epoch": 3, "state_dict": _with("model.") | {"loss.centers": torch.zeros(2, 2)}, "hparams": _settings()},
        ("state_dict, prefix model. taken off", "1 other tensor(s) left out (first: 'loss.centers')"),
    ),
    "torchreid": (
        {"state_dict": S, "rank1": np.float64(0.91), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        ("state_dict taken off",),
    ),
    "numbers and states of NumPy": (
        {"model": S, "rng": np.random.RandomState(1).get_state(), "generator": np.random.default_rng(0),
         "old": np.random.RandomState(0), "best": np.float32(0.5), "count": np.int64(3), "flag": np.bool_(True),
         "names": np.array(["a", "b"]),
         "objects": np.array([1, "a"], object), "python": random.getstate()},
        ("model taken off",),
    ),
    "plain values": (
        {"model": S, "args": argparse.Namespace(lr=0.1, data=pathlib.PosixPath("/data")), "id": uuid.UUID(int=3),
         "when": datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc), "for": datetime.timedelta(1),
         "seen": {1, 2}, "fixed": frozenset({1}), "log": collections.deque([1], 3), "bytes": b"x",
         "array": bytearray(b"x"),
         "counts": collections.Counter("aab"), "z": 1 + 2j, "device": torch.device("cpu"), "dtype": torch.float16,
         "size": torch.Size([1, 2]), "pair": (1, None, 2.5), "big": 1 << 80, "space": types.SimpleNamespace(a=1)},
        ("model taken off",),
    ),
    "defaultdict": (
        {"model": S, "optimizer": {"state": collections.defaultdict(dict, {0: {"step": torch.tensor(3.0)}})}},
        ("model taken off",),
    ),
    "a tensor beside": ({"state_dict": S, "step": torch.tensor(100), "m": torch.rand(3)}, ("state_dict taken off",)),
    "swa": (
        {"n_averaged": torch.tensor(5), **_with("module.")},
        ("prefix module. taken off", "averaged weights", "1 other tensor(s) left out (first: 'n_averaged')"),
    ),
    "averages beside raw ones in one dictionary": (
        _with("model.", ZEROS) | _with("swa.module.") | {"swa.n_averaged": torch.tensor(2)},
        (
            "prefix swa.module. taken, the averaged weights, and not prefix model., the raw ones",
            "1 other tensor(s) left out (first: 'swa.n_averaged')",
        ),
    ),
    "two usual keys": ({"state_dict": S, "model": ZEROS}, ("state_dict taken off", "left model")),
    "ema": (
        {"state_dict": ZEROS, "state_dict_ema": S},
        ("state_dict_ema taken, the averaged weights, and not state_dict, the raw ones",),
    ),
    "ema in one dictionary": (
        {"state_dict": _with("model.", ZEROS) | _with("ema_model.module.")},
        (
            "state_dict, prefix ema_model.module. taken, the averaged weights, and not state_dict, prefix model., the "
            "raw ones",
        ),
    ),
    "ema beside the names themselves": (
        ZEROS | _with("ema."),
        ("prefix ema. taken, the averaged weights, and not the top level, the raw ones",),
    ),
    "an object of averages": (
        {"model": ZEROS, "helper": _Ema()},
        ("helper > shadow taken, the averaged weights, and not model, the raw ones",),
    ),
    "only averages": ({"model": None, "ema": S}, ("ema taken off", "averaged weights")),
    "float16": (_as(torch.float16), ("float16 converted to float32",)),
    "bfloat16": (_as(torch.bfloat16), ("bfloat16 converted to float32",)),
    "float64": (_as(torch.float64), ("float64 converted to float32",)),
    "parameters": ({n: nn.Parameter(t) if t.is_floating_point() else t for n, t in S.items()}, ()),
    "strided": ({n: t.transpose(0, -1).contiguous().transpose(0, -1) if t.ndim else t for n, t in S.items()}, ()),
    "one storage": ({n: torch.cat([t.flatten(), t.flatten()])[t.numel() :].view(t.shape) for n, t in S.items()}, ()),
    "arrays": ({"model": {n: t.numpy() for n, t in S.items()}, "author": "x"}, ("model taken off",)),
    "arrays of the other byte order": ({n: _swapped(t.numpy()) for n, t in S.items()}, ()),
    "arrays in columns": ({n: np.array(t.numpy(), order="F") for n, t in S.items()}, ()),
}  # fmt: skip


def _expected(form):
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(form, torch.float32)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in _as(dtype).items()}


def _write(content, container, path):
    if container == "zip":
        torch.save(content, path)
    elif container == "older":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif container == "protocol 4":
        torch.save(content, path, pickle_protocol=4)
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(container[-1])))


@pytest.mark.parametrize("container", ["zip", "older", "protocol 4", "pickle 0", "pickle 2", "pickle 5"])
def test_every_form_in_every_container_gives_equal_tensors_and_says_what_it_took_off(tmp_path, container):
    for form, (content, notes) in FORMS.items():
        _write(content, container, tmp_path / "w.ckpt")
        found = load_weights(tmp_path / "w.ckpt")
        expected = _expected(form)
        assert set(found.tensors) == set(expected), form
        for name, tensor in expected.items():
            assert found.tensors[name].dtype == tensor.dtype, (form, name)
            assert torch.equal(found.tensors[name], tensor), (form, name)
        assert found.notes == notes, form


def test_python_2_wrote_arrays_as_texts(tmp_path):
    """The bytes of an array were a text then, which protocol 2 keeps in latin-1."""
    content = pickle.dumps({name: tensor.numpy() for name, tensor in S.items()}, protocol=2)
    assert b"_codecs" in content
    (tmp_path / "w.pkl").write_bytes(content)
    assert torch.equal(load_weights(tmp_path / "w.pkl").tensors["base.conv1.weight"], S["base.conv1.weight"])


def test_the_choice_between_averaged_and_raw_weights(tmp_path):
    torch.save({"state_dict": S, "state_dict_ema": ZEROS}, tmp_path / "both.pth")
    raw = load_weights(tmp_path / "both.pth", "raw")
    assert torch.equal(raw.tensors["base.conv1.weight"], S["base.conv1.weight"])
    assert raw.notes == ("state_dict taken, the raw weights, and not state_dict_ema, the averaged ones",)
    assert not load_weights(tmp_path / "both.pth", "ema").tensors["base.conv1.weight"].any()
    with pytest.raises(UsageError, match="weights 'best' are unknown: expected one of ema, raw"):
        load_weights(tmp_path / "both.pth", "best")
    torch.save(S, tmp_path / "one.pth")
    assert load_weights(tmp_path / "one.pth", "raw").notes == ()
    with pytest.raises(UsageError, match="it holds only raw weights, but ema was asked for") as refusal:
        load_weights(tmp_path / "one.pth", "ema")
    assert refusal.value.parameters == ("weights",)
    torch.save({"n_averaged": torch.tensor(5), **_with("module.")}, tmp_path / "swa.pth")
    with pytest.raises(UsageError, match="it holds only averaged weights, but raw was asked for"):
        load_weights(tmp_path / "swa.pth", "raw")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": S, "b": ZEROS}, r"it holds several networks \(a; b\)"),
        ({"x": _with("student.") | _with("teacher.")}, r"several networks \(x, prefix student.; x, prefix teacher.\)"),
        (S | _with("module."), "is in it with and without a wrapper's prefix"),
        ({"epoch": 3}, "no tensors found in it"),
        (_as(torch.float32) | {"base.conv1.weight": torch.eye(2).to_sparse()}, "is no plain tensor"),
    ],
    ids=["two dictionaries", "two prefixes", "twice", "no tensors", "sparse"],
)
def test_what_cannot_be_decided_is_refused_by_name(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["st.ckpt", "upper.SAFETENSORS", "w.pth", "plain"])
def test_the_content_decides_and_not_the_name(tmp_path, name):
    save_file(_with("module."), tmp_path / name)
    assert set(load_weights(tmp_path / name).tensors) == set(S)
    assert not is_checkpoint(tmp_path / name)
    torch.save(S, tmp_path / name)
    assert set(load_weights(tmp_path / name).tensors) == set(S)
    save_file(S, tmp_path / name, metadata={"rrid.checkpoint": "{}"})
    assert is_checkpoint(tmp_path / name)


def test_a_checkpoint_is_recognised_under_another_name(tmp_path):
    network = tiny_network()
    save_checkpoint(tmp_path / "own.pth", network, Checkpoint(TINY, network.num_persons, "drawn", 1, {}))
    assert load_source(tmp_path / "own.pth").training_data == "drawn"
    refused(rrid_edge("export", tmp_path / "own.pth", "--weights", "ema"), 2, "only raw weights", "--weights")


def test_archives_without_sums_load_and_changed_bytes_are_noticed(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(S, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_weights(tmp_path / "w.pth").tensors["fc_local_3_list.0.weight"], torch.eye(3))
    torch.save(S, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    place = content.index(S["base.conv1.weight"].numpy().tobytes())
    content[place + 5] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="changed after they were written"):
        load_weights(tmp_path / "w.pth")


R = {
    "conv1.weight": torch.arange(6.0),
    "layer1.0.conv1.weight": torch.ones(2, 2),
    "layer2.0.downsample.0.weight": torch.ones(1),
}
"""A backbone in miniature, and its classifier under four names."""
BACKBONES = {
    "torchvision": (R, ()),
    "timm, nested": ({"state_dict": R, "arch": "resnet18"}, ("state_dict taken off",)),
    "backbone": (
        _with("backbone.", R) | {"head.weight": torch.zeros(3)},
        ("prefix backbone. taken off", "head.weight"),
    ),
    "base": (S | _with("base.", R), ("prefix base. taken off", "fc_local_3_list.0.weight")),
    "encoder": (_with("module.encoder.", R), ("prefix module.encoder. taken off",)),
    "visual": ({"model": _with("visual.", R), "text": {"a.b": torch.zeros(2)}}, ("model, prefix visual. taken off",)),
    "averaged": ({"state_dict": {n: t * 0 for n, t in R.items()}, "state_dict_ema": R}, ("state_dict_ema taken",)),
}


def test_backbones_of_torchvision_and_timm_are_found_under_any_name(tmp_path):
    for form, (content, words) in BACKBONES.items():
        torch.save(content, tmp_path / "b.pth")
        found = choose_weights(open_weights(tmp_path / "b.pth"), "layer1.0.conv1.weight")
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in R.items()), form
        assert len(found.notes) == len(words), form
        assert all(word in note for note, word in zip(found.notes, words, strict=True)), (form, found.notes)


def test_a_backbone_loads_without_its_classifier_whatever_that_is_called(tmp_path):
    import torchvision

    torch.manual_seed(5)
    state = torchvision.models.resnet18(weights=None).state_dict()
    model = RRID(TINY, 5)
    for classifier in ("fc.", "head.fc.", "classifier."):
        named = {name.replace("fc.", classifier): tensor for name, tensor in state.items()}
        torch.save({"model": _with("module.backbone.", named)}, tmp_path / "b.pth")
        model.base.get_parameter("conv1.weight").data.zero_()
        assert load_backbone(model, str(tmp_path / "b.pth")) == ("model, prefix module.backbone. taken off",)
        assert torch.equal(model.base.get_parameter("conv1.weight"), state["conv1.weight"])
    with pytest.raises(UsageError, match="can be chosen in a file only"):
        load_backbone(model, "imagenet", "ema")


def test_imagenet_weights_come_from_the_cache_and_run_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = []

    def download(url, path, sha256_start, *, progress):
        asked.append((url, sha256_start, progress))
        torch.save(_with("layer1.", {"0.conv1.weight": torch.zeros(1)}), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    model = RRID(TINY, 5)
    with pytest.raises(CheckpointError, match=r"resnet18-f37072fd\.pth: the tensors do not fit the network"):
        load_backbone(model, "imagenet")
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd", False)]
    monkeypatch.chdir(tmp_path)
    hostile = zip_of(b"\x80\x02" + called("os", "system", SHELL) + b".")
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(hostile)
    with pytest.raises(CheckpointError, match=r"refused, it tries to call os\.system"):
        load_backbone(model, "imagenet")
    assert len(asked) == 1
    assert not (tmp_path / "was_here").exists()


def test_tensors_that_do_not_fit_are_named():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    for change, message in (
        ({"weight": state["weight"] * torch.nan}, r"1 with NaN or infinity \(first: 'weight'"),
        ({"weight": state["weight"].char()}, r"1 of another type \(first: 'weight'"),
        ({"weight": torch.zeros(2, 2, dtype=torch.complex64)}, r"1 of another type"),
        ({"weight": torch.zeros(1)}, r"1 of another shape"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_exactly(layer, state | change, where="w.pth")


def test_commands_say_what_they_took_and_refuse_what_is_not_there(tmp_path, capsys):
    both = {"state_dict": ZEROS, "model_ema": _with("module.", tiny_network().state_dict())}
    torch.save(both, tmp_path / "both.pth")
    spec = dataclasses.replace(fake_spec(), height_px=96, width_px=32)
    with open_network(tmp_path / "both.pth", spec) as engine:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 32, 3), dtype=np.uint8)
        assert np.isfinite(engine.run(pixels)).all()
    said = capsys.readouterr().err.strip()
    assert said == "weights: model_ema, prefix module. taken, the averaged weights, and not state_dict, the raw ones"
    (tmp_path / "m.onnx").write_bytes(b"x")
    refused(rrid_edge("export", tmp_path / "m.onnx", "--weights", "ema"), 2, "in a checkpoint only")
    refused(rrid_edge("parity", tmp_path / "m.onnx", "--weights", "raw"), 2, "in a checkpoint only")
    refused(rrid_edge("bench", "--model", tmp_path / "m.onnx", "--weights", "raw"), 2, "in a checkpoint only")
