"""``Gallery`` and ``open_gallery``: galleries for programs such as trackers, services and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.embedding.arrays import Color, refuse_unknown_color
from rrid_edge.errors import ClosedError, UsageError
from rrid_edge.gallery import opening
from rrid_edge.gallery.base import LOCAL_SOURCE, ForgetReport, GalleryInfo, GalleryRow, NewRow, SearchFilter
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.exporting import export_gallery
from rrid_edge.gallery.fields import bound_of, descriptors_of, ids_of, microseconds, names_of, per_row, thumbnails_of
from rrid_edge.gallery.indexing.audit import audit
from rrid_edge.gallery.searching import AskedScore, Match, SearchSettings, search_store
from rrid_edge.gallery.shared import accepted_rows
from rrid_edge.model.spec import ModelSpec


class Gallery(Closable):
    """A gallery, opened by :func:`open_gallery`; a context manager. Methods may be called from any thread.

    Iterating gives the rows (:class:`rrid_edge.gallery.base.GalleryRow`); ``len`` counts them.

    Attributes:
        store: the store that the gallery stands on.
    """

    def __init__(
        self,
        store: GalleryStore,
        *,
        writable: bool,
        model: Path | None = None,
        location: opening.Location | None = None,
    ) -> None:
        self.store = store
        self._location = location
        self._is_writable = writable
        self._is_closed = False
        self._model = model

    @property
    def spec(self) -> ModelSpec:
        """The model that made the descriptors."""
        return self.store.spec

    def info(self) -> GalleryInfo:
        """The gallery's facts."""
        return self._open().info()

    def __len__(self) -> int:
        return self._open().info().rows

    def __bool__(self) -> bool:
        return True  # an empty gallery is no missing one

    def __iter__(self) -> Iterator[GalleryRow]:
        return iter(self._open().rows())

    def add(  # noqa: PLR0913 - one parameter per field of a row
        self,
        descriptors: NDArray[np.floating] | Sequence[Any],
        *,
        camera: object = None,
        time: object = None,
        frame: object = None,
        person: object = None,
        track: object = None,
        label: object = None,
        thumbnails: object = None,
        source: object = LOCAL_SOURCE,
        color: Color = "rgb",
    ) -> list[int]:
        """Add rows without files, in one commit. No command compares them with a folder.

        Each field is one value for all rows, or a sequence of one per row. Names may be whole numbers.

        Args:
            descriptors: floating-point (N, D) of unit length, or (D,) for one row.
            camera: name of the camera.
            time: capture time: a datetime with a time zone, or whole UTC microseconds since 1970.
            frame: frame number.
            person: name of the person.
            track: name of the track.
            label: person as a user confirmed it.
            thumbnails: one picture per row: bytes of a JPEG, Pillow image, uint8 array (H, W, 3) or None. They are
                stored as small JPEGs.
            source: name of the box or camera site that the rows come from.
            color: order of the channels of ``thumbnails`` that are arrays: ``rgb`` or ``bgr``.

        Returns:
            Their ids.

        Raises:
            UsageError: a descriptor or a field is refused (type, range, number of values), or the gallery is open for
                reading. Nothing is written.
            ImageError: a thumbnail cannot be decoded. Nothing is written.
        """
        store = self._open_for_writing()
        refuse_unknown_color(color)
        vectors = descriptors_of(descriptors, self.spec.dimension)
        count = len(vectors)
        fields = {"camera": camera, "frame": frame, "person": person, "track": track, "label": label, "source": source}
        columns = {name: per_row(name, value, count) for name, value in fields.items()}
        columns["time"] = [microseconds("time", value) for value in per_row("time", time, count)]
        columns["thumbnail"] = thumbnails_of(thumbnails, count, color)
        columns["mtime_ns"] = [time_ns()] * count  # of adding: retention counts from it if no time is told
        rows = [NewRow(None, **dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
        return store.add(rows, vectors) if rows else []

    def search(  # noqa: PLR0913 - one parameter per condition
        self,
        descriptors: NDArray[np.floating] | Sequence[Any],
        *,
        top_k: int = 10,
        cameras: str | int | Iterable[str | int] | None = None,
        since: datetime | int | str | None = None,
        until: datetime | int | str | None = None,
        sources: str | Iterable[str] | None = None,
        min_score: float | None = None,
        fpr: float | None = None,
        fpir: float | None = None,
        thresholds_of: str | None = None,
    ) -> tuple[tuple[Match, ...], ...]:
        """The rows that are most similar to each query.

        Args:
            descriptors: queries, floating-point (Q, D) of unit length, or (D,) for one.
            top_k: most matches per query.
            cameras: only rows of these cameras.
            since: only rows of this time or later: a datetime with a time zone, UTC microseconds since 1970, or a text:
                ISO 8601, a date, a duration before now (``30m``, ``2h``), or a frame number.
            until: only rows of this time or earlier.
            sources: only rows of these sources.
            min_score: lowest cosine of a match.
            fpr: sets it by a false-positive rate per pair, from the thresholds of the gallery's model.
            fpir: sets it by a false-positive rate per search, for the number of rows that are searched.
            thresholds_of: dataset whose thresholds the rates take; None takes those in use.

        Returns:
            Per query its matches, best first; empty where no row passes.

        Raises:
            UsageError: a value is refused, two ways to set the lowest cosine are given, or no threshold was measured.
        """
        store = self._open()
        queries = descriptors_of(descriptors, self.spec.dimension)
        lowest = AskedScore(min_score, fpr, fpir, thresholds_of).resolve(self._model_file, self.spec)
        first, last = bound_of("since", since), bound_of("until", until)
        row_filter = SearchFilter(
            cameras=names_of("cameras", cameras),
            since=first.time,
            until=last.time,
            since_frame=first.frame,
            until_frame=last.frame,
            sources=names_of("sources", sources),
        )
        return search_store(store, queries, row_filter, SearchSettings(top_k, lowest))

    def label(self, ids: int | Iterable[int], label: object) -> None:
        """Record the person of some rows as a user confirmed it.

        Args:
            ids: of the rows.
            label: one name for all rows, or one per row; None removes the label.

        Raises:
            UsageError: an id is unknown, a label is refused, or the gallery is open for reading. Nothing is written.
        """
        store, wanted = self._open_for_writing(), [int(identifier) for identifier in ids_of(ids)]
        given = accepted_rows([NewRow(None, label=name) for name in per_row("label", label, len(wanted))])
        labels = dict(zip(wanted, [row.label for row in given], strict=True))
        found = {row.id: row for row in store.rows_by_id(wanted)}
        unknown = [identifier for identifier in wanted if identifier not in found]
        if unknown:
            problem = f"id {unknown[0]} is not in the gallery ({len(unknown)} such ids): expected ids of its rows"
            raise UsageError(problem, parameter="ids")
        store.update([replace(found[identifier], label=name) for identifier, name in labels.items()])

    def remove(self, rows: int | str | Iterable[int | str]) -> int:
        """Remove rows by id or by path; returns how many existed. `index` adds crops again whose files remain.

        Raises:
            UsageError: another type, or the gallery is open for reading.
        """
        return self._open_for_writing().remove(ids_of(rows, paths=True))

    def forget(self, rows: int | str | Iterable[int | str], *, keep_out: bool = True) -> ForgetReport:
        """Remove rows by id or by path, and erase their vectors and thumbnails. The audit log gets a line.

        Args:
            rows: ids or paths.
            keep_out: remember the content of files as a keyed digest, so that indexing does not add them again.

        Raises:
            UsageError: another type, or the gallery is open for reading.
        """
        store, wanted = self._open_for_writing(), ids_of(rows, paths=True)
        ids = [row for row in wanted if isinstance(row, int)]
        ids += [row.id for row in (store.rows() if len(ids) < len(wanted) else ()) if row.path in wanted]
        report = store.forget(wanted, keep_out=keep_out)
        self._audit("forget", ids)
        return report

    def thumbnails(self, ids: int | Iterable[int]) -> dict[int, bytes]:
        """Thumbnails (JPEG) by id; rows without one are left out."""
        return self._open().thumbnails([int(identifier) for identifier in ids_of(ids)])

    def export(self, path: str | Path) -> int:
        """Write all rows and descriptors into a NumPy file (.npz); returns the number of rows.

        See :func:`rrid_edge.gallery.exporting.export_gallery`. The audit log of the gallery gets a line.
        """
        ids = export_gallery(self._open(), Path(path))
        self._audit("export", ids)
        return len(ids)

    def close(self) -> None:
        """Release files, locks and connections; safe to call twice."""
        self._is_closed = True
        self.store.close()

    def _audit(self, command: str, ids: Sequence[int]) -> None:
        if self._location is not None:
            audit(self._location, command, ids=ids, rows=len(ids))

    def _open(self) -> GalleryStore:
        if self._is_closed:
            raise ClosedError(f"the gallery {self.store.where}")
        return self.store

    def _open_for_writing(self) -> GalleryStore:
        store = self._open()
        if not self._is_writable:
            raise UsageError(
                f"{store.where}: this gallery is open for reading; open it for writing: open_gallery(..., write=True)",
                parameter="write",
            )
        return store

    def _model_file(self) -> Path | None:
        """The model file that the caller named, or that the gallery was used with last."""
        return self._model or opening.model_path(self._location or Path(), self._open().info().model)


def open_gallery(
    location: str | Path,
    spec: ModelSpec | None = None,
    *,
    create: bool = False,
    write: bool = False,
    model: str | Path | None = None,
    dtype: str = "float16",
) -> Gallery:
    """Open a gallery, or create it.

    Args:
        location: a folder of crops, the folder of an index, or an address such as
            ``milvus+http://HOST:19530/COLLECTION``.
        spec: of the model whose descriptors are stored and searched. A gallery of another model is refused.
        create: create the gallery if there is none; opens for writing. Needs ``spec``.
        write: open an existing gallery for writing. A folder has one writer at a time.
        model: the model file; its thresholds serve ``search(fpir=...)``. A gallery open for writing remembers it.
        dtype: of a new gallery: ``float16`` or ``float32``.

    Raises:
        UsageError: ``create`` without ``spec``, or a text that is no location.
        GalleryMissingError: no gallery there, and ``create`` is false.
        GalleryBusyError: another process writes the gallery.
        GalleryUnavailableError: the server does not answer.
        GalleryError: the gallery is damaged or has a newer format.
        FingerprintMismatchError: the gallery was made with another model.
    """
    place = opening.location_of(location)
    if create and spec is None and not opening.store_exists(place):
        raise UsageError(
            "no gallery here, and a new one needs the spec of its model: give it, for example Embedder(...).spec",
            parameter="spec",
        )
    if create and spec is not None:
        store = opening.create_store(place, spec, dtype=dtype)
    else:
        store = opening.open_store(place, write=create or write, spec=spec)
    if model is not None and (create or write):
        try:
            store.remember({"model": opening.model_text(place, Path(model))})
        except BaseException:
            store.close()
            raise
    return Gallery(store, writable=create or write, model=None if model is None else Path(model), location=place)
