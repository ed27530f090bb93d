"""How a copy names the sources of its rows, so that ``index`` finds the rows of a folder in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from rrid_edge.gallery.base import LOCAL_SOURCE
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.facts import default_source
from rrid_edge.gallery.opening import INDEX_FOLDER, Location

_OF_A_FOLDER = re.compile(r"[^:/]+:/(?!/)")
"""How :func:`~rrid_edge.gallery.indexing.facts.default_source` begins on a server."""


def sources_in_copy(
    source: GalleryStore, destination: GalleryStore, location: Location, into: Location
) -> dict[str, str]:
    """New names of the sources of rows with a file.

    The crops of a folder have the source ``local`` in its gallery, and ``HOST:FOLDER`` on a server. With another name,
    ``index`` would add every crop a second time. In a copy from a server into a folder, the source of that folder
    becomes ``local``, or else the only source that is a folder.

    Args:
        source: open gallery.
        destination: open gallery.
        location: of ``source``.
        into: the location of ``destination``.

    Returns:
        New names by old names. Other sources keep their names.
    """
    here, there = source.info(), destination.info()
    if bool(here.index_type) == bool(there.index_type):
        return {}
    known = source.sources()
    if there.index_type:
        folder = _crops(location)
        return {} if folder is None or LOCAL_SOURCE not in known else {LOCAL_SOURCE: default_source(there, folder)}
    if _has_local_files(source):  # two rows could become one
        return {}
    folders = [name for name in known if _OF_A_FOLDER.match(name)]
    folder = _crops(into)
    own = "" if folder is None else default_source(here, folder)
    if own in folders:
        return {own: LOCAL_SOURCE}
    return {folders[0]: LOCAL_SOURCE} if len(folders) == 1 else {}


def stays_local(source: GalleryStore, destination: GalleryStore, names: Mapping[str, str]) -> bool:
    """Whether crops keep the source ``local`` on a server, where ``index`` takes another name unless it is told.

    Args:
        source: open gallery.
        destination: open gallery.
        names: of :func:`sources_in_copy`.
    """
    return bool(destination.info().index_type) and LOCAL_SOURCE not in names and _has_local_files(source)


def _has_local_files(gallery: GalleryStore) -> bool:
    with gallery.moment() as moment:
        return any(row.path is not None for row in moment.rows([LOCAL_SOURCE]))


def _crops(location: Location) -> Path | None:
    """The folder of the crops of an index; None for a server, and for an index that lies elsewhere."""
    if not isinstance(location, Path):
        return None
    whole = location.resolve()
    return whole.parent if whole.name == INDEX_FOLDER else None
