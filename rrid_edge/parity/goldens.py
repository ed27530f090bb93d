"""Goldens: images and PyTorch's descriptors of them, to check parity on machines without PyTorch."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import atomic_output
from rrid_edge.ranking.labels import Labels


@dataclass(frozen=True)
class Goldens:
    """Images, and the descriptors that PyTorch computed from them at export.

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
            images=goldens.images,
            descriptors=goldens.descriptors,
            names=np.array(goldens.names, dtype=np.str_),
            fingerprint=np.array(goldens.fingerprint),
            persons=goldens.labels.persons,
            cameras=goldens.labels.cameras,
        )


def load_goldens(path: Path) -> Goldens:
    """Read goldens back.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is damaged or holds no goldens of this package.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return Goldens(
                stored["images"],
                stored["descriptors"],
                tuple(str(name) for name in stored["names"]),
                str(stored["fingerprint"]),
                Labels(stored["persons"], stored["cameras"]),
            )
    except FileNotFoundError as error:
        raise UsageError(
            f"{printable(path)}: no such goldens file; write it beside the model with: rrid-edge export CHECKPOINT"
        ) from error
    except (ValueError, KeyError, OSError, EOFError, UsageError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelFileError(
            f"{printable(path)}: not a goldens file, or damaged ({error}); write it again with: rrid-edge export "
            "CHECKPOINT"
        ) from error
