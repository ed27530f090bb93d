"""Results of a benchmark, as data and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rrid_edge.errors import printable


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
    """

    rows: int
    queries: int
    open_ms: float
    search_p50_ms: float
    search_p90_ms: float
    mode: str
    rescored: int


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

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable values."""
        return asdict(self)

    def table(self) -> str:
        """The report as text for a terminal."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [
            f"machine  {machine}",
            f"threads  {self.threads or 'chosen by the runtimes'}; {self.date}",
            f"model    {printable(self.model)} ({self.fingerprint[:12]}), parity against {printable(self.reference)}",
            f"sample   {self.sample}",
            "",
        ]
        lines += self._engine_lines()
        lines += self._pipeline_lines()
        lines += self._search_lines()
        lines += [f"not measured: {printable(reason)}" for reason in self.passed_over]
        return "\n".join(lines)

    def _engine_lines(self) -> list[str]:
        calls = min(row.latency_calls for row in self.engines)
        few = "" if calls >= 200 else "; too few calls for a reliable p99"
        return [
            *align(self._engine_table()),
            f"p50, p90, p99: latency over at least {calls} calls{few}. spread: of the batch size that varies most.",
            "cold: first process; cached: later process, compiled model in the cache; warm: again in one process.",
            "",
        ]

    def _engine_table(self) -> list[list[str]]:
        batches = sorted({batch for row in self.engines for batch in row.images_per_s})
        head = ["engine", "p50 ms", "p90 ms", "p99 ms", *(f"img/s@{batch}" for batch in batches)]
        head += ["spread", "vs first", "cold s", "cached s", "warm s", "MiB", "peak MiB", "GPU MiB"]
        head += ["min cosine", "top-1", "mAP change"]
        base = self.engines[0].best_images_per_s
        rows = [
            [
                row.name,
                f"{row.latency_p50_ms:.1f}",
                f"{row.latency_p90_ms:.1f}",
                f"{row.latency_p99_ms:.1f}",
                *(_number(row.images_per_s.get(batch), "{:.1f}") for batch in batches),
                f"{max(row.spread.values()):.0%}",
                f"{row.best_images_per_s / base:.2f}x",
                _number(row.load_cold_s, "{:.2f}"),
                _number(row.load_cached_s, "{:.2f}"),
                _number(row.load_warm_s, "{:.2f}"),
                _number(row.memory_mib, "{:.0f}"),
                _number(row.peak_memory_mib, "{:.0f}"),
                _number(row.device_memory_mib, "{:.0f}"),
                f"{row.min_cosine:.6f}",
                f"{row.top1_agreement:.1%}",
                _number(row.map_change, "{:+.4f}"),
            ]
            for row in self.engines
        ]
        return [head, *rows]

    def _pipeline_lines(self) -> list[str]:
        lines = []
        for row in self.pipeline:
            copy = f", copy {row.copy_images_per_s:.0f}" if row.copy_images_per_s is not None else ""
            lines += [
                f"files to index, {row.kind} ({row.name}): {row.end_to_end_images_per_s:.1f} images/s, {row.share:.2f} "
                f"({row.lowest_share:.2f} to {row.highest_share:.2f}) of the engine's {row.engine_images_per_s:.1f}",
                f"  limited by {row.limiting_stage}; stages alone, images/s: "
                f"decode {row.decode_images_per_s:.0f}{copy}, compute {row.engine_images_per_s:.0f}, "
                f"store {row.store_images_per_s:.0f}",
                f"  the engine waited {row.waited_for_decoding:.1%} of the time for decoding, "
                f"{row.waited_for_disk:.1%} for the disk (batch size {row.batch}, {row.workers} decoders, "
                f"{row.files} files)",
            ]
        return [*lines, ""]

    def _search_lines(self) -> list[str]:
        return [
            f"search {row.rows:,} rows, queries per call {row.queries}: p50 {row.search_p50_ms:.1f} ms, "
            f"p90 {row.search_p90_ms:.1f} ms, open {row.open_ms:.1f} ms ({row.mode}, {row.rescored:,} rows rescored)"
            for row in self.search
        ]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Join cells to lines of aligned columns: the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
