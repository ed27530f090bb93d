"""Addresses of the service as its answers name them: with the path under which a proxy serves it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

API = "/api/v1"


@dataclass(frozen=True)
class Addresses:
    """Makes addresses.

    Attributes:
        root_path: path under which a proxy serves the service; empty for the root.
    """

    root_path: str = ""

    def crop(self, gallery: str, crop: int) -> str:
        """What is known of a crop."""
        return f"{self.root_path}{API}/crops/{crop}?gallery={quote(gallery, safe='')}"

    def thumbnail(self, gallery: str, crop: int) -> str:
        """The small picture of a crop."""
        return self._image(gallery, crop, "thumb")

    def image(self, gallery: str, crop: int) -> str:
        """The full picture of a crop."""
        return self._image(gallery, crop, "full")

    def query_thumbnail(self, gallery: str, query: str) -> str:
        """The small picture of a kept query, served by the search routes."""
        return f"{self.root_path}{API}/queries/{quote(query, safe='')}/image?gallery={quote(gallery, safe='')}"

    def _image(self, gallery: str, crop: int, size: str) -> str:
        return f"{self.root_path}{API}/crops/{crop}/image?size={size}&gallery={quote(gallery, safe='')}"
