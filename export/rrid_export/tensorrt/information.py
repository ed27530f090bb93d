"""What TensorRT's inspector says about the layers of an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rrid_edge.artefacts import Artefact


@dataclass(frozen=True)
class _Information:
    Layers: tuple[dict[str, Any] | str, ...]  # TensorRT's name


_INFORMATION = Artefact("list of layers", _Information, "report this with the version of TensorRT")
Layer = Mapping[str, Any]

# The inspector writes "Row major linear FP16 format", "Half", "Float", or "Thirty-two wide channel vectorized row major
# Int8 format". The word boundary keeps uint8 from matching int8.
_TYPES: Final = {
    "int8": re.compile(r"\bint8\b", re.IGNORECASE),
    "half": re.compile(r"\b(half|fp16|float16)\b", re.IGNORECASE),
    "single": re.compile(r"\b(float|fp32|float32|tf32)\b", re.IGNORECASE),
}
# Names of kernels: sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32, ampere_h16816gemm, ampere_sgemm, ampere_scudnn.
_KERNEL_TYPES: Final = {
    "int8": re.compile(r"i8i8|i8f|int8|imma|i8816|i16832", re.IGNORECASE),
    "half": re.compile(r"(?<!b)f16f16|h884|h1688|h16816|hgemm|hcudnn|fp16|hmma", re.IGNORECASE),
    "single": re.compile(r"f32f32|sgemm|scudnn|fp32|ffma|s1688|s884|tf32", re.IGNORECASE),
}
# Separators in the names of fused layers: "a + b", "a || b", "PWN(a, PWN(b))", "{ForeignNode[a...b]}".
_SEPARATORS: Final = re.compile(r" \+ | \|\| |, |\.\.\.|[(){}\[\]]")
_NODE: Final = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x00-\x20\[])")
_PIECE: Final = re.compile(r"_myl\d+_\d+$")
_LOGGED: Final = re.compile(r"Name: (?P<Name>.*?), LayerType: (?P<LayerType>[^,]*), ")


def listed_layers(information: str | bytes) -> tuple[Layer | str, ...]:
    """The layers in the inspector's JSON. Without detailed profiling, each is only a name.

    The text is read leniently, because TensorRT writes some that is no JSON: control characters inside strings (0x1E
    between the entries of ``Metadata``), and bytes that are no UTF-8.

    Raises:
        ArtefactError: the text is not JSON, or lists no layers.
    """
    where = "the inspector's answer"
    text = information.decode("utf-8", "replace") if isinstance(information, bytes) else information
    try:
        values = json.loads(text.rstrip("\0"), strict=False, parse_constant=lambda _name: None)
    except (ValueError, RecursionError) as error:
        raise _INFORMATION.damaged(where, str(error)) from error
    return _INFORMATION.convert(values, where=where).Layers


def type_of_layer(layer: Layer) -> str:
    """The narrowest type of a layer's inputs, outputs and weights: ``int8``, ``half``, ``single`` or ``other``."""
    return _narrowest([*_tensor_types(layer, "Inputs", "Outputs"), *_weight_types(layer)])


def type_of_product(layer: Layer) -> str:
    """The type that a convolution or matrix product multiplies in, as :func:`type_of_layer`.

    Its inputs and weights say it. Its outputs do not: a float32 convolution may quantise what it writes. It can also
    read int8 values and multiply them with float weights, so int8 needs both. Where the inspector hides the types (no
    shapes are set), the weights say it, or the name of the kernel.
    """
    weights = _narrowest([*_weight_types(layer)])
    told = _narrowest([*_tensor_types(layer, "Inputs"), *_weight_types(layer)])
    if told == "int8" and weights not in ("int8", "other"):
        return weights
    return told if told != "other" else _narrowest([str(layer.get("TacticName", ""))], _KERNEL_TYPES)


def types_of_tensors(layer: Layer, *sides: str) -> set[str]:
    """Types of the tensors on these sides of a layer, ``Inputs`` or ``Outputs``."""
    return {_narrowest([told]) for told in _tensor_types(layer, *sides)}


def node_names(layer: Layer) -> set[str]:
    """Names of the ONNX nodes that a layer computes, from ``Metadata`` and from its own name."""
    name = _PIECE.sub("", str(layer.get("Name", "")))
    return onnx_names(layer) | set(_SEPARATORS.split(name)) - {""}


def onnx_names(layer: Layer) -> set[str]:
    """Names of the ONNX nodes in a layer's ``Metadata``."""
    return set(_NODE.findall(str(layer.get("Metadata", ""))))


def _narrowest(texts: list[str], patterns: Mapping[str, re.Pattern[str]] = _TYPES) -> str:
    found = (kind for kind, pattern in patterns.items() if any(pattern.search(text) for text in texts))
    return next(found, "other")


def _tensor_types(layer: Layer, *sides: str) -> Iterator[str]:
    for side in sides:
        tensors = layer.get(side, [])
        for tensor in tensors if isinstance(tensors, list) else []:
            if isinstance(tensor, dict):
                # TensorRT 8.6 and 10 write Format/Datatype, 11 and TensorRT for RTX write Datatype.
                yield from (str(tensor[key]) for key in ("Format/Datatype", "Datatype") if key in tensor)


def _weight_types(layer: Layer) -> Iterator[str]:
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))


def layers_of_log(message: str) -> str:
    """The list of layers in TensorRT's verbose log, in the form of the inspector's answer.

    TensorRT for RTX logs it at the end of a build with detailed profiling verbosity, also without a GPU.

    Args:
        message: one line per layer: ``Name: a, LayerType: gemm, Inputs: [ { Name: x, Datatype: Half }], Outputs: ...``.
    """
    layers = []
    for line in message.split("\n"):  # splitlines would split at the separators of Metadata too
        found = _LOGGED.match(line)
        if found is not None:
            sides = {side: [{"Datatype": told} for told in _logged_types(line, side)] for side in ("Inputs", "Outputs")}
            layers.append({**found.groupdict(), **sides, "Metadata": line.rpartition(", Metadata: ")[2]})
    return json.dumps({"Layers": layers})


def _logged_types(line: str, side: str) -> list[str]:
    """Types of the tensors in a side's brackets, which may hold further ones."""
    start = line.find(f", {side}: [")
    if start < 0:
        return []
    depth = 0
    for end in range(line.index("[", start), len(line)):
        depth += (line[end] == "[") - (line[end] == "]")
        if depth == 0:
            return re.findall(r"Datatype: ([^,}]*[^,} ])", line[start:end])
    return []
