"""Checkpoints: a safetensors file with the network's weights and its whole configuration inside.

What only a resumed training needs (optimiser, scaler, counters) lies in a second file beside it; a deployed network is
the first file alone. Both are written to a temporary name, synced and renamed: a kill leaves the previous one whole.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rrid_edge import __version__
from rrid_edge.errors import CheckpointError, UsageError, printable
from rrid_edge.files import atomic_output
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig

_KEY = "rrid.checkpoint"
_CLASSES = "num_identities"  # the word of the file format, kept so that every version reads every checkpoint
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as a file holds it.

    Attributes:
        model: sizes of the network.
        num_persons: classes of its classifiers.
        training_data: name of the data it was trained on.
        epoch: finished epochs.
        config: every setting of the training.
        metrics: validation measures when it was written.
        state: tensors by name.
    """

    model: ModelConfig
    num_persons: int
    training_data: str
    epoch: int
    config: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)


def save_checkpoint(path: Path, model: RRID, checkpoint: Checkpoint) -> None:
    """Write ``model``'s weights and the facts of ``checkpoint`` (its ``state`` is not used) atomically."""
    facts = {
        "format": _FORMAT,
        "version": __version__,
        "model": asdict(checkpoint.model),
        _CLASSES: checkpoint.num_persons,
        "training_data": checkpoint.training_data,
        "epoch": checkpoint.epoch,
        "config": checkpoint.config,
        "metrics": checkpoint.metrics,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_output(path) as partial:
        save_file(tensors, partial, metadata={_KEY: json.dumps(facts)})


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of this package (not: some other weight file).

    Raises:
        UsageError: no such file.
        CheckpointError: named ``.safetensors`` but damaged.
    """
    if path.suffix != ".safetensors":
        return False
    return _KEY in _metadata(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; the tensors are on the CPU.

    Raises:
        UsageError: no such file.
        CheckpointError: damaged, of a newer format, or without the configuration.
    """
    where = printable(path)
    facts_text = _metadata(path).get(_KEY)
    if facts_text is None:
        raise CheckpointError(f"{where}: no checkpoint of rrid-edge train (its configuration is not inside)")
    try:
        facts = json.loads(facts_text)
        if facts["format"] > _FORMAT:
            raise CheckpointError(
                f"{where}: format {facts['format']} is newer than this rrid-edge reads; update rrid-edge"
            )
        model = ModelConfig(**{**facts["model"], "stripes": tuple(facts["model"]["stripes"])})
        with safe_open(path, framework="pt") as stored:
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        return Checkpoint(
            model,
            int(facts[_CLASSES]),
            str(facts["training_data"]),
            int(facts["epoch"]),
            dict(facts["config"]),
            dict(facts["metrics"]),
            state,
        )
    except (KeyError, TypeError, ValueError, SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{where}: the checkpoint's configuration is damaged ({error}); take another one"
        ) from error


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UsageError(f"{printable(path)}: no such checkpoint; give a file that rrid-edge train wrote")
    try:
        with safe_open(path, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise CheckpointError(
            f"{printable(path)}: not a safetensors file, or damaged ({str(error).splitlines()[0]}); copy it again"
        ) from error


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write what a resumed training needs besides the weights: tensors, numbers, strings and containers only."""
    with atomic_output(path) as partial:
        torch.save(state, partial)


def load_training_state(path: Path) -> dict[str, Any]:
    """Read it back, building nothing but tensors and plain containers.

    Raises:
        UsageError: no such file.
        CheckpointError: damaged.
    """
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such training state; a run folder with last.state.pt is needed", parameter="resume"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds on damaged data
        reason = str(error).strip().splitlines()[0][:120]
        raise CheckpointError(
            f"{printable(path)}: the training state is damaged ({reason}); start a new run"
        ) from error
    return state
