"""Read the graph of an ONNX file without the package ``onnx``: nodes, attributes, types, and small constants.

Weights are skipped: only constants of at most :data:`MOST_KEPT_BYTES` bytes are read. Field numbers: ``onnx.proto``.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.model.onnx_header import EXPORT_HINT, no_onnx
from rrid_edge.model.protobuf import fields, text, varint

MOST_KEPT_BYTES: Final = 1 << 16
"""Larger constants are weights. Scales and zero points of a layer with 2048 channels have 8 KB."""
TYPES: Final = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1",
}  # fmt: skip
"""Element types of ONNX, by number."""
_STORED: Final = {"float32": 4, "int8": 5, "float16": 5, "int32": 5, "uint8": 5, "bool": 5, "int64": 7}
"""Field with the values of a type where they are not stored as raw bytes."""


@dataclass(frozen=True)
class Constant:
    """A constant of the graph.

    Attributes:
        dtype: element type, one of :data:`TYPES`.
        shape: sizes of its axes.
        values: the values, or None if there are too many or their type has no NumPy equivalent.
    """

    dtype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | None


@dataclass(frozen=True)
class GraphNode:
    """A node.

    Attributes:
        name: its name; empty if it has none.
        operator: its operator.
        domain: the operator's domain; empty for ONNX's own.
        inputs: names of its inputs; empty for one that is left out.
        outputs: names of its outputs.
        attributes: its attributes that are integers or lists of integers; None for others.
        constant: the tensor of a ``Constant`` node.
    """

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int | tuple[int, ...] | None]
    constant: Constant | None = None


@dataclass
class OnnxGraph:
    """The main graph of a file.

    Attributes:
        opsets: version of the operator set, by domain; empty for ONNX's own.
        functions: number of local functions.
        nodes: nodes in the order of the file.
        constants: initialisers by name.
        types: element type of inputs, outputs and described tensors, by name.
        sparse: number of sparse initialisers.
    """

    opsets: dict[str, int] = field(default_factory=dict)
    functions: int = 0
    nodes: list[GraphNode] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    sparse: int = 0


def read_graph(path: Path, *, remedy: str = EXPORT_HINT) -> OnnxGraph:
    """Read the graph of an ONNX file.

    Args:
        path: the file.
        remedy: what messages tell to do.

    Raises:
        ModelFileError: the file is not ONNX, or damaged.
    """
    try:
        with path.open("rb") as stream:
            # Not closed here: an error's traceback holds views of the map. The last view unmaps the file.
            return parse_graph(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    except ValueError as error:
        raise no_onnx(path, error, remedy=remedy) from error


def parse_graph(model: memoryview) -> OnnxGraph:
    """The graph of a serialised model.

    Raises:
        ValueError: the model is damaged.
    """
    result = OnnxGraph()
    for number, value in fields(model):
        if number == 7 and isinstance(value, memoryview):
            _parse_graph(value, result)
        elif number == 8 and isinstance(value, memoryview):
            entries = dict(fields(value))
            result.opsets[_text(entries.get(1))] = _integer(entries.get(2))
        elif number == 25:
            result.functions += 1
    return result


def _parse_graph(view: memoryview, result: OnnxGraph) -> None:
    for number, value in fields(view):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            result.nodes.append(_node(value))
        elif number == 5:
            name, constant = _tensor(value)
            result.constants[name] = constant
        elif number in (11, 12, 13):
            name, dtype = _value(value)
            if dtype:
                result.types[name] = dtype
        elif number == 15:
            result.sparse += 1


def _node(view: memoryview) -> GraphNode:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
    attributes: dict[str, int | tuple[int, ...] | None] = {}
    constant = None
    for number, value in fields(view):
        if number in texts and isinstance(value, memoryview):
            texts[number].append(text(value))
        elif number == 5 and isinstance(value, memoryview):
            name, content, tensor = _attribute(value)
            attributes[name] = content
            constant = tensor or constant
    inputs, outputs, *others = texts.values()
    last = ["".join(found[-1:]) for found in others]
    return GraphNode(last[0], last[1], last[2], tuple(inputs), tuple(outputs), attributes, constant)


def _attribute(view: memoryview) -> tuple[str, int | tuple[int, ...] | None, Constant | None]:
    name, single, several, tensor = "", None, list[int](), None
    for number, value in fields(view):
        if number == 1:
            name = _text(value)
        elif number == 3:
            single = _integer(value)
        elif number == 5 and isinstance(value, memoryview):
            tensor = _tensor(value)[1]
        elif number == 8:
            several += _integers(value)
    return name, tuple(several) if several else single, tensor


def _tensor(view: memoryview) -> tuple[str, Constant]:
    name, dtype, shape, external = "", "", list[int](), False
    stored: dict[int, list[int | memoryview]] = {}
    for number, value in fields(view):
        if number == 1:
            shape += _integers(value)
        elif number == 2:
            dtype = TYPES.get(_integer(value), f"type {value!r}")
        elif number == 8:
            name = _text(value)
        elif number in (13, 14):
            external = True
        else:
            stored.setdefault(number, []).append(value)
    values = None if external else _values(dtype, stored)
    return name, Constant(dtype, tuple(shape), values)


def _values(dtype: str, stored: dict[int, list[int | memoryview]]) -> NDArray[Any] | None:
    """The values of a tensor, flat; None if there are too many."""
    (raw,) = stored.get(9, [memoryview(b"")])[-1:]
    if dtype not in _STORED or (isinstance(raw, memoryview) and len(raw) > MOST_KEPT_BYTES):
        return None
    if isinstance(raw, memoryview) and len(raw):
        return np.frombuffer(bytes(raw), np.dtype(dtype).newbyteorder("<"))
    parts = stored.get(_STORED[dtype], [])
    if sum(len(part) if isinstance(part, memoryview) else 8 for part in parts) > MOST_KEPT_BYTES:
        return None
    if dtype == "float32":
        return np.frombuffer(b"".join(bytes(part) for part in parts if isinstance(part, memoryview)), "<f4")
    numbers = np.array([number for part in parts for number in _integers(part)], np.int64)
    return numbers.astype(np.uint16).view(np.float16) if dtype == "float16" else numbers.astype(dtype)


def _value(view: memoryview) -> tuple[str, str]:
    """Name and element type of a described tensor; empty type if it is no tensor."""
    name, dtype = "", ""
    for number, value in fields(view):
        if number == 1:
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            for part, tensor in fields(value):
                if part == 1 and isinstance(tensor, memoryview):
                    kind = _integer(dict(fields(tensor)).get(1))
                    dtype = TYPES.get(kind, f"type {kind}")
    return name, dtype


def _text(value: int | memoryview | None) -> str:
    return text(value) if isinstance(value, memoryview) else ""


def _integer(value: int | memoryview | None) -> int:
    """A number; negative ones are stored as 64 bits."""
    if not isinstance(value, int):
        return 0
    value &= (1 << 64) - 1  # damaged ones have up to 70 bits
    return value - (1 << 64) if value >= 1 << 63 else value


def _integers(value: int | memoryview) -> list[int]:
    """Numbers of a repeated field: one alone, or several packed."""
    if isinstance(value, int):
        return [_integer(value)]
    found, position = list[int](), 0
    while position < len(value):
        number, position = varint(value, position)
        found.append(_integer(number))
    return found
