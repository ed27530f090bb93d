"""The reference of a parity check: goldens, another model file or a checkpoint, and the crops to compare on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import Self

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import load_rgb, read_image
from rrid_edge.crops.naming import read_labels
from rrid_edge.engines import Engine, open_engine
from rrid_edge.errors import ImageError, UsageError, item_at_work, printable
from rrid_edge.machine.advice import missing_package
from rrid_edge.model.names import CHECKPOINT_SUFFIXES, Kind, goldens_path, is_engine, is_model, kind_of
from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.goldens import Goldens, load_goldens_of
from rrid_edge.progress import step
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import PeopleSample, sample_people

PARITY_CROPS = 512
"""Crops that a parity check reads from a folder, if it has so many."""


class InputSize(Protocol):
    """Something that knows the rows and columns of a network's input, such as a spec."""

    @property
    def height_px(self) -> int:
        """Rows."""

    @property
    def width_px(self) -> int:
        """Columns."""


class ChooseCrops(Protocol):
    """A function such as :func:`rrid_edge.ranking.sampling.sample_people`."""

    def __call__(self, labels: Labels, count: int, *, seed: int = 0) -> PeopleSample:
        """Choose ``count`` crops by their labels."""


OpenNetwork = Callable[[Path, ModelSpec], Engine]
"""Opens a checkpoint with the input size of a spec; see ``rrid_export.references.open_network``."""


@dataclass(frozen=True)
class Crops:
    """Crops of a folder.

    Attributes:
        images: uint8 (N, height, width, 3).
        names: paths of the N files, relative to the folder.
        labels: persons and cameras from the file names; -1 where unknown.
        sample: what the N crops allow to measure; its rows count the files of the folder, sorted by path.
        left_out: one line per file that cannot be read.
    """

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    labels: Labels
    sample: PeopleSample
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class CropFiles:
    """The image files of a folder, with their labels.

    Attributes:
        folder: the folder.
        names: paths of the N files, relative to the folder.
        labels: persons and cameras; -1 where unknown.
    """

    folder: Path
    names: tuple[str, ...]
    labels: Labels

    @classmethod
    def of(cls, folder: Path, *, pattern: str = "auto", follow_links: bool = False) -> Self:
        """All image files below a folder, labelled by their names.

        Args:
            folder: folder of crops.
            pattern: how names are read; see :func:`rrid_edge.crops.naming.name_reader`.
            follow_links: take links to files outside the folder too.

        Raises:
            UsageError: the folder does not exist, or the pattern does not work.
        """
        names = [path.relative_to(folder).as_posix() for path in list_images(folder, follow_links=follow_links)]
        return cls(folder, tuple(names), Labels(*read_labels(names, pattern)))


@dataclass(frozen=True)
class ReferenceSettings:
    """What to compare an engine with.

    Attributes:
        reference: checkpoint, model file or goldens; None uses the goldens beside the model.
        images: folder of crops. With goldens: the folder of their source files, to check their pixels.
        count: largest number of crops to read from the folder; see :func:`rrid_edge.ranking.sampling.sample_people`.
        seed: seed of their choice.
        follow_links: take links to files outside the folder too.
    """

    reference: Path | None = None
    images: Path | None = None
    count: int = PARITY_CROPS
    seed: int = 0
    follow_links: bool = False


@dataclass(frozen=True)
class Reference:
    """Images with the reference's descriptors.

    Attributes:
        name: name of the reference, for the report.
        goldens: the images and descriptors.
        sample: what their labels allow to measure.
        left_out: one line per file of the folder that cannot be read.
    """

    name: str
    goldens: Goldens
    sample: PeopleSample
    left_out: tuple[str, ...] = ()

    @classmethod
    def of_goldens(cls, path: Path, spec: ModelSpec) -> Self:
        """Read the goldens of a model.

        Raises:
            UsageError: the file does not exist.
            ModelFileError: the file is damaged, or its arrays do not have the model's sizes.
        """
        goldens = load_goldens_of(path, spec)
        return cls(f"goldens {printable(path)}", goldens, PeopleSample.of(goldens.labels))

    def limited(self, count: int, seed: int = 0) -> Self:
        """At most ``count`` of the images, chosen as :func:`~rrid_edge.ranking.sampling.sample_people` does."""
        goldens = self.goldens
        if count >= len(goldens.names):
            return self
        sample = sample_people(goldens.labels, count, seed=seed)
        rows = sample.rows
        names = tuple(goldens.names[row] for row in rows.tolist())
        chosen = Goldens(
            goldens.images[rows], goldens.descriptors[rows], names, goldens.fingerprint, goldens.labels[rows]
        )
        return replace(self, goldens=chosen, sample=sample)


