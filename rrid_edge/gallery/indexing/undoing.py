"""A gallery that was made for a folder that is refused then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.errors import GalleryError, OutputError, RridEdgeError
from rrid_edge.files import folders_to_make, remove_empty
from rrid_edge.gallery.local.folder import remove_index
from rrid_edge.gallery.opening import Location, store_exists


@contextlib.contextmanager
def undone_if_refused(location: Location) -> Iterator[None]:
    """Context in which a gallery may be made. An error of this package removes one without rows that was made in it.

    An index that was there before stays, and one that has rows. In Milvus nothing is removed: it has no lock that would
    keep another machine from writing meanwhile.

    Args:
        location: of the gallery. The block closes it.
    """
    if not isinstance(location, Path) or store_exists(location):
        yield
        return
    made = folders_to_make(location)
    try:
        yield
    except RridEdgeError:
        with contextlib.suppress(GalleryError, OutputError, OSError):  # the error itself is what matters
            remove_index(location, if_empty=True)
            remove_empty(made)
        raise
