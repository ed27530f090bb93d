"""Parity of adopted networks: usual mistakes are named, and layers' scales are checked, by the network's own facts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rrid_edge.engines.onnxruntime.cpu import MemorySession, OnnxRuntimeEngine
from rrid_edge.errors import ModelFileError
from rrid_edge.model.one_view import write_one_view
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.diagnosis import diagnose
from rrid_edge.parity.goldens import load_goldens, save_goldens
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from rrid_export.layer_scales import STEP, layer_directions
from rrid_export.mistakes import mistaken_networks
from support.commands import refused, rrid_edge
from support.foreign import HEIGHT_PX, WIDTH_PX, ForeignFile
from support.pictures import noise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FAMILIES = {
    "rgb-imagenet": Choices(color="rgb", scale=255.0, mean=MEAN, std=STD),
    "bgr-own": Choices(color="bgr", scale=255.0, mean=(0.3, 0.5, 0.6), std=(0.3, 0.2, 0.25), flip=True),
    "bgr-plain": Choices(color="bgr", scale=1.0, mean=(0, 0, 0), std=(1, 1, 1)),
}
FED = {
    "missing-scaling": lambda pixels, mean, std: (pixels - mean) / std,
    "double-scaling": lambda pixels, mean, std: (pixels / 255 / 255 - mean) / std,
    "needless-scaling": lambda pixels, mean, std: (pixels / 255 - mean) / std,
    "missing-normalisation": lambda pixels, _mean, _std: pixels / 255,
    "other-normalisation": lambda pixels, _mean, _std: (pixels / 255 - 0.5) / 0.5,
    "imagenet-normalisation": lambda pixels, _mean, _std: (pixels / 255 - MEAN) / STD,
    "missing-mirror": lambda pixels, mean, std: (pixels / 255 - mean) / std,
}
APPLY = {
    "rgb-imagenet": ("missing-scaling", "double-scaling", "missing-normalisation", "other-normalisation"),
    "bgr-own": (*list(FED)[:2], *list(FED)[3:]),
    "bgr-plain": ("needless-scaling", "other-normalisation", "imagenet-normalisation"),
}


def _images(count: int = 6) -> np.ndarray:
    return np.stack([np.asarray(noise(seed, HEIGHT_PX, WIDTH_PX)) for seed in range(count)])


@pytest.fixture(scope="module", params=FAMILIES)
def adopted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adopted")
    source = ForeignFile().write(folder / "net.onnx")
    settings = AdoptSettings(FAMILIES[request.param])
    return request.param, adopt_network(read_foreign(source), folder / "models", settings).model


def _wrong(name: str, mistake: str, images: np.ndarray) -> np.ndarray:
    """Descriptors with a mistake, in float64."""
    choices = FAMILIES[name]
    pixels = images[..., ::-1] if choices.color == "bgr" else images
    if mistake == "imagenet-normalisation":  # its values belong to colours
        fed = FED[mistake](images.astype(np.float64), None, None)
        fed = fed[..., ::-1] if choices.color == "bgr" else fed
    else:
        fed = FED[mistake](pixels.astype(np.float64), np.array(choices.mean), np.array(choices.std))
    planes = fed.transpose(0, 3, 1, 2)
    network = ForeignFile()
    features = network.forward(planes)
    if choices.flip and mistake != "missing-mirror":
        features = features + network.forward(planes[..., ::-1])
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def test_mistakes_in_its_own_preprocessing_are_named(adopted):
    name, path = adopted
    images, networks = _images(), mistaken_networks(path)
    assert set(networks) == set(APPLY[name])  # what the network does anyway is no mistake
    with OnnxRuntimeEngine(path) as engine:
        for mistake in APPLY[name]:
            found = diagnose(engine, images, _wrong(name, mistake, images), networks=networks)
            assert [cause.mistake for cause in found.causes] == [mistake]
            assert not {finding.mistake for finding in found.tried} & {"shuffled-blocks", "interleaved-blocks"}


@pytest.mark.parametrize("adopted", ["bgr-own"], indirect=True)
def test_a_failed_check_names_the_cause_and_what_was_not_tried(adopted, tmp_path):
    name, path = adopted
    goldens = load_goldens(path.with_name("net.goldens.npz"))
    wrong = replace(goldens, descriptors=_wrong(name, "imagenet-normalisation", goldens.images))
    save_goldens(tmp_path / "wrong.goldens.npz", wrong)
    reference, report = tmp_path / "wrong.goldens.npz", tmp_path / "report.json"
    outcome = rrid_edge("parity", path, "--reference", reference, "--runtime", "onnxruntime", "--output", report)
    refused(outcome, 1, "imagenet-normalisation: ImageNet's mean and standard deviation instead of the network's own")
    assert "the order of blocks (an adopted network has one)" in outcome.err


def test_the_benchmark_takes_its_mirrored_view_out(adopted, tmp_path):
    name, path = adopted
    if not FAMILIES[name].flip:
        with pytest.raises(ModelFileError, match="it has one view already"):
            write_one_view(path, tmp_path / "one.onnx")
        return
    spec = write_one_view(path, tmp_path / "one.onnx")
    assert (spec.flip, spec.family, spec.fingerprint != read_spec(path).fingerprint) == (False, "adopted", True)
    images = _images()
    with OnnxRuntimeEngine(tmp_path / "one.onnx") as engine:
        assert np.abs(engine.run(images) - _wrong(name, "missing-mirror", images)).max() < 1e-5


def test_scales_of_layers_are_checked(adopted):
    _, path = adopted
    images = _images(2)
    names, directions = layer_directions(path, images)
    assert len(names) == 3
    for layer, direction in zip(names, directions, strict=True):
        _compare(path, layer, direction, images)


def _compare(path, layer: str, direction: np.ndarray, images: np.ndarray) -> None:
    """Assert that a direction is that of a file with scaled weights of the layer."""
    model = onnx.load(str(path))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == layer)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1 + STEP), tensor.name))
    exact = MemorySession(path.read_bytes()).run(images)
    expected = (MemorySession(model.SerializeToString()).run(images) - exact) / STEP
    assert np.abs(expected).max() > 3e-4
    assert np.abs(direction - expected).max() < 3e-5


def test_layers_that_share_weights_and_convolutions_of_rows_have_one_scale(tmp_path):
    """A row convolution has weights of three axes, as stacked matrices have; both its uses are scaled together."""
    node = onnx.helper.make_node
    model = ForeignFile().model()
    last = model.graph.node[-1]
    last.output[0] = "flat"
    model.graph.node.extend(
        [
            node("Unsqueeze", ["flat", "one"], ["row"]),
            node("Conv", ["row", "shared"], ["first"], kernel_shape=[3], pads=[1, 1]),
            node("Conv", ["first", "shared"], ["second"], kernel_shape=[3], pads=[1, 1]),
            node("Add", ["first", "second"], ["sum"]),
            node("Squeeze", ["sum", "one"], ["features"]),
        ]
    )
    shared = np.array([[[0.2, 0.9, -0.3]]], np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(shared, "shared"), numpy_helper.from_array(np.array([1], np.int64), "one")]
    )
    onnx.save_model(model, str(tmp_path / "net.onnx"))
    settings = AdoptSettings(FAMILIES["rgb-imagenet"])
    path = adopt_network(read_foreign(tmp_path / "net.onnx"), tmp_path / "models", settings).model
    names, directions = layer_directions(path, _images(2), ("network/shared",))
    assert names == ("network/shared",)
    _compare(path, "network/shared", directions[0], _images(2))
