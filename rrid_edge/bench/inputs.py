"""Inputs of a benchmark: images with the reference's descriptors, and names of yardsticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.names import goldens_path
from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.reference import (
    PARITY_CROPS,
    OpenNetwork,
    Reference,
    computed_reference,
    open_checkpoint,
    read_crops,
)

YARDSTICKS = ("published", "torch-compile")
"""Names of the yardsticks, in the order of the table; ``rrid_export.yardsticks`` runs them."""
QUICK_CROPS = 40
"""Crops of a quick benchmark: every engine computes all of them."""


@dataclass(frozen=True)
class InputSettings:
    """What to measure on.

    Attributes:
        goldens: goldens of the model; None uses those beside it.
        data: folder of labelled crops to use instead of goldens; needs ``checkpoint``.
        checkpoint: the network that the model was exported from.
        count: largest number of crops of ``data`` or the goldens; see
            :func:`rrid_edge.ranking.sampling.sample_people`.
        seed: seed of their choice.
        against: names of :data:`YARDSTICKS` to compare with; need ``checkpoint``.

    Raises:
        UsageError: a yardstick is unknown, ``checkpoint`` is missing, or both ``data`` and ``goldens`` are given.
    """

    goldens: Path | None = None
    data: Path | None = None
    checkpoint: Path | None = None
    count: int = PARITY_CROPS
    seed: int = 0
    against: Sequence[str] = ()

    def __post_init__(self) -> None:
        unknown = next((name for name in self.against if name not in YARDSTICKS), None)
        if unknown is not None:
            raise UsageError(
                f"yardstick {unknown!r} is unknown: expected {' or '.join(YARDSTICKS)}", parameter="against"
            )
        if self.against and self.checkpoint is None:
            raise UsageError(
                f"the yardstick {self.against[0]} runs the trained network: give its checkpoint", parameter="checkpoint"
            )
        if self.data is not None and self.goldens is not None:
            raise UsageError(
                "data and goldens exclude each other: parity is measured on one of them; give only one",
                parameter=("data", "goldens"),
            )
        if self.data is not None and self.checkpoint is None:
            raise UsageError("data is compared with the trained network: give its checkpoint", parameter="checkpoint")


def read_inputs(
    model: Path, spec: ModelSpec, settings: InputSettings, open_network: OpenNetwork | None = None
) -> Reference:
    """Read the goldens, or run the trained network on crops.

    Args:
        model: the model file.
        spec: its spec.
        settings: see :class:`InputSettings`.
        open_network: opens a checkpoint; needed for ``data``.

    Raises:
        UsageError: the goldens or the folder do not exist, or there are too few crops.
        MissingDependencyError: ``data`` is given, and PyTorch is missing.
        ModelFileError: the goldens are damaged.
    """
    if settings.data is None or settings.checkpoint is None:
        path = settings.goldens or goldens_path(model)
        return Reference.of_goldens(path, spec).limited(settings.count, settings.seed)
    with open_checkpoint(settings.checkpoint, spec, open_network) as network:
        crops = read_crops(settings.data, network.spec, settings.count, seed=settings.seed)
        images = f"{len(crops.names)} crops of {printable(settings.data)}"
        name = f"{printable(settings.checkpoint)} on {network.runtime}, {images}"
        return computed_reference(network, name, crops, network.spec)
