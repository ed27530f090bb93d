"""Goldens: images and the source network's descriptors of them, to check parity on machines without PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import atomic_output
from rrid_edge.model.spec import HEX64, HOW_MADE, ModelSpec
from rrid_edge.parity.archive import ArraySchema, read_arrays
from rrid_edge.ranking.labels import Labels

_SCHEMAS: Final = {
    "images": ArraySchema(r"\|u1", ("N", "height", "width", 3)),
    "descriptors": ArraySchema("<f4", ("N", "D")),
    "names": ArraySchema("<U[0-9]{1,4}", ("N",)),
    "fingerprint": ArraySchema("<U64", ()),
    "persons": ArraySchema("<i8", ("N",)),
    "cameras": ArraySchema("<i8", ("N",)),
}
_AGAIN: Final = f"write it again with: {HOW_MADE}"
_MOST_IMAGES: Final = 10_000
"""A parity check compares every two images."""
_MOST_VALUE: Final = 1e9
_CODE_POINTS: Final = 0x110000


@dataclass(frozen=True)
class Goldens:
    """Images, and the descriptors that the source network gave for them when it was exported or adopted.

    Attributes:
        images: uint8 (N, height, width, 3).
        descriptors: float32 (N, D).
        names: paths of the N source files, relative to their folder.
        fingerprint: fingerprint of the network.
        labels: persons and cameras of the N images; -1 where unknown.
    """

    images: NDArray[np.uint8]
    descriptors: NDArray[np.float32]
    names: tuple[str, ...]
    fingerprint: str
    labels: Labels


def save_goldens(path: Path, goldens: Goldens) -> None:
    """Write goldens atomically as a compressed ``.npz``.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_output(path) as partial:
        np.savez_compressed(
            partial,
            images=np.ascontiguousarray(goldens.images),
            descriptors=np.ascontiguousarray(goldens.descriptors),
            names=np.array(goldens.names, dtype=np.str_),
            fingerprint=np.array(goldens.fingerprint),
            persons=np.ascontiguousarray(goldens.labels.persons, np.int64),
            cameras=np.ascontiguousarray(goldens.labels.cameras, np.int64),
        )


def load_goldens(path: Path) -> Goldens:
    """Read goldens back.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is damaged or holds no goldens of this package.
    """
    try:
        stored = read_arrays(path, _SCHEMAS)
        _check(stored)
    except FileNotFoundError as error:
        raise UsageError(
            f"{printable(path)}: no such goldens file; write it beside the model with: {HOW_MADE}"
        ) from error
    except ValueError as error:
        raise ModelFileError(
            f"{printable(path)}: not a goldens file, or damaged ({printable(str(error))}); {_AGAIN}"
        ) from error
    return Goldens(
        stored["images"],
        stored["descriptors"],
        tuple(str(name) for name in stored["names"]),
        str(stored["fingerprint"]),
        Labels(stored["persons"], stored["cameras"]),
    )


def load_goldens_of(path: Path, spec: ModelSpec) -> Goldens:
    """Read the goldens of a model. Those of another network are returned too: the parity check names both networks.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is damaged, or its arrays do not have the model's sizes.
    """
    goldens = load_goldens(path)
    found = (*goldens.images.shape[1:3], goldens.descriptors.shape[1])
    expected = (spec.height_px, spec.width_px, spec.dimension)
    if goldens.fingerprint == spec.fingerprint and found != expected:
        raise ModelFileError(
            f"{printable(path)}: damaged goldens (images of {found[0]} x {found[1]} px with {found[2]:,} values, "
            f"expected {expected[0]} x {expected[1]} px with {expected[2]:,}); {_AGAIN}"
        )
    return goldens


def _check(stored: dict[str, NDArray[Any]]) -> None:
    """Refuse arrays whose values cannot be those of goldens.

    Raises:
        ValueError: it names the array.
    """
    count = len(stored["images"])
    if not 1 <= count <= _MOST_IMAGES:
        raise ValueError(f"{count:,} images, expected 1 to {_MOST_IMAGES:,}")
    for name in ("names", "fingerprint"):
        if np.any(stored[name].reshape(-1).view(np.uint32) >= _CODE_POINTS):
            raise ValueError(f"{name} are no texts")
    if any("\0" in str(name) for name in stored["names"]):
        raise ValueError("a name with a zero in it")
    if not re.match(HEX64, str(stored["fingerprint"])):
        raise ValueError("the fingerprint is no sha256")
    descriptors = stored["descriptors"]
    if not np.all(np.abs(descriptors) <= _MOST_VALUE):  # also refuses NaN
        raise ValueError("a descriptor is not finite, or too large")
