"""Ranges and forms of int8 models, without a whole calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers
from rrid_calib.ranges import Range, collect, ranges_of

FORMS = ("int8", "fine head", "float residuals")
"""All forms of an int8 model: docs/decisions/int8-graph.md."""


def tensors_of(model: Any) -> list[str]:
    """Return the names of the activations that int8 quantises."""
    return [tensor for layer in int8_layers(model) for tensor in layer.tensors]


def measured(model: Any, pixels: NDArray[np.uint8]) -> dict[str, Range]:
    """Return the ranges of all activations over these images: what they hold, unclipped."""
    return ranges_of(collect(model, tensors_of(model), pixels), "minmax")


def made_up(model: Any, limit: float = 12.7) -> dict[str, Range]:
    """Return the same range for all activations."""
    return dict.fromkeys(tensors_of(model), Range(limit))


def form_of(model: Any, name: str, ranges: dict[str, Range], *, signed: bool = True, **more: Any) -> Form:
    """Return one of the forms."""
    heads = () if name == "int8" else tuple(layer.name for layer in int8_layers(model) if layer.head)
    return Form(name, ranges, two_step_layers=heads, float_residuals=name == "float residuals", signed=signed, **more)
