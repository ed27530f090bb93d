"""Adopted networks against slow NumPy, their fingerprints, and what is written beside them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rrid_edge.engines import open_engine
from rrid_edge.errors import CheckFailedError, UsageError
from rrid_edge.model.onnx_header import read_model_header, read_spec
from rrid_edge.model.preprocessing import Preprocessing
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import check_weights
from rrid_edge.parity.goldens import load_goldens
from rrid_export.adopt import compose, onnx_work
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from support.commands import refused, rrid_edge
from support.foreign import HEIGHT_PX, VALUES, WIDTH_PX, ForeignFile
from support.onnx_models import save_tiny_model
from support.pictures import save_crops

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TAO: dict[str, Any] = {"scale": 1.0, "mean": (123.675, 116.28, 103.53), "std": (57.63, 57.63, 57.63)}
PLAIN = Choices(color="rgb", scale=255.0, mean=MEAN, std=STD)


def _expected(file, choices, images):
    """Descriptors by the published formula, in float64."""
    pixels = images.astype(np.float64)
    if choices.color == "bgr":
        pixels = pixels[..., [2, 1, 0]]
    fed = np.stack(
        [(pixels[..., place] / choices.scale - choices.mean[place]) / choices.std[place] for place in range(3)], axis=1
    )
    features = file.forward(fed)
    if choices.flip:
        features = (features + file.forward(fed[..., ::-1])) / 2
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("file", "choices"),
    [
        (ForeignFile(), PLAIN),
        (ForeignFile(), Choices(color="bgr", scale=255.0, mean=MEAN, std=STD)),
        (ForeignFile(), Choices(color="bgr", scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))),
        (ForeignFile(), Choices(color="rgb", **TAO)),
        (ForeignFile(layout="nhwc"), PLAIN),
        (ForeignFile(layout="nhwc", unit=True), Choices(color="bgr", **TAO, normalise="none")),
        (ForeignFile(batch=1), PLAIN),
        (ForeignFile(batch=4, unit=True), Choices(color="bgr", scale=255.0, mean=MEAN, std=STD, normalise="none")),
        (ForeignFile(opset=9), Choices(color="rgb", scale=255.0, mean=(0, 0, 0), std=(1, 1, 1), flip=True)),
        (ForeignFile(opset=17, unit=True), Choices(color="bgr", **TAO, normalise="none", flip=True)),
        (ForeignFile(layout="nhwc", batch=1, opset=11), Choices(color="rgb", **TAO, flip=True)),
        (ForeignFile(opset=18, unit=True), Choices(color="bgr", **TAO, normalise="none")),
        (ForeignFile(depthwise=True, opset=15), PLAIN),
    ],
    ids=lambda value: repr(value) if isinstance(value, ForeignFile) else "",
)
def test_descriptors_are_those_of_the_formula(file, choices, tmp_path):
    source = file.write(tmp_path / "net.onnx")
    result = adopt_network(read_foreign(source), tmp_path / "models", AdoptSettings(choices))
    images = np.random.default_rng(1).integers(0, 256, (8, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    expected = _expected(file, choices, images)
    for runtime in ("onnxruntime", "openvino"):
        with open_engine(result.model, runtime, precision="fp32" if runtime == "openvino" else None) as engine:
            for start, stop in ((0, 1), (1, 3), (3, 8)):
                found = engine.run(images[start:stop])
                assert np.sum(found * expected[start:stop], axis=1).min() >= 0.99999
                assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_what_is_written(tmp_path):
    source = ForeignFile().write(tmp_path / "osnet.x1.onnx")
    result = adopt_network(read_foreign(source), tmp_path / "models", AdoptSettings(PLAIN, name="people"))
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "people.goldens.npz", "people.onnx", "people.onnx.parity.json", "people.onnx.parity.png",
    ]  # fmt: skip
    spec = read_spec(result.model)
    assert (spec.family, spec.blocks, spec.dimension, spec.stripes) == ("adopted", ("descriptor",), VALUES, ())
    assert (spec.backbone, spec.origin, spec.precision, spec.flip) == ("people", "osnet.x1.onnx", "fp32", False)
    assert spec.preprocessing == Preprocessing("rgb", 255, MEAN, STD, "nchw", "l2", "pixels", "features")
    assert check_weights(result.model) is not None
    header = read_model_header(result.model)
    assert header.opset == 17
    assert header.metadata["rrid.family"] == "adopted"
    assert header.metadata["rrid.format"] == "2"
    goldens = load_goldens(result.goldens)
    assert goldens.fingerprint == spec.fingerprint
    report = json.loads(result.report.read_text())
    assert report["verdict"] == "passed"
    assert "float64 preprocessing" in report["reference"]
    assert rrid_edge("parity", result.model).code == 0


def test_an_adopted_file_names_nobodys_paths(tmp_path):
    model = ForeignFile(opset=18, unit=True).model()
    for node in model.graph.node:
        node.doc_string = "/somebody/net.py"
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/somebody/net.py")
    onnx.save_model(model, str(tmp_path / "net.onnx"))
    result = adopt_network(read_foreign(tmp_path / "net.onnx"), tmp_path / "models", AdoptSettings(PLAIN))
    assert read_model_header(result.model).opset == 17
    assert b"somebody" not in result.model.read_bytes()


def test_half_networks_are_adopted_as_such(tmp_path):
    source = ForeignFile(half=True).write(tmp_path / "net.onnx")
    result = adopt_network(read_foreign(source), tmp_path, AdoptSettings(PLAIN, name="half"))
    assert result.model.name == "half.fp16.onnx"
    assert read_spec(result.model).precision == "fp16"


def _fingerprint(model, choices, folder) -> str:
    path = folder / "net.onnx"
    onnx.save_model(model, str(path))
    return adopt_network(read_foreign(path), folder / "out", AdoptSettings(choices, name="net")).spec.fingerprint


def test_the_fingerprint_follows_weights_and_facts_and_no_names(tmp_path):
    file = ForeignFile()
    plain = _fingerprint(file.model(), PLAIN, tmp_path)
    renamed = onnx.compose.add_prefix(file.model(), "other/")
    renamed.doc_string, renamed.producer_name = "a copy", "somebody"
    renamed.graph.initializer.reverse()
    assert _fingerprint(renamed, PLAIN, tmp_path) == plain
    shuffled = file.model()
    nodes = list(shuffled.graph.node)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(reversed(nodes))
    assert _fingerprint(shuffled, PLAIN, tmp_path) == plain
    others = [Choices(**{**PLAIN.__dict__, **change}) for change in (
        {"mean": (0.485, 0.456, 0.4061)}, {"std": (0.229, 0.224, 0.226)}, {"scale": 254.0}, {"color": "bgr"},
        {"flip": True},
    )]  # fmt: skip
    found = [_fingerprint(file.model(), other, tmp_path) for other in others]
    changed = file.model()
    values = numpy_helper.to_array(changed.graph.initializer[0]).copy()
    values.flat[0] += 1e-3
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, changed.graph.initializer[0].name))
    found.append(_fingerprint(changed, PLAIN, tmp_path))
    pooled = file.model()
    next(node for node in pooled.graph.node if node.op_type == "GlobalAveragePool").op_type = "GlobalMaxPool"
    found.append(_fingerprint(pooled, PLAIN, tmp_path))
    assert len({plain, *found}) == 8


def test_an_output_is_chosen_among_several(tmp_path):
    file = ForeignFile()
    model = file.model()
    model.graph.node.append(helper.make_node("Relu", ["features"], ["logits"]))
    model.graph.output.append(helper.make_tensor_value_info("logits", 1, ["N", VALUES]))
    path = tmp_path / "net.onnx"
    onnx.save_model(model, str(path))
    outcome = rrid_edge("adopt", path, "-o", tmp_path / "out", "--preset", "torchreid")
    refused(outcome, 2, "2 outputs may be the descriptors (features, logits)", "--output")
    outcome = rrid_edge("adopt", path, "-o", tmp_path / "out", "--preset", "torchreid", "--output", "features")
    assert outcome.code == 0, outcome.err
    kept = onnx.load_model(str(tmp_path / "out" / "net.onnx")).graph
    assert "logits" not in str(kept)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    source = ForeignFile().write(tmp_path / "net.onnx")
    right = compose.composed

    def wrong(model, facts, dimension):
        made = right(model, facts, dimension)
        scale = next(item for item in made.graph.initializer if item.name == "before/scale")
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.3), scale.name))
        return made

    monkeypatch.setattr(onnx_work, "composed", wrong)
    with pytest.raises(CheckFailedError, match="differs from the original"):
        adopt_network(read_foreign(source), tmp_path / "models", AdoptSettings(PLAIN))
    assert not (tmp_path / "models" / "net.onnx").exists()


def test_crops_make_the_goldens(tmp_path):
    source = ForeignFile().write(tmp_path / "net.onnx")
    save_crops(tmp_path / "crops", 6)
    outcome = rrid_edge("adopt", source, "-o", tmp_path / "out", "--preset", "torchreid", "--crops", tmp_path / "crops")
    assert outcome.code == 0, outcome.err
    assert "drawn" not in outcome.out


def test_names_that_would_mean_something_else_are_refused(tmp_path):
    source = ForeignFile().write(tmp_path / "net.onnx")
    for name in ("net.fp16", "net.nchw", "../net", ".net", "a/b", "net.cpu.int8", "a\nb"):
        with pytest.raises(UsageError, match="does not work: expected a plain file name"):
            adopt_network(read_foreign(source), tmp_path / "models", AdoptSettings(PLAIN, name=name))


def test_rrid_files_without_a_family_still_open():
    from rrid_edge.engines.fake import fake_spec

    metadata = fake_spec().to_metadata()
    del metadata["rrid.family"]
    assert ModelSpec.from_metadata(metadata, where="x") == fake_spec()


def test_nothing_but_an_adopted_network_is_replaced(tmp_path):
    source = ForeignFile().write(tmp_path / "net.onnx")
    content = source.read_bytes()
    outcome = rrid_edge("adopt", source, "-o", tmp_path, "--preset", "torchreid")
    refused(
        outcome, 2, "net.onnx: this is the original", "choose another name or folder (option --name, option --folder)"
    )
    (tmp_path / "link.onnx").symlink_to(source)
    refused(rrid_edge("adopt", source, "-o", tmp_path, "--name", "link", "--preset", "torchreid"), 2, "the original")
    save_tiny_model(tmp_path / "rrid.onnx")
    (tmp_path / "words.onnx").write_text("words")
    for name in ("rrid", "words"):
        outcome = rrid_edge("adopt", source, "-o", tmp_path, "--name", name, "--preset", "torchreid")
        refused(outcome, 2, f"{name}.onnx: this file is no adopted network, and would be replaced")
    assert source.read_bytes() == content
    for preset in ("torchreid", "tao-reid"):
        options = ("--name", "new", "--preset", preset)
        assert rrid_edge("adopt", source, "-o", tmp_path, *options).code == 0
    preprocessing = read_spec(tmp_path / "new.onnx").preprocessing
    assert preprocessing is not None
    assert preprocessing.scale == 1
