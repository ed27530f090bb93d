"""The book of a gallery: names, merges, verdicts and kept queries, in a SQLite file beside it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable


@dataclass(frozen=True)
class KeptQuery:
    """A query that is kept for a day.

    Attributes:
        descriptor: float32 (D,), of unit length.
        fingerprint: of the model that made it.
        thumbnail: JPEG of its first image, 96 px high.
        images: number of its images.
    """

    descriptor: NDArray[np.float32]
    fingerprint: str
    thumbnail: bytes
    images: int = 1


class PeopleBook(Closable):
    """What people said about the crops of one gallery. Its methods may be called from any thread.

    Args:
        path: of the file, or None to keep everything in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._queries: dict[str, KeptQuery] = {}
        self._ids: dict[str, str] = {}

    def keep_query(self, query: KeptQuery) -> str:
        """Keep a query for a day; returns its id, which nobody can guess."""
        name = f"q_{secrets.token_urlsafe(16)}"
        self._queries[name] = query
        return name

    def kept_query(self, name: str) -> KeptQuery | None:
        """A query by its id; None if it is unknown or older than a day."""
        return self._queries.get(name)

    def person_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Ids of confirmed people, such as ``p3``, by name. A name that is new gets an id, which it keeps."""
        return {name: self._ids.setdefault(name, f"p{len(self._ids) + 1}") for name in sorted(names)}

    def verdicts_of(self, node: int | str) -> dict[int | str, Literal["same", "different", "unsure"]]:
        """What was said of a crop (its id) or a kept query: ``same``, ``different`` or ``unsure`` by the other side."""
        return {}

    def close(self) -> None:
        """Close the file; safe to call twice."""