def find_reference(
    model: Path, spec: ModelSpec, settings: ReferenceSettings, open_network: OpenNetwork | None = None
) -> Reference:
    """Read the reference of a model, or compute it.

    Args:
        model: the model file under test.
        spec: its spec.
        settings: see :class:`ReferenceSettings`.
        open_network: opens a checkpoint; None refuses checkpoints.

    Raises:
        UsageError: the reference does not exist or is of a wrong kind, or there is no folder or too few crops.
        MissingDependencyError: the reference is a checkpoint, and PyTorch is missing.
        ModelFileError: a file is damaged.
    """
    path = settings.reference or goldens_path(model)
    kind = kind_of(path)
    if kind is Kind.GOLDENS:
        return Reference.of_goldens(path, spec)
    if kind is not Kind.CHECKPOINT and not is_model(path):
        raise UsageError(
            f"{printable(path)}: not a reference: expected a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}), a model "
            "file or goldens (.npz)",
            parameter="reference",
        )
    if settings.images is None:
        raise UsageError(
            f"the reference {printable(path)} needs crops to compare on: give a folder of crops", parameter="images"
        )
    crops = read_crops(settings.images, spec, settings.count, seed=settings.seed, follow_links=settings.follow_links)
    with open_checkpoint(path, spec, open_network) if kind is Kind.CHECKPOINT else open_exact(path) as engine:
        return computed_reference(engine, f"{printable(path)} on {engine.runtime}", crops, spec)


def computed_reference(engine: Engine, name: str, crops: Crops, spec: ModelSpec) -> Reference:
    """Compute the reference's descriptors of crops; empty if ``engine`` is another network than ``spec``."""
    # Nothing is computed for another network: the parity check refuses its fingerprint.
    same_network = engine.spec.fingerprint == spec.fingerprint
    descriptors = engine.run(crops.images) if same_network else np.empty((0, 0), np.float32)
    goldens = Goldens(crops.images, descriptors, crops.names, engine.spec.fingerprint, crops.labels)
    return Reference(name, goldens, crops.sample, crops.left_out)


def open_checkpoint(path: Path, spec: ModelSpec, open_network: OpenNetwork | None) -> Engine:
    """Open the trained network of a checkpoint.

    Raises:
        MissingDependencyError: ``open_network`` is None.
    """
    if open_network is None:
        raise missing_package("torch", "export", "running a checkpoint")
    return open_network(path, spec)


def open_exact(path: Path) -> Engine:
    """Open a model file on the most exact runtime: float32 for an ONNX file."""
    if is_engine(path):
        return open_engine(path)
    if kind_of(path) is Kind.IR:
        return open_engine(path, "openvino", precision="fp32")
    if importlib.util.find_spec("onnxruntime") is not None:
        return open_engine(path, "onnxruntime")
    return open_engine(path, "openvino", precision="fp32")


def read_crops(folder: Path, spec: InputSize, count: int, *, seed: int = 0, follow_links: bool = False) -> Crops:
    """Read crops of a folder that can measure retrieval, in the input size of a model.

    People and cameras come from the file names; see :func:`rrid_edge.ranking.sampling.sample_people` for the choice.

    Args:
        folder: folder of crops.
        spec: spec of the model, or another bearer of its input size.
        count: largest number of crops, unreadable ones included.
        seed: seed of the choice.
        follow_links: take links to files outside the folder too.

    Raises:
        UsageError: the folder does not exist or has fewer than two readable crops.
    """
    return read_crop_files(CropFiles.of(folder, follow_links=follow_links), spec, count, seed=seed)


def read_crop_files(
    files: CropFiles, spec: InputSize, count: int, *, seed: int = 0, choose: ChooseCrops = sample_people
) -> Crops:
    """Read some of the files of a folder; see :func:`read_crops`.

    Args:
        files: the files.
        spec: spec of the model, or another bearer of its input size.
        count: largest number of crops, unreadable ones included.
        seed: seed of the choice.
        choose: how crops are chosen by their labels.

    Raises:
        UsageError: there are fewer than two readable crops.
    """
    chosen = choose(files.labels, count, seed=seed)
    images, rows, left_out = [], [], []
    with step("reading crops", len(chosen.rows)) as reading:
        for row in chosen.rows.tolist():
            path = files.folder / files.names[row]
            try:
                with item_at_work(path):
                    images.append(read_image(path, spec.height_px, spec.width_px))
                rows.append(row)
            except ImageError as error:
                left_out.append(error.message)
            reading.advance(1)
    if len(images) < 2:
        reason = f" (left out {left_out[0]})" if left_out else ""
        raise UsageError(
            f"{printable(files.folder)}: {len(images)} readable image(s){reason}; expected at least 2 crops; give 100 "
            "or more"
        )
    sample = PeopleSample.of(files.labels, rows, chosen.left_out_junk)
    names = tuple(files.names[row] for row in rows)
    return Crops(np.stack(images), names, files.labels[sample.rows], sample, tuple(left_out))


def read_sources(goldens: Goldens, folder: Path) -> list[Image.Image]:
    """Read the source files of goldens: RGB pictures in their original size.

    Raises:
        UsageError: a file is not in the folder.
        ImageError: a file cannot be read.
    """
    if missing := [name for name in goldens.names if not (folder / name).is_file()]:
        raise UsageError(
            f"{printable(folder)}: {len(missing)} of {len(goldens.names)} images of the goldens are missing, the first "
            f"is {printable(missing[0])}; give the folder that the goldens were made from, or none",
            parameter="images",
        )
    return [load_rgb(folder / name) for name in goldens.names]
