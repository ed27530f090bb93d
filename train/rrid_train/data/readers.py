"""The readers of datasets in their original form, by kind, and how a kind is recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rrid_edge.errors import DatasetError, printable
from rrid_train.data.folders import read_folders
from rrid_train.data.market import MARKET_FOLDERS, is_market, read_market
from rrid_train.data.msmt17 import is_msmt17, read_msmt17
from rrid_train.data.original import Original
from rrid_train.data.two_cameras import is_prid, is_viper, read_cuhk01, read_prid, read_viper

RRID = "rrid"
"""The kind of the RRID layout, which :mod:`rrid_train.data.lists` reads."""

_READERS: dict[str, Callable[..., Original]] = {
    "market1501": read_market,
    "dukemtmc": read_market,
    "cuhk03": read_market,
    "msmt17": read_msmt17,
    "viper": read_viper,
    "prid2011": read_prid,
    "cuhk01": read_cuhk01,
    "folders": read_folders,
}


def read_original(root: Path, kind: str) -> Original:
    """Read a dataset in its original form, with the reader's default settings.

    Args:
        root: folder of the original.
        kind: one of :data:`rrid_train.settings.DATASET_TYPES`, except ``auto`` and ``rrid``.

    Raises:
        DatasetError: the dataset contradicts its layout.
    """
    return _READERS[kind](root)


def recognised(root: Path) -> str | None:
    """The kind of a dataset's folder, or None. CUHK01 and folders of your own crops have no form of their own."""
    if (root / "meta.json").is_file():
        return RRID
    forms = (("market1501", is_market), ("msmt17", is_msmt17), ("prid2011", is_prid), ("viper", is_viper))
    return next((kind for kind, has_form in forms if has_form(root)), None)


def recognise(root: Path) -> str:
    """The kind of a dataset's folder.

    Raises:
        DatasetError: the folder has the form of no dataset.
    """
    kind = recognised(root)
    if kind is None:
        raise DatasetError(
            f"{printable(root)}: neither the RRID layout (meta.json) nor a Market-1501-style folder "
            f"({', '.join(MARKET_FOLDERS)}), MSMT17, VIPeR or PRID 2011; {_near(root)}",
            parameter="dataset_type",
        )
    return kind


def _near(root: Path) -> str:
    """What to do about a folder that is no dataset: often it is one level too high or too low."""
    try:
        inside = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        inside = []
    for near in (*inside, root.parent if root.name else root.resolve().parent):
        if recognised(near) is not None:
            where = "inside it" if near in inside else "around it"
            return f"the folder {where} is a dataset: give {printable(near)}"
    return "give a folder that holds them, or make one with rrid-edge prepare"
