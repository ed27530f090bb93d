"""Read the network to export from a checkpoint, and compute its specification and fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rrid_edge import __version__
from rrid_edge.errors import UsageError, printable
from rrid_edge.file_kinds import why_no_file
from rrid_edge.files import sha256_of_file
from rrid_edge.model.spec import ModelSpec, fingerprint
from rrid_edge.progress import step
from rrid_train.checkpoint import checkpoint_of, holds_checkpoint
from rrid_train.model import RRID
from rrid_train.weight_files.choosing import RAW
from rrid_train.weight_files.opening import open_weights
from rrid_train.weights import weights_of

_PUBLISHED_SIZE = (384, 128)


@dataclass(frozen=True)
class SourceNetwork:
    """A trained network and where it came from.

    Attributes:
        model: the network in evaluation mode.
        path: the file that it was read from.
        sha256: sha256 of that file, hex.
        training_data: name of the training data, or ``unknown``.
        notes: what was taken off, chosen or converted when the file was read, a short phrase each.
        origin: where the file came from, for example ``hf://owner/name@commit/file``; empty for a file of this machine.
    """

    model: RRID
    path: Path
    sha256: str
    training_data: str
    notes: tuple[str, ...] = ()
    origin: str = ""

    def spec(self, *, flip: bool = True) -> ModelSpec:
        """The specification of the float32 model that this network is exported to."""
        config = self.model.config
        return ModelSpec(
            height_px=config.height_px,
            width_px=config.width_px,
            fingerprint=network_fingerprint(self.model, flip=flip),
            stripes=config.stripes,
            block_width=config.block_width,
            flip=flip,
            precision="fp32",
            backbone=config.backbone,
            source_sha256=self.sha256,
            training_data=self.training_data,
            version=__version__,
            origin=self.origin,
        )

    def describe(self) -> str:
        """Describe the network in one line: file, backbone, input size, stripes, number of people, training data."""
        config = self.model.config
        return (
            f"{printable(self.path)}: {config.backbone}, {config.height_px} x {config.width_px} px, stripes "
            f"{', '.join(map(str, config.stripes))}, {self.model.num_persons} people, trained on {self.training_data}"
        )


@step("reading the network")
def load_source(
    path: Path, *, height_px: int | None = None, width_px: int | None = None, weights: str | None = None
) -> SourceNetwork:
    """Read a checkpoint of this package, or weights of the published network.

    Args:
        path: a checkpoint of ``rrid-edge train``, or any file that :func:`rrid_train.weights.load_weights` reads.
        height_px: input height in pixels. Needed only if the file does not contain it; 384 if None.
        width_px: input width in pixels, under the same rule; 128 if None.
        weights: ``ema`` (averaged) or ``raw``; None takes the averaged ones where the file holds both.

    Raises:
        UsageError: the file does not exist or does not hold these weights, the size contradicts the checkpoint, or the
            stripes do not fit the size.
        CheckpointError: the file is not an RRID network, asks for more than tensors, or tensors are missing, unknown or
            of another shape.
    """
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: {why_no_file(path, 'checkpoint')}; give a file of rrid-edge train or of the "
            "published training"
        )
    opened, where = open_weights(path), printable(path)
    if not holds_checkpoint(opened):
        chosen = weights_of(opened, weights)
        height, width = height_px or _PUBLISHED_SIZE[0], width_px or _PUBLISHED_SIZE[1]
        model = RRID.from_state_dict(chosen.tensors, height_px=height, width_px=width, where=where)
        return SourceNetwork(model.eval(), path, sha256_of_file(path), "unknown", chosen.notes)
    checkpoint = checkpoint_of(opened)
    config = checkpoint.model
    for name, wanted, stored in (("height", height_px, config.height_px), ("width", width_px, config.width_px)):
        if wanted not in (None, stored):
            raise UsageError(
                f"{name} {wanted} px contradicts {where}, which was trained at {stored} px; leave it out",
                parameter=name,
            )
    if weights not in (None, RAW):
        raise UsageError(
            f"{where}: it holds only raw weights, but {weights} was asked for; leave the choice out",
            parameter="weights",
        )
    model = RRID.with_weights(config, checkpoint.num_persons, checkpoint.state, where=where)
    return SourceNetwork(model.eval(), path, sha256_of_file(path), checkpoint.training_data)


def network_fingerprint(model: RRID, *, flip: bool) -> str:
    """sha256 (hex) of the inference weights and of all settings that change the descriptor.

    Classifiers and batch counters are ignored, so removing them does not change the fingerprint.
    """
    config = model.config
    settings = {
        "network": "rrid",
        "backbone": config.backbone,
        "height_px": config.height_px,
        "width_px": config.width_px,
        "stripes": list(config.stripes),
        "block_width": config.block_width,
        "flip": flip,
    }
    tensors = {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), _bytes(tensor))
        for name, tensor in model.state_dict().items()
        if not name.startswith("fc_") and not name.endswith("num_batches_tracked")
    }
    return fingerprint(settings, tensors)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().to(torch.float32).contiguous().numpy().astype("<f4", copy=False).tobytes()
