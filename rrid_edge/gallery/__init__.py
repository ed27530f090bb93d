"""Galleries: descriptors of the crops of a folder, and the search in them.

The names below are the interface of this package. Functions that open galleries are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rrid_edge.gallery.base import (
    Gallery,
    GalleryInfo,
    GalleryRow,
    Hit,
    NewRow,
    SearchFilter,
    SearchResult,
    Verification,
)

if TYPE_CHECKING:
    from rrid_edge.gallery.opening import (
        Location,
        create_gallery,
        gallery_exists,
        open_gallery,
        parse_location,
        remove_gallery,
    )

__all__ = [
    "Gallery",
    "GalleryInfo",
    "GalleryRow",
    "Hit",
    "Location",
    "NewRow",
    "SearchFilter",
    "SearchResult",
    "Verification",
    "create_gallery",
    "gallery_exists",
    "open_gallery",
    "parse_location",
    "remove_gallery",
]

_OF_OPENING = frozenset(
    {"Location", "create_gallery", "gallery_exists", "open_gallery", "parse_location", "remove_gallery"}
)

if not TYPE_CHECKING:  # a type checker would accept every unknown name

    def __getattr__(name: str) -> object:
        """Import the functions that open galleries on first use (PEP 562)."""
        if name not in _OF_OPENING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module("rrid_edge.gallery.opening"), name)
