"""One benchmark run: engines, the whole way, search."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge import __version__
from rrid_edge.bench.engines import measure_engines
from rrid_edge.bench.pipeline import FileKind, measure_pipeline
from rrid_edge.bench.report import BenchReport
from rrid_edge.bench.search import measure_search
from rrid_edge.bench.variants import Variant, find_variants, sibling_models
from rrid_edge.errors import MissingExtraError
from rrid_edge.goldens import Goldens
from rrid_edge.onnx_file import read_spec
from rrid_edge.processor import processor_name


@dataclass(frozen=True)
class BenchSettings:
    """How much to measure.

    Attributes:
        batches: batch sizes of the throughput columns.
        repetitions: timed repetitions of each.
        files: what is indexed.
        pairs: runs of the whole way, each between two of the engine alone.
        gallery_sizes: rows of the galleries to search.
        threads: CPU threads; 0 lets the runtimes choose.
    """

    batches: tuple[int, ...] = (1, 8, 32)
    repetitions: int = 9
    files: tuple[FileKind, ...] = (
        FileKind("crops 64 x 128", 64, 128, 5, 4096),
        FileKind("pictures 3000 x 4000", 3000, 4000, 5, 32),
    )
    pairs: int = 5
    gallery_sizes: tuple[int, ...] = (1_000, 20_000, 100_000)
    threads: int = 0


QUICK = BenchSettings(
    batches=(1, 8),
    repetitions=3,
    files=(FileKind("crops 64 x 128", 64, 128, 1.5, 1024), FileKind("pictures 3000 x 4000", 3000, 4000, 1, 8)),
    pairs=3,
    gallery_sizes=(1_000, 10_000),
)
"""Under two minutes on two cores."""


def run_bench(
    model: Path,
    goldens: Goldens,
    settings: BenchSettings,
    *,
    against: Sequence[Variant] = (),
    reference: str,
    begin: Callable[[int], None] = lambda _total: None,
    advance: Callable[[int], None] = lambda _done: None,
) -> BenchReport:
    """Measure every runtime and precision that this machine can run.

    Args:
        model: the model file; other precisions and engines beside it are measured too.
        goldens: images and the reference's descriptors for parity beside speed.
        settings: how much to measure.
        against: yardsticks to put first.
        reference: what made the goldens, for the report.
        begin: called with the number of steps.
        advance: called with the steps done since the last call.

    Raises:
        MissingExtraError: no runtime is installed.
    """
    found, passed_over = find_variants(sibling_models(model), threads=settings.threads, max_batch=max(settings.batches))
    if not found:
        raise MissingExtraError(
            f"no runtime could open the model ({'; '.join(passed_over)}): pip install 'rrid-edge[cpu]'"
        )
    variants = [*against, *found]
    begin(len(variants) * (2 + len(settings.batches)) + len(settings.files) + 1)
    spec = read_spec(model)
    engines = measure_engines(
        variants,
        goldens,
        batches=settings.batches,
        repetitions=settings.repetitions,
        threads=settings.threads,
        advance=advance,
    )
    ours = [(row, variant) for row, variant in zip(engines, variants, strict=True) if variant in found]
    _, fastest = max(ours, key=lambda pair: pair[0].best_images_per_s)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = []
        for number, kind in enumerate(settings.files):
            place = Path(folder) / f"files-{number}"
            pipeline.append(measure_pipeline(fastest, goldens, place, kind, repetitions=settings.pairs))
            advance(1)
        search = measure_search(
            spec, goldens, Path(folder), sizes=list(settings.gallery_sizes), repetitions=settings.repetitions
        )
        advance(1)
    return BenchReport(
        machine=describe_machine(),
        threads=settings.threads,
        model=str(model),
        fingerprint=spec.fingerprint,
        reference=reference,
        repetitions=settings.repetitions,
        engines=tuple(engines),
        pipeline=tuple(pipeline),
        search=tuple(search),
        passed_over=tuple(passed_over),
    )


def describe_machine() -> dict[str, str]:
    """Processor, cores and the versions that matter."""
    machine = {"processor": processor_name(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    machine["rrid-edge"] = __version__
    for package in ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch"):
        try:
            machine[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return machine
