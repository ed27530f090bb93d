"""The fingerprint of an adopted network: of its inner graph, its weights, and what it is fed.

Names of tensors and nodes, their order in the file, descriptions and the program that wrote it do not count. So a copy
of a file with other names has the same fingerprint, and a change of one weight or of one fact has another.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np
from onnx import AttributeProto, helper, numpy_helper

from rrid_export.adopt.facts import Facts

_INPUT = "input"


def adopted_fingerprint(model: Any, facts: Facts) -> str:  # noqa: ANN401 - a protobuf message
    """sha256 (hex) of the part of a network that computes the descriptor, and of the facts.

    Each tensor has a digest: of its values for a constant, else of its node's operator, attributes and inputs'
    digests. The digest of the output covers all that it depends on.

    Args:
        model: the original network, its nodes in an order in which they can be computed.
        facts: what the network is fed.
    """
    graph, preprocessing = model.graph, facts.preprocessing
    digests = {tensor.name: _of_values(tensor) for tensor in graph.initializer}
    digests[preprocessing.input] = sha256_of_text(_INPUT)
    for node in graph.node:
        inputs = [digests[name] if name else "" for name in node.input]
        attributes = {attribute.name: _of_attribute(attribute) for attribute in node.attribute}
        is_constant = node.op_type == "Constant" and list(attributes) == ["value"]
        for place, name in enumerate(node.output):
            own = [node.domain.removeprefix("ai.onnx"), node.op_type, sorted(attributes.items()), inputs, place]
            digests[name] = attributes["value"] if is_constant else sha256_of_text(json.dumps(own))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return fingerprint_of(f"{digests[preprocessing.output]} opset {opset}", facts)


def fingerprint_of(network: str, facts: Facts) -> str:
    """sha256 (hex) of a network's digest and of all facts but the names of its input and output."""
    told = {key: value for key, value in asdict(facts.preprocessing).items() if key not in ("input", "output")}
    sides = {"height_px": facts.height_px, "width_px": facts.width_px, "flip": facts.flip}
    return sha256_of_text(json.dumps({"network": network, **sides, **told}, sort_keys=True, separators=(",", ":")))


def sha256_of_text(text: str) -> str:
    """sha256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _of_values(tensor: Any) -> str:  # noqa: ANN401 - a protobuf message
    values = numpy_helper.to_array(tensor)
    digest = hashlib.sha256(f"{tensor.data_type} {list(tensor.dims)}\n".encode())
    little = values.astype(values.dtype.newbyteorder("<"), copy=False) if values.dtype.kind in "fiu" else values
    digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


def _of_attribute(attribute: Any) -> str:  # noqa: ANN401 - a protobuf message
    if attribute.type == AttributeProto.TENSOR:
        return _of_values(attribute.t)
    value = helper.get_attribute_value(attribute)
    plain = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return json.dumps(
        [attribute.type, list(plain) if not isinstance(plain, (str, int, float)) else plain], default=repr
    )
