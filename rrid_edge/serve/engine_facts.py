"""What is known of the engines of a service: how they compute, whether that was proved, and measured thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta
from pydantic import BaseModel

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ArtefactError, ModelFileError, printable
from rrid_edge.model.names import parity_report_path
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.worker import EngineWorker

_Cosine = Annotated[float, Meta(ge=-1.001, le=1.001)]


@dataclass(frozen=True)
class _Agreement:
    min_cosine: _Cosine
    mean_cosine: _Cosine


@dataclass(frozen=True)
class _Report:
    verdict: str
    passed: bool
    engine: str
    reference: str
    arithmetic: str
    fingerprint: str
    agreement: _Agreement


_REPORT: Final = Artefact("a parity report", _Report, "write it again with: rrid-edge parity", ArtefactError)


class Parity(BaseModel):
    """The last parity report of a model file."""

    verdict: str
    passed: bool
    engine: str
    reference: str
    arithmetic: str
    min_cosine: float
    mean_cosine: float


class MeasuredThresholds(BaseModel):
    """The thresholds that are in use."""

    dataset: str
    people: int
    fpr: list[float]
    fpir: list[float]


class EngineFacts(BaseModel):
    """An engine of the service."""

    model: str
    galleries: list[str]
    fingerprint: str
    family: str
    backbone: str
    precision: str
    height_px: int
    width_px: int
    dimension: int
    state: str
    runtime: str | None
    arithmetic: str | None
    max_batch: int | None
    queue: int
    queue_limit: int
    parity: Parity | None
    thresholds: MeasuredThresholds | None
    problems: list[str]


def engine_facts(worker: EngineWorker, galleries: list[ServedGallery]) -> EngineFacts:
    """The facts of one engine. Reads files beside its model.

    Args:
        worker: of the engine.
        galleries: that it serves, at least one.
    """
    spec, engine, model = worker.spec, worker.engine, galleries[0].model
    problems = [] if worker.failure is None else [worker.failure.message]
    parity = _parity(model, spec.fingerprint, problems)
    thresholds = _thresholds(galleries[0], problems)
    return EngineFacts(
        model=printable(model.name),
        galleries=[gallery.name for gallery in galleries],
        fingerprint=spec.fingerprint,
        family=spec.family,
        backbone=spec.backbone,
        precision=spec.precision if engine is None else engine.spec.precision,
        height_px=spec.height_px,
        width_px=spec.width_px,
        dimension=spec.dimension,
        state="failed" if worker.failure is not None else "opening" if engine is None else "open",
        runtime=None if engine is None else engine.runtime,
        arithmetic=None if engine is None else engine.arithmetic,
        max_batch=None if engine is None else engine.max_batch,
        queue=worker.placed,
        queue_limit=worker.queue,
        parity=parity,
        thresholds=thresholds,
        problems=problems,
    )


def _parity(model: Path, fingerprint: str, problems: list[str]) -> Parity | None:
    try:
        found = _REPORT.read(parity_report_path(model))
    except FileNotFoundError:
        return None
    except ArtefactError as error:
        problems.append(error.message)
        return None
    if found.fingerprint != fingerprint:
        return None
    told = {name: getattr(found, name) for name in ("verdict", "passed", "engine", "reference", "arithmetic")}
    agreement = found.agreement
    return Parity(**told, min_cosine=agreement.min_cosine, mean_cosine=agreement.mean_cosine)


def _thresholds(gallery: ServedGallery, problems: list[str]) -> MeasuredThresholds | None:
    try:
        found = gallery.marks.found()
    except ModelFileError as error:
        problems.append(error.message)
        return None
    if found is None:
        return None
    record = found.record
    return MeasuredThresholds(
        dataset=record.dataset,
        people=record.people,
        fpr=[point.fpr for point in record.pairs.points if point.score is not None],
        fpir=[rate.fpir for rate in record.searches.known],
    )
