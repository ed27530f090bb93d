"""Directions of layer scales: against networks with scaled weights, and what parity makes of a damaged layer."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.model.names import onnx_path
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import contract_file, read_checked_spec
from rrid_export.layer_scales import STEP, layer_directions
from support.commands import refused, rrid_edge
from support.pictures import noise


def _pixels(spec: ModelSpec, count: int = 2):
    return np.stack([np.asarray(noise(seed, spec.height_px, spec.width_px)) for seed in range(count)])


def _scaled(path, name: str, factor: float) -> bytes:
    """The model with the weights of one layer scaled; ``name[3]`` is the fourth of stacked matrices."""
    model = onnx.load(str(path))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name.split("[")[0])
    values = numpy_helper.to_array(tensor).copy()
    part = values[int(name.split("[")[1].rstrip("]"))] if "[" in name else values
    part *= np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


def test_directions_are_those_of_scaled_weights(tiny_export):
    path = tiny_export / "rrid.onnx"
    pixels = _pixels(read_checked_spec(path))
    exact = MemorySession(path.read_bytes()).run(pixels)
    names, directions = layer_directions(path, pixels)
    assert len(set(names)) == len(names) > 40
    for name in (names[0], names[len(names) // 3], names[-1]):
        slow = (MemorySession(_scaled(path, name, 1 + STEP)).run(pixels) - exact) / STEP
        np.testing.assert_allclose(directions[names.index(name)], slow, atol=2e-4)
    some, values = layer_directions(path, pixels, {names[4], names[-1]})
    assert some == (names[4], names[-1])
    np.testing.assert_array_equal(values, directions[[4, -1]])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parity_names_the_layer_that_is_off_by_2_percent(tiny_export, tmp_path, monkeypatch, precision):
    monkeypatch.setattr("rrid_edge.parity.layers.FIRST_IMAGES", 2)
    monkeypatch.setattr("rrid_edge.parity.layers.MORE_IMAGES", 4)
    original = tiny_export / "rrid.onnx"
    spec = read_checked_spec(original)
    name = [node.input[1] for node in onnx.load(str(original)).graph.node if node.op_type == "Conv"][5]
    damaged = tmp_path / onnx_path(tmp_path, precision).name
    damaged.write_bytes(contract_file(_scaled(original, name, 1.02), spec.with_precision(precision)))
    shutil.copy(tiny_export / "rrid.goldens.npz", tmp_path)
    goldens = ("--reference", tmp_path / "rrid.goldens.npz")
    outcome = rrid_edge("parity", damaged, *goldens, "--runtime", "onnxruntime", "--output", tmp_path / "p.json")
    refused(outcome, 1, f"the scale of layer {name} is off by +", "do not deploy")
    report = json.loads((tmp_path / "p.json").read_text())
    assert report["verdict"] == "failed"
    assert report["layers"][0]["layer"] == name
    assert report["layers"][0]["error"] == pytest.approx(0.02, abs=0.003)
