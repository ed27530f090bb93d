"""Ranking measures: mean average precision, CMC and mINP under the protocols of the field.

What every measure here agrees on:

* Gallery items of the query's person *and* camera are left out: finding one's own next frame proves nothing.
* Gallery items of the junk person (-1) are left out: neither right nor wrong. A distractor (0) is a wrong answer.
* A query without any right answer left is not valid and counts nowhere.
* Ties are settled against the model: wrong items at the same distance stand before right ones. So the measures do not
  depend on the gallery's order, and a constant descriptor earns nothing by luck.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import JUNK_PERSON, LabelledCrops, Labels
from rrid_edge.ranking.ranks import CameraTally, GalleryIndex, SingleShot, average_precision, ranks_of

PROTOCOLS = ("market1501", "allshots", "cuhk03")
AP_RULES = ("step", "trapezoid")
QUERY_BLOCK = 512
"""Queries whose distances are held at once: 512 x 15,913 float32 are 33 MB, and the matrix product keeps its speed."""


@dataclass(frozen=True)
class CameraPair:
    """The measures of one pair of cameras, from queries of one against the gallery of the other alone.

    Attributes:
        query_camera: camera of the queries.
        gallery_camera: the only camera of the gallery.
        queries: valid queries of the pair.
        mean_ap: mean average precision, in [0, 1].
        rank_1: share of the queries whose first answer is right.
    """

    query_camera: int
    gallery_camera: int
    queries: int
    mean_ap: float
    rank_1: float


@dataclass(frozen=True)
class RankingMetrics:
    """How well a ranking finds people again.

    Attributes:
        mean_ap: mean average precision, in [0, 1], over valid queries. It does not depend on the protocol.
        cmc: rank -> cumulative matching characteristic, in [0, 1], under ``protocol``.
        mean_inp: mean inverse negative penalty: right answers / rank of the last one (Ye et al., TPAMI 2022, eq. 14).
        valid_queries: queries with at least one right answer in the gallery.
        protocol: one of :data:`PROTOCOLS`.
        ap: one of :data:`AP_RULES`.
        query_ap: float64, shape (queries,): average precision of each query, NaN where it is not valid.
        query_first_rank: int64, shape (queries,): rank of the first right answer, 1 for the best, 0 where not valid.
        camera_pairs: measures of every pair of cameras, where they were asked for.
    """

    mean_ap: float
    cmc: dict[int, float]
    mean_inp: float
    valid_queries: int
    protocol: str = "market1501"
    ap: str = "step"
    query_ap: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    query_first_rank: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False
    )
    camera_pairs: tuple[CameraPair, ...] = ()


@dataclass(frozen=True)
class RankingSettings:
    """How a ranking is evaluated.

    Attributes:
        protocol: ``market1501``: CMC(k) is the share of queries whose first right answer has fewer than k wrong items
            before it. ``allshots``: every right answer counts, with weight 1/(right answers of its query): CMC(k) is
            the share with fewer than k *wrong* items before it. ``cuhk03``: single gallery shot: the gallery is what
            other cameras saw, one item drawn for each person, repeated ``draws`` times; the mean over draws.
        top_k: ranks of the CMC.
        ap: ``step``: the mean of the precision at every right answer, tied items taken together (scikit-learn's
            ``average_precision_score``); ``trapezoid``: the area under the precision-recall polygon as in Market-1501's
            official MATLAB code (Zheng et al., ICCV 2015), always a little lower.
        junk_person: label of the gallery items that are left out; None where -1 is a person like any other, which is
            how the published evaluation code counts.
        per_camera: also measure every pair of cameras.
        draws: galleries drawn for each query under ``cuhk03``.
        seed: of those draws.

    Raises:
        UsageError: a setting that does not work.
    """

    protocol: str = "market1501"
    top_k: tuple[int, ...] = (1, 5, 10)
    ap: str = "step"
    junk_person: int | None = JUNK_PERSON
    per_camera: bool = False
    draws: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UsageError(
                f"protocol {self.protocol!r} is unknown: expected one of {', '.join(PROTOCOLS)}", parameter="protocol"
            )
        if self.ap not in AP_RULES:
            raise UsageError(
                f"average precision {self.ap!r} is unknown: expected one of {', '.join(AP_RULES)}", parameter="ap"
            )
        if not self.top_k or min(self.top_k) < 1:
            raise UsageError(
                f"top_k {list(self.top_k)} does not work: expected ranks of at least 1, for example 1, 5, 10"
            )
        if self.draws < 1:
            raise UsageError(f"{self.draws} draws do not work: expected at least 1, for example 100")


def evaluate_ranking(
    distances: ArrayLike, query: Labels, gallery: Labels, settings: RankingSettings | None = None
) -> RankingMetrics:
    """Evaluate a matrix of distances.

    Args:
        distances: real, shape (queries, gallery); smaller is nearer.
        query: labels of the rows.
        gallery: labels of the columns.
        settings: how to evaluate; the defaults of :class:`RankingSettings` when None.

    Raises:
        UsageError: shapes that do not fit, distances that are not finite, no valid query.
    """
    matrix = np.asarray(distances)
    if matrix.ndim != 2 or not (np.issubdtype(matrix.dtype, np.floating) or np.issubdtype(matrix.dtype, np.integer)):
        raise UsageError(
            f"distances of dtype {matrix.dtype} and shape {matrix.shape}: expected real numbers (queries, gallery)"
        )
    query.check_count(matrix.shape[0], "query")
    gallery.check_count(matrix.shape[1], "gallery")
    blocks = (_as_float(matrix[start : start + QUERY_BLOCK]) for start in range(0, len(matrix), QUERY_BLOCK))
    return _evaluate(blocks, query, gallery, settings or RankingSettings())


def evaluate_descriptors(
    query: LabelledCrops, gallery: LabelledCrops, settings: RankingSettings | None = None
) -> RankingMetrics:
    """Evaluate descriptors by Euclidean distance, in blocks of queries: the whole matrix is never held.

    Args:
        query: the queries; computed in float32 unless both sides are float64.
        gallery: the gallery.
        settings: how to evaluate; the defaults of :class:`RankingSettings` when None.

    Raises:
        UsageError: as for :func:`evaluate_ranking`.
    """
    shapes = query.descriptors.shape, gallery.descriptors.shape
    if shapes[0][1] != shapes[1][1]:
        raise UsageError(f"descriptors of shapes {shapes[0]} and {shapes[1]}: expected (queries, D) and (gallery, D)")
    blocks = _distance_blocks(query.descriptors, gallery.descriptors)
    return _evaluate(blocks, query.labels, gallery.labels, settings or RankingSettings())


def _distance_blocks(query: NDArray[np.floating], gallery: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Squared distances less the query's own square, which no ranking depends on."""
    dtype = np.float64 if query.dtype == gallery.dtype == np.float64 else np.float32
    gallery = gallery.astype(dtype, copy=False)
    squares = np.einsum("ij,ij->i", gallery, gallery)
    for start in range(0, len(query), QUERY_BLOCK):
        block = query[start : start + QUERY_BLOCK].astype(dtype, copy=False) @ gallery.T
        block *= -2
        block += squares
        yield block


