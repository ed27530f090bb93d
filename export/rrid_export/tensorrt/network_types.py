"""Count the layers of a parsed network by type, before an engine is built from it.

A strongly typed engine obeys these types. They are the proof of precision where no GPU can load the engine, so that
the inspector cannot answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.errors import CheckFailedError
from rrid_edge.model.engine_sidecar import PrecisionProof, Products
from rrid_edge.model.spec import HOW_MADE
from rrid_export.tensorrt.layers import inputs_of, layers_of, outputs_of, producers_of, tail_layers

if TYPE_CHECKING:
    import tensorrt as trt

_KINDS = ("half", "int8", "single", "other")


def count_network(trt: ModuleType, network: trt.INetworkDefinition) -> PrecisionProof:
    """Count the layers of a strongly typed network by type: all of them, and the products among them.

    A product is int8 if a dequantisation feeds it: TensorRT fuses the two, and multiplies int8 values.

    Raises:
        CheckFailedError: the network's tail, which contains the L2 norm, does not compute in float32.
    """
    layers, producers = list(layers_of(network)), producers_of(network)
    products = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    counts, multiplied = Counter(_type_of(trt, layer) for layer in layers), Counter[str]()
    for layer in layers:
        if layer.type in products:
            multiplied[_type_of_product(trt, layer, producers)] += 1
    _check_tail(trt, network, products)
    return PrecisionProof(
        **{kind: counts[kind] for kind in _KINDS}, products=Products(**{kind: multiplied[kind] for kind in _KINDS})
    )


def _check_tail(trt: ModuleType, network: trt.INetworkDefinition, products: tuple[object, ...]) -> None:
    ends = (*products, trt.LayerType.CAST, trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
    for layer in tail_layers(network, ends):
        if _type_of(trt, layer) in ("half", "int8"):
            raise CheckFailedError(
                f"the layer {layer.name} after the last products computes in {_type_of(trt, layer)}, expected "
                "float32, because the L2 norm overflows in float16; nothing was written; export the model again with: "
                f"{HOW_MADE}"
            )


def _type_of_product(trt: ModuleType, layer: trt.ILayer, producers: Mapping[str, trt.ILayer]) -> str:
    source = _producer(layer, producers)
    while source is not None and source.type == trt.LayerType.POOLING:  # of maxima: it passes int8 on
        source = _producer(source, producers)
    fed = source is not None and source.type == trt.LayerType.DEQUANTIZE
    return "int8" if fed else _type_of(trt, layer)


def _producer(layer: trt.ILayer, producers: Mapping[str, trt.ILayer]) -> trt.ILayer | None:
    """The layer that makes the first input of a layer; None for the network's input."""
    return producers.get(layer.get_input(0).name)


def _type_of(trt: ModuleType, layer: trt.ILayer) -> str:
    """The narrowest floating-point or int8 type among a layer's tensors; ``other`` if it has none."""
    found = {tensor.dtype for tensor in (*inputs_of(layer), *outputs_of(layer))}
    kinds = {"int8": trt.DataType.INT8, "half": trt.DataType.HALF, "single": trt.DataType.FLOAT}
    return next((kind for kind, dtype in kinds.items() if dtype in found), "other")
