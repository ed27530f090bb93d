"""Proof of an engine's precision from TensorRT's inspector: what the layers carry, not what was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrid_edge.errors import CheckFailedError
from rrid_edge.model.engine_sidecar import PrecisionProof
from rrid_edge.model.spec import INPUT_NAME, ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt

# Inspectors say "Row major linear FP16 format", "Half", "Thirty-two wide channel vectorized row major Int8 format",
# "Float"; uint8 must not be taken for int8.
_TYPES = {
    "int8": re.compile(r"\bint8\b", re.IGNORECASE),
    "half": re.compile(r"\b(half|fp16|float16)\b", re.IGNORECASE),
    "single": re.compile(r"\b(float|fp32|float32)\b", re.IGNORECASE),
}
# Of the layers that carry floating point or int8, the share that must carry the precision. The float32 tail and the
# scaling of the input are a few fused layers of about 60; INT8 leaves those, the head and the costliest layers out.
_MIN_SHARE = {"fp16": 0.5, "int8": 0.25}


def inspect_engine(
    trt: ModuleType, engine: trt.ICudaEngine, context: trt.IExecutionContext, spec: ModelSpec, batch: int
) -> str:
    """The inspector's JSON of an engine.

    Args:
        trt: the module.
        engine: a live engine, built with detailed verbosity.
        context: a context of it. Its shapes are set here: without them the inspector answers "N/A due to dynamic
            shapes" in place of every type.
        spec: the model.
        batch: a batch size of the profile.
    """
    context.set_input_shape(INPUT_NAME, trt.Dims([batch, spec.height_px, spec.width_px, 3]))
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def count_layers(information: str) -> PrecisionProof:
    """Count an engine's layers by the narrowest type that they carry.

    Args:
        information: the inspector's JSON; TensorRT 8.6 and 10 (``Format/Datatype``) or 11 (``Datatype`` apart).

    Raises:
        CheckFailedError: not JSON, or layer names alone.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckFailedError(
            f"the engine's precision cannot be proved: the inspector's answer is unusable ({error}); report it with "
            "the version of TensorRT"
        ) from error
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        raise CheckFailedError(
            "the engine's precision cannot be proved: the inspector gives layer names alone; build with detailed "
            "profiling verbosity"
        )
    counts = {"half": 0, "int8": 0, "single": 0, "other": 0}
    for layer in layers:
        texts = list(_type_texts(layer))
        found = (kind for kind, pattern in _TYPES.items() if any(pattern.search(text) for text in texts))
        counts[next(found, "other")] += 1
    return PrecisionProof(**counts)


def check_precision(proof: PrecisionProof, precision: str) -> None:
    """Refuse an engine that is not what it was built as.

    Raises:
        CheckFailedError: for example an fp16 model that became a float32 engine.
    """
    typed = proof.half + proof.int8 + proof.single
    counted = f"{proof.half} layers in float16, {proof.int8} in int8, {proof.single} in float32"
    if precision == "fp32":
        passed = proof.single > 0 and not proof.half and not proof.int8
    else:
        wanted = proof.half if precision == "fp16" else proof.int8
        passed = wanted > 0 and wanted >= _MIN_SHARE[precision] * typed
    if not passed:
        raise CheckFailedError(
            f"the engine that TensorRT built is not {precision}: its inspector counts {counted}; nothing was written; "
            "try another TensorRT version, or use the ONNX file with the runtime onnxruntime-cuda"
        )


def _type_texts(layer: Mapping[str, Any]) -> Iterator[str]:
    """Every place in which a layer says a type."""
    for side in ("Inputs", "Outputs"):
        tensors = layer.get(side, [])
        for tensor in tensors if isinstance(tensors, list) else []:
            if isinstance(tensor, dict):
                yield from (str(tensor[key]) for key in ("Format/Datatype", "Datatype") if key in tensor)
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))
