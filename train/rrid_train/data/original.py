"""A dataset in its original form: labelled files and one or more splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.crops.folder import ImageFiles, find_images, is_image_name
from rrid_edge.errors import printable
from rrid_train.data.samples import Sample

MOST_PERSON_DIGITS = 6
"""A person of more digits is numbered like a name: ``meta.json`` has a list entry for each number."""
MOST_CAMERA_DIGITS = 4
"""A camera of more digits is numbered like a name, for the same reason."""


@dataclass(frozen=True)
class OriginalSplit:
    """One split.

    Attributes:
        train: images to train on and to validate with.
        query: test queries.
        gallery: test gallery.
    """

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]


@dataclass(frozen=True)
class Original:
    """A dataset as its authors distribute it, or folders of your own crops.

    Attributes:
        name: name for messages and checkpoints.
        root: folder of the original.
        splits: one or more splits.
        persons: the dataset's own name of a person, by number, where that is another one.
        cameras: the dataset's own name of a camera, by number, where that is another one.
        pattern: how galleries read the names of its files, see :func:`rrid_edge.crops.naming.name_reader`; ``none`` if
            they tell neither person nor camera.
        remarks: what was left out, one line each.
    """

    name: str
    root: Path
    splits: tuple[OriginalSplit, ...]
    persons: Mapping[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    cameras: Mapping[int, str] = field(default_factory=dict)
    pattern: str = "auto"


def remarks_of(folders: Iterable[ImageFiles]) -> tuple[str, ...]:
    """What several folders left out, with one count of the files with other endings."""
    skipped: list[tuple[Path, str]] = []
    endings: Counter[str] = Counter()
    for found in folders:
        skipped += found.skipped
        endings.update(found.endings)
    return ImageFiles([], tuple(skipped), endings).remarks


def remarks_on_others(root: Path, taken: Iterable[Path]) -> tuple[str, ...]:
    """One line about images in ``root`` that lie in none of the folders ``taken``, or nothing."""
    known = set(taken)
    folders = [path for path in sorted(root.iterdir()) if path not in known and not path.name.startswith(".")]
    counts = {path.name: len(find_images(path).paths) for path in folders if path.is_dir() and not path.is_symlink()}
    loose = sum(path.is_file() and is_image_name(path.name) for path in folders)
    total = sum(counts.values()) + loose
    if not total:
        return ()
    names = [printable(name) for name, count in counts.items() if count] or ["beside the folders"]
    return (f"left out: {total:,} image{'s' * (total > 1)} outside the folders of the dataset ({', '.join(names)})",)
