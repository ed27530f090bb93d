"""What both stores need: refusals, accepted rows, row checksums, exact scores and constants of the format."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import FingerprintMismatchError, GalleryError, UsageError, printable
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.model.spec import HEX64, ModelSpec

DTYPES = ("float16", "float32")
"""Types in which vectors can be stored."""
UNKNOWN = -(2**62)
"""Stored value of an unknown camera or time."""
MOST_CHARACTERS = 1000
"""Longest name of a camera, person, track, label or source."""
_LENGTH_TOLERANCE = 1e-2
"""float16 values change a length by about 1e-4."""
_INT64 = 2**63 - 1
ROUNDING = np.float32(4e-6)
"""Largest error of a float32 product of unit vectors, in any order of summation."""


def refuse_foreign(where: str, own: ModelSpec, given: ModelSpec) -> None:
    """Refuse a model whose descriptors cannot be compared with a gallery's.

    Args:
        where: the gallery's location as messages name it.
        own: the model that made the gallery's descriptors.
        given: the model that will be used.

    Raises:
        FingerprintMismatchError: the fingerprints differ.
    """
    if own.fingerprint != given.fingerprint:
        raise FingerprintMismatchError(
            f"{where}: this gallery was indexed with another model ({own.backbone}, fingerprint "
            f"{own.fingerprint[:12]}) than the given one ({given.backbone}, {given.fingerprint[:12]}): give that "
            "model, or rebuild the index with: rrid-edge index FOLDER --rebuild",
            parameter="model",
        )


def refuse_unknown_dtype(dtype: str) -> None:
    """Refuse a type in which vectors cannot be stored.

    Raises:
        UsageError: ``dtype`` is not one of :data:`DTYPES`.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown: expected one of {', '.join(DTYPES)}", parameter="dtype")


def accepted_descriptors(descriptors: NDArray[np.floating], rows: int, dimension: int) -> NDArray[np.float32]:
    """Descriptors as float32 (rows, dimension).

    Args:
        descriptors: (rows, dimension), of any floating-point type.
        rows: number of rows that they belong to.
        dimension: values per descriptor.

    Raises:
        UsageError: the shape or type is wrong, a value is not finite, or a length is not 1 (within 1 %).
    """
    found = np.asarray(descriptors)
    if found.shape != (rows, dimension) or found.dtype.kind != "f":
        raise UsageError(
            f"descriptors of dtype {found.dtype} and shape {found.shape} do not fit {rows} rows of {dimension} values: "
            f"expected floating-point numbers, shape ({rows}, {dimension})",
            parameter="vectors",
        )
    with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused
        result = np.ascontiguousarray(found, np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", result, result))
    wrong = ~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE)  # true for NaN too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UsageError(
            f"descriptor {first} has length {lengths[first]:.3g}: expected unit length and finite values; divide each "
            "descriptor by its length",
            parameter="vectors",
        )
    return result


def accepted_rows(rows: Sequence[NewRow]) -> list[NewRow]:
    """Rows with every field in its type and range. Whole numbers of a name become text; empty texts become None.

    Raises:
        UsageError: a field has another type or range, or a source and path occur twice.
    """
    result = [_accepted(row) for row in rows]
    files = [(row.source, row.path) for row in result if row.path is not None]
    if len(set(files)) < len(files):
        twice = next(path for index, (source, path) in enumerate(files) if (source, path) in files[:index])
        raise UsageError(
            f"{printable(twice)}: this path occurs twice in one call; expected each path once: remove the duplicate",
            parameter="rows",
        )
    return result


def _accepted(row: NewRow) -> NewRow:
    if row.path is not None and (not isinstance(row.path, str) or not row.path):
        raise UsageError(f"path {row.path!r}: expected the path of a crop, or None for a crop without a file")
    if not isinstance(row.source, str) or not row.source or len(row.source) > MOST_CHARACTERS:
        raise UsageError(f"source {row.source!r}: expected a name of 1 to {MOST_CHARACTERS} characters")
    if row.sha256 and not re.fullmatch(r"[0-9a-f]{64}", row.sha256):
        raise UsageError(f"sha256 {row.sha256!r}: expected 64 hexadecimal digits")
    if row.thumbnail is not None and not isinstance(row.thumbnail, bytes):
        raise UsageError(f"thumbnail of type {type(row.thumbnail).__name__}: expected the bytes of a JPEG image")
    # Exact texts: the checksum of a row is made of their representations, and NumPy's texts have another.
    path = None if row.path is None else str.__str__(row.path)
    source, sha256 = str.__str__(row.source), str.__str__(row.sha256)
    texts = {name: _accepted_name(name, getattr(row, name)) for name in ("camera", "person", "track", "label")}
    numbers = {name: _accepted_number(name, getattr(row, name)) for name in ("time", "frame")}
    size = _accepted_number("size", row.size) or 0
    if not isinstance(row.mtime_ns, Integral):
        raise UsageError(f"mtime_ns {row.mtime_ns!r}: expected whole nanoseconds")
    exact: dict[str, Any] = {"path": path, "source": source, "sha256": sha256, "size": size, **texts, **numbers}
    return replace(row, mtime_ns=stored_mtime(int(row.mtime_ns)), **exact)


