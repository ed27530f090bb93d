"""Weights of networks and backbones from files of other programs, and ImageNet weights."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torchvision

from rrid_edge.errors import UsageError, printable
from rrid_edge.progress import step
from rrid_train.fitting import load_exactly
from rrid_train.model import RRID
from rrid_train.weight_files.choosing import ChosenWeights, choose_weights
from rrid_train.weight_files.opening import Opened, open_weights

_ANCHOR = "layer1.0.conv1.weight"
"""A tensor of every ResNet, in torchvision's and in timm's naming."""
_CLASSIFIERS = ("fc.", "head.", "classifier.", "last_linear.", "linear.")


def load_weights(path: Path, weights: str | None = None) -> ChosenWeights:
    """The tensors of a weight file that holds an RRID network.

    It reads ``.safetensors``, state dicts and whole pickled modules, in PyTorch's zip format, in the older one and as
    plain pickles. A state dict may lie under any key, and its names may have any prefix. Nothing in the file is run.

    Args:
        path: the file. Its content decides how it is read, its name does not.
        weights: ``ema`` (averaged) or ``raw``; None takes the averaged ones where the file holds both.

    Raises:
        UsageError: no such file, or it does not hold these weights.
        CheckpointError: the file is damaged, holds no tensors, or asks for more than tensors.
    """
    return weights_of(open_weights(path), weights)


def weights_of(opened: Opened, weights: str | None = None) -> ChosenWeights:
    """The tensors of an RRID network in a file that is open; as :func:`load_weights`."""
    return choose_weights(opened, f"base.{_ANCHOR}", weights)


def load_backbone(model: RRID, source: str, weights: str | None = None) -> tuple[str, ...]:
    """Load pre-trained weights into the backbone of ``model``.

    Args:
        model: the network; only its backbone changes.
        source: ``imagenet`` (torchvision's weights, downloaded once), ``none`` (keep the random weights), or a weight
            file in torchvision's or timm's naming, under any key and prefix. Its classifier is ignored.
        weights: ``ema`` or ``raw``; see :func:`load_weights`.

    Returns:
        What was taken off, converted or left out, a short phrase each.

    Raises:
        UsageError: the download failed, there is no such file, or it does not hold these weights.
        CheckpointError: the file is damaged or holds another backbone.
    """
    if source in ("none", "imagenet") and weights is not None:
        raise UsageError(
            f"weights {weights} can be chosen in a file only, but the backbone starts from {source}; leave it out",
            parameter="weights",
        )
    if source == "none":
        return ()
    path = _imagenet_weights(model.config.backbone) if source == "imagenet" else Path(source)
    chosen = choose_weights(open_weights(path), _ANCHOR, weights)
    state = {key: value for key, value in chosen.tensors.items() if not key.startswith(_CLASSIFIERS)}
    load_exactly(model.base, state, where=printable(path))
    return chosen.notes


def _imagenet_weights(name: str) -> Path:
    """The file of torchvision's ImageNet weights in the cache of ``torch.hub``; it is downloaded once.

    ``torch.hub`` would also read it, with ``torch.load``, which runs what lies in the cache under this name.

    Raises:
        UsageError: the download failed.
    """
    url: str = torchvision.models.get_model_weights(name)["DEFAULT"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    sha256_start = path.stem.rpartition("-")[2]  # torchvision's names end in it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with step(f"downloading {path.name}"):
            torch.hub.download_url_to_file(url, str(path), sha256_start, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"torchvision's ImageNet weights for {name} cannot be downloaded ({error}); give a file in torchvision's "
            "naming, or none to start from random weights",
            parameter="backbone_weights",
        ) from error
    return path
