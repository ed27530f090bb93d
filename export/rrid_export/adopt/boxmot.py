"""What boxmot writes beside its exports: ``<file>.metadata.json``.

Known from files that boxmot 25.0.0 wrote. Its ``preprocess`` names how crops are resized: ``resize`` (stretched),
``resize_pad`` (padded, so that their aspect ratio stays), or null for weights that do not say; boxmot stretches then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.model.spec import HEX64
from rrid_export.adopt.foreign import ForeignNetwork

SIDECAR_ENDING: Final = ".metadata.json"
"""What boxmot adds to the name of a file for the facts beside it."""
_NEWEST_SCHEMA: Final = 1
_PADDED: Final = "resize_pad"
_REMEDY: Final = "export it again with boxmot, or remove this file and state the facts yourself"
_Side = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class BoxmotMetadata:
    """The part of the file that is read.

    Attributes:
        preprocess: how crops are resized.
        schema_version: version of the file's layout.
        artifact_sha256: sha256 of the exported file, hex; None if it is not stated.
        model_name: name of the architecture, for example ``osnet_x0_25``.
        input_shape: shape of the input in the order batch, channels, rows, columns; None if it is not stated.
    """

    preprocess: Literal["resize", "resize_pad"] | None
    schema_version: Annotated[int, Meta(ge=1)] = 1
    artifact_sha256: Annotated[str, Meta(pattern=HEX64)] | None = None
    model_name: str = ""
    input_shape: tuple[int | None, Literal[3], _Side | None, _Side | None] | None = None


_METADATA: Final = Artefact("metadata of boxmot", BoxmotMetadata, _REMEDY, ModelFileError)


def boxmot_facts(network: ForeignNetwork, *, has_mean_and_std: bool) -> dict[str, Any]:
    """What boxmot's metadata say of a network, as :class:`rrid_export.adopt.facts.Choices` names it.

    Args:
        network: the exported file.
        has_mean_and_std: whether the caller states both.

    Returns:
        The facts that win over the preset; empty where there is no such file.

    Raises:
        UsageError: the network is one for which boxmot's mean and std differ from the preset's.
        ModelFileError: the metadata are damaged, newer or of another file, or the network needs padded crops.
    """
    path = network.path.with_name(network.path.name + SIDECAR_ENDING)
    try:
        found = _METADATA.read(path)
    except FileNotFoundError:
        return {}
    where = printable(path)
    if found.schema_version > _NEWEST_SCHEMA:
        raise ModelFileError(
            f"{where}: metadata of boxmot of version {found.schema_version}, expected {_NEWEST_SCHEMA}; {_REMEDY}"
        )
    if found.artifact_sha256 not in (None, network.sha256):
        raise ModelFileError(
            f"{where}: the metadata are of another file than {printable(network.path.name)}; {_REMEDY}"
        )
    if found.preprocess == _PADDED:
        raise ModelFileError(
            f"{where}: preprocess is {_PADDED}: boxmot pads crops for this network, and rrid-edge stretches them; pad "
            "the crops yourself, remove this file, and adopt the network again"
        )
    if "clip" in found.model_name.lower() and not has_mean_and_std:
        raise UsageError(
            f"{where}: this is a CLIP network ({printable(found.model_name)[:40]}), which boxmot feeds with "
            "another mean and std than its other networks: state both, often 0.5,0.5,0.5",
            parameter=("mean", "std"),
        )
    shape = found.input_shape
    return {} if shape is None or None in shape[2:] else {"size": shape[2:]}
