"""From a dataset in its original form, or your own crops, to a plan of the RRID layout."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.file_kinds import no_such
from rrid_edge.progress import step
from rrid_train.data.cuhk03_plan import plan_cuhk03
from rrid_train.data.folders import FolderSettings, read_folders
from rrid_train.data.market import read_market
from rrid_train.data.msmt17 import read_msmt17
from rrid_train.data.plan import Plan, plan_original
from rrid_train.data.two_cameras import read_cuhk01, read_prid, read_viper

KINDS = ("market1501", "dukemtmc", "cuhk03", "msmt17", "viper", "prid2011", "cuhk01", "folders")


@dataclass(frozen=True)
class PrepareSettings:
    """How to read the original.

    Attributes:
        images: CUHK03: ``labeled`` or ``detected``. PRID 2011: ``single`` or ``multi``. None takes the first.
        protocol: CUHK03: ``old``, ``new`` or ``auto``.
        folders: settings of your own crops; their seed draws the test people of VIPeR, PRID 2011 and CUHK01 too.
        follow_links: allow links that lead out of the original.
    """

    images: str | None = None
    protocol: str = "auto"
    folders: FolderSettings = field(default_factory=FolderSettings)
    follow_links: bool = False


@step("reading the original")
def plan_dataset(raw: Path, kind: str, settings: PrepareSettings, stack: contextlib.ExitStack) -> Plan:
    """Plan a dataset of any kind.

    Args:
        raw: folder of the original, or CUHK03's ``cuhk-03.mat``.
        kind: one of :data:`KINDS`.
        settings: how to read it.
        stack: keeps CUHK03's file open; close it after :func:`rrid_train.data.writing.write_plan`.

    Raises:
        UsageError: the kind or a setting is unknown, or there is no such folder.
        DatasetError: the original contradicts its form.
        MissingDependencyError: CUHK03 needs a package that is not installed.
    """
    if kind not in KINDS:
        raise UsageError(f"dataset kind {kind!r} is unknown: expected one of {', '.join(KINDS)}")
    if not raw.exists():
        raise UsageError(f"{printable(raw)}: {no_such(raw, 'folder')}; give the folder of the original dataset")
    links = settings.follow_links
    if kind == "cuhk03":
        return plan_cuhk03(raw, settings.images or "labeled", settings.protocol, stack, follow_links=links)
    if not raw.is_dir():
        raise UsageError(
            f"{printable(raw)}: this is a file; expected the folder of the original dataset: unpack an archive first"
        )
    seed = settings.folders.seed
    if kind == "folders":
        original = read_folders(raw, settings.folders, follow_links=links)
    elif kind == "msmt17":
        original = read_msmt17(raw, follow_links=links)
    elif kind == "prid2011":
        original = read_prid(raw, settings.images or "single", seed=seed, follow_links=links)
    elif kind in ("viper", "cuhk01"):
        original = (read_viper if kind == "viper" else read_cuhk01)(raw, seed=seed, follow_links=links)
    else:
        original = read_market(raw, kind, follow_links=links)
    return plan_original(original)
