"""Snapshots of the local store: the facts and arrays of one committed state, cached until the next commit."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import GalleryError, printable
from rrid_edge.gallery.base import GalleryInfo
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.bounds import load_bounds
from rrid_edge.gallery.local.catalogue import Catalogue
from rrid_edge.gallery.local.projection import ProjectionFacts
from rrid_edge.gallery.local.view import Vectors, View, columns, memory_budget_bytes
from rrid_edge.gallery.shared import UNKNOWN
from rrid_edge.model.spec import ModelSpec

_TRIES = 20


@dataclass(frozen=True)
class Snapshot:
    """The facts of one committed state.

    Attributes:
        info: facts of the gallery.
        vector_format: header of the vector file.
        vector_path: the vector file.
        projection: facts of the projection, or None.
    """

    info: GalleryInfo
    vector_format: vector_file.VectorFormat
    vector_path: Path
    projection: ProjectionFacts | None

    def map_vectors(self) -> NDArray[np.generic]:
        """The vector file's slots, memory-mapped: (slots, D) in the stored type.

        Raises:
            GalleryError: the vector file is damaged.
            FileNotFoundError: a compaction has replaced the vector file since.
        """
        return vector_file.map_rows(self.vector_path, self.vector_format, self.info.slots)

    def check_vector_file(self) -> None:
        """Check header and length of the vector file.

        Raises:
            GalleryError: the vector file is damaged.
            FileNotFoundError: the vector file does not exist.
        """
        vector_file.check_file(self.vector_path, self.vector_format, self.info.slots)


class SnapshotReader:
    """Reads snapshots of one index.

    Args:
        folder: of the index.
        catalogue: of the index.

    Attributes:
        memory_budget_bytes: limit for vectors that stay decoded.
    """

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._folder, self._catalogue = folder, catalogue
        self.memory_budget_bytes = memory_budget_bytes()
        self._snapshot: tuple[tuple[int, int], Snapshot] | None = None
        self._view: tuple[tuple[int, int], View] | None = None

    def current(self) -> Snapshot:
        """The snapshot of the last commit.

        Raises:
            GalleryError: the catalogue is damaged.
        """
        with self._catalogue.transaction() as connection:
            return self._read(connection)

    def _read(self, connection: sqlite3.Connection) -> Snapshot:
        version = self._catalogue.version()
        if self._snapshot is None or self._snapshot[0] != version:
            self._snapshot = (version, self._build(connection))
        return self._snapshot[1]

    def _build(self, connection: sqlite3.Connection) -> Snapshot:
        facts = self._catalogue.facts(connection)
        rows = self._catalogue.count(connection)
        try:
            spec = ModelSpec.from_metadata(json.loads(facts["spec"]), where=printable(self._folder))
            slots, generation = int(facts["slots"]), int(facts["generation"])
            info = GalleryInfo(spec, facts["model"], rows, slots, facts["dtype"], generation)
        except (KeyError, ValueError) as error:
            raise GalleryError(
                f"{printable(self._folder)}: the facts in the catalogue are damaged ({error}); remove the index folder "
                "and index again"
            ) from error
        vector_format = vector_file.VectorFormat(spec.dimension, info.dtype, info.generation, spec.fingerprint)
        projection = ProjectionFacts.from_json(facts.get("projection", ""))
        return Snapshot(info, vector_format, self._folder / vector_format.file_name, projection)

    @contextlib.contextmanager
    def search_view(self) -> Iterator[tuple[sqlite3.Connection, View]]:
        """A transaction, and the arrays of its snapshot. Retried if a compaction replaces the vector file meanwhile.

        Raises:
            GalleryError: the index is damaged, or it was replaced 20 times in a row.
        """
        for _ in range(_TRIES):
            with self._catalogue.transaction() as connection:
                try:
                    view = self._read_view(connection)
                except FileNotFoundError:
                    continue
                yield connection, view
                return
        raise GalleryError(f"{printable(self._folder)}: the index changed {_TRIES} times while it was read; try again")

    def _read_view(self, connection: sqlite3.Connection) -> View:
        snapshot = self._read(connection)
        version = self._catalogue.version()
        if self._view is None or self._view[0] != version:
            vectors = Vectors(snapshot.map_vectors(), self.memory_budget_bytes)
            slots, cameras, times, crcs = columns(self._catalogue.columns(connection, UNKNOWN))
            projection = load_bounds(self._folder, snapshot.info, snapshot.projection)
            self._view = (version, View(snapshot.info, vectors, slots, cameras, times, crcs, projection))
        return self._view[1]

    def clear(self) -> None:
        """Release the arrays."""
        self._view = None
