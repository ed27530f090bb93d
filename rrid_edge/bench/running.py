"""One benchmark run: engines, indexing, search."""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rrid_edge import __version__
from rrid_edge.bench.ceilings import CeilingSettings, measure_ceilings
from rrid_edge.bench.engines import EffortSettings, measure_engines
from rrid_edge.bench.one_view import NO_FLIP, fastest_of_onnx, measure_one_view
from rrid_edge.bench.pipeline import FileKind, measure_pipeline, tune
from rrid_edge.bench.results import BenchReport, EngineRow, PipelineRow, SearchRow
from rrid_edge.bench.search import SearchCalls, measure_search
from rrid_edge.bench.shares import Limits
from rrid_edge.bench.variants import Variant, find_variants, sibling_models
from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.opening import choose_runtime
from rrid_edge.engines.runtime_choice import RuntimeChoice
from rrid_edge.engines.speeds import RuntimeSpeeds
from rrid_edge.errors import MissingDependencyError, RridEdgeError, item_at_work
from rrid_edge.files import scratch_folder
from rrid_edge.machine.advice import runtime_advice
from rrid_edge.machine.facts import TENSORRT_PACKAGES, installed_version
from rrid_edge.machine.foreign_cpu import ForeignCpu, Repeats, disturbed, quietest
from rrid_edge.machine.processor import processor_name, usable_cores
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.model.operations import Work, work_of
from rrid_edge.model.reading import read_any_spec
from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.reference import Reference
from rrid_edge.progress import NO_PROGRESS, Progress

_FLOAT32 = {("onnxruntime", None), ("openvino", "fp32")}
"""The variants of a float32 model between which ``auto`` chooses by speed."""


@dataclass(frozen=True)
class BenchSettings:
    """How much to measure.

    Attributes:
        effort: how much to measure of every engine.
        files: kinds of files to index.
        pairs: end-to-end runs per kind of files, each between two runs of the engine alone.
        gallery_sizes: rows of the galleries to search.
        search_repetitions: timed searches per gallery.
        ceilings: how much to measure of the machine's limits.
    """

    effort: EffortSettings
    files: tuple[FileKind, ...]
    pairs: int
    gallery_sizes: tuple[int, ...]
    search_repetitions: int
    ceilings: CeilingSettings

    @classmethod
    def full(cls, threads: int = 0) -> BenchSettings:
        """Settings of a full run: minutes, with enough calls for a 99th percentile."""
        repeats = Repeats(3, seconds=600)
        return cls(
            EffortSettings((1, 8, 32), 9, 200, budget_s=30, processes=3, threads=threads, repeats=repeats),
            (
                FileKind("crops 64 x 128", 64, 128, 5, 256, 30_000),
                FileKind("pictures 3000 x 4000", 3000, 4000, 5, 32, 32),
            ),
            pairs=5,
            gallery_sizes=(1_000, 20_000, 100_000),
            search_repetitions=9,
            ceilings=CeilingSettings(4, threads, repeats),
        )

    @classmethod
    def quick(cls, threads: int = 0) -> BenchSettings:
        """Settings of a quick run: under two minutes on two cores."""
        repeats = Repeats(2, seconds=15)
        return cls(
            EffortSettings((1, 8), 3, 20, budget_s=2, processes=1, threads=threads, repeats=repeats),
            (FileKind("crops 64 x 128", 64, 128, 2, 16, 8_000), FileKind("pictures 3000 x 4000", 3000, 4000, 1, 8, 8)),
            pairs=2,
            gallery_sizes=(1_000, 10_000),
            search_repetitions=3,
            ceilings=CeilingSettings(1, threads, repeats),
        )


def run_bench(
    model: Path,
    reference: Reference,
    settings: BenchSettings,
    *,
    against: Sequence[Variant] = (),
    progress: Progress = NO_PROGRESS,
) -> BenchReport:
    """Measure every runtime and precision that this machine can run.

    Args:
        model: the model file; other precisions and engines beside it are measured too.
        reference: images to run, and the reference's descriptors for parity.
        settings: how much to measure.
        against: yardsticks; their rows come first.
        progress: counts measurements.

    Raises:
        MissingDependencyError: no installed runtime can open the model.
    """
    watch = ForeignCpu()
    effort, spec, goldens = settings.effort, read_any_spec(model), reference.goldens
    found, passed_over = find_variants(
        sibling_models(model), spec.fingerprint, threads=effort.threads, max_batch=max(effort.batches)
    )
    if not found:
        raise _no_runtime(passed_over)
    variants = [*against, *found]
    progress.start(len(variants) * (2 + len(effort.batches)) + len(settings.files) + 3)
    limits = Limits(measure_ceilings(settings.ceilings), _work(model, found, passed_over))
    passed_over += limits.ceilings.missing
    progress.advance(1)
    engines = measure_engines(variants, goldens, effort, limits, progress=progress)
    own = engines[len(against) :]
    auto = _auto(model, own, found, effort.threads)
    engines += _one_view(own, found, reference, effort, limits, passed_over)
    progress.advance(1)
    _, fastest = max(zip(own, found, strict=True), key=lambda pair: pair[0].best_images_per_s)
    pipeline, search = _measure_galleries(fastest, reference, spec, settings, limits, progress)
    return BenchReport(
        machine=describe_machine(),
        threads=effort.threads,
        date=time.strftime("%Y-%m-%d"),
        model=str(model),
        fingerprint=spec.fingerprint,
        family=spec.family,
        reference=reference.name,
        sample=reference.sample.describe(),
        repetitions=effort.repetitions,
        engines=tuple(engines),
        pipeline=tuple(pipeline),
        search=tuple(search),
        passed_over=tuple(passed_over),
        ceilings=limits.ceilings,
        operations_per_image=limits.work.operations if limits.work else None,
        foreign_cpu=watch.share(),
        auto=auto.describe(),
        auto_in_brief=_in_brief(auto),
    )


