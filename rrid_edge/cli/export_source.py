"""The trained network of ``rrid-edge export``: read, and calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rrid_edge.cli.common import require, say
from rrid_edge.cli.steps import say_weights

if TYPE_CHECKING:
    from rrid_export.source import SourceNetwork

HUB_WEIGHTS: Final = (".safetensors",)
"""Endings of the files that are fetched from the hub. Other checkpoints may hold code."""


def load_network(given: Mapping[str, Any]) -> SourceNetwork:
    """Read the network of a checkpoint, and say what was chosen in it.

    Args:
        given: the parameters of ``rrid-edge export``, and ``origin``: the address of a checkpoint of the hub.
    """
    require("rrid_export.onnx", "export", "exporting a model")
    require("onnxruntime", "onnxruntime", "checking an exported model")  # now, not after minutes of work
    from rrid_export.source import load_source

    size = {"height_px": given["height"], "width_px": given["width"]}
    source = load_source(given["checkpoint"], **size, weights=given["weights"])
    say_weights(source.notes)
    return replace(source, origin=given["origin"] or "")


def calibrate_network(
    source: SourceNetwork, model: Path, images: Path, flip: bool, *, quiet: bool
) -> dict[str, object]:
    """Write the int8 file of ``model``, measured against the trained network in PyTorch; returns the facts."""
    require("rrid_calib.calibrate", "calib", "calibrating a model")
    require("onnxruntime", "calib", "calibrating a model")
    from rrid_calib.calibrate import calibrate
    from rrid_export.torch_engine import TorchEngine

    result = calibrate(model, images, reference=TorchEngine(source, flip=flip, max_batch=16), say=say)
    if not quiet:
        print(result.describe())
    return result.to_dict()
