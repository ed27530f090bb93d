"""Galleries: stores of descriptors that follow a folder of crops, and the search in them."""

from __future__ import annotations

from rrid_edge.gallery.base import Gallery, GalleryInfo, GalleryRow, Hit, NewRow, SearchFilter, SearchResult

__all__ = ["Gallery", "GalleryInfo", "GalleryRow", "Hit", "NewRow", "SearchFilter", "SearchResult"]
