"""The form that foreign graphs get: constants as initialisers, folded batch norms, nodes with names of their own."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from rrid_export.adopt.tidy import tidy

CHANNELS = 4


def _model(second_reader: bool):
    """Return a graph as old exporters write it, and its float32 twin's input."""
    generator = np.random.default_rng(6)
    weights = generator.normal(0, 1, (CHANNELS, 3, 3, 3)).astype(np.float32)
    norm = {name: generator.uniform(0.5, 2, CHANNELS).astype(np.float32) for name in ("gamma", "beta", "mean", "var")}
    node = helper.make_node
    nodes = [
        node("Constant", [], ["w"], value=numpy_helper.from_array(weights)),
        node("Identity", ["gamma"], ["renamed"]),
        node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c", "renamed", "beta", "mean", "var"], ["n"], epsilon=0.1),
        node("Constant", [], ["half"], value_float=0.5),
        node("Mul", ["c" if second_reader else "n", "half"], ["m"]),
        node("Add", ["n", "m"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "old",
        [info("x", TensorProto.FLOAT, [2, 3, 8, 6])],
        [info("y", TensorProto.FLOAT, [2, CHANNELS, 6, 4])],
        [numpy_helper.from_array(values, name) for name, values in norm.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def _run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


@pytest.mark.parametrize("second_reader", [False, True])
def test_a_tidy_graph_computes_the_same(second_reader):
    model = _model(second_reader)
    images = np.random.default_rng(7).normal(0, 1, (2, 3, 8, 6)).astype(np.float32)
    before = _run(model, images)
    for node in model.graph.node[:3]:  # ONNX Runtime refuses two nodes of one name
        node.name = "twice"
    tidy(model)
    checker.check_model(model, full_check=True)
    np.testing.assert_allclose(_run(model, images), before, rtol=1e-5, atol=1e-5)
    operators = [node.op_type for node in model.graph.node]
    # A convolution that others read too keeps its batch norm.
    assert operators == (["Conv", "BatchNormalization", "Mul", "Add"] if second_reader else ["Conv", "Mul", "Add"])
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} == read - {"x"} - {
        name for node in model.graph.node for name in node.output
    }
