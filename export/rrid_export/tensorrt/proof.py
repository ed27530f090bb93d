"""Prove an engine's precision: TensorRT's inspector lists the types that its layers use.

Only convolutions and matrix products prove a precision. They are 23 of 102 layers of the demo network's engine on
TensorRT 8.6; the others move data, pool, add and normalise, in types that say nothing about the arithmetic.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final

from rrid_edge.engines.tensorrt.log import keep_inspector
from rrid_edge.errors import ArtefactError, CheckFailedError
from rrid_edge.model.engine_sidecar import PrecisionProof, Products
from rrid_edge.model.spec import INPUT_NAME, ModelSpec
from rrid_export.tensorrt.information import (
    Layer,
    listed_layers,
    node_names,
    onnx_names,
    type_of_layer,
    type_of_product,
    types_of_tensors,
)
from rrid_export.tensorrt.nodes import NodeNames

if TYPE_CHECKING:
    import tensorrt as trt

# Kinds of layers that multiply matrices: CaskConvolution, CaskGemmMatrixMultiply, CaskDeconvolutionV2, correlation,
# gemm, and ParameterType Convolution or MatrixMultiply. Not Convert.
_PRODUCT_KIND: Final = re.compile(r"conv(?!er)|correlation|gemm|matrixmultiply|matmul|fullyconnected", re.IGNORECASE)
# Fused layers of TensorRT's compiler are named by what they compute: __myl_FcAddRelu_myl0_30, _gemm_mha_v2_myl0_4.
_FUSED_NAME: Final = re.compile(r"^__myl_(?:[A-Z][a-z]*)*?(?:Fc|Gemm|Matm|Corr|Bmm)(?![a-z])|^_gemm_")
# Kinds of layers that only move or make data. They may name the product that they work for.
_NO_ARITHMETIC: Final = frozenset(
    {"reformat", "noop", "constant", "shuffle", "slice", "concat", "signal", "wait", "shape_call", "copy", "cast"}
)
# Names of ONNX nodes, where the ONNX file is not at hand: node_conv2d_3, node_matmul, /layer1/conv1/Conv, node_linear.
_PRODUCT_NODE: Final = re.compile(
    r"(?:.*/)?(?:node_)?(?:conv(?:\dd|transpose)?|matmul|gemm|linear|addmm|mm|bmm)(?:_\d+)?", re.IGNORECASE
)

_MIN_HALF_SHARE: Final = 0.5
"""Smallest share of float16 products of an fp16 engine. Builder flags (8.6) leave some layers in float32."""
_MIN_INT8_SHARE: Final = 0.25
"""Smallest share of int8 products of an int8 engine, where the ONNX file does not say how many it quantises."""


def inspect_engine(
    trt: ModuleType, engine: trt.ICudaEngine, context: trt.IExecutionContext, spec: ModelSpec, batch: int
) -> str:
    """Inspect an engine: the inspector's JSON. It is kept beside TensorRT's log, if that is kept.

    Args:
        trt: the tensorrt module.
        engine: an open engine, built with detailed profiling verbosity.
        context: an execution context of the engine; its input shape is set.
        spec: facts of the model.
        batch: a batch size of the profile.
    """
    # Without resolved shapes the inspector writes "N/A due to dynamic shapes" instead of types. TensorRT 8.6 resolves
    # them only in infer_shapes.
    context.set_input_shape(INPUT_NAME, trt.Dims([batch, *spec.input_shape]))
    context.infer_shapes()
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    try:
        told = str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    except UnicodeDecodeError as error:  # Python's bindings refuse text that is no UTF-8
        keep_inspector(error.object)
        return error.object.decode("utf-8", "replace")
    keep_inspector(told)
    return told


def count_layers(information: str | bytes, nodes: NodeNames | None = None) -> PrecisionProof:
    """Count an engine's layers by type: all of them, and the convolutions and matrix products among them.

    Args:
        information: the inspector's JSON.
        nodes: names of the ONNX file's nodes. Without them, a fused layer is judged by its own name.

    Raises:
        CheckFailedError: the text is not JSON, or lists only layer names.
    """
    layers = _typed_layers(information)
    counts = Counter(map(type_of_layer, layers))
    products = Counter(map(type_of_product, _products(layers, nodes)))
    kinds = ("half", "int8", "single", "other")
    return PrecisionProof(
        **{kind: counts[kind] for kind in kinds}, products=Products(**{kind: products[kind] for kind in kinds})
    )


def check_precision(proof: PrecisionProof, precision: str, nodes: NodeNames | None = None) -> None:
    """Refuse an engine that does not multiply in the model's precision.

    - fp16: at least half of the convolutions and matrix products that the ONNX file stores in float16 are float16
      (files of adopted networks may have others); at least half of all where the file is not known.
    - int8: some are int8, and their share of all products is at least half of the share that the ONNX file quantises
      (calibration leaves some in float32 on purpose); at least a quarter where the file is not known.
    - fp32: all are float32.

    Args:
        proof: the counted layers.
        precision: the model's precision.
        nodes: names of the ONNX file's nodes, if they are known.

    Raises:
        CheckFailedError: for example, an fp16 model became a float32 engine.
    """
    products = proof.products or Products(proof.half, proof.int8, proof.single, 0)  # an engine of an earlier version
    if not products.total:
        raise CheckFailedError(
            f"the engine's precision cannot be proved: the inspector lists {proof.layers} layers, none of them a "
            "convolution or matrix product; report this with the version of TensorRT"
        )
    if precision == "fp32":
        passed = products.single == products.total
    elif precision == "fp16":
        share = _MIN_HALF_SHARE * (nodes.half_share if nodes else 1)
        passed = products.half > 0 and products.half >= share * products.total
    else:
        share = nodes.quantised_share / 2 if nodes and nodes.quantised else _MIN_INT8_SHARE
        passed = products.int8 > 0 and products.int8 >= share * products.total
    if not passed:
        raise CheckFailedError(
            f"the engine that TensorRT built is not {precision}: {proof.in_words()}; nothing was written; try another "
            "TensorRT version, or use the ONNX file with the runtime onnxruntime-cuda"
        )


def check_tail(information: str | bytes, nodes: NodeNames, *, must_show: bool = True) -> None:
    """Refuse an engine whose tail, which contains the L2 norm, does not compute in float32.

    Builder flags (TensorRT 8.6, or weak typing) let TensorRT choose, and PREFER_PRECISION_CONSTRAINTS is only a wish.
    In float16 the norm overflows silently into rows of zeros.

    Args:
        information: the inspector's JSON.
        nodes: names of the ONNX file's nodes.
        must_show: refuse an engine whose inspector does not show the tail's types. False suits an engine that may be
            strongly typed.

    Raises:
        CheckFailedError: a layer of the tail uses float16 or int8, or the inspector does not show the tail's types.
    """
    layers = _typed_layers(information)
    products = {id(layer) for layer in _products(layers, nodes)}
    seen = 0
    for layer in layers:
        names = node_names(layer)
        if not names & nodes.tail or id(layer) in products or _only_moves(layer):
            continue
        # A fused layer that also computes earlier nodes, such as the cast to float32, may read float16.
        sides = ("Inputs", "Outputs") if onnx_names(layer) <= nodes.tail else ("Outputs",)
        types = types_of_tensors(layer, *sides)
        narrow = types & {"half", "int8"}
        if narrow:
            word = "float16" if "half" in narrow else "int8"
            raise CheckFailedError(
                f"the engine that TensorRT built computes the descriptor's norm in {word} (layer "
                f"{str(layer.get('Name', ''))[:80]!r}), expected float32, because the norm overflows in {word}; "
                "nothing was written; try another TensorRT version, or use the ONNX file with the runtime "
                "onnxruntime-cuda"
            )
        seen += "single" in types
    if must_show and not seen:
        raise CheckFailedError(
            "the engine's float32 norm cannot be proved: the inspector shows no types of the layers after the last "
            "convolution or matrix product; nothing was written; try another TensorRT version, or use the ONNX file "
            "with the runtime onnxruntime-cuda"
        )


def _typed_layers(information: str | bytes) -> list[Layer]:
    try:
        layers = listed_layers(information)
    except ArtefactError as error:
        raise CheckFailedError(f"the engine's precision cannot be proved: {error.message}") from error
    typed = [layer for layer in layers if not isinstance(layer, str)]
    if not typed or len(typed) < len(layers):
        raise CheckFailedError(
            "the engine's precision cannot be proved: the inspector lists only layer names, expected their types; "
            "build with detailed profiling verbosity"
        )
    return typed


def _products(layers: Sequence[Layer], nodes: NodeNames | None) -> list[Layer]:
    """The layers that are convolutions or matrix products.

    The kind of a layer says it, or the name of a fused layer. What remains are layers of TensorRT's compiler that hide
    the product: they name an ONNX product that no other layer computes.
    """
    sure = [layer for layer in layers if _is_product(layer)]
    computed = {name for layer in sure for name in node_names(layer)}
    ids = {id(layer) for layer in sure}
    for layer in layers:
        if id(layer) not in ids and not _only_moves(layer) and _named_products(layer, nodes) - computed:
            ids.add(id(layer))
    return [layer for layer in layers if id(layer) in ids]


def _is_product(layer: Layer) -> bool:
    kinds = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    return bool(_PRODUCT_KIND.search(kinds) or _FUSED_NAME.search(str(layer.get("Name", ""))))


def _only_moves(layer: Layer) -> bool:
    return str(layer.get("LayerType", "")).lower() in _NO_ARITHMETIC


def _named_products(layer: Layer, nodes: NodeNames | None) -> set[str]:
    names = node_names(layer)
    return names & nodes.products if nodes else {name for name in names if _PRODUCT_NODE.fullmatch(name)}
