"""Evaluation on the test split of a dataset: ranking metrics, thresholds and sheets of ranked lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.pipeline import embed_files
from rrid_edge.engines import Engine
from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_edge.files import check_writable
from rrid_edge.model.spec import ModelSpec
from rrid_edge.pictures.contact_sheet import contact_sheet, write_sheet
from rrid_edge.pictures.ranked_lists import ListSettings, choose_queries, ranked_list, sample_of
from rrid_edge.progress import NO_PROGRESS, Progress, step
from rrid_edge.ranking.labels import DISTRACTOR_PERSON, LabelledCrops, LabelNames
from rrid_edge.ranking.metrics import RankingMetrics, RankingSettings, evaluate_descriptors, evaluate_ranking
from rrid_edge.ranking.rerank import RerankSettings, average_query_expansion, k_reciprocal
from rrid_edge.ranking.search_fitting import measure_open_set
from rrid_edge.ranking.threshold_file import Thresholds
from rrid_edge.ranking.thresholds import FALSE_POSITIVE_RATES, measure_thresholds
from rrid_train.data.layout import Dataset
from rrid_train.data.samples import Sample, paired_labels

_SHEET_MATCHES = 10


@dataclass(frozen=True)
class EvaluationSettings:
    """How to rank and what to measure.

    Attributes:
        ranking: protocol, kind of average precision, and whether to measure pairs of cameras.
        rerank: settings of k-reciprocal re-ranking; None is off.
        expand: query expansion: nearest crops averaged into each query; 0 is off.
        fpr: false-positive rates per pair of the thresholds, between 0 and 1.

    Raises:
        UsageError: a value is out of its range.
    """

    ranking: RankingSettings = field(default_factory=RankingSettings)
    rerank: RerankSettings | None = None
    expand: int = 0
    fpr: tuple[float, ...] = FALSE_POSITIVE_RATES

    def __post_init__(self) -> None:
        if self.expand < 0:
            raise UsageError(f"expand {self.expand} does not work: expected 0 or more", parameter="expand")
        if not all(0 < rate < 1 for rate in self.fpr):
            wrong = next(rate for rate in self.fpr if not 0 < rate < 1)
            raise UsageError(
                f"a false-positive rate of {wrong:g} does not work: expected a number between 0 and 1, such as 1e-3",
                parameter="fpr",
            )

    def describe(self) -> str:
        """What changes the ranking: ``query expansion 5, re-ranked``, one of them, or an empty text."""
        changes = (f"query expansion {self.expand}" if self.expand else "", "re-ranked" if self.rerank else "")
        return ", ".join(change for change in changes if change)


@dataclass(frozen=True)
class SheetSettings:
    """Which sheets of ranked lists to draw: one of the worst, one of the median and one of the best queries.

    Attributes:
        folder: folder to write them into; None draws none.
        queries: queries per sheet.

    Raises:
        UsageError: ``queries`` is below 1, or ``folder`` is a file.
        OutputError: ``folder`` cannot be written.
    """

    folder: Path | None = None
    queries: int = 6

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise UsageError(
                f"{self.queries} queries per sheet do not work: expected at least 1", parameter="sheet_queries"
            )
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise UsageError(
                f"{printable(self.folder)}: this is a file; expected a folder for the sheets", parameter="sheets"
            )
        if self.folder is not None:
            check_writable(self.folder)


@dataclass(frozen=True)
class EmbeddedSplit:
    """Descriptors and labels of the test split of a dataset.

    Attributes:
        name: name of the dataset.
        query: crops of the queries.
        gallery: crops of the gallery, without junk.
        distances: re-ranked distances, float32 (queries, gallery); None without re-ranking.
        names: what people and cameras are called.
    """

    name: str
    query: LabelledCrops
    gallery: LabelledCrops
    distances: NDArray[np.float32] | None = None
    names: LabelNames = field(default_factory=LabelNames)


@dataclass(frozen=True)
class Evaluation:
    """The results on a test split.

    Attributes:
        split: descriptors and labels of the split.
        spec: spec of the model.
        runtime: runtime that computed the descriptors.
        settings: settings of the evaluation.
        metrics: metrics of the ranking.
        thresholds: thresholds of scores without re-ranking or query expansion, as ``match`` compares them; None if
            there is no crop of another person.
    """

    split: EmbeddedSplit
    spec: ModelSpec
    runtime: str
    settings: EvaluationSettings
    metrics: RankingMetrics
    thresholds: Thresholds | None

    def to_dict(self) -> dict[str, Any]:
        """The results as JSON-serialisable values, without arrays per query. Cameras are names, as in galleries."""
        values = {name: value for name, value in asdict(self.metrics).items() if not hasattr(value, "shape")}
        for pair in values["camera_pairs"]:
            pair |= {side: self.split.names.camera(pair[side]) for side in ("query_camera", "gallery_camera")}
        return {
            "runtime": self.runtime,
            "dataset": self.split.name,
            "rerank": self.settings.rerank is not None,
            "expand": self.settings.expand,
            **values,
            "thresholds": self.thresholds.to_dict() if self.thresholds else None,
        }


def evaluate(
    engine: Engine, data: Dataset, settings: EvaluationSettings, *, progress: Progress = NO_PROGRESS
) -> Evaluation:
    """Embed the test split of a dataset and measure the ranking and the thresholds.

    The gallery's junk (-1) is not embedded. So it is no neighbour either that re-ranking or query expansion looks at,
    as in the field's toolkits.

    Args:
        engine: engine of the network or model.
        data: dataset with queries and a gallery.
        settings: see :class:`EvaluationSettings`.
        progress: counts embedded images.

    Raises:
        UsageError: there are no queries or no gallery, no query has a right answer, or ``expand`` or ``k1`` exceeds the
            gallery's size.
        DatasetError: an image cannot be read.
    """
    if not data.query or not data.gallery:
        found = f"{len(data.query)} queries and {len(data.gallery)} gallery crops"
        raise UsageError(
            f"{printable(data.root)}: {found} in the test split; expected both; give a dataset with a test split",
            parameter="dataset",
        )
    same_camera = settings.ranking.same_camera
    can = data.measurable(same_camera=same_camera)
    can.require_ranking(printable(data.root))
    if settings.ranking.junk_person is not None:
        data = data.scored()
    progress.start(len(data.query) + len(data.gallery))
    labels = paired_labels(data.query, data.gallery)
    query, gallery = (
        LabelledCrops(_embedded(engine, samples, progress), known, [sample.path for sample in samples])
        for samples, known in zip((data.query, data.gallery), labels, strict=True)
    )
    metrics, distances = _ranked(query, gallery, settings)
    embedded = EmbeddedSplit(data.name, query, gallery, distances, data.names)
    thresholds = _thresholds(embedded, settings, can.persons) if can.thresholds else None
    return Evaluation(embedded, engine.spec, engine.runtime, settings, metrics, thresholds)


@step("ranking")
def _ranked(
    query: LabelledCrops, gallery: LabelledCrops, settings: EvaluationSettings
) -> tuple[RankingMetrics, NDArray[np.float32] | None]:
    """The metrics, and the re-ranked distances, float32 (queries, gallery); None without re-ranking."""
    descriptors = _query_descriptors(query, gallery, settings)
    if settings.rerank is None:
        return evaluate_descriptors(replace(query, descriptors=descriptors), gallery, settings.ranking), None
    distances = k_reciprocal(descriptors, gallery.descriptors, settings.rerank)
    return evaluate_ranking(distances, query.labels, gallery.labels, settings.ranking), distances


@step("measuring thresholds")
def _thresholds(split: EmbeddedSplit, settings: EvaluationSettings, people: int) -> Thresholds:
    """Thresholds per pair and per search, of plain scores."""
    same_camera = settings.ranking.same_camera
    pairs = measure_thresholds(split.query, split.gallery, rates=settings.fpr, same_camera=same_camera)
    searches = measure_open_set(split.query, split.gallery, same_camera=same_camera)
    return Thresholds(split.name, people, same_camera, pairs, searches)


@step("drawing sheets")
def draw_sheets(evaluation: Evaluation, sheets: SheetSettings) -> list[Path]:
    """Draw the ranked lists of the worst, median and best queries; returns the files.

    Raises:
        OutputError: a file cannot be written.
    """
    if sheets.folder is None:
        return []
    split, metrics, blocks = evaluation.split, evaluation.metrics, evaluation.spec.blocks
    settings = evaluation.settings
    query_descriptors = _query_descriptors(split.query, split.gallery, settings)
    listed = ListSettings(
        _SHEET_MATCHES,
        len(blocks),
        settings.ranking.same_camera,
        split.names,
        sample_of(split.gallery, evaluation.spec),
    )
    written = []
    for name, numbers in choose_queries(metrics.query_ap, sheets.queries).items():
        results = []
        for number in numbers:
            distances = (
                -(split.gallery.descriptors @ query_descriptors[number])
                if split.distances is None
                else split.distances[number]
            )
            results.append(ranked_list(number, split.query, split.gallery, distances, listed))
        path = sheets.folder / f"{name}.png"
        footer = _footer(evaluation, name, numbers)
        write_sheet(path, contact_sheet(results, Path(), block_names=blocks, footer=footer))
        written.append(path)
    return written


def _footer(evaluation: Evaluation, name: str, numbers: Sequence[int]) -> str:
    precisions = ", ".join(f"{evaluation.metrics.query_ap[number]:.2f}" for number in numbers)
    parts = [f"{evaluation.split.name}, {name} queries", f"average precision from top to bottom: {precisions}"]
    if (evaluation.split.gallery.labels.persons == DISTRACTOR_PERSON).any():
        parts.append("distractors (grey) count as wrong")
    if changed := evaluation.settings.describe():
        parts.append(f"{changed}: scores are cosines without it")
    return "; ".join(parts)


def _query_descriptors(
    query: LabelledCrops, gallery: LabelledCrops, settings: EvaluationSettings
) -> NDArray[np.float32]:
    """Descriptors to rank with, after query expansion if it is on: float32 (queries, D)."""
    if not settings.expand:
        return query.descriptors
    return average_query_expansion(query.descriptors, gallery.descriptors, neighbours=settings.expand)


def _embedded(engine: Engine, samples: Sequence[Sample], progress: Progress) -> NDArray[np.float32]:
    paths = [sample.path for sample in samples]
    descriptors = np.empty((len(paths), engine.spec.dimension), np.float32)
    for batch in embed_files(engine, paths):
        if batch.failed:
            path, reason = batch.failed[0]
            raise DatasetError(
                f"{printable(path)}: {reason}; without this image the results are not comparable: repair it"
            )
        descriptors[batch.indices] = batch.descriptors
        progress.advance(batch.done)
    return descriptors
