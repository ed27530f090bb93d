"""Trained networks in PyTorch, as references of parity and of the benchmark."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.model.spec import ModelSpec
from rrid_export.source import SourceNetwork, load_source
from rrid_export.torch_engine import TorchEngine
from rrid_train.checkpoint import is_checkpoint

_MAX_BATCH = 16


def open_network(path: Path, spec: ModelSpec, weights: str | None = None) -> TorchEngine:
    """Open the trained network of a checkpoint in PyTorch.

    Args:
        path: checkpoint of ``rrid-edge train``, or the published network's weights.
        spec: spec of the model to compare with. It sets the mirrored view, and the input size of published weights.
        weights: ``ema`` or ``raw``; see :func:`rrid_export.source.load_source`.

    Raises:
        UsageError: the file does not exist, or does not hold these weights.
        CheckpointError: the file is damaged or holds no RRID network.
    """
    return TorchEngine(load_network(path, spec, weights), flip=spec.flip, max_batch=_MAX_BATCH)


def load_network(path: Path, spec: ModelSpec, weights: str | None = None) -> SourceNetwork:
    """Read a checkpoint. Published weights have no input size, so they get that of ``spec``."""
    size: dict[str, int] = {} if is_checkpoint(path) else {"height_px": spec.height_px, "width_px": spec.width_px}
    return load_source(path, **size, weights=weights)
