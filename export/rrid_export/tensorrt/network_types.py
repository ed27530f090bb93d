"""Count the layers of a parsed network by type, before an engine is built from it.

A strongly typed engine obeys these types. They are the proof of precision where no GPU can load the engine, so that
the inspector cannot answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.errors import CheckFailedError
from rrid_edge.model.engine_sidecar import PrecisionProof, Products

if TYPE_CHECKING:
    import tensorrt as trt

_KINDS = ("half", "int8", "single", "other")


def count_network(trt: ModuleType, network: trt.INetworkDefinition) -> PrecisionProof:
    """Count the layers of a strongly typed network by type: all of them, and the products among them.

    A product is int8 if a dequantisation feeds it: TensorRT fuses the two, and multiplies int8 values.

    Raises:
        CheckFailedError: the network's tail, which contains the L2 norm, does not compute in float32.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    producers = {tensor.name: layer for layer in layers for tensor in _outputs(layer)}
    products = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    counts, multiplied = Counter(_type_of(trt, layer) for layer in layers), Counter[str]()
    for layer in layers:
        if layer.type in products:
            multiplied[_type_of_product(trt, layer, producers)] += 1
    _check_tail(trt, network, producers, products)
    return PrecisionProof(
        **{kind: counts[kind] for kind in _KINDS}, products=Products(**{kind: multiplied[kind] for kind in _KINDS})
    )


def _check_tail(
    trt: ModuleType,
    network: trt.INetworkDefinition,
    producers: Mapping[str, trt.ILayer],
    products: tuple[object, ...],
) -> None:
    ends = (*products, trt.LayerType.CAST, trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
    pending = [network.get_output(index).name for index in range(network.num_outputs)]
    seen: set[str] = set()
    while pending:
        layer = producers.get(pending.pop())
        if layer is None or layer.name in seen or layer.type in ends:
            continue
        seen.add(layer.name)
        if _type_of(trt, layer) in ("half", "int8"):
            raise CheckFailedError(
                f"the layer {layer.name} after the last products computes in {_type_of(trt, layer)}, expected "
                "float32, because the L2 norm overflows in float16; nothing was written; export the model again with: "
                "rrid-edge export CHECKPOINT"
            )
        pending += [tensor.name for tensor in _inputs(layer)]


def _type_of_product(trt: ModuleType, layer: trt.ILayer, producers: Mapping[str, trt.ILayer]) -> str:
    source = producers.get(layer.get_input(0).name)
    fed = source is not None and source.type == trt.LayerType.DEQUANTIZE
    return "int8" if fed else _type_of(trt, layer)


def _type_of(trt: ModuleType, layer: trt.ILayer) -> str:
    """The narrowest floating-point or int8 type among a layer's tensors; ``other`` if it has none."""
    found = {tensor.dtype for tensor in (*_inputs(layer), *_outputs(layer))}
    kinds = {"int8": trt.DataType.INT8, "half": trt.DataType.HALF, "single": trt.DataType.FLOAT}
    return next((kind for kind, dtype in kinds.items() if dtype in found), "other")


def _inputs(layer: trt.ILayer) -> Iterator[trt.ITensor]:
    for index in range(layer.num_inputs):
        tensor = layer.get_input(index)
        if tensor is not None:
            yield tensor


def _outputs(layer: trt.ILayer) -> Iterator[trt.ITensor]:
    for index in range(layer.num_outputs):
        yield layer.get_output(index)
