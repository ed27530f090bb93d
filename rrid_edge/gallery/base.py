"""The records that stores of galleries take and return: rows, facts, filters, answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral

from rrid_edge.errors import UsageError
from rrid_edge.model.spec import ModelSpec

LOCAL_SOURCE = "local"
"""Source of the rows of a gallery in a folder, unless the caller names another."""


@dataclass(frozen=True)
class NewRow:
    """A crop that is not stored yet. Stores check every field when they add it; see ``gallery.shared.accepted``.

    Attributes:
        path: relative to its source's folder, POSIX separators; undecodable bytes as surrogate escapes. Unique per
            source. None for a crop that came through the library: no command compares such a row with a folder.
        sha256: of the file's bytes (hex); empty without a file.
        size: of the file in bytes.
        mtime_ns: modification time of the file in nanoseconds.
        camera: name of the camera, or None. A whole number is accepted and stored as its text.
        person: person as the file name writes it (``0002``, ``-1``), or None.
        time: capture time in UTC microseconds since 1970, or None.
        frame: frame number, or None.
        track: name of the track that the crop belongs to, or None.
        label: person as a user confirmed it, or None.
        source: name of the folder or box that the crop comes from. `index` touches rows of its own source only.
        thumbnail: small JPEG of the crop, or None. Rows that are read back never carry it; see ``thumbnails``.
    """

    path: str | None
    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0
    camera: str | None = None
    person: str | None = None
    time: int | None = None
    frame: int | None = None
    track: str | None = None
    label: str | None = None
    source: str = LOCAL_SOURCE
    thumbnail: bytes | None = None

    @property
    def origin(self) -> str:
        """``file`` for a crop of a folder, ``memory`` for one that came through the library."""
        return "memory" if self.path is None else "file"


@dataclass(frozen=True)
class GalleryRow(NewRow):
    """A stored crop.

    Attributes:
        id: stays the same while the crop's content does. No other crop ever gets it.
        crc32: checksum of the stored vector.
        slot: position in the vector file; -1 in stores without slots.
        generation: number of the vector file that ``slot`` counts in.
    """

    id: int = -1
    crc32: int = 0
    slot: int = -1
    generation: int = 0

    @property
    def name(self) -> str:
        """The crop for people: its path, or ``#ID`` without one."""
        return f"#{self.id}" if self.path is None else self.path


@dataclass(frozen=True)
class GalleryInfo:
    """Facts of a gallery.

    Attributes:
        spec: of the model that made the descriptors.
        model: path of the model file that was used last, as :mod:`rrid_edge.json_text` writes it, or empty.
        rows: number of live rows.
        slots: number of slots in the vector file, dead ones included.
        dtype: ``float16`` or ``float32``: the type that values were rounded to.
        generation: number of the vector file.
        index_type: type of the server's vector index (``flat``, ``hnsw`` ...); empty for a folder.
        pattern: how file names were read last; see :func:`rrid_edge.crops.naming.name_reader`. Empty if never.
        time_from: where times come from: ``name``, ``exif`` or ``mtime``. Empty if never indexed.
        retention_s: seconds after which crops are forgotten, or None.
        format: version of the gallery's format.
    """

    spec: ModelSpec
    model: str
    rows: int
    slots: int
    dtype: str
    generation: int
    index_type: str = ""
    pattern: str = ""
    time_from: str = ""
    retention_s: int | None = None
    format: int = 2


