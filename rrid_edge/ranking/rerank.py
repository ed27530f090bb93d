"""Re-ranking by k-reciprocal neighbours, and average query expansion.

Re-ranking follows Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017). Section
and equation numbers are those of this paper. The paper stores matrices of images x images. Here each image keeps only
its nearest neighbours, and such matrices exist one block at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.ranking.neighbours import Neighbours, SparseRows, nearest_neighbours

_ENCODING_BLOCK = 512
"""Rows per block when neighbours of neighbours are compared: 512 x 21 x 11 x 21 flags are 2.5 MB."""
_JACCARD_BLOCK_VALUES = 1 << 18
"""Distances (queries x gallery) per block of sums: 2 MiB of float64, which fit the CPU cache."""


@dataclass(frozen=True)
class RerankSettings:
    """Parameters of :func:`k_reciprocal`, with the paper's values as defaults.

    Attributes:
        k1: number of neighbours among which two images must find each other.
        k2: number of neighbours whose encodings are averaged (section 3.4), the image included; 1 is off.
        lambda_value: weight of the original distance (eq. 12), in [0, 1].

    Raises:
        UsageError: a value is out of range.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or not 1 <= self.k2 <= self.k1 + 1 or not 0 <= self.lambda_value <= 1:
            raise UsageError(
                f"re-ranking with k1 {self.k1}, k2 {self.k2}, lambda {self.lambda_value} does not work: expected "
                "k1 >= 1, 1 <= k2 <= k1 + 1, 0 <= lambda <= 1, for example 20, 6, 0.3"
            )


def k_reciprocal(
    query: NDArray[np.floating], gallery: NDArray[np.floating], settings: RerankSettings | None = None
) -> NDArray[np.float32]:
    """Re-ranked distances of unit descriptors.

    Neighbours are searched among queries and gallery together. No labels are used: leave junk out of both first. The
    original distance is the squared Euclidean distance, divided by the largest of its row. The Jaccard distance of
    encodings without a common neighbour is 1.

    Args:
        query: float (queries, D), rows of unit length; converted to float32.
        gallery: float (gallery, D), rows of unit length; converted to float32.
        settings: parameters; the paper's values when None.

    Returns:
        float32 (queries, gallery): (1 - lambda) x Jaccard distance + lambda x original distance.

    Raises:
        UsageError: shapes do not fit, a row is not finite or not of unit length, or there are no more than k1 images.
    """
    settings = settings or RerankSettings()
    k1 = settings.k1
    query, gallery = _checked(query, gallery)
    images = len(query) + len(gallery)
    if images <= k1:
        raise UsageError(
            f"re-ranking with k1 {k1} needs more than {k1} images, but queries and gallery together have {images}; "
            "lower k1",
            parameter="k1",
        )
    neighbours, distances = nearest_neighbours(query, gallery, k1)
    encoding = _averaged(_encode(neighbours, k1), neighbours, settings.k2)
    distances *= np.float32(settings.lambda_value)
    _add_jaccard(distances, encoding, np.float32(1 - settings.lambda_value))
    return distances


def average_query_expansion(
    query: NDArray[np.floating], gallery: NDArray[np.floating], *, neighbours: int = 5
) -> NDArray[np.float32]:
    """Average each query with its nearest gallery descriptors (Chum et al., ICCV 2007).

    No labels are used, as in deployment: neighbours can be of any camera and any person. An evaluation leaves junk
    out of the gallery first.

    Args:
        query: float (queries, D), rows of unit length; converted to float32.
        gallery: float (gallery, D), rows of unit length; converted to float32.
        neighbours: number of gallery descriptors per query.

    Returns:
        float32 (queries, D), rows of unit length.

    Raises:
        UsageError: shapes do not fit, a row is not of unit length, or ``neighbours`` exceeds the gallery.
    """
    query, gallery = _checked(query, gallery)
    if not 1 <= neighbours <= len(gallery):
        raise UsageError(
            f"query expansion with {neighbours} neighbours does not work: expected 1 to {len(gallery)}, the gallery's "
            "size",
            parameter="neighbours",
        )
    expanded = np.empty_like(query)
    for start in range(0, len(query), _ENCODING_BLOCK):
        block = query[start : start + _ENCODING_BLOCK]
        scores = block @ gallery.T
        nearest = np.argpartition(-scores, neighbours - 1, axis=1)[:, :neighbours]
        for number, columns in enumerate(nearest):
            total = block[number] + gallery[columns].sum(axis=0)
            expanded[start + number] = total / max(float(np.linalg.norm(total)), 1e-12)
    return expanded


