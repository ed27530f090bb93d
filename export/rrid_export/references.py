"""Trained networks in PyTorch, as references of parity and of the benchmark."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.engines import Engine
from rrid_edge.model.spec import ModelSpec
from rrid_export.source import SourceNetwork, load_source
from rrid_export.torch_engine import TorchEngine
from rrid_train.checkpoint import is_checkpoint

_MAX_BATCH = 16


def open_network(path: Path, spec: ModelSpec) -> Engine:
    """Open the trained network of a checkpoint in PyTorch.

    Args:
        path: checkpoint of ``rrid-edge train``, or the published network's weights.
        spec: spec of the model to compare with. It sets the mirrored view, and the input size of published weights.

    Raises:
        UsageError: the file does not exist.
        CheckpointError: the file is damaged or holds no RRID network.
    """
    return TorchEngine(load_network(path, spec), flip=spec.flip, max_batch=_MAX_BATCH)


def load_network(path: Path, spec: ModelSpec) -> SourceNetwork:
    """Read a checkpoint. Published weights have no input size, so they get that of ``spec``."""
    size = {} if is_checkpoint(path) else {"height_px": spec.height_px, "width_px": spec.width_px}
    return load_source(path, **size)
