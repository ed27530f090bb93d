"""Market-1501-style folders: Market-1501, DukeMTMC-reID and CUHK03-NP as their authors distribute them.

There are three folders: ``bounding_box_train``, ``query``, ``bounding_box_test``. Names begin with person and camera:
``0002_c1s1_000451_03.jpg`` (Market-1501, Zheng et al., ICCV 2015), ``0002_c2_f0046182.jpg`` (DukeMTMC-reID, Zheng et
al., ICCV 2017), ``0001_c1_1.png`` (CUHK03-NP, Zhong et al., CVPR 2017). Person -1 is junk (a poor detection); person
0000 is a distractor.
"""

from __future__ import annotations

import re
from pathlib import Path

from rrid_edge.errors import DatasetError, printable
from rrid_train.data.samples import Sample

MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_NAME = re.compile(r"(-1|\d+)_c(\d+)")


def is_market(root: Path) -> bool:
    """Whether ``root`` holds the three folders."""
    return all((root / name).is_dir() for name in MARKET_FOLDERS)


def read_market(root: Path) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Read the three folders.

    Returns:
        Training images, queries and gallery, each in the order of the names. Training images have no junk and no
        distractors; the gallery keeps both.

    Raises:
        DatasetError: a folder is missing or empty, or a name does not give person and camera.
    """
    train, query, gallery = (_read_folder(root / name) for name in MARKET_FOLDERS)
    return [sample for sample in train if sample.person > 0], query, gallery


def _read_folder(folder: Path) -> list[Sample]:
    if not folder.is_dir():
        raise DatasetError(f"{printable(folder)}: this folder of the dataset is missing; copy the dataset again")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    named = [(path, _NAME.match(path.name)) for path in paths]
    odd = [path for path, found in named if found is None]
    if odd or not paths:
        what = (
            f"{printable(odd[0].name)} is not named <person>_c<camera>... ({len(odd)} in all)"
            if odd
            else "no images in it"
        )
        raise DatasetError(f"{printable(folder)}: {what}; copy the dataset again, or remove other files")
    return [Sample(path, int(found[1]), int(found[2])) for path, found in named if found is not None]
