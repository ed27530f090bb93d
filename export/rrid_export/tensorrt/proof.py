"""Prove an engine's precision: TensorRT's inspector lists the types that its layers use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrid_edge.errors import ArtefactError, CheckFailedError
from rrid_edge.model.engine_sidecar import PrecisionProof
from rrid_edge.model.spec import INPUT_NAME, ModelSpec
from rrid_export.tensorrt.information import listed_layers

if TYPE_CHECKING:
    import tensorrt as trt

# The inspector writes "Row major linear FP16 format", "Half", "Float", or "Thirty-two wide channel vectorized row major
# Int8 format". The word boundary keeps uint8 from matching int8.
_TYPES = {
    "int8": re.compile(r"\bint8\b", re.IGNORECASE),
    "half": re.compile(r"\b(half|fp16|float16)\b", re.IGNORECASE),
    "single": re.compile(r"\b(float|fp32|float32)\b", re.IGNORECASE),
}
# Smallest share of typed layers that must have the precision. An fp16 engine keeps the tail and the input scaling in
# float32, a few of about 60 fused layers; an int8 engine also the head and the layers that lose most accuracy.
_MIN_SHARE = {"fp16": 0.5, "int8": 0.25}


def inspect_engine(
    trt: ModuleType, engine: trt.ICudaEngine, context: trt.IExecutionContext, spec: ModelSpec, batch: int
) -> str:
    """Inspect an engine: the inspector's JSON.

    Args:
        trt: the tensorrt module.
        engine: an open engine, built with detailed profiling verbosity.
        context: an execution context of the engine; its input shape is set.
        spec: facts of the model.
        batch: a batch size of the profile.
    """
    # Without a shape the inspector writes "N/A due to dynamic shapes" instead of types.
    context.set_input_shape(INPUT_NAME, trt.Dims([batch, spec.height_px, spec.width_px, 3]))
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def count_layers(information: str) -> PrecisionProof:
    """Count an engine's layers by the narrowest type of their inputs, outputs and weights.

    Args:
        information: the inspector's JSON. TensorRT 8.6 and 10 write ``Format/Datatype``, 11 writes ``Datatype``.

    Raises:
        CheckFailedError: the text is not JSON, or lists only layer names.
    """
    try:
        layers = listed_layers(information)
    except ArtefactError as error:
        raise CheckFailedError(f"the engine's precision cannot be proved: {error.message}") from error
    typed = [layer for layer in layers if isinstance(layer, dict)]
    if not typed or len(typed) < len(layers):
        raise CheckFailedError(
            "the engine's precision cannot be proved: the inspector lists only layer names, expected their types; "
            "build with detailed profiling verbosity"
        )
    counts = {"half": 0, "int8": 0, "single": 0, "other": 0}
    for layer in typed:
        texts = list(_type_texts(layer))
        found = (kind for kind, pattern in _TYPES.items() if any(pattern.search(text) for text in texts))
        counts[next(found, "other")] += 1
    return PrecisionProof(**counts)


def check_precision(proof: PrecisionProof, precision: str) -> None:
    """Refuse an engine whose layers do not have the model's precision.

    Raises:
        CheckFailedError: for example, an fp16 model became a float32 engine.
    """
    typed = proof.half + proof.int8 + proof.single
    counted = f"{proof.half} layers in float16, {proof.int8} in int8, {proof.single} in float32"
    if precision == "fp32":
        passed = proof.single > 0 and not proof.half and not proof.int8
    else:
        in_precision = proof.half if precision == "fp16" else proof.int8
        passed = in_precision > 0 and in_precision >= _MIN_SHARE[precision] * typed
    if not passed:
        raise CheckFailedError(
            f"the engine that TensorRT built is not {precision}: its inspector counts {counted}; nothing was written; "
            "try another TensorRT version, or use the ONNX file with the runtime onnxruntime-cuda"
        )


def _type_texts(layer: Mapping[str, Any]) -> Iterator[str]:
    """All type descriptions of a layer: of its inputs, outputs and weights."""
    for side in ("Inputs", "Outputs"):
        tensors = layer.get(side, [])
        for tensor in tensors if isinstance(tensors, list) else []:
            if isinstance(tensor, dict):
                yield from (str(tensor[key]) for key in ("Format/Datatype", "Datatype") if key in tensor)
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))
