"""Tests of the split for OpenVINO's bfloat16: backbone and head are two models that together equal the network."""

from __future__ import annotations

import numpy as np
import onnx
import openvino
import pytest

from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.engines.openvino.parts import backbone_and_head
from support.networks import TINY
from support.onnx_models import tiny_model


def read(content: bytes):
    return openvino_core().read_model(content)


def run(models, images):
    """Run one part after another, all in float32."""
    values = images
    for model in models:
        compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        values = np.array(compiled.create_infer_request().infer({0: values})[0])
    return values


def kinds(model):
    return [op.get_type_name() for op in model.get_ordered_ops()]


@pytest.fixture(scope="module", params=["rrid.onnx", "rrid.fp16.onnx"])
def content(request, narrow_export):
    return (narrow_export / request.param).read_bytes()


def test_both_parts_together_are_the_network(content):
    backbone, head = backbone_and_head(openvino, read(content))
    images = np.random.default_rng(0).integers(0, 256, (3, TINY.height_px, TINY.width_px, 3), dtype=np.uint8)
    np.testing.assert_allclose(run([backbone, head], images), run([read(content)], images), atol=1e-4)
    assert "MatMul" not in kinds(backbone)
    assert kinds(head).count("MatMul") == 3
    assert "Convolution" not in kinds(head)


def test_what_cannot_be_divided_is_left_whole(content):
    assert len(backbone_and_head(openvino, read(tiny_model().SerializeToString()))) == 1  # no max pooling
    shortcut = onnx.load_from_string(content)
    *before, last = shortcut.graph.node
    assert last.op_type == "Div"
    last.input[1] = "brightest"  # the end of the network reads the images too
    make = onnx.helper.make_node
    del shortcut.graph.node[:]
    shortcut.graph.node.extend(
        [
            *before,
            make("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
            make("ReduceMax", ["pixels"], ["largest"], axes=[1, 2, 3], keepdims=1),
            make("Flatten", ["largest"], ["brightest"], axis=1),
            last,
        ]
    )
    (whole,) = backbone_and_head(openvino, read(shortcut.SerializeToString()))
    images = np.random.default_rng(0).integers(1, 256, (2, TINY.height_px, TINY.width_px, 3), dtype=np.uint8)
    np.testing.assert_array_equal(run([whole], images), run([read(shortcut.SerializeToString())], images))
