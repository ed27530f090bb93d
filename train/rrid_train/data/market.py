"""Market-1501-style folders: Market-1501, DukeMTMC-reID and CUHK03-NP as their authors distribute them.

There are three folders: ``bounding_box_train``, ``query``, ``bounding_box_test``. Names begin with person and camera:
``0002_c1s1_000451_03.jpg`` (Market-1501, Zheng et al., ICCV 2015), ``0002_c2_f0046182.jpg`` (DukeMTMC-reID, Zheng et
al., ICCV 2017), ``0001_c1_1.png`` (CUHK03-NP, Zhong et al., CVPR 2017). Person -1 is junk (a poor detection), also
written ``junk``; person 0000 is a distractor. ``s1`` is the sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.crops.folder import ImageFiles
from rrid_edge.crops.naming import number_names
from rrid_edge.errors import DatasetError, printable
from rrid_edge.ranking.labels import JUNK_PERSON
from rrid_train.data.listed import images_below
from rrid_train.data.original import (
    MOST_CAMERA_DIGITS,
    MOST_PERSON_DIGITS,
    Original,
    OriginalSplit,
    remarks_of,
    remarks_on_others,
)
from rrid_train.data.samples import Sample

MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_NAME = re.compile(r"(?:(\d+)|-0*1|junk)_c(\d+)(s\d+)?", re.ASCII)


@dataclass(frozen=True)
class MarketImages:
    """All images of Market-1501-style folders, each folder in the order of the names.

    Attributes:
        train: of ``bounding_box_train``, with junk and distractors.
        query: of ``query``.
        gallery: of ``bounding_box_test``.
        persons: names of the persons whose numbers are too long to keep, by number.
        remarks: what was left out, one line each.
    """

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    persons: Mapping[int, str]
    remarks: tuple[str, ...]


def is_market(root: Path) -> bool:
    """Whether ``root`` holds the three folders."""
    return all((root / name).is_dir() for name in MARKET_FOLDERS)


def read_market(root: Path, name: str | None = None, *, follow_links: bool = False) -> Original:
    """Read the three folders. Training images have no junk and no distractors; the gallery keeps both.

    Args:
        root: folder of the original.
        name: name of the dataset; the folder's name when None.
        follow_links: allow links that lead out of ``root``.

    Raises:
        DatasetError: a folder is missing or empty, a name does not give person and camera, or a link leads out.
    """
    images = market_images(root, follow_links=follow_links)
    train = tuple(sample for sample in images.train if sample.person > 0)
    split = OriginalSplit(train, images.query, images.gallery)
    return Original(name or root.resolve().name, root, (split,), images.persons, images.remarks)


def market_images(root: Path, *, follow_links: bool = False) -> MarketImages:
    """All images of the three folders; as :func:`read_market`."""
    folders = [images_below(root, root / name, follow_links=follow_links) for name in MARKET_FOLDERS]
    named = [_named(root / name, found) for name, found in zip(MARKET_FOLDERS, folders, strict=True)]
    everything = [facts for part in named for _, facts in part]
    persons, cameras = (
        dict(zip(told, number_names(told, r"-1|\d+", 1, digits), strict=True))
        for told, digits in (
            ([person for person, _, _ in everything], MOST_PERSON_DIGITS),
            ([camera for _, camera, _ in everything], MOST_CAMERA_DIGITS),
        )
    )
    train, query, gallery = (
        tuple(Sample(path, persons[person], cameras[camera], sequence) for path, (person, camera, sequence) in part)
        for part in named
    )
    long = {number: person for person, number in persons.items() if str(number) != person}
    remarks = (*remarks_of(folders), *remarks_on_others(root, [root / name for name in MARKET_FOLDERS]))
    return MarketImages(train, query, gallery, long, remarks)


def _number(digits: str) -> str:
    return digits.lstrip("0") or "0"


_Facts = tuple[str, str, str]
"""Person, camera and sequence as written, the first two without leading zeros."""
_JUNK = str(JUNK_PERSON)


def _named(folder: Path, found: ImageFiles) -> list[tuple[Path, _Facts]]:
    matches = [(path, _NAME.match(path.name)) for path in found.paths]
    odd = [path for path, match in matches if match is None or path.parent != folder]
    if odd or not matches:
        wrong = printable(odd[0].relative_to(folder)) if odd else ""
        what = f"{wrong} is not named <person>_c<camera>... ({len(odd)} in all)" if odd else "no images in it"
        raise DatasetError(f"{printable(folder)}: {what}; copy the dataset again, or remove other files")
    return [
        (path, (_JUNK if match[1] is None else _number(match[1]), _number(match[2]), match[3] or ""))
        for path, match in matches
        if match is not None
    ]
