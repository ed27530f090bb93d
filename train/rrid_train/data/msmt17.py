"""MSMT17 (Wei et al., CVPR 2018) as its authors distribute it, or exported to Market-1501-style folders.

The original has the folders ``train`` and ``test`` (V1), or ``mask_train_v2`` and ``mask_test_v2`` (V2), and the lists
``list_train.txt``, ``list_val.txt``, ``list_query.txt`` and ``list_gallery.txt``. A line is a path and a person:
``0000/0000_000_01_0303morning_0015_0.jpg 0``. The third part of the file name is the camera, the fourth the recording.

Persons of training and test are numbered separately, both from 0. Here the numbers of training start at 1, because 0
is a distractor, and those of test follow them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rrid_edge.crops.folder import is_image_name
from rrid_edge.errors import DatasetError, printable
from rrid_train.data.listed import check_files, check_inside, images_below, listed_path
from rrid_train.data.market import is_market, market_images
from rrid_train.data.original import (
    MOST_CAMERA_DIGITS,
    MOST_PERSON_DIGITS,
    Original,
    OriginalSplit,
    remarks_of,
    remarks_on_others,
)
from rrid_train.data.samples import Sample

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_MAX_BYTES = 64 << 20
_LINE = re.compile(r"\s*(\S(?:.*\S)?)\s+(\d+)\s*", re.ASCII)
_NAME = re.compile(r"[^_/]+_[^_/]+_(\d+)_(?:(\d{4}(?:morning|noon|afternoon))_)?.*", re.ASCII)


def is_msmt17(root: Path) -> bool:
    """Whether ``root`` holds the lists."""
    return (root / LISTS[0]).is_file() and (root / LISTS[2]).is_file()


def read_msmt17(root: Path, *, follow_links: bool = False) -> Original:
    """Read MSMT17. ``list_train.txt`` and ``list_val.txt`` together are the training images, as in the paper.

    Args:
        root: folder of the original, with the lists, or with the three Market-1501-style folders.
        follow_links: allow links that lead out of ``root``.

    Raises:
        DatasetError: a list or folder is missing, a line cannot be read, or a file is missing or leads out. The message
            names the list and its line.
    """
    if is_market(root) and not is_msmt17(root):
        images = market_images(root, follow_links=follow_links)
        return _numbered(root, images.train, images.query, images.gallery, images.remarks)
    folders = {part: _folder(root, part) for part in _FOLDERS}
    lists = [
        _List(root / name, folders["train" if name in LISTS[:2] else "test"])
        for name in LISTS
        if (root / name).exists() or name != LISTS[1]
    ]
    for entry in lists:
        check_inside(root, entry.path, follow_links=follow_links)
    samples = {entry.path.name: entry.read() for entry in lists}
    check_files(root, (sample.path for part in samples.values() for sample in part), follow_links=follow_links)
    train = [*samples[LISTS[0]], *samples.get(LISTS[1], [])]
    query, gallery = samples[LISTS[2]], samples[LISTS[3]]
    _refuse_contradictions(root, train, [*query, *gallery])
    remarks: list[str] = []
    if LISTS[1] not in samples:
        remarks.append(f"there is no {LISTS[1]}: only {LISTS[0]} is trained on")
    listed = {sample.path for part in samples.values() for sample in part}
    found = [images_below(root, folder, follow_links=follow_links) for folder in folders.values()]
    unlisted = [path for images in found for path in images.paths if path not in listed]
    if unlisted:
        first = printable(unlisted[0].relative_to(root))
        remarks.append(f"left out: {len(unlisted):,} image(s) that no list names ({first})")
    others = remarks_on_others(root, folders.values())
    return _numbered(root, train, query, gallery, (*remarks, *remarks_of(found), *others))


def _numbered(
    root: Path,
    train: Sequence[Sample],
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    remarks: tuple[str, ...],
) -> Original:
    """Number the persons of both parts: training from 1, then test."""
    if not train:
        raise DatasetError(f"{printable(root)}: no training images; copy the dataset again")
    after = max(sample.person for sample in train) + 2
    persons: dict[int, str] = {}

    def moved(samples: Iterable[Sample], first: int, part: str) -> tuple[Sample, ...]:
        kept = [replace(sample, person=sample.person + first if sample.person >= 0 else -1) for sample in samples]
        persons.update({sample.person: f"{part} {sample.person - first:04d}" for sample in kept if sample.person >= 0})
        return tuple(kept)

    split = OriginalSplit(
        tuple(sample for sample in moved(train, 1, "train") if sample.person > 0),
        moved(query, after, "test"),
        moved(gallery, after, "test"),
    )
    return Original("msmt17", root, (split,), dict(sorted(persons.items())), remarks)


def _folder(root: Path, part: str) -> Path:
    names = _FOLDERS[part]
    found = sorted(path for path in root.iterdir() if path.name.lower() in names and path.is_dir())
    if len(found) != 1:
        seen = "neither" if not found else "both"
        raise DatasetError(
            f"{printable(root)}: {seen} of the folders {' and '.join(names)}; expected one: give the folder of one "
            "version of MSMT17, with its lists"
        )
    return found[0]


@dataclass(frozen=True)
class _List:
    """One list, and the folder of its images."""

    path: Path
    folder: Path

    def read(self) -> list[Sample]:
        lines = self._text().split("\n")
        samples: list[Sample] = []
        seen: dict[Path, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() and number == len(lines):
                continue
            sample = self._sample(line.rstrip("\r"), number)
            if seen.setdefault(sample.path, number) != number:
                raise self._wrong(number, f"{sample.path.name!r} is in line {seen[sample.path]} too")
            samples.append(sample)
        if not samples:
            raise DatasetError(f"{printable(self.path)}: no lines; copy the list again")
        return samples

    def _sample(self, line: str, number: int) -> Sample:
        found = _LINE.fullmatch(line)
        if found is None or len(found[2].lstrip("0")) > MOST_PERSON_DIGITS:
            raise self._wrong(number, f"{line[:200]!r} is not a path and a person's number")
        path = listed_path(self.folder, found[1], f"{printable(self.path)}: line {number}")
        name = _NAME.fullmatch(path.name)
        if name is None or len(name[1].lstrip("0")) > MOST_CAMERA_DIGITS or not is_image_name(path.name):
            raise self._wrong(number, f"{path.name[:200]!r} is no image named <person>_<number>_<camera>_...")
        return Sample(path, int(found[2]), int(name[1]), name[2] or "")

    def _text(self) -> str:
        try:
            if self.path.stat().st_size > _MAX_BYTES:
                raise DatasetError(
                    f"{printable(self.path)}: larger than {_MAX_BYTES:,} bytes; expected a list of MSMT17: copy it "
                    "again"
                )
            if not self.path.is_file():
                raise DatasetError(
                    f"{printable(self.path)}: no ordinary file; expected a list of MSMT17: copy it again"
                )
            content = self.path.read_bytes()
        except OSError as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise DatasetError(f"{printable(self.path)}: {reason}; copy the lists of MSMT17 again") from error
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._wrong(content.count(b"\n", 0, error.start) + 1, "this is no UTF-8 text") from error

    def _wrong(self, number: int, what: str) -> DatasetError:
        return DatasetError(f"{printable(self.path)}: line {number}: {what}; correct this line, or copy the list again")


def _refuse_contradictions(root: Path, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Refuse an image in both lists of training, and a folder of two persons."""
    seen: set[Path] = set()
    for sample in train:
        if sample.path in seen:
            raise DatasetError(
                f"{printable(root)}: {printable(sample.path.relative_to(root))} is in {LISTS[0]} and in {LISTS[1]}; "
                "copy the lists again"
            )
        seen.add(sample.path)
    persons: dict[Path, int] = {}
    for sample in (*train, *test):
        if persons.setdefault(sample.path.parent, sample.person) != sample.person:
            raise DatasetError(
                f"{printable(root)}: the folder {printable(sample.path.parent.relative_to(root))} is listed for the "
                f"persons {persons[sample.path.parent]} and {sample.person}; copy the lists again"
            )
