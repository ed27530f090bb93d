"""Latency, throughput and parity of several engines, measured in turns on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.bench.probe import LoadCost, LoadRequest, measure_load
from rrid_edge.bench.results import EngineRow
from rrid_edge.bench.variants import Variant
from rrid_edge.engines.base import Engine
from rrid_edge.machine.timing import Timing, interleave
from rrid_edge.parity.check import INVARIANCE_BATCHES, check_parity
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
    """

    batches: tuple[int, ...]
    repetitions: int
    latency_repetitions: int
    budget_s: float
    processes: int
    threads: int


def measure_engines(
    variants: Sequence[Variant], goldens: Goldens, effort: EffortSettings, *, progress: Progress = NO_PROGRESS
) -> list[EngineRow]:
    """Measure all variants. All engines are open at once and run in turns.

    Args:
        variants: at least one. The ratios of the table refer to the first.
        goldens: images to run, and the reference's descriptors of them.
        effort: how much to measure.
        progress: advanced after each measurement. The caller starts it.

    Returns:
        One row per variant.
    """
    costs = [_cost(variant, effort, progress) for variant in variants]
    engines = [variant.open() for variant in variants]
    try:
        latency = _timings(engines, goldens.images, 1, effort.latency_repetitions, effort.budget_s)
        progress.advance(len(engines))
        throughput = {}
        for batch in effort.batches:
            throughput[batch] = _timings(engines, goldens.images, batch, effort.repetitions, effort.budget_s)
            progress.advance(len(engines))
        return [
            _row(
                variant,
                engine,
                goldens,
                cost,
                latency[index],
                {batch: timings[index] for batch, timings in throughput.items()},
            )
            for index, (variant, engine, cost) in enumerate(zip(variants, engines, costs, strict=True))
        ]
    finally:
        for engine in engines:
            engine.close()


def _cost(variant: Variant, effort: EffortSettings, progress: Progress) -> LoadCost | None:
    cost = None
    if variant.path is not None:
        request = LoadRequest(str(variant.path), variant.runtime, variant.precision, effort.threads)
        cost = measure_load(request, processes=effort.processes)
    progress.advance(1)
    return cost


def _timings(engines: Sequence[Engine], images: Images, batch: int, repetitions: int, budget_s: float) -> list[Timing]:
    sample = np.ascontiguousarray(images[np.arange(batch) % len(images)])
    calls = {str(index): _runner(engine, sample) for index, engine in enumerate(engines)}
    return list(interleave(calls, repetitions=repetitions, warm_up=2, budget_s=budget_s).values())


def _runner(engine: Engine, sample: Images) -> Callable[[], object]:
    return lambda: engine.run(sample)


def _row(
    variant: Variant,
    engine: Engine,
    goldens: Goldens,
    cost: LoadCost | None,
    latency: Timing,
    throughput: dict[int, Timing],
) -> EngineRow:
    parity = check_parity(
        engine,
        goldens,
        reference_name="goldens",
        batches=INVARIANCE_BATCHES if variant.path else (),
    )
    return EngineRow(
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
        images_per_s={batch: batch / timing.median for batch, timing in throughput.items()},
        spread={batch: timing.spread for batch, timing in throughput.items()},
        min_cosine=parity.agreement.min_cosine,
        top1_agreement=parity.agreement.top1_agreement,
        map_change=parity.map_change,
    )
