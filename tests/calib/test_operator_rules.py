"""Int8 files keep what the parsers of all supported TensorRT versions need."""

from __future__ import annotations

import onnx
import pytest

from rrid_calib.graph import int8_layers, quantised, read_graph


@pytest.fixture(scope="module")
def exported(narrow_export):
    return narrow_export / "rrid.onnx"


@pytest.mark.parametrize("named", [True, False], ids=["kernels named", "kernels not named"])
def test_every_convolution_names_the_shape_of_its_kernel(exported, named):
    """TensorRT 8.6 and 10.0 to 10.3 cannot take it from weights that a DequantizeLinear makes."""
    model = read_graph(exported)
    for node in model.graph.node:
        kept = [item for item in node.attribute if named or node.op_type != "Conv" or item.name != "kernel_shape"]
        del node.attribute[:]
        node.attribute.extend(kept)
    layers = int8_layers(model)
    steps = dict.fromkeys([tensor for layer in layers for tensor in layer.tensors], 0.1)
    heads = [layer.name for layer in layers if layer.head]
    for result in (
        quantised(model, steps),
        quantised(model, steps, two_step_layers=heads),
        quantised(model, steps, [layers[0].name], heads, float_residuals=True),
    ):
        weights = {tensor.name: tensor.dims for tensor in result.graph.initializer}
        stored = {node.output[0]: weights[node.input[0]] for node in result.graph.node if node.input[0] in weights}
        kernels = {
            node.name: (onnx.helper.get_node_attr_value(node, "kernel_shape"), list((weights | stored)[node.input[1]]))
            for node in result.graph.node
            if node.op_type == "Conv"
        }
        assert len(kernels) >= 20 + 3
        assert all(kernel == shape[2:] for kernel, shape in kernels.values())
