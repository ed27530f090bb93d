"""Networks with random weights for NVIDIA's real parser and builder, and checks of what the parser made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import torch
from onnx import TensorProto

from rrid_calib.layers import int8_layers, read_graph
from rrid_edge.engines.tensorrt.log import make_logger
from rrid_edge.model.engine_sidecar import Products
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import contract_file
from rrid_export.branch import InferenceBranch
from rrid_export.onnx import trace_branch
from rrid_export.source import SourceNetwork
from rrid_export.tensorrt.network import parse_network
from rrid_export.tensorrt.settings import BuildSettings
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig
from support.int8 import FORMS, form_of, made_up

_DTYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT64: "INT64",
}


def random_source(backbone: str) -> SourceNetwork:
    """Return a network of 384 x 128 pixels with random weights, as if it was read from a checkpoint."""
    torch.manual_seed(0)
    return SourceNetwork(RRID(ModelConfig(backbone), 2).eval(), Path(f"{backbone}.pth"), "ab", "nothing")


def write_traced(path: Path, source: SourceNetwork, precision: str) -> Path:
    """Write the network as ``export`` does, in fp32 or fp16, without the checks of its values."""
    branch = InferenceBranch(source.model).eval()
    model = trace_branch(branch if precision == "fp32" else branch.to_half())
    return write_model(path, model, source.spec().with_precision(precision))


def int8_models(fp32: Path) -> Iterator[tuple[str, Any, ModelSpec]]:
    """Name, model and spec of every int8 form. Ranges are made up: no crop is needed to parse and build."""
    model, spec = read_graph(fp32), read_spec(fp32).with_precision("int8")
    layers = int8_layers(model)
    ranges = made_up(model, 6.35)
    for name in FORMS:
        yield name, form_of(model, name, ranges).build(model), spec
    costly = (layers[0].name, layers[-1].name)
    yield "int8 with float layers", form_of(model, "int8", ranges).build(model, costly), spec


def write_model(path: Path, model: Any, spec: ModelSpec) -> Path:
    """Write a model with the metadata of the contract."""
    path.write_bytes(contract_file(model.SerializeToString(), spec))
    return path


def expected_products(path: Path, precision: str) -> Products:
    """Count convolutions and matrix products of an ONNX file by hand, by the type of their input.

    Two products with the same weights, which both steps of a fine head are, become one layer of the engine.
    """
    model = onnx.load(path, load_external_data=False)
    producers = {name: node for node in model.graph.node for name in node.output}

    def fed_by(name: str) -> str:
        """Return the operator that makes a tensor, before any MaxPool: it passes int8 on."""
        node = producers.get(name)
        if node is None:
            return ""
        return fed_by(node.input[0]) if node.op_type == "MaxPool" else node.op_type

    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    products = list({node.input[1]: node for node in nodes}.values())
    fed = sum(fed_by(node.input[0]) == "DequantizeLinear" for node in products)
    rest = len(products) - fed
    return Products(half=rest, int8=0, single=0, other=0) if precision == "fp16" else Products(0, fed, rest, 0)


def check_every_node(trt: ModuleType, path: Path, settings: BuildSettings) -> int:
    """Assert that the parser found the layer of each ONNX node, and gave it the type that ONNX infers.

    Returns:
        Number of nodes.
    """
    errors: list[str] = []
    logger = make_logger(trt, errors)
    builder = trt.Builder(logger)
    _network, parser = parse_network(trt, builder, logger, path, settings)
    assert (errors, parser.num_errors) == ([], 0)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        tensor = parser.get_layer_output_tensor(node.name, 0)
        assert tensor is not None, f"{path.name}: no layer of {node.name}"
        assert tensor.dtype.name == _DTYPES[types[node.output[0]]], f"{path.name}: {node.name} is {tensor.dtype}"
    return len(model.graph.node)
