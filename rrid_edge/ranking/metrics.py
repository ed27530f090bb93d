"""Evaluation of rankings: mean average precision (mAP), CMC and mINP under the protocols of the field.

Rules for all measures:

* Gallery items with the query's person *and* camera are left out, because they are often the next frame. With
  ``same_camera``, only those of the query's own sequence or file are left out. Data of one camera can be measured so,
  but the task is easier: do not compare these figures with published ones.
* Gallery items of the junk person (-1) are left out. Distractors (0) are wrong answers.
* A query without any right answer is not valid and is not counted.
* Ties count against the model: of items at the same distance, wrong ones come first. So the order of the gallery does
  not matter, and a constant descriptor gets no score by chance.
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
"""Queries per block of distances: large enough for a fast matrix product; 512 x 15,913 float32 are 33 MB."""


@dataclass(frozen=True)
class CameraPair:
    """Measures of queries from one camera against the gallery of one camera.

    Attributes:
        query_camera: camera of the queries.
        gallery_camera: the only camera of the gallery; the same one only with ``same_camera``.
        queries: number of valid queries.
        mean_ap: mean average precision, in [0, 1].
        rank_1: share of the queries whose first answer is right, in [0, 1].
    """

    query_camera: int
    gallery_camera: int
    queries: int
    mean_ap: float
    rank_1: float


@dataclass(frozen=True)
class RankingMetrics:
    """Result of an evaluation.

    Attributes:
        mean_ap: mean average precision over valid queries, in [0, 1]. It does not depend on the protocol.
        cmc: cumulative matching characteristic by rank, in [0, 1], under ``protocol``.
        mean_inp: mean inverse negative penalty (mINP): the mean of right answers / rank of the last right answer
            (Ye et al., TPAMI 2022, eq. 14), in [0, 1].
        valid_queries: number of queries with at least one right answer in the gallery.
        protocol: one of :data:`PROTOCOLS`.
        ap: rule of the average precision, one of :data:`AP_RULES`.
        same_camera: whether right answers of the query's own camera counted.
        query_ap: float64 (queries,): average precision per query; NaN if the query is not valid.
        query_first_rank: int64 (queries,): rank of the first right answer, from 1; 0 if the query is not valid.
        camera_pairs: measures per pair of cameras; empty unless ``per_camera`` was set.
    """

    mean_ap: float
    cmc: dict[int, float]
    mean_inp: float
    valid_queries: int
    protocol: str = "market1501"
    ap: str = "step"
    same_camera: bool = False
    query_ap: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    query_first_rank: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False
    )
    camera_pairs: tuple[CameraPair, ...] = ()


@dataclass(frozen=True)
class RankingSettings:
    """Settings of an evaluation.

    Attributes:
        protocol: rule of the CMC.

            * ``market1501``: CMC(k) is the share of queries with fewer than k wrong items before the first right
              answer.
            * ``allshots``: every right answer counts, with weight 1 / (right answers of its query). CMC(k) is the share
              with fewer than k *wrong* items before it.
            * ``cuhk03``: single gallery shot. The gallery has one random item per person, from other cameras than the
              query's. CMC is the mean over ``draws`` such galleries.
        top_k: ranks of the CMC, from 1.
        ap: rule of the average precision.

            * ``step``: mean precision at the right answers; tied items count together (scikit-learn's
              ``average_precision_score``).
            * ``trapezoid``: area under the precision-recall polygon, as in Market-1501's official MATLAB code (Zheng et
              al., ICCV 2015). It is always a little lower.
        same_camera: count right answers of the query's own camera too. Only items of its own sequence or file are left
            out, so labels need ``sequences``.
        junk_person: label of gallery items to leave out. None counts -1 as a person, as the published code does.
        per_camera: also measure every pair of cameras.
        draws: galleries drawn per query under ``cuhk03``.
        seed: seed of these draws.

    Raises:
        UsageError: a setting does not work.
    """

    protocol: str = "market1501"
    top_k: tuple[int, ...] = (1, 5, 10)
    ap: str = "step"
    same_camera: bool = False
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
                f"top_k {list(self.top_k)} does not work: expected ranks of at least 1, for example 1, 5, 10",
                parameter="top_k",
            )
        if self.draws < 1:
            raise UsageError(
                f"draws {self.draws} does not work: expected at least 1, for example 100", parameter="draws"
            )


def evaluate_ranking(
    distances: ArrayLike, query: Labels, gallery: Labels, settings: RankingSettings | None = None
) -> RankingMetrics:
    """Evaluate a matrix of distances.

    Args:
        distances: real numbers (queries, gallery); smaller is nearer.
        query: labels of the rows.
        gallery: labels of the columns.
        settings: settings; the defaults of :class:`RankingSettings` when None.

    Raises:
        UsageError: shapes do not fit, distances are NaN or infinite, or no query is valid.
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
    """Evaluate descriptors by Euclidean distance.

    Distances are computed in blocks of queries, so memory grows with the gallery only. The arithmetic is float32, or
    float64 if both sides are float64.

    Args:
        query: the queries.
        gallery: the gallery.
        settings: settings; the defaults of :class:`RankingSettings` when None.

    Raises:
        UsageError: as for :func:`evaluate_ranking`.
    """
    shapes = query.descriptors.shape, gallery.descriptors.shape
    if shapes[0][1] != shapes[1][1]:
        raise UsageError(f"descriptors of shapes {shapes[0]} and {shapes[1]}: expected (queries, D) and (gallery, D)")
    blocks = _distance_blocks(query.descriptors, gallery.descriptors)
    return _evaluate(blocks, query.labels, gallery.labels, settings or RankingSettings())


