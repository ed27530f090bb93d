"""What TensorRT's inspector says about the layers of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rrid_edge.artefacts import Artefact


@dataclass(frozen=True)
class _Information:
    Layers: tuple[dict[str, Any] | str, ...]  # TensorRT's name


_INFORMATION = Artefact("list of layers", _Information, "report this with the version of TensorRT")


def listed_layers(information: str) -> tuple[dict[str, Any] | str, ...]:
    """The layers in the inspector's JSON. Without detailed profiling, each is only a name.

    Raises:
        ArtefactError: the text is not JSON, or lists no layers.
    """
    return _INFORMATION.parse(information, where="the inspector's answer").Layers
