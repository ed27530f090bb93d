"""Keep weights out of steps that would copy them: conversion of operator sets and inference of shapes."""

from __future__ import annotations

from typing import Any

from onnx import numpy_helper

_LARGE_BYTES = 1024
"""Larger tensors are weights. Smaller ones may be shapes, which the converter and shape inference read."""


def take_weights(model: Any) -> dict[str, bytes]:  # noqa: ANN401 - a protobuf message
    """Take the values of the large tensors out of a model, which keeps their types and shapes.

    Returns:
        The values, by the tensor's name.
    """
    weights = {}
    for tensor in model.graph.initializer:
        if not tensor.raw_data and tensor.ByteSize() > _LARGE_BYTES:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        if len(tensor.raw_data) > _LARGE_BYTES:
            weights[tensor.name] = tensor.raw_data
            tensor.raw_data = b""
    return weights


def put_weights(model: Any, weights: dict[str, bytes]) -> None:  # noqa: ANN401 - a protobuf message
    """Put back what :func:`take_weights` took."""
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.raw_data = weights.pop(tensor.name)
    assert not weights, sorted(weights)