def _distance_blocks(query: NDArray[np.floating], gallery: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Squared distances minus the query's squared norm, which does not change the ranking."""
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
    index = GalleryIndex(gallery, settings.junk_person, same_camera=settings.same_camera)
    sums = _Sums(query, index, settings)
    number = 0
    for block in blocks:
        if not np.isfinite(block).all():
            raise UsageError("some distances are NaN or infinite, expected finite numbers; check the descriptors")
        kept = block if index.columns is None else block[:, index.columns]
        for row, ordered in zip(kept, np.sort(kept, axis=1), strict=True):
            sums.add(number, row, ordered)
            number += 1
    return sums.metrics()


class _Sums:
    """Measures of the queries counted so far."""

    def __init__(self, query: Labels, index: GalleryIndex, settings: RankingSettings) -> None:
        self._query, self._views = query, query.views(settings.same_camera)
        self._index, self._settings = index, settings
        self._ap, self._inp = np.full(len(query), np.nan), np.full(len(query), np.nan)
        self._first_rank = np.zeros(len(query), np.int64)
        self._deepest = max(settings.top_k)
        self._hits = np.zeros(self._deepest)
        self._single_shot = SingleShot(index, settings.draws, settings.seed)
        self._tally = CameraTally(index) if settings.per_camera else None

    def add(self, number: int, row: NDArray[np.floating], ordered: NDArray[np.floating]) -> None:
        """Count one query.

        Args:
            number: index of the query.
            row: its distances, without junk.
            ordered: the same distances in ascending order.
        """
        person, camera, view = (
            int(values[number]) for values in (self._query.persons, self._query.cameras, self._views)
        )
        right, left_out = self._index.split(person, view)
        if not len(right):
            return
        ranks = ranks_of(ordered, row[right], row[left_out])
        self._ap[number] = average_precision(ranks, self._settings.ap)
        self._inp[number] = len(right) / ranks.position[-1]
        self._first_rank[number] = ranks.position[0]
        if self._settings.protocol == "cuhk03":
            self._hits += self._single_shot.hits(row, person, view, self._deepest)
        else:
            counted = ranks.wrong if self._settings.protocol == "allshots" else ranks.wrong[:1]
            histogram = np.bincount(np.minimum(counted, self._deepest), minlength=self._deepest + 1)
            self._hits += histogram[:-1] / len(counted)
        if self._tally is not None:
            self._tally.add(row, person, camera, view, self._settings.ap)

    def metrics(self) -> RankingMetrics:
        """The means over all valid queries."""
        valid = int(np.count_nonzero(self._first_rank))
        if not valid:
            where = "sequence" if self._settings.same_camera else "camera"
            raise UsageError(
                f"no query is valid: expected at least one gallery item of a query's person from another {where}; "
                f"check persons and {where}s"
            )
        curve = np.cumsum(self._hits) / valid
        return RankingMetrics(
            mean_ap=float(np.nanmean(self._ap)),
            cmc={rank: float(curve[rank - 1]) for rank in self._settings.top_k},
            mean_inp=float(np.nanmean(self._inp)),
            valid_queries=valid,
            protocol=self._settings.protocol,
            ap=self._settings.ap,
            same_camera=self._settings.same_camera,
            query_ap=self._ap,
            query_first_rank=self._first_rank,
            camera_pairs=tuple(CameraPair(*entry) for entry in self._tally.entries()) if self._tally else (),
        )


def _as_float(block: NDArray[np.generic]) -> NDArray[np.floating]:
    """Convert to a type that sorts fast and loses no digits: float16 to float32, integers to float64."""
    if block.dtype == np.float16:
        return block.astype(np.float32)
    return block if np.issubdtype(block.dtype, np.floating) else block.astype(np.float64)  # type: ignore[return-value]