@dataclass(frozen=True)
class SearchFilter:
    """Which rows may answer. An empty field lets all rows pass.

    Cameras may be whole numbers; they are read as the names that rows have.

    Attributes:
        cameras: only these cameras.
        not_cameras: none of these cameras. Rows of unknown camera pass.
        since: only this time (UTC microseconds) or later. Rows of unknown time do not pass.
        until: only this time (UTC microseconds) or earlier. Rows of unknown time do not pass.
        since_frame: only this frame or later. Rows of unknown frame do not pass.
        until_frame: only this frame or earlier. Rows of unknown frame do not pass.
        sources: only rows of these sources.
        not_files: none of these files, as (source, path), such as the query's own file.
        not_ids: none of the rows of these ids, such as the query itself.

    Raises:
        UsageError: a name is neither text nor a whole number, or a bound or an id is not a whole number.
    """

    cameras: frozenset[str] = frozenset()
    not_cameras: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    since_frame: int | None = None
    until_frame: int | None = None
    sources: frozenset[str] = frozenset()
    not_files: frozenset[tuple[str, str]] = frozenset()
    not_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name in ("cameras", "not_cameras", "sources"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for name in ("since", "until", "since_frame", "until_frame"):
            object.__setattr__(self, name, _bound(name, getattr(self, name)))
        object.__setattr__(self, "not_files", frozenset(self.not_files))
        object.__setattr__(self, "not_ids", frozenset(_bound("not_ids", id_) for id_ in self.not_ids))

    def passes(self, row: NewRow) -> bool:
        """Whether a row may answer."""
        if self.cameras and row.camera not in self.cameras:
            return False
        if row.camera is not None and row.camera in self.not_cameras:
            return False
        if self.sources and row.source not in self.sources:
            return False
        if self.not_ids and isinstance(row, GalleryRow) and row.id in self.not_ids:
            return False
        return (
            _within(row.time, self.since, self.until)
            and _within(row.frame, self.since_frame, self.until_frame)
            and (row.path is None or (row.source, row.path) not in self.not_files)
        )


def _names(field_name: str, values: object) -> frozenset[str]:
    given = [values] if isinstance(values, str) or not isinstance(values, Iterable) else values
    return frozenset(_filter_name(field_name, value) for value in given)


def _filter_name(field_name: str, value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # a plain text, also of NumPy's
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    raise UsageError(
        f"{field_name} {value!r}: expected names or whole numbers; an empty set lets all rows pass",
        parameter=field_name,
    )


def _bound(field_name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool):
        units = {"since_frame": "a frame number", "until_frame": "a frame number", "not_ids": "ids of rows"}
        unit = units.get(field_name, "whole UTC microseconds since 1970")
        raise UsageError(f"{field_name} {value!r}: expected {unit}", parameter=field_name)
    return int(value)


def _within(value: int | None, first: int | None, last: int | None) -> bool:
    if first is None and last is None:
        return True
    return value is not None and (first is None or value >= first) and (last is None or value <= last)


@dataclass(frozen=True)
class Hit:
    """One row of an answer.

    Attributes:
        row: the crop.
        score: cosine with the query, in [-1, 1].
    """

    row: GalleryRow
    score: float


@dataclass(frozen=True)
class SearchResult:
    """Answers to several queries.

    Attributes:
        hits: per query, the best rows, best first; ties are ordered by path, then id.
        modes: per query, how the store searched: ``scan``, ``two-pass``, or the server's index type, after ``fast`` if
            rows may be missed.
        rows: number of rows that passed the filter.
        scored: per query, number of rows whose score was computed exactly.
    """

    hits: tuple[tuple[Hit, ...], ...]
    modes: tuple[str, ...]
    rows: int
    scored: tuple[int, ...]

    @property
    def mode(self) -> str:
        """How the store searched: one mode, or several joined by ``and``."""
        return " and ".join(sorted(set(self.modes)))

    @property
    def rescored(self) -> int:
        """Number of scores that were computed exactly, over all queries."""
        return sum(self.scored)

    def select(self, queries: slice) -> SearchResult:
        """The answers to some of the queries."""
        return SearchResult(self.hits[queries], self.modes[queries], self.rows, self.scored[queries])


@dataclass(frozen=True)
class Verification:
    """The result of a verification. The next ``index`` repairs everything that it reports.

    Attributes:
        rows: number of live rows checked.
        damaged: rows whose vector does not match its checksum.
        bounds_sound: whether the projected rows of the two-pass search match their checksum.
        columns_sound: whether the copy of the rows' columns that searches read matches the catalogue.
        lost: number of committed rows that the catalogue no longer has.
        entries: number of entries of the catalogue that do not match their checksum; no search answers them.
    """

    rows: int
    damaged: tuple[GalleryRow, ...] = field(default=())
    bounds_sound: bool = True
    columns_sound: bool = True
    lost: int = 0
    entries: int = 0

    @property
    def sound(self) -> bool:
        """Whether the verification found no damage."""
        caches_sound = self.bounds_sound and self.columns_sound
        return not self.damaged and caches_sound and not self.lost and not self.entries


@dataclass(frozen=True)
class ForgetReport:
    """The result of forgetting.

    Attributes:
        rows: number of rows forgotten; those that were removed earlier and had only left their vector count too.
        left: where something of them is still on a disk, in a line for users; empty if nothing is.
    """

    rows: int
    left: tuple[str, ...] = ()
