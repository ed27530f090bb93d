"""Write small ONNX models without the package ``onnx``. Field numbers: ``onnx.proto``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.model.onnx_graph import TYPES
from rrid_edge.model.protobuf import encoded, encoded_number

_IR_VERSION, _OPSET = 8, 17
_INTEGER, _INTEGERS = 2, 7
"""Types of attributes."""
_NUMBERS: Final = {name: number for number, name in TYPES.items()}


def tensor(name: str, values: NDArray[Any]) -> bytes:
    """A ``TensorProto``."""
    sizes = b"".join(encoded_number(1, size) for size in values.shape)
    kind = encoded_number(2, _NUMBERS[values.dtype.name])
    return sizes + kind + encoded(8, name.encode()) + encoded(9, np.ascontiguousarray(values).tobytes())


def node(operator: str, inputs: Iterable[str], output: str, **attributes: int | Sequence[int]) -> bytes:
    """A ``NodeProto`` with one output; its attributes are integers or lists of them."""
    content = b"".join(encoded(1, name.encode()) for name in inputs)
    content += encoded(2, output.encode()) + encoded(4, operator.encode())
    for name, value in attributes.items():
        single = isinstance(value, int)
        numbers = encoded_number(3, value) if isinstance(value, int) else b"".join(encoded_number(8, n) for n in value)
        content += encoded(
            5, encoded(1, name.encode()) + numbers + encoded_number(20, _INTEGER if single else _INTEGERS)
        )
    return content


def model(
    nodes: Sequence[bytes],
    constants: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
) -> bytes:
    """A ``ModelProto`` with float32 inputs and outputs.

    Args:
        nodes: what :func:`node` returned, in the order of computation.
        constants: initialisers by name.
        inputs: shapes by name.
        outputs: shapes by name.
    """
    graph = b"".join(encoded(1, one) for one in nodes) + encoded(2, b"rrid-edge")
    graph += b"".join(encoded(5, tensor(name, values)) for name, values in constants.items())
    graph += b"".join(encoded(11, _described(name, shape)) for name, shape in inputs.items())
    graph += b"".join(encoded(12, _described(name, shape)) for name, shape in outputs.items())
    return encoded_number(1, _IR_VERSION) + encoded(7, graph) + encoded(8, encoded_number(2, _OPSET))


def _described(name: str, shape: Sequence[int]) -> bytes:
    """A ``ValueInfoProto`` of a float32 tensor."""
    sizes = b"".join(encoded(1, encoded_number(1, size)) for size in shape)
    kind = encoded_number(1, _NUMBERS["float32"]) + encoded(2, sizes)
    return encoded(1, name.encode()) + encoded(2, encoded(1, kind))
