"""Rows and vectors of made-up galleries, and a slow search to compare with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np

from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery import Hit, NewRow
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.opening import parse_location

SPEC = fake_spec(block_width=4)  # 60 values per descriptor


ODD_PATHS = (
    "a b/ü.jpg",
    'it\'s "quoted".jpg',
    "back\\slash.jpg",
    "per%25cent_%.jpg",
    "new\nline.jpg",
    "tilde~.jpg",
    "{brace}.jpg",
    "\udcff\udcfe.jpg",
    "~~~~",
)


def milvus_address(text: str) -> MilvusAddress:
    """Parse ``text`` with ``parse_location`` and check that it is a Milvus address."""
    found = parse_location(text)
    assert isinstance(found, MilvusAddress)
    return found


def vectors(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, SPEC.dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def rows(count: int, start: int = 0) -> list[NewRow]:
    """Return ``count`` rows. Every seventh camera, every fifth time and every third person is unknown."""
    return [
        NewRow(
            f"{'ab'[index % 2]}/{index:05d}.jpg",
            f"{index:064x}",
            100 + index,
            1_700_000_000_000_000_000 + index,
            None if index % 7 == 0 else str(index % 4),
            None if index % 3 == 0 else f"{index % 7:04d}",
            None if index % 5 == 0 else index - 20,
        )
        for index in range(start, start + count)
    ]


def path_of(row: NewRow) -> str:
    """Return the path of a row that has a file."""
    assert row.path is not None
    return row.path


def path_bytes(row: NewRow) -> bytes:
    """Return the bytes of a row's path, by which galleries order rows."""
    return os.fsencode(path_of(row))


def plain(found):
    """Return the rows without the fields that a gallery adds."""
    return [NewRow(**{field.name: getattr(row, field.name) for field in dataclasses.fields(NewRow)}) for row in found]


def slow_search(
    stored: Iterable[np.ndarray], named: Sequence[NewRow], query: np.ndarray, top_k: int
) -> list[tuple[str, float]]:
    """Compute every product in float64 and round it once. Order ties by the bytes of the path."""
    scores = [
        (-float(np.float32(vector.astype(np.float64) @ query.astype(np.float64))), path_bytes(row))
        for row, vector in zip(named, stored, strict=True)
    ]
    return [(os.fsdecode(path), -score) for score, path in sorted(scores)[:top_k]]


def answered(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(path_of(hit.row), hit.score) for hit in hits]
