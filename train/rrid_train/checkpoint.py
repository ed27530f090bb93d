"""Checkpoints: one safetensors file with the network's weights and all training settings.

A second file, the training state, holds what only a resumed run needs: optimiser, scaler, counters. Deployment needs
only the checkpoint. Both files are written atomically: after a kill, the previous version is intact.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import torch
from msgspec import Meta
from safetensors.torch import save_file
from torch import Tensor

from rrid_edge import __version__
from rrid_edge.artefacts import Artefact
from rrid_edge.errors import CheckpointError, UsageError, printable
from rrid_edge.files import atomic_output
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig
from rrid_train.weight_files.opening import Opened, open_weights

_KEY = "rrid.checkpoint"
_CLASSES = "num_identities"  # the word of the file format, kept so that every version reads every checkpoint
_FORMAT = 1


_Size = Annotated[int, Meta(ge=1, le=1 << 20)]


@dataclass(frozen=True)
class _Model:
    """Facts of the network; all of them are needed."""

    backbone: str
    height_px: Annotated[int, Meta(ge=32, le=8192)]
    width_px: Annotated[int, Meta(ge=32, le=8192)]
    stripes: Annotated[tuple[Annotated[int, Meta(ge=2, le=512)], ...], Meta(min_length=1, max_length=64)]
    block_width: _Size


@dataclass(frozen=True)
class _Facts:
    """The settings in a checkpoint."""

    format: Annotated[int, Meta(ge=1)]
    model: _Model
    num_identities: _Size
    training_data: str
    epoch: Annotated[int, Meta(ge=0)]
    config: dict[str, Any]
    metrics: dict[str, float]


_COUNTERS: Final = ("step", "epoch", "validated", "steps_per_epoch", "processes")
_FACTS: Final = Artefact("settings of the checkpoint", _Facts, "use another checkpoint", CheckpointError, _FORMAT)


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
    """Whether a file is a checkpoint of this package, not another weight file. Its content decides, not its name.

    Raises:
        UsageError: no such file.
        CheckpointError: the file is damaged, or asks for more than tensors.
    """
    return holds_checkpoint(open_weights(path))


def holds_checkpoint(opened: Opened) -> bool:
    """Whether a file that is open is a checkpoint of this package."""
    return _KEY in opened.metadata


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UsageError: no such file.
        CheckpointError: the file is damaged, lacks a fact, has a newer format, or is no checkpoint of this package.
    """
    return checkpoint_of(open_weights(path))


def checkpoint_of(opened: Opened) -> Checkpoint:
    """Read the checkpoint in a file that is open; as :func:`load_checkpoint`."""
    if not holds_checkpoint(opened):
        raise CheckpointError(
            f"{opened.where}: the file holds no training settings, expected a checkpoint of rrid-edge train; give such "
            "a file"
        )
    facts = _FACTS.parse(opened.metadata[_KEY], where=opened.where)
    try:
        model = ModelConfig(**asdict(facts.model))
    except UsageError as error:
        raise CheckpointError(
            f"{opened.where}: damaged settings of the checkpoint ({error.message}); use another checkpoint"
        ) from error
    content = opened.content if isinstance(opened.content, dict) else {}
    state = {name: opened.tensor(stored) for name, stored in content.items()}
    return Checkpoint(model, facts.num_identities, facts.training_data, facts.epoch, facts.config, facts.metrics, state)


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
    where = printable(path)
    if not path.is_file():
        if path.parent.is_file():
            raise UsageError(
                f"{printable(path.parent)}: this is a file; expected the folder of a run, which holds {path.name}",
                parameter="resume",
            )
        raise UsageError(
            f"{where}: no such training state; give the folder of a run, which holds {path.name}",
            parameter="resume",
        )
    try:
        state = open_weights(path).plain()
    except CheckpointError as error:
        reason = error.message.removeprefix(f"{where}: ").partition(";")[0][:160]
        raise CheckpointError(f"{where}: the training state is damaged ({reason}); start a new run") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{where}: the training state is damaged (it is no dictionary); start a new run")
    for name in _COUNTERS:
        if type(value := state.get(name, 0)) is not int or not 0 <= value < 1 << 62:
            raise CheckpointError(
                f"{where}: the training state is damaged ({name} is {printable(repr(value)[:40])}, expected a whole "
                "number of at least 0); start a new run"
            )
    return state
