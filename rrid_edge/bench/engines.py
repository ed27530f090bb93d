"""Latency, throughput and parity of several engines, measured in turns on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rrid_edge.bench.copying import on_gpu
from rrid_edge.bench.probe import LoadCost, LoadRequest, measure_load
from rrid_edge.bench.results import EngineRow
from rrid_edge.bench.shares import Limits, with_shares
from rrid_edge.bench.variants import Variant
from rrid_edge.engines.base import Engine
from rrid_edge.machine.foreign_cpu import Repeats, largest, quietest
from rrid_edge.machine.timing import Quiet, Timing, interleave
from rrid_edge.parity.check import check_parity
from rrid_edge.parity.goldens import Goldens
from rrid_edge.progress import NO_PROGRESS, Progress

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class EffortSettings:
    """How much to measure of every engine.

    Attributes:
        batches: batch sizes to measure throughput of.
        repetitions: timed calls per batch size.
        latency_repetitions: timed calls with one image. The 99th percentile needs at least 200.
        budget_s: largest number of seconds per engine and batch size; later calls are skipped.
        processes: fresh processes per kind of loading.
        threads: CPU threads of the processes that measure loading; 0 lets the runtime choose.
        repeats: how often measurements that other programs disturb are made again; all of one run share it.
    """

    batches: tuple[int, ...]
    repetitions: int
    latency_repetitions: int
    budget_s: float
    processes: int
    threads: int
    repeats: Repeats = field(default_factory=lambda: Repeats(2))

    @property
    def quiet(self) -> Quiet:
        """How to get measurements that other programs do not disturb."""
        return Quiet(repeats=self.repeats)


@dataclass(frozen=True)
class Measured:
    """What was measured of one engine.

    Attributes:
        latency: calls with one image.
        throughput: calls by batch size.
        cost: cost of loading; None if it was not measured.
        load_foreign_cpu: share of foreign CPU while loading; None if it is not known.
    """

    latency: Timing
    throughput: dict[int, Timing]
    cost: LoadCost | None = None
    load_foreign_cpu: float | None = None

    @property
    def foreign_cpu(self) -> float | None:
        """The largest share of foreign CPU."""
        timings = (self.latency, *self.throughput.values())
        return largest([self.load_foreign_cpu, *(timing.foreign_cpu for timing in timings)])


def measure_engines(
    variants: Sequence[Variant],
    goldens: Goldens,
    effort: EffortSettings,
    limits: Limits,
    *,
    progress: Progress = NO_PROGRESS,
) -> list[EngineRow]:
    """Measure all variants. All engines are open at once and run in turns.

    Args:
        variants: at least one. The ratios of the table refer to the first.
        goldens: images to run, and the reference's descriptors of them.
        effort: how much to measure.
        limits: what the rows are compared with.
        progress: advanced after each measurement. The caller starts it.

    Returns:
        One row per variant.
    """
    costs = [_cost(variant, effort, progress) for variant in variants]
    engines = [variant.open() for variant in variants]
    try:
        latency = timings(engines, goldens.images, 1, effort.latency_repetitions, effort)
        progress.advance(len(engines))
        throughput = {}
        for batch in effort.batches:
            throughput[batch] = timings(engines, goldens.images, batch, effort.repetitions, effort)
            progress.advance(len(engines))
        return [
            engine_row(
                variant,
                engine,
                goldens,
                Measured(latency[index], {batch: found[index] for batch, found in throughput.items()}, *costs[index]),
                limits,
            )
            for index, (variant, engine) in enumerate(zip(variants, engines, strict=True))
        ]
    finally:
        for engine in engines:
            engine.close()


def _cost(variant: Variant, effort: EffortSettings, progress: Progress) -> tuple[LoadCost | None, float | None]:
    """Cost of loading, and the share of foreign CPU meanwhile."""
    cost, foreign_cpu = None, None
    if variant.path is not None:
        request = LoadRequest(str(variant.path), variant.runtime, variant.precision, effort.threads)
        cost, foreign_cpu = quietest(lambda: measure_load(request, processes=effort.processes), effort.repeats)
    progress.advance(1)
    return cost, foreign_cpu


def timings(
    engines: Sequence[Engine], images: Images, batch: int, repetitions: int, effort: EffortSettings
) -> list[Timing]:
    """Time calls of all engines in turns, with ``batch`` of the images, repeated where there are fewer."""
    sample = np.ascontiguousarray(images[np.arange(batch) % len(images)])
    calls = {str(index): _runner(engine, sample) for index, engine in enumerate(engines)}
    found = interleave(calls, repetitions=repetitions, warm_up=2, budget_s=effort.budget_s, quiet=effort.quiet)
    return list(found.values())


def _runner(engine: Engine, sample: Images) -> Callable[[], object]:
    return lambda: engine.run(sample)


def engine_row(variant: Variant, engine: Engine, goldens: Goldens, measured: Measured, limits: Limits) -> EngineRow:
    """The row of a measured engine, with its accuracy on the goldens."""
    parity = check_parity(engine, goldens, reference_name="goldens", batches=())  # the row has no batch invariance
    latency, cost = measured.latency, measured.cost
    row = EngineRow(
        name=variant.name,
        runtime=engine.runtime,
        arithmetic=engine.arithmetic,
        model_mb=variant.path.stat().st_size / 1e6 if variant.path else None,
        load_cold_s=cost.cold_s if cost else None,
        load_cached_s=cost.cached_s if cost else None,
        load_warm_s=cost.warm_s if cost else None,
        memory_mib=cost.memory_mib if cost else None,
        peak_memory_mib=cost.peak_memory_mib if cost else None,
        device_memory_mib=cost.device_memory_mib if cost else None,
        latency_p50_ms=latency.percentile_ms(50),
        latency_p90_ms=latency.percentile_ms(90),
        latency_p99_ms=latency.percentile_ms(99),
        latency_calls=len(latency.seconds),
        images_per_s={batch: batch / timing.median for batch, timing in measured.throughput.items()},
        spread={batch: timing.spread for batch, timing in measured.throughput.items()},
        min_cosine=parity.agreement.min_cosine,
        top1_agreement=parity.agreement.top1_agreement,
        map_change=parity.map_change,
        foreign_cpu=measured.foreign_cpu,
        views=2 if engine.spec.flip else 1,
    )
    return with_shares(row, limits, on_gpu=on_gpu(engine))
