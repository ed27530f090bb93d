"""Market-1501-style folders: Market-1501, DukeMTMC-reID and CUHK03-NP as their authors distribute them.

Three folders: ``bounding_box_train``, ``query`` and ``bounding_box_test``. Names begin with the person and the camera:
``0002_c1s1_000451_03.jpg`` (Zheng et al., ICCV 2015), ``0002_c2_f0046182.jpg`` (Zheng et al., ICCV 2017), ``0001_c1_1.png``
(CUHK03-NP, Zhong et al., CVPR 2017). Person -1 is junk (a poor detection of somebody), 0000 a distractor.
"""

from __future__ import annotations

import re
from pathlib import Path

from rrid_edge.errors import DatasetError, printable
from rrid_train.data.samples import Sample

MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_NAME = re.compile(r"(-1|\d+)_c(\d+)")


def is_market(root: Path) -> bool:
    """Whether a folder has the three folders."""
    return all((root / name).is_dir() for name in MARKET_FOLDERS)


def read_market(root: Path) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Training images (no junk, no distractors), queries, gallery (with both), each in the order of the names.

    Raises:
        DatasetError: a folder is missing or empty, or a name tells no person and camera.
    """
    train, query, gallery = (_read_folder(root / name) for name in MARKET_FOLDERS)
    return [sample for sample in train if sample.person > 0], query, gallery


def _read_folder(folder: Path) -> list[Sample]:
    if not folder.is_dir():
        raise DatasetError(f"{printable(folder)}: this folder of the dataset is missing")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    named = [(path, _NAME.match(path.name)) for path in paths]
    odd = [path for path, found in named if found is None]
    if odd or not paths:
        what = (
            f"{printable(odd[0].name)} is not named <person>_c<camera>... ({len(odd)} in all)"
            if odd
            else "no images in it"
        )
        raise DatasetError(f"{printable(folder)}: {what}")
    return [Sample(path, int(found[1]), int(found[2])) for path, found in named if found is not None]