def _evaluate(
    blocks: Iterable[NDArray[np.floating]], query: Labels, gallery: Labels, settings: RankingSettings
) -> RankingMetrics:
    index = GalleryIndex(gallery, settings.junk_person)
    sums = _Sums(len(query), index, settings)
    number = 0
    for block in blocks:
        if not np.isfinite(block).all():
            raise UsageError("distances that are NaN or infinite: expected finite numbers; check the descriptors")
        kept = block if index.columns is None else block[:, index.columns]
        for row, ordered in zip(kept, np.sort(kept, axis=1), strict=True):
            sums.add(number, row, ordered, int(query.persons[number]), int(query.cameras[number]))
            number += 1
    return sums.metrics()


class _Sums:
    """What is gathered query by query."""

    def __init__(self, queries: int, index: GalleryIndex, settings: RankingSettings) -> None:
        self._index, self._settings = index, settings
        self._ap, self._inp = np.full(queries, np.nan), np.full(queries, np.nan)
        self._first_rank = np.zeros(queries, np.int64)
        self._deepest = max(settings.top_k)
        self._hits = np.zeros(self._deepest)
        self._single_shot = SingleShot(index, settings.draws, settings.seed)
        self._tally = CameraTally(index) if settings.per_camera else None

    def add(
        self, number: int, row: NDArray[np.floating], ordered: NDArray[np.floating], person: int, camera: int
    ) -> None:
        """Count one query: its row of distances, and the same row in ascending order."""
        right, left_out = self._index.split(person, camera)
        if not len(right):
            return
        ranks = ranks_of(ordered, row[right], row[left_out])
        self._ap[number] = average_precision(ranks, self._settings.ap)
        self._inp[number] = len(right) / ranks.position[-1]
        self._first_rank[number] = ranks.position[0]
        if self._settings.protocol == "cuhk03":
            self._hits += self._single_shot.hits(row, person, camera, self._deepest)
        else:
            counted = ranks.wrong if self._settings.protocol == "allshots" else ranks.wrong[:1]
            histogram = np.bincount(np.minimum(counted, self._deepest), minlength=self._deepest + 1)
            self._hits += histogram[:-1] / len(counted)
        if self._tally is not None:
            self._tally.add(row, person, camera, self._settings.ap)

    def metrics(self) -> RankingMetrics:
        """The means over all valid queries."""
        valid = int(np.count_nonzero(self._first_rank))
        if not valid:
            raise UsageError(
                "no query can be evaluated: none has a gallery item of its person from another camera; "
                "check persons and cameras"
            )
        curve = np.cumsum(self._hits) / valid
        return RankingMetrics(
            mean_ap=float(np.nanmean(self._ap)),
            cmc={rank: float(curve[rank - 1]) for rank in self._settings.top_k},
            mean_inp=float(np.nanmean(self._inp)),
            valid_queries=valid,
            protocol=self._settings.protocol,
            ap=self._settings.ap,
            query_ap=self._ap,
            query_first_rank=self._first_rank,
            camera_pairs=tuple(CameraPair(*entry) for entry in self._tally.entries()) if self._tally else (),
        )


def _as_float(block: NDArray[np.generic]) -> NDArray[np.floating]:
    """The block in a type that sorts fast and holds its values: float16 as float32, integers as float64."""
    if block.dtype == np.float16:
        return block.astype(np.float32)
    return block if np.issubdtype(block.dtype, np.floating) else block.astype(np.float64)  # type: ignore[return-value]