def _auto(model: Path, rows: Sequence[EngineRow], variants: Sequence[Variant], threads: int) -> RuntimeChoice:
    """The runtime that ``auto`` takes for the model, after recording what was measured undisturbed."""
    choice = choose_runtime(model, threads=threads)
    ms = {
        variant.runtime: row.latency_p50_ms
        for row, variant in zip(rows, variants, strict=True)
        if variant.path == model and (variant.runtime, variant.precision) in _FLOAT32 and not disturbed(row.foreign_cpu)
    }
    if len(ms) == len(_FLOAT32):
        choice = choice.decided_by(RuntimeSpeeds(ms["onnxruntime"], ms["openvino"]), model, threads)
    return choice


def _in_brief(choice: RuntimeChoice) -> str:
    """A choice with the speeds that decided, and without the runtimes that were passed over."""
    if choice.speeds is not None:
        return f"runtime {choice.runtime} ({choice.speeds.describe()})"
    return choice.in_brief()


def _no_runtime(passed_over: Sequence[str]) -> MissingDependencyError:
    return MissingDependencyError(
        f"no runtime could open the model ({'; '.join(passed_over)}); install one with: {runtime_advice()}"
    )


def _work(model: Path, variants: Sequence[Variant], passed_over: list[str]) -> Work | None:
    """The work of one image, from the file with the highest precision: the int8 forms add operations of their own."""
    files = {variant.path for variant in variants if variant.path is not None} | {model}
    onnx = [path for path in sorted(files) if kind_of(path) is Kind.ONNX]
    if not onnx:
        passed_over.append("operations of the network: no ONNX file beside the model")
        return None
    order = ("fp32", "fp16", "int8")
    try:
        return work_of(min(onnx, key=lambda path: order.index(read_any_spec(path).precision)))
    except RridEdgeError as error:
        passed_over.append(error.message)
        return None


def _one_view(
    rows: Sequence[EngineRow],
    variants: Sequence[Variant],
    reference: Reference,
    effort: EffortSettings,
    limits: Limits,
    passed_over: list[str],
) -> list[EngineRow]:
    """The row without the mirrored image; none where it cannot be measured, with the reason in ``passed_over``."""
    try:
        with scratch_folder() as folder:
            return [measure_one_view(fastest_of_onnx(rows, variants), reference.goldens, effort, limits, folder)]
    except RridEdgeError as error:
        passed_over.append(f"{NO_FLIP}: {error.message}")
        return []


def _measure_galleries(
    fastest: Variant, reference: Reference, spec: ModelSpec, settings: BenchSettings, limits: Limits, progress: Progress
) -> tuple[list[PipelineRow], list[SearchRow]]:
    """Measure indexing with the fastest engine, and search."""
    goldens = reference.goldens
    calls = SearchCalls(settings.search_repetitions, settings.effort.quiet, limits.ceilings)
    pipeline: list[PipelineRow] = []
    with scratch_folder() as folder, fastest.open() as engine:
        tuned = tune(fastest.name, engine, goldens)
        for number, kind in enumerate(settings.files):
            folders = (folder / f"files-{number}-{attempt}" for attempt in itertools.count())
            with item_at_work(f"{fastest.name}, files of the kind {kind}"):
                row, foreign_cpu = quietest(
                    lambda kind=kind, folders=folders: measure_pipeline(  # type: ignore[misc]
                        tuned, goldens, next(folders), kind, repetitions=settings.pairs
                    ),
                    settings.effort.repeats,
                )
            pipeline.append(replace(row, foreign_cpu=foreign_cpu))
            progress.advance(1)
        search = measure_search(spec, goldens, folder, sizes=settings.gallery_sizes, calls=calls)
        progress.advance(1)
    return pipeline, search


def describe_machine() -> dict[str, str]:
    """Processor, cores, GPU (``none`` without one) and versions of the relevant packages."""
    machine = {"processor": processor_name(), "cores": str(usable_cores()), "gpu": _gpu_name()}
    machine |= {"python": platform.python_version(), "rrid-edge": __version__}
    packages = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", *TENSORRT_PACKAGES, "torch")
    return machine | {package: version for package in packages if (version := installed_version(package))}


def _gpu_name() -> str:
    try:
        return Cuda().device().name
    except RridEdgeError:
        return "none"
