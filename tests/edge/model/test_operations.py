"""Operations of a network are those that one counts by hand, and those that PyTorch counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError
from rrid_edge.model.onnx_graph import parse_graph, read_graph
from rrid_edge.model.onnx_writing import model, node
from rrid_edge.model.operations import count_work, work_of
from rrid_edge.model.shapes import find_shapes
from rrid_export.branch import InferenceBranch
from support.networks import TINY, tiny_network
from support.onnx_models import save_changed_model, save_tiny_model, tiny_model

DATA = Path(__file__).parents[2] / "data"
IMAGE = {"images": (1, 384, 128, 3)}


def graph_of(nodes, constants, inputs):
    return parse_graph(memoryview(model(nodes, constants, inputs, {})))


def test_the_published_network_has_24_4_gflop():
    """The graph of ResNet-50 at 384 x 128 with two views, as exported; the weights are taken out of the file."""
    work = count_work(read_graph(DATA / "resnet50_graph.onnx"), IMAGE)
    assert work.operations == pytest.approx(24.4e9, rel=1e-3)
    assert work.weights == pytest.approx(41.1e6, rel=2e-3)  # 23.5 million of the backbone and 17.7 of the head


def test_a_small_graph_by_hand():
    """Two images of 3 x 9 x 5: a strided convolution, one with groups, and two products."""
    nodes = [
        node("Conv", ("images", "w1"), "a", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),  # 2, 8, 5, 3
        node("Relu", ("a",), "b"),
        node("Conv", ("b", "w2"), "c", kernel_shape=(1, 3), group=4, dilations=(1, 2), pads=(0, 2, 0, 2)),  # 2, 4, 5, 3
        node("Reshape", ("c", "flat"), "d"),  # 2, 60
        node("MatMul", ("d", "w3"), "e"),  # 2, 7
        node("Gemm", ("e", "w4"), "f", transB=1),  # 2, 11
    ]
    weights = {"w1": (8, 3, 3, 3), "w2": (4, 2, 1, 3), "w3": (60, 7), "w4": (11, 7)}
    constants = {name: np.zeros(shape, np.float32) for name, shape in weights.items()}
    graph = graph_of(nodes, constants | {"flat": np.array([0, -1])}, {"images": (2, 3, 9, 5)})
    work = count_work(graph, {"images": (2, 3, 9, 5)})
    products = 2 * 8 * 15 * (3 * 9) + 2 * 4 * 15 * (2 * 3) + 2 * 60 * 7 + 2 * 7 * 11
    assert work.operations == 2 * products
    assert work.weights == sum(int(np.prod(shape)) for shape in weights.values())


def test_products_of_activations_read_no_weights():
    nodes = [node("Transpose", ("images",), "turned", perm=(0, 2, 1)), node("MatMul", ("images", "turned"), "square")]
    work = count_work(graph_of(nodes, {}, {"images": (3, 4, 5)}), {"images": (3, 4, 5)})
    assert (work.operations, work.weights) == (2 * 3 * 4 * 4 * 5, 0)


@pytest.mark.parametrize(("folder", "flip"), [("tiny_export", True), ("tiny_export_without_mirror", False)])
def test_pytorch_counts_the_same(request, folder, flip):
    branch = InferenceBranch(tiny_network().eval(), flip=flip).eval()
    images = torch.zeros((1, TINY.height_px, TINY.width_px, 3), dtype=torch.uint8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        branch(images)
    assert work_of(request.getfixturevalue(folder) / "rrid.onnx").operations == counter.get_total_flops()


def test_quantised_weights_count_as_weights(tmp_path):
    """A weight behind DequantizeLinear; the values of a Constant node."""
    changed = tiny_model()
    (product,) = (one for one in changed.graph.node if one.op_type == "MatMul")
    weight = next(one for one in changed.graph.initializer if one.name == "weight")
    stored = numpy_helper.from_array(np.ones(numpy_helper.to_array(weight).shape, np.int8), "stored")
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    changed.graph.initializer.extend([stored])
    changed.graph.initializer.remove(weight)
    constant = helper.make_node("Constant", [], ["scale"], value=scale)
    dequantised = helper.make_node("DequantizeLinear", ["stored", "scale"], ["weight"])
    for position, one in enumerate((constant, dequantised)):
        changed.graph.node.insert(position, one)
    product.input[1] = "weight"
    quantised, plain = (
        work_of(path)
        for path in (save_changed_model(tmp_path / "q.onnx", changed), save_tiny_model(tmp_path / "p.onnx"))
    )
    assert quantised == plain
    assert plain.operations == 2 * 36 * fake_spec().dimension
    assert plain.weights == 36 * fake_spec().dimension


def test_a_layer_of_unknown_shape_is_named(tmp_path):
    changed = tiny_model()
    (product,) = (one for one in changed.graph.node if one.op_type == "MatMul")
    changed.graph.node.insert(5, helper.make_node("Cos", [product.input[0]], ["cosines"]))
    product.input[0] = "cosines"
    path = save_changed_model(tmp_path / "m.onnx", changed)
    with pytest.raises(
        ModelFileError, match=r"m\.onnx: its operations cannot be counted \(MatMul node_matmul: .*cosines"
    ):
        work_of(path)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "expected"),
    [
        ("MaxPool", [(1, 8, 9, 7)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}, (1, 8, 5, 3)),
        ("MaxPool", [(1, 8, 9, 7)], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, (1, 8, 5, 4)),
        ("AveragePool", [(1, 8, 9, 7)], {"kernel_shape": [9, 7]}, (1, 8, 1, 1)),
        ("GlobalAveragePool", [(2, 8, 9, 7)], {}, (2, 8, 1, 1)),
        ("Concat", [(2, 3), (2, 5), (2, 1)], {"axis": -1}, (2, 9)),
        ("Add", [(2, 1, 3), (4, 1)], {}, (2, 4, 3)),
        ("MatMul", [(5, 2, 3), (3, 4)], {}, (5, 2, 4)),
        ("Transpose", [(2, 3, 4)], {}, (4, 3, 2)),
        ("Flatten", [(2, 3, 4)], {"axis": 2}, (6, 4)),
        ("ReduceMax", [(2, 3, 4)], {"axes": [-1], "keepdims": 0}, (2, 3)),
        ("ReduceMean", [(2, 3, 4)], {"axes": [0, 1]}, (1, 1, 4)),
        ("ReduceMean", [(2, 3, 4)], {}, (1, 1, 1)),
        ("BatchNormalization", [(2, 3, 4), (3,), (3,), (3,), (3,)], {}, (2, 3, 4)),
        ("Gemm", [(3, 2), (3, 4)], {"transA": 1}, (2, 4)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_shapes_are_those_of_onnx(operator, inputs, attributes, expected):
    """Against the shape inference of the package onnx."""
    names = [f"x{number}" for number in range(len(inputs))]
    described = [
        helper.make_tensor_value_info(*pair) for pair in zip(names, [TensorProto.FLOAT] * 9, inputs, strict=False)
    ]
    made = helper.make_node(operator, names, ["y"], **attributes)
    graph = helper.make_graph([made], "g", described, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(whole, strict_mode=True).graph.output[0].type.tensor_type.shape
    assert tuple(size.dim_value for size in inferred.dim) == expected
    shapes = dict(zip(names, inputs, strict=True))
    assert find_shapes(parse_graph(memoryview(whole.SerializeToString())), shapes)["y"] == expected


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("Reshape", ([0, -1],), (4, 30)),
        ("Unsqueeze", ([0, -1],), (1, 4, 5, 6, 1)),
        ("Slice", ([-1], [-(1 << 63)], [2], [-1]), (4, 5, 6)),
        ("Slice", ([1, 0], [3, 5], [0, 2], [1, 2]), (2, 5, 3)),
        ("Slice", ([1], [1 << 62]), (3, 5, 6)),
        ("ReduceSum", ([1],), (4, 1, 6)),
        ("Squeeze", ([0],), None),
    ],
    ids=["reshape", "unsqueeze", "backwards", "two-axes", "no-axes", "reduce", "squeeze"],
)
def test_shapes_that_depend_on_constants(operator, values, expected):
    names = [f"c{number}" for number in range(len(values))]
    constants = {name: np.array(value, np.int64) for name, value in zip(names, values, strict=True)}
    nodes = [node(operator, ("images", *names), "y"), node("Relu", ("y",), "z")]
    shape = (1, 5, 6) if expected is None else (4, 5, 6)
    found = find_shapes(graph_of(nodes, constants, {"images": shape}), {"images": shape})
    assert found["z"] == (expected or (5, 6))


def test_contradictions_are_refused():
    nodes = [node("MatMul", ("images", "w"), "y")]
    graph = graph_of(nodes, {"w": np.zeros((4, 2), np.float32)}, {"images": (2, 3)})
    with pytest.raises(ValueError, match=r"MatMul of \(2, 3\) and \(4, 2\)"):
        count_work(graph, {"images": (2, 3)})


def test_written_models_are_sound():
    """The package onnx checks what ``onnx_writing`` writes."""
    content = model(
        [
            node("Conv", ("x", "w"), "y", kernel_shape=(1, 1), pads=(0, 0, 0, 0)),
            node("ReduceMax", ("y",), "z", axes=(-1,)),
        ],
        {"w": np.ones((2, 3, 1, 1), np.float32)},
        {"x": (1, 3, 4, 5)},
        {"z": (1, 2, 4, 1)},
    )
    read = onnx.load_model_from_string(content)
    onnx.checker.check_model(read, full_check=True)
    np.testing.assert_array_equal(numpy_helper.to_array(read.graph.initializer[0]), np.ones((2, 3, 1, 1)))