def _checked(
    query: NDArray[np.floating], gallery: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or not len(query) or not len(gallery):
        raise UsageError(
            f"descriptors of shapes {query.shape} and {gallery.shape}: expected (queries, D) and (gallery, D), neither "
            "of them empty"
        )
    for name, rows in (("query", query), ("gallery", gallery)):
        off = np.abs(np.einsum("ij,ij->i", rows, rows) - 1)
        if not (off < 1e-3).all():  # NaN fails this test too.
            raise UsageError(
                f"{name} descriptor {int(np.argmax(~(off < 1e-3)))} is not of unit length: normalise the rows first"
            )
    return query.astype(np.float32, copy=False), gallery.astype(np.float32, copy=False)


def _encode(neighbours: Neighbours, k1: int) -> SparseRows:
    """k-reciprocal encodings (eqs. 3, 5, 7): per image, Gaussian weights of its robust neighbours, with sum 1."""
    near = neighbours.index[:, : k1 + 1]
    half = round(k1 / 2) + 1  # The image and its k1 / 2 neighbours; round() rounds halves to even.
    mutual, mutual_half = _mutual(near), _mutual(near[:, :half])
    keys = []
    for start in range(0, len(near), _ENCODING_BLOCK):
        rows = np.arange(start, min(start + _ENCODING_BLOCK, len(near)))
        keys.append(_robust_members(rows, near, mutual, mutual_half))
    members = np.concatenate(keys)
    row, column = np.divmod(members, len(near))
    weights = np.exp(-neighbours.normalised(row, column))
    return SparseRows.from_sorted(row, column, weights, len(near)).with_unit_sums()


def _mutual(near: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which neighbours have the image among their own neighbours (eq. 2): bool, with the shape of ``near``."""
    answer = np.empty(near.shape, bool)
    for start in range(0, len(near), _ENCODING_BLOCK):
        block = near[start : start + _ENCODING_BLOCK]
        itself = np.arange(start, start + len(block), dtype=near.dtype)[:, None, None]
        answer[start : start + len(block)] = (near[block] == itself).any(axis=2)
    return answer


def _robust_members(
    rows: NDArray[np.int64],
    near: NDArray[np.int32],
    mutual: NDArray[np.bool_],
    mutual_half: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Members of R* (eq. 3): the mutual neighbours of ``rows``, and those that their neighbours add.

    A mutual neighbour adds its own mutual neighbours of half the range if more than two thirds of them are mutual
    neighbours of the image. (The paper says "at least"; the published code and numbers use "more than".)

    Returns:
        int64 (members,): row x images + column, sorted.
    """
    images, half = len(near), mutual_half.shape[1]
    own = np.where(mutual[rows], near[rows], -1)  # (block, k1 + 1)
    row, place = np.nonzero(mutual[rows])
    candidate = own[row, place]
    brought, counts = near[candidate, :half], mutual_half[candidate]  # (candidates, half)
    known = np.zeros(brought.shape, bool)
    for column in range(own.shape[1]):
        known |= brought == own[row, column, None]
    accepted = 3 * np.count_nonzero(known & counts, axis=1) > 2 * np.count_nonzero(counts, axis=1)
    extra_row, extra_place = np.nonzero(counts & accepted[:, None])
    keys = np.concatenate(
        [
            rows[row] * images + candidate,
            rows[row[extra_row]] * images + brought[extra_row, extra_place],
        ]
    )
    return np.unique(keys)


def _averaged(encoding: SparseRows, neighbours: Neighbours, k2: int) -> SparseRows:
    """Local query expansion (eq. 11): mean encoding of the ``k2`` nearest images, the image included."""
    if k2 == 1:
        return encoding
    blocks = []
    for start in range(0, encoding.rows, _ENCODING_BLOCK):
        nearest = neighbours.index[start : start + _ENCODING_BLOCK, :k2]
        blocks.append(encoding.mean_of(nearest))
    return SparseRows.stacked(blocks)


def _add_jaccard(distances: NDArray[np.float32], encoding: SparseRows, weight: np.float32) -> None:
    """Add ``weight`` x the Jaccard distance (eq. 10) to ``distances``, float32 (queries, gallery), in place.

    Encodings sum to 1, so the sum of maxima is 2 minus the sum of minima. Only shared members are visited.
    """
    queries, gallery = distances.shape
    inverted = encoding.part(queries, queries + gallery).transposed(encoding.columns)
    step = max(1, _JACCARD_BLOCK_VALUES // gallery)
    for start in range(0, queries, step):
        block = encoding.part(start, min(start + step, queries))
        row, column, value = block.entries()
        lengths = inverted.lengths()[column]
        source = np.repeat(np.arange(len(column)), lengths)
        place = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        place += np.repeat(inverted.starts[column], lengths)
        shared = np.minimum(value[source], inverted.values[place])
        cell = row[source] * gallery + inverted.index[place]
        minima = np.bincount(cell, weights=shared, minlength=block.rows * gallery).reshape(block.rows, gallery)
        distances[start : start + block.rows] += weight * (1 - minima / (2 - minima))
