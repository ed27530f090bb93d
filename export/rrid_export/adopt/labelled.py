"""Labelled crops for suggestions: a dataset's test split, or a folder whose names hold people and cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rrid_edge.errors import UsageError, printable
from rrid_edge.parity.reference import CropFiles, Crops
from rrid_train.data.layout import is_dataset, load_dataset
from rrid_train.data.samples import labels_of

FEWEST_PEOPLE: Final = 10
"""With fewer people, the paired test could settle nothing among about ten comparisons: 2 ** -9 * 10 is near 0.05."""


def labelled_files(folder: Path, pattern: str | None, *, follow_links: bool = False) -> CropFiles:
    """List the crops of a folder with their people and cameras.

    Without a pattern, a dataset gives queries and gallery of its test split: a network may know the other people by
    heart. Any other folder gives all its image files.

    Args:
        folder: of a dataset or of crops.
        pattern: how file names are read; see :func:`rrid_edge.crops.naming.name_reader`. None reads a dataset, or
            ``auto``.
        follow_links: take links to files outside a folder of crops too.

    Raises:
        UsageError: the folder does not exist, or the pattern does not work.
        DatasetError: the dataset contradicts itself.
    """
    if pattern is not None or not is_dataset(folder):
        return CropFiles.of(folder, pattern=pattern or "auto", follow_links=follow_links)
    data = load_dataset(folder, num_val=0)
    # One file may be query and gallery.
    samples = {sample.path.relative_to(folder).as_posix(): sample for sample in (*data.gallery, *data.query)}
    return CropFiles(folder, tuple(samples), labels_of(list(samples.values())))


def check_labels(folder: Path, crops: Crops) -> None:
    """Refuse crops that cannot tell variants apart.

    Raises:
        UsageError: the crops are unlabelled, or of too few people or cameras.
    """
    sample = crops.sample
    if sample.unmeasured is not None:
        hint = "" if sample.labelled else _read_otherwise(crops.names)
        raise UsageError(
            f"{printable(folder)}: {sample.unmeasured}{hint}", parameter=("suggest", "pattern") if hint else "suggest"
        )
    if sample.people < FEWEST_PEOPLE:
        people = "1 person" if sample.people == 1 else f"{sample.people} people"
        raise UsageError(
            f"{printable(folder)}: {people} with crops in two cameras are too few to tell ways of preprocessing apart: "
            f"expected {FEWEST_PEOPLE} or more, better 40; add labelled crops of other people",
            parameter="suggest",
        )


def _read_otherwise(names: tuple[str, ...]) -> str:
    """How files in folders may be read."""
    if all("/" in name for name in names):
        return "; or read folders with the pattern person-folders, camera-folders or folders"
    return ""