def _accepted_name(field: str, value: object) -> str | None:
    """A name, such as a camera: text, or a whole number as text.

    Raises:
        UsageError: neither text nor a whole number, or too long.
    """
    if value is None:
        return None
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise UsageError(
            f"{field} {value!r} of type {type(value).__name__}: expected a name or a whole number", parameter=field
        )
    if len(value) > MOST_CHARACTERS:
        raise UsageError(f"{field} of {len(value)} characters: expected at most {MOST_CHARACTERS}", parameter=field)
    return str.__str__(value) or None


def _accepted_number(field: str, value: object) -> int | None:
    """A whole number of at most 62 bits.

    Raises:
        UsageError: not a whole number, or too large.
    """
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool) or abs(int(value)) >= -UNKNOWN:
        unit = " of UTC microseconds since 1970" if field == "time" else ""
        raise UsageError(f"{field} {value!r}: expected a whole number{unit} of at most 62 bits", parameter=field)
    return int(value)


def stored_mtime(mtime_ns: int) -> int:
    """A modification time (ns) as stores keep it: limited to 63 bits, because cameras without a clock exceed them."""
    return min(max(mtime_ns, -_INT64), _INT64)


def row_check(row: GalleryRow, *, dead: bool = False) -> int:
    """CRC-32 over all fields of a stored row except its thumbnail, and over its mark ``dead``."""
    values = (
        row.id, row.source, row.path, row.sha256, row.size, row.mtime_ns, row.camera, row.person, row.time, row.frame,
        row.track, row.label, row.slot, row.crc32, dead,
    )  # fmt: skip
    return zlib.crc32(repr(values).encode("utf-8", "surrogateescape"))


def row_order(row: NewRow) -> tuple[bytes, int]:
    """Sort key of the order of rows: bytes of the path, then id. Rows without a path come first."""
    return os.fsencode(row.path or ""), getattr(row, "id", -1)


def candidates(scores: NDArray[np.float32], allowed: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """Positions that may be among the best ``top_k``, ties and rounding included.

    Args:
        scores: float32 (N,): approximate scores.
        allowed: int64 (M,): positions in ``scores`` to choose from.
        top_k: hits.

    Returns:
        int64 (K,), a subset of ``allowed``.
    """
    allowed_scores = scores[allowed]
    if len(allowed_scores) <= top_k:
        return allowed
    last_score = np.partition(allowed_scores, len(allowed_scores) - top_k)[len(allowed_scores) - top_k]
    chosen: NDArray[np.int64] = allowed[allowed_scores >= last_score - 2 * ROUNDING]
    return chosen


def exact_scores(
    query: NDArray[np.float32], vectors: NDArray[np.float32] | Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Products of a query (D,) with rows (N, D), summed in float64 and rounded once: float32 (N,)."""
    # A product per row: a matrix product would make a score depend on the other rows.
    wide, rows = query.astype(np.float64), np.empty((len(vectors), 1, len(query)))
    for row, vector in zip(rows, vectors, strict=True):
        row[0] = vector
    scores: NDArray[np.float32] = (rows @ wide[:, None])[:, 0, 0].astype(np.float32)
    return scores


@dataclass(frozen=True)
class KeptOut:
    """The forgotten contents of a gallery, as ``kept_out_state`` writes them.

    Attributes:
        key: of the digests, 32 bytes in hex.
        digests: HMAC-SHA256 of each content, in base64.
    """

    key: Annotated[str, Meta(pattern=HEX64)]
    digests: tuple[Annotated[bytes, Meta(min_length=32, max_length=32)], ...]


_KEPT_OUT = Artefact("forgotten contents", KeptOut, "expected what kept_out_state returned", GalleryError)


def parse_kept_out(state: str) -> KeptOut:
    """Parse what ``kept_out_state`` of a gallery returned.

    Raises:
        UsageError: the text is no such state.
    """
    try:
        return _KEPT_OUT.parse(state, where="state")
    except GalleryError as error:
        raise UsageError(error.message, parameter="state") from error
