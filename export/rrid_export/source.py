"""The network to export: from a checkpoint file to a model with its specification and fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rrid_edge import __version__
from rrid_edge.errors import UsageError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.model.spec import ModelSpec, fingerprint
from rrid_train.checkpoint import is_checkpoint, load_checkpoint
from rrid_train.model import RRID
from rrid_train.weights import load_state_dict_file

_PUBLISHED_SIZE = (384, 128)


@dataclass(frozen=True)
class SourceNetwork:
    """A trained network and where it came from.

    Attributes:
        model: in evaluation mode.
        path: the file it was read from.
        sha256: of that file (hex).
        training_data: name of the data it was trained on, or ``unknown``.
    """

    model: RRID
    path: Path
    sha256: str
    training_data: str

    def spec(self, *, flip: bool = True) -> ModelSpec:
        """The specification of the model that this network is exported to, in fp32."""
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
        )

    def describe(self) -> str:
        """One line for people."""
        config = self.model.config
        return (
            f"{printable(self.path)}: {config.backbone}, {config.height_px} x {config.width_px} px, stripes "
            f"{', '.join(map(str, config.stripes))}, {self.model.num_persons} people, trained on {self.training_data}"
        )


def load_source(path: Path, *, height_px: int | None = None, width_px: int | None = None) -> SourceNetwork:
    """Read a checkpoint of this package, or the published network's weights.

    Args:
        path: ``.safetensors`` of ``rrid-edge train``, or a state dict (with or without ``module.`` prefixes) or whole
            pickled module in PyTorch's formats.
        height_px: input rows, where the file does not tell; 384 by default.
        width_px: input columns, likewise; 128 by default.

    Raises:
        UsageError: no such file, or a size that contradicts the checkpoint or that the stripes do not divide.
        CheckpointError: no RRID network, or tensors missing, extra or of another shape.
    """
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such checkpoint; give a file that rrid-edge train or the published training wrote"
        )
    training_data = "unknown"
    if is_checkpoint(path):
        checkpoint = load_checkpoint(path)
        config, state = checkpoint.model, checkpoint.state
        for name, wanted, stored in (("height", height_px, config.height_px), ("width", width_px, config.width_px)):
            if wanted not in (None, stored):
                raise UsageError(
                    f"{name} {wanted} px contradicts {printable(path)}, trained at {stored} px: leave it out",
                    parameter=name,
                )
        model = RRID(config, checkpoint.num_persons)
        training_data = checkpoint.training_data
        from rrid_train.model import load_exactly

        load_exactly(model, state, where=printable(path))
    else:
        height, width = height_px or _PUBLISHED_SIZE[0], width_px or _PUBLISHED_SIZE[1]
        model = RRID.from_state_dict(
            load_state_dict_file(path), height_px=height, width_px=width, where=printable(path)
        )
    return SourceNetwork(model.eval(), path, sha256_of_file(path), training_data)


def network_fingerprint(model: RRID, *, flip: bool) -> str:
    """sha256 (hex) of the inference weights and of every setting that changes the descriptor.

    Classifiers and batch counters do not count: stripping them leaves the fingerprint as it is.
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
