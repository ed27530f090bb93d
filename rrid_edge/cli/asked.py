"""What ``rrid-edge match`` is asked: the query files, the gallery, and the filter of its rows."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.errors import UsageError, printable
from rrid_edge.file_kinds import broken_name, no_such

if TYPE_CHECKING:
    from rrid_edge.gallery.base import SearchFilter
    from rrid_edge.gallery.opening import Location


@dataclass(frozen=True)
class AskedGallery:
    """The gallery to ask.

    Attributes:
        text: as the user gave it.
        location: of the gallery.
        folder: of its crops; None if the gallery is asked without one.
    """

    text: str
    location: Location
    folder: Path | None

    @property
    def described(self) -> str:
        """The gallery, and its index where that lies elsewhere."""
        from rrid_edge.gallery.opening import location_of

        if self.folder is None or self.location in (location_of(self.folder), Path(self.text)):
            return self.text
        return f"{self.text} with its index in {self.location}"


@dataclass(frozen=True)
class AskedRows:
    """Which crops may answer, as the user gave it.

    Attributes:
        cameras: names of cameras; empty for all.
        sources: names of sources; empty for all.
        since: first time or frame, or None.
        until: last time or frame, or None.
    """

    cameras: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None

    def filter(self) -> SearchFilter:
        """The filter; see :func:`row_filter`."""
        return row_filter(self.cameras, self.sources, self.since, self.until)


def query_and_gallery(paths: list[str], index: str | None) -> tuple[list[Path], AskedGallery]:
    """Split the command's arguments.

    Raises:
        UsageError: there is no query, or the last argument is neither a folder nor an address. Passwords in addresses
            are not repeated.
    """
    if len(paths) < 2:
        raise UsageError("match needs a query and a gallery: rrid-edge match query.jpg gallery/")
    *queries, gallery = paths
    if broken := broken_name(paths):
        first, whole = map(printable, (broken[0], shlex.quote(broken[1])))
        raise UsageError(f"{first}: no such file; expected a name with spaces in quotes: {whole}")
    if any(_is_web_address(query) for query in queries):
        raise UsageError("an address of the web is given as a query; expected image files: download it first")
    if any(_is_address(query) for query in queries):
        raise UsageError("an address is given before the last argument; expected query images, then one gallery")
    if Path(gallery).is_file() and Path(queries[0]).is_dir():
        order = f"rrid-edge match {shlex.quote(gallery)} {shlex.quote(queries[0])}"
        raise UsageError(
            f"{printable(gallery)}: this is a file; expected the query first and the gallery last: {printable(order)}"
        )
    return [Path(query) for query in queries], _asked(gallery, index)


def _is_web_address(text: str) -> bool:
    return re.match(r"(https?|ftp|s3|gs|file)://", text, re.IGNORECASE) is not None and not Path(text).exists()


def _is_address(text: str) -> bool:
    """Whether a text looks like an address, also a mistyped one, and is no file."""
    return re.search(r"^milvus\+|^[A-Za-z][\w+.-]*:/|:.*@", text, re.DOTALL) is not None and not Path(text).exists()


def _asked(text: str, index: str | None) -> AskedGallery:
    """The gallery of the last argument and the option ``--gallery``.

    Raises:
        UsageError: no such folder, or two addresses.
    """
    from rrid_edge.gallery.opening import INDEX_FOLDER, location_of, parse_location

    folder = parse_location(text)
    if not isinstance(folder, Path):
        if index is not None:
            raise UsageError("two galleries are given: an address as the last argument, and --gallery; give one")
        return AskedGallery(text, folder, None)
    if not folder.is_dir():
        problem = "this is a file" if folder.exists() else no_such(folder, "folder")
        raise UsageError(
            f"{printable(folder)}: {problem}; the last argument is the gallery: a folder of crops, or "
            "milvus+http://HOST:19530/COLLECTION"
        )
    location = location_of(folder, index)
    if index is None and location == folder:  # the index itself; its crops, if any, lie around it
        return AskedGallery(text, location, folder.parent if folder.resolve().name == INDEX_FOLDER else None)
    return AskedGallery(text, location, folder)


def rerank_depth_of(depth: int | None, top_k: int, *, is_wanted: bool) -> int:
    """How many crops are re-ranked; 0 without re-ranking.

    Args:
        depth: as the user gave it, or None.
        top_k: matches per query.
        is_wanted: re-ranking was asked for.

    Raises:
        UsageError: a depth is given without re-ranking, or is too small.
    """
    from rrid_edge.matching import DEFAULT_RERANK_DEPTH, LEAST_RERANK_DEPTH

    if depth is not None and not is_wanted:
        raise UsageError("--rerank-depth changes nothing without --rerank: give both, or leave it out")
    if depth is not None and depth < 1:
        least = max(top_k, LEAST_RERANK_DEPTH)
        raise UsageError(
            f"a re-ranking depth of {depth} crops does not work: expected at least {least}", parameter="rerank_depth"
        )
    if not is_wanted:
        return 0
    return max(DEFAULT_RERANK_DEPTH, top_k) if depth is None else depth


def row_filter(cameras: Sequence[str], sources: Sequence[str], since: str | None, until: str | None) -> SearchFilter:
    """The filter of the options; see :class:`AskedRows`.

    Raises:
        UsageError: a bound is neither a time nor a frame.
    """
    from rrid_edge.crops.naming import plain_text
    from rrid_edge.crops.times import Bound, parse_bound
    from rrid_edge.gallery.base import SearchFilter
    from rrid_edge.gallery.fields import camera_names

    now_us = time.time_ns() // 1000
    bounds = []
    for name, text in (("since", since), ("until", until)):
        try:
            bounds.append(Bound() if text is None else parse_bound(text, now_us, is_last=name == "until"))
        except UsageError as error:
            raise UsageError(error.message, parameter=name) from error
    first, last = bounds
    for start, end in ((first.time, last.time), (first.frame, last.frame)):
        if start is not None and end is not None and start > end:
            raise UsageError(
                f"since {since!r} is later than until {until!r}, so no crop fits; expected the earlier one first: "
                "exchange them",
                parameter=("since", "until"),
            )
    limits = (first.time, last.time, first.frame, last.frame)
    return SearchFilter(camera_names(cameras), frozenset(), *limits, sources=frozenset(map(plain_text, sources)))
