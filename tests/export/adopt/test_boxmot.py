"""boxmot's metadata beside an export. The first ones are those that boxmot 25.0.0 wrote, with another hash and size."""

from __future__ import annotations

import hashlib
import json

import pytest
from onnx import TensorProto, helper

from rrid_edge.model.onnx_header import read_spec
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.variants import Space
from support.commands import refused, rrid_edge
from support.foreign import HEIGHT_PX, WIDTH_PX, ForeignFile

WRITTEN = {
    "artifact_sha256": "", "batch_contract": {"dynamic": True, "sample_batch_size": 1}, "dynamic_batch": True,
    "export_contract": {
        "dynamic_batch": True, "format": "onnx", "input_shape": [None, 3, HEIGHT_PX, WIDTH_PX],
        "onnx_version": "1.20.1", "precision": "float32", "requested_opset": 17, "simplify": False,
        "torch_version": "2.15.0+cu132",
    },
    "export_fingerprint": "79cefd026d0311a59ec488d4a51d1dce567114303a4fe3f4bfcfc6900321ee50", "format": "onnx",
    "img_size": None, "input_name": "images", "input_shape": [1, 3, HEIGHT_PX, WIDTH_PX], "model_kwargs": {},
    "model_kwargs_schema_version": 1, "model_name": "osnet_x0_25", "num_classes": 1041, "opset": 18,
    "output_names": ["output0"], "precision": "float32", "preprocess": None,
    "reid_code_sha256": "ea1aa099b41402d6ca44499164faa2bf92105fd29bb537fc7bbb2bb8bca8419d", "schema_version": 1,
    "source": "osnet_x0_25_msmt17.pt",
    "source_sha256": "1d704a82a41a38aabd2d32698d6efd2cbfda6b750c0f1f4d4b14b3db51e5ebd7",
}  # fmt: skip


def _adopt(tmp_path, changes, *options):
    path = ForeignFile().write(tmp_path / "net.onnx")
    metadata = WRITTEN | {"artifact_sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | changes
    (tmp_path / "net.onnx.metadata.json").write_text(json.dumps(metadata))
    return rrid_edge("adopt", path, "-o", tmp_path / "out", "--preset", "boxmot", *options)


def test_suggestions_start_from_the_metadata_too(tmp_path):
    entry = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, "rows", "columns"])
    path = ForeignFile().write(tmp_path / "net.onnx", inputs=[entry])
    metadata = WRITTEN | {"artifact_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "net.onnx.metadata.json").write_text(json.dumps(metadata | {"input_shape": [1, 3, 384, 192]}))
    space = Space.of(read_foreign(path), Choices(preset="boxmot"), flip=None)
    assert space.sizes == ((384, 192),)
    assert [(item.mean, item.std) for item in space.scalings] == [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


@pytest.mark.parametrize("changes", [{}, {"preprocess": "resize"}, {"input_shape": None, "extra": [1]}], ids=str)
def test_metadata_that_fit_the_preset(changes, tmp_path):
    outcome = _adopt(tmp_path, changes)
    assert outcome.code == 0, outcome.err
    facts = read_spec(tmp_path / "out" / "net.onnx").preprocessing
    assert facts is not None
    assert (facts.color, facts.scale, facts.mean) == ("rgb", 255, (0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"preprocess": "resize_pad"}, 4, "boxmot pads crops for this network, and rrid-edge stretches them"),
        ({"preprocess": "crop"}, 4, "damaged metadata of boxmot (Invalid enum value 'crop' at preprocess)"),
        ({"preprocess": {"mean": [0, 0, 0]}}, 4, "damaged metadata of boxmot"),
        ({"artifact_sha256": "0" * 64}, 4, "the metadata are of another file than net.onnx"),
        ({"schema_version": 2}, 4, "metadata of boxmot of version 2, expected 1"),
        ({"schema_version": "1"}, 4, "damaged metadata of boxmot"),
        ({"input_shape": [1, 4, 24, 16]}, 4, "damaged metadata of boxmot"),
        ({"input_shape": [1, 3, 256, 128]}, 2, "size 256 x 128 px contradicts the file"),
        ({"model_name": "ViT_CLIP"}, 2, "this is a CLIP network (ViT_CLIP)"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_metadata_that_do_not(changes, code, words, tmp_path):
    refused(_adopt(tmp_path, changes), code, words)


def test_a_file_that_is_no_json(tmp_path):
    path = ForeignFile().write(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.metadata.json").write_text("{")
    refused(rrid_edge("adopt", path, "-o", tmp_path / "out", "--preset", "boxmot"), 4, "damaged metadata of boxmot")
    assert rrid_edge("adopt", path, "-o", tmp_path / "out", "--preset", "torchreid").code == 0


def test_stated_facts_serve_clip_networks(tmp_path):
    half = ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    outcome = _adopt(tmp_path, {"model_name": "clip_market1501"}, *half)
    assert outcome.code == 0, outcome.err
    facts = read_spec(tmp_path / "out" / "net.onnx").preprocessing
    assert facts is not None
    assert facts.mean == (0.5, 0.5, 0.5)
