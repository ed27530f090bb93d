"""Checkpoints: one safetensors file with the network's weights and all training settings.

A second file, the training state, holds what only a resumed run needs: optimiser, scaler, counters. Deployment needs
only the checkpoint. Both files are written atomically: after a kill, the previous version is intact.
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
    """Content of a checkpoint file.

    Attributes:
        model: backbone and sizes of the network.
        num_persons: classes of its classifiers.
        training_data: name of the dataset it was trained on.
        epoch: number of finished epochs.
        config: all settings of the training, by field name.
        metrics: mAP and CMC of the validation at this epoch, in [0, 1]; empty if none ran.
        state: tensors by name, on the CPU.
    """

    model: ModelConfig
    num_persons: int
    training_data: str
    epoch: int
    config: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)


def save_checkpoint(path: Path, model: RRID, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: the weights of ``model``, and all fields of ``checkpoint`` except ``state``."""
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
    """Whether a file is a checkpoint of this package, not another weight file.

    Raises:
        UsageError: no such file.
        CheckpointError: the name ends in ``.safetensors``, but the file is damaged.
    """
    if path.suffix != ".safetensors":
        return False
    return _KEY in _metadata(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UsageError: no such file.
        CheckpointError: the file is damaged, has a newer format, or is no checkpoint of this package.
    """
    where = printable(path)
    facts_text = _metadata(path).get(_KEY)
    if facts_text is None:
        raise CheckpointError(
            f"{where}: the file holds no training settings, expected a checkpoint of rrid-edge train; give such a file"
        )
    try:
        facts = json.loads(facts_text)
        if facts["format"] > _FORMAT:
            raise CheckpointError(
                f"{where}: the checkpoint has format {facts['format']}, expected at most {_FORMAT}; update rrid-edge"
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
            f"{where}: the checkpoint's settings are damaged ({error}); use another checkpoint"
        ) from error


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UsageError(f"{printable(path)}: no such checkpoint; give a file that rrid-edge train wrote")
    try:
        with safe_open(path, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise CheckpointError(
            f"{printable(path)}: not a safetensors file, or damaged ({str(error).splitlines()[0]}); copy the file again"
        ) from error


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write the training state atomically.

    Args:
        path: file to write.
        state: tensors, numbers, strings, and lists and dictionaries of them; nothing else can be read back.
    """
    with atomic_output(path) as partial:
        torch.save(state, partial)


def load_training_state(path: Path) -> dict[str, Any]:
    """Read a training state. Only tensors and plain containers are built, so the file cannot run code.

    Raises:
        UsageError: no such file.
        CheckpointError: the file is damaged.
    """
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such training state; give the folder of a run, which holds last.state.pt",
            parameter="resume",
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds on damaged data
        reason = str(error).strip().splitlines()[0][:120]
        raise CheckpointError(
            f"{printable(path)}: the training state is damaged ({reason}); start a new run"
        ) from error
    return state
