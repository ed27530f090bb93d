"""Galleries: descriptors of the crops of a folder, and the search in them.

The names below are the interface of this package. Functions that open galleries are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rrid_edge.gallery.base import GalleryInfo, GalleryRow, Hit, NewRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.contract import GalleryStore

if TYPE_CHECKING:
    from rrid_edge.gallery.opening import (
        Location,
        create_store,
        open_store,
        parse_location,
        remove_store,
        store_exists,
    )

__all__ = [
    "GalleryInfo",
    "GalleryRow",
    "GalleryStore",
    "Hit",
    "Location",
    "NewRow",
    "SearchFilter",
    "SearchResult",
    "Verification",
    "create_store",
    "open_store",
    "parse_location",
    "remove_store",
    "store_exists",
]

_OF_OPENING = frozenset({"Location", "create_store", "store_exists", "open_store", "parse_location", "remove_store"})

if not TYPE_CHECKING:  # a type checker would accept every unknown name

    def __getattr__(name: str) -> object:
        """Import the functions that open galleries on first use (PEP 562)."""
        if name not in _OF_OPENING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module("rrid_edge.gallery.opening"), name)
