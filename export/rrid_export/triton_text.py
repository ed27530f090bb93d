"""Texts of Triton's ``config.pbtxt`` that the network, its decoder and the ensemble share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from rrid_edge.model.spec import INPUT_NAME, ModelSpec

_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


def quoted(text: str) -> str:
    """A string of a text protobuf."""
    return json.dumps(text, ensure_ascii=False)


def numbers(values: Iterable[int]) -> str:
    """Numbers of a list, with commas."""
    return ", ".join(map(str, values))


def tensor(side: str, name: str, data_type: str, dims: Iterable[int]) -> str:
    """A line that declares an input or output. Its shape leaves the batch out.

    Args:
        side: ``input`` or ``output``.
        name: name of the tensor.
        data_type: Triton's name of its type, for example ``TYPE_UINT8``.
        dims: shape of one item.
    """
    return f"{side} [ {{ name: {quoted(name)} data_type: {data_type} dims: [ {numbers(dims)} ] }} ]"


def images(side: str, spec: ModelSpec) -> str:
    """The line of the images that a network takes, in the form of its input."""
    return tensor(side, INPUT_NAME, _TYPES[spec.input_dtype], spec.input_shape)


def parameters(values: Mapping[str, str]) -> list[str]:
    """Lines of parameters for clients to read."""
    return [
        f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}"
        for key, value in values.items()
    ]
