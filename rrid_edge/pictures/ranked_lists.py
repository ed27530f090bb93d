"""Ranked lists of an evaluation, to look at: the queries that went worst, those in the middle, the best."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.naming import PERSON, label_kind
from rrid_edge.errors import UsageError
from rrid_edge.gallery.sampling import RowSample, SampledRow, sampled
from rrid_edge.matching import Match, MatchResult
from rrid_edge.matching.contrast import ContrastSample, UsualBlocks
from rrid_edge.matching.separation import separation
from rrid_edge.model.spec import ModelSpec
from rrid_edge.ranking.descriptors import block_shares_of
from rrid_edge.ranking.labels import JUNK_PERSON, LabelledCrops, LabelNames


def choose_queries(query_ap: NDArray[np.float64], count: int) -> dict[str, list[int]]:
    """Numbers of the queries of every sheet: ``count`` of the lowest, the middle and the highest average precision.

    Args:
        query_ap: float64 (queries,): NaN where a query is not valid; such a query is on no sheet.
        count: queries of a sheet, at least 1.
    """
    if count < 1:
        raise UsageError(f"{count} queries a sheet do not work: expected at least 1")
    order = np.argsort(query_ap, kind="stable")[: int(np.count_nonzero(np.isfinite(query_ap)))].tolist()
    middle = max(0, (len(order) - count) // 2)
    return {"worst": order[:count], "median": order[middle : middle + count], "best": order[::-1][:count]}


@dataclass(frozen=True)
class ListSettings:
    """What a ranked list shows.

    Attributes:
        top_k: answers.
        blocks: descriptor blocks of the model.
        same_camera: as in :class:`~rrid_edge.ranking.metrics.RankingSettings`.
        names: what people and cameras are called.
        sample: of the gallery, against which the parts of the answers are measured; None leaves that out.
    """

    top_k: int
    blocks: int
    same_camera: bool = False
    names: LabelNames = field(default_factory=LabelNames)
    sample: ContrastSample | None = None


def sample_of(gallery: LabelledCrops, spec: ModelSpec) -> ContrastSample:
    """A fixed sample of a labelled gallery, of the model that made its descriptors."""
    chosen = sampled(np.arange(len(gallery.paths)))
    rows = tuple(SampledRow.of(str(gallery.labels.persons[place]), None, None) for place in chosen)
    return ContrastSample(spec, RowSample(rows, np.asarray(gallery.descriptors[chosen], np.float32)))


def ranked_list(
    number: int,
    query: LabelledCrops,
    gallery: LabelledCrops,
    distances: NDArray[np.floating],
    settings: ListSettings,
) -> MatchResult:
    """The first answers to one query, as evaluation ranks them: no junk, no images of it by its own camera.

    Args:
        number: the query.
        query: the queries.
        gallery: the gallery.
        distances: real (gallery,): the query's distances, smaller is nearer.
        settings: length of the list, and what is left out.
    """
    person, camera = query.labels.persons[number], query.labels.cameras[number]
    persons, cameras = gallery.labels.persons, gallery.labels.cameras
    same_camera, names = settings.same_camera, settings.names
    same_view = gallery.labels.views(same_camera) == query.labels.views(same_camera)[number]
    left_out = (persons == JUNK_PERSON) | ((persons == person) & same_view)
    order = np.argsort(np.where(left_out, np.inf, distances), kind="stable")
    columns = order[: min(settings.top_k, int(np.count_nonzero(~left_out)))].tolist()
    descriptor, usual = query.descriptors[number], UsualBlocks((), 0)
    if settings.sample is not None:
        told = str(person) if label_kind(str(person)) == PERSON else None
        usual = settings.sample.usual_blocks(descriptor[None], told)
    crops = gallery.descriptors[columns]
    asked_with = np.broadcast_to(descriptor, crops.shape)
    shares = block_shares_of(asked_with, crops, settings.blocks)
    contrasts = usual.contrasts(asked_with, crops)
    matches = []
    for rank, (column, own, contrast) in enumerate(zip(columns, shares, contrasts, strict=True), 1):
        named = names.camera(int(cameras[column])), names.person(int(persons[column]))
        matches.append(Match(rank, sum(own), str(gallery.paths[column]), *named, own, contrasts=contrast))
    asked = names.person(int(person)), names.camera(int(camera))
    files = (str(query.paths[number]),)
    separating = separation(usual, asked_with, crops, contrasts)
    found = tuple(matches)
    return MatchResult(files, found, *asked, blocks=usual.blocks, others=usual.others, separation=separating)
