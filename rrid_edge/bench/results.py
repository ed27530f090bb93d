"""Results of a benchmark, as data. ``rrid_edge.bench.table`` makes text of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rrid_edge.bench.ceilings import Ceilings
from rrid_edge.machine.foreign_cpu import FOREIGN_LIMIT, disturbed
from rrid_edge.model.spec import RRID


@dataclass(frozen=True)
class EngineRow:
    """One runtime with one precision.

    Attributes:
        name: label of the row.
        runtime: name of the runtime, as the engine reports it.
        arithmetic: how the engine computes, for example ``bf16``.
        model_mb: size of its file in 1e6 bytes; None without a file of its own.
        load_cold_s: seconds for imports, opening and the first image in a fresh process, without a cache; None if not
            measured.
        load_cached_s: the same with the compiled model in the cache.
        load_warm_s: seconds to open the engine and run the first image again in the same process.
        memory_mib: resident memory of a process with the engine open.
        peak_memory_mib: peak resident memory of this process.
        device_memory_mib: memory taken on the GPU; None on a CPU.
        latency_calls: timed calls with one image.
        latency_p50_ms: median latency of one image.
        latency_p90_ms: 90th percentile of the latency.
        latency_p99_ms: 99th percentile of the latency.
        images_per_s: batch size -> median throughput.
        spread: batch size -> (90th - 10th percentile) / 2, as a share of the median.
        min_cosine: lowest cosine with the reference's descriptors.
        top1_agreement: share of images with the reference's nearest neighbour.
        map_change: mean average precision (mAP) minus the reference's; None without labels.
        foreign_cpu: largest share of foreign CPU during a measurement of this row; None if it is not known.
        views: images that the network computes per crop: 2 with the mirrored one, else 1.
        operations_per_s: multiplications and additions of the network per second at the best batch size; None if they
            could not be counted.
        of_ceiling: these as a share of the machine's ceiling in this arithmetic; None if it was not measured.
        of_memory: bytes of weights read per second with one image per call, as a share of the machine's memory rate.
            It is above 1 where the weights stay in the processor's cache. None as above.
        no_share: why the two shares are missing; None if they are there.
        of_two_views: throughput at the largest batch, as a multiple of the same engine with two views, measured in
            turns; None in other rows.
    """

    name: str
    runtime: str
    arithmetic: str
    model_mb: float | None
    load_cold_s: float | None
    load_cached_s: float | None
    load_warm_s: float | None
    memory_mib: float | None
    peak_memory_mib: float | None
    device_memory_mib: float | None
    latency_calls: int
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    images_per_s: dict[int, float]
    spread: dict[int, float]
    min_cosine: float
    top1_agreement: float
    map_change: float | None
    foreign_cpu: float | None = None
    views: int = 2
    operations_per_s: float | None = None
    of_ceiling: float | None = None
    of_memory: float | None = None
    no_share: str | None = None
    of_two_views: float | None = None

    @property
    def best_images_per_s(self) -> float:
        """Throughput at the best batch size."""
        return max(self.images_per_s.values())


@dataclass(frozen=True)
class PipelineRow:
    """Indexing JPEG files, end to end and with the engine alone.

    Attributes:
        name: the engine's name.
        kind: kind of the files.
        files: number of indexed JPEG files.
        batch: images per call.
        workers: decoding threads or processes at the end of the run.
        repetitions: measured pairs of runs.
        engine_images_per_s: the engine alone, on decoded images, in turns with the end-to-end runs.
        end_to_end_images_per_s: from files to the committed index.
        share: end-to-end throughput as a share of the engine's; median of the pairs.
        lowest_share: lowest share of a pair.
        highest_share: highest share of a pair.
        decode_images_per_s: decoding alone.
        copy_images_per_s: copying to the GPU alone; None if the engine runs on the CPU.
        store_images_per_s: storing alone.
        limiting_stage: the slowest of decode, copy, compute and store, each alone.
        waited_for_decoding: share of the end-to-end time in which the engine waited for images.
        waited_for_disk: share of the end-to-end time in which finished batches waited for the store.
        foreign_cpu: share of foreign CPU meanwhile; None if it is not known.
    """

    name: str
    kind: str
    files: int
    batch: int
    workers: int
    repetitions: int
    engine_images_per_s: float
    end_to_end_images_per_s: float
    share: float
    lowest_share: float
    highest_share: float
    decode_images_per_s: float
    copy_images_per_s: float | None
    store_images_per_s: float
    limiting_stage: str
    waited_for_decoding: float
    waited_for_disk: float
    foreign_cpu: float | None = None


@dataclass(frozen=True)
class SearchRow:
    """Searching a gallery on this machine.

    Attributes:
        rows: rows of the gallery.
        queries: queries per call.
        open_ms: time to open the gallery.
        search_p50_ms: median time of a call.
        search_p90_ms: 90th percentile of the time of a call.
        mode: how the store searched, for example plain scan or two passes.
        rescored: rows whose score was computed exactly.
        of_reading: median time as a multiple of reading all stored vectors once at the machine's memory rate; None if
            that was not measured. Below 1, bounds spare reading them.
        of_products: median time as a multiple of computing all scores at the machine's float32 limit; None as above.
        foreign_cpu: share of foreign CPU meanwhile; None if it is not known.
    """

    rows: int
    queries: int
    open_ms: float
    search_p50_ms: float
    search_p90_ms: float
    mode: str
    rescored: int
    of_reading: float | None = None
    of_products: float | None = None
    foreign_cpu: float | None = None


@dataclass(frozen=True)
class BenchReport:
    """Everything one run measured.

    Attributes:
        machine: processor, cores, GPU, versions.
        threads: CPU threads of every engine; 0 if the runtime chose.
        date: day of the run.
        model: the model file.
        fingerprint: fingerprint of the network.
        reference: reference of the parity numbers.
        sample: the crops of the parity numbers, and what their labels allow to measure.
        repetitions: timed repetitions of each measurement.
        engines: one row per engine.
        pipeline: indexing with the fastest engine, one row per kind of files.
        search: one row per gallery size and number of queries.
        passed_over: one line per runtime or file that was not measured, with the reason.
        ceilings: the fastest rates of this machine.
        operations_per_image: multiplications and additions of one image in the model, all its views together; None if
            they could not be counted.
        foreign_cpu: share of foreign CPU over the whole run; None if it is not known.
        auto: the runtime that ``auto`` takes for the model from now on, and why.
        family: family of the network: ``rrid`` or ``adopted``.
        auto_in_brief: ``auto`` in one clause, for tables.
    """

    machine: dict[str, str]
    threads: int
    date: str
    model: str
    fingerprint: str
    reference: str
    sample: str
    repetitions: int
    engines: tuple[EngineRow, ...]
    pipeline: tuple[PipelineRow, ...]
    search: tuple[SearchRow, ...]
    passed_over: tuple[str, ...]
    ceilings: Ceilings
    operations_per_image: int | None
    foreign_cpu: float | None
    auto: str = ""
    family: str = RRID
    auto_in_brief: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable values. ``disturbed`` is true in rows above the limit of foreign CPU."""
        content = asdict(self) | {"foreign_cpu_limit": FOREIGN_LIMIT}
        del content["auto_in_brief"]  # a part of "auto"
        for rows in ("engines", "pipeline", "search"):
            for row in content[rows]:
                row["disturbed"] = disturbed(row["foreign_cpu"])
        return content

    @property
    def disturbed_rows(self) -> int:
        """Rows during which other programs took more than the limit."""
        shares = [row.foreign_cpu for row in self.engines]
        shares += [row.foreign_cpu for row in self.pipeline]
        shares += [row.foreign_cpu for row in self.search]
        return sum(map(disturbed, shares))
