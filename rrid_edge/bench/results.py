"""What a benchmark found, as data, as a table and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EngineRow:
    """One runtime with one precision.

    Attributes:
        name: for people.
        runtime: what the engine calls itself.
        arithmetic: precision it computes in.
        model_mb: size of its file in 1e6 bytes, or None where it has none of its own.
        load_cold_s: imports, opening and the first image in a fresh process, nothing kept from earlier ones; None where
            not measured.
        load_cached_s: the same with the compiled model that an earlier process kept.
        load_warm_s: opening and the first image again in that process.
        memory_mib: resident memory of a process in which the engine is open.
        peak_memory_mib: the most that it was on the way there.
        device_memory_mib: memory taken on the accelerator, or None on a CPU.
        latency_calls: timed calls with one image.
        latency_p50_ms: median latency of one image.
        latency_p90_ms: 90th percentile.
        latency_p99_ms: 99th percentile.
        images_per_s: batch size -> median throughput.
        spread: batch size -> half the 10-to-90 percentile distance as a share of the median.
        min_cosine: lowest cosine with the reference descriptors.
        top1_agreement: share of images with the reference's nearest neighbour.
        map_change: mean average precision minus the reference's, or None without labels.
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
    """From JPEG files to a committed index, beside the bare engine.

    Attributes:
        name: the engine's name.
        kind: of the files.
        files: JPEG files indexed.
        batch: images a call, as measured.
        workers: decoding threads, or processes, that the run ended with.
        repetitions: pairs measured.
        engine_images_per_s: the engine alone, on decoded images, measured in turns with the whole way.
        end_to_end_images_per_s: files to committed index.
        share: end to end as a share of engine-only, median of the pairs.
        lowest_share: lowest of the pairs.
        highest_share: highest of the pairs.
        decode_images_per_s: decoding alone, one thread a processor.
        copy_images_per_s: copying to the GPU alone; None where the engine runs on the CPU.
        store_images_per_s: storing alone.
        limiting_stage: the slowest of decode, copy, compute and store, each alone.
        waited_for_decoding: share of the whole way in which the engine had no image.
        waited_for_disk: share of the whole way in which finished batches waited for the store.
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
        rows: gallery size.
        queries: queries a call.
        open_ms: opening the gallery.
        search_p50_ms: median of a call.
        search_p90_ms: 90th percentile.
        mode: how the store searched (plain scan, two passes ...).
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
        threads: CPU threads of every engine; 0 where the runtime chose.
        date: day of the run.
        model: the model file.
        fingerprint: of the network.
        reference: what parity was measured against.
        repetitions: timed repetitions of each measurement.
        engines: one row an engine.
        pipeline: the whole way, for the fastest engine, one row a kind of files.
        search: one row a gallery size.
        passed_over: runtimes that were not measured, and why.
    """

    machine: dict[str, str]
    threads: int
    date: str
    model: str
    fingerprint: str
    reference: str
    repetitions: int
    engines: tuple[EngineRow, ...]
    pipeline: tuple[PipelineRow, ...]
    search: tuple[SearchRow, ...]
    passed_over: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable values."""
        return asdict(self)

    def table(self) -> str:
        """The report for a terminal."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [
            f"machine  {machine}",
            f"threads  {self.threads or 'as the runtimes choose'}; {self.date}",
            f"model    {self.model} ({self.fingerprint[:12]}), parity against {self.reference}",
            "",
        ]
        lines += self._engine_lines()
        lines += self._pipeline_lines()
        lines += self._search_lines()
        lines += [f"not measured: {reason}" for reason in self.passed_over]
        return "\n".join(lines)

    def _engine_lines(self) -> list[str]:
        batches = sorted({batch for row in self.engines for batch in row.images_per_s})
        head = ["engine", "p50 ms", "p90 ms", "p99 ms", *(f"img/s@{batch}" for batch in batches)]
        head += [
            "spread",
            "vs first",
            "cold s",
            "kept s",
            "warm s",
            "MiB",
            "peak",
            "GPU MiB",
            "min cosine",
            "top-1",
            "mAP change",
        ]
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
        calls = min(row.latency_calls for row in self.engines)
        note = f"p50, p90, p99 over {calls} calls or more" + ("" if calls >= 200 else ": too few for p99 to mean much")
        kept = (
            "cold: a first process; kept: a later one, with the compiled model of the first; warm: again in one process"
        )
        return [*align([head, *rows]), f"{note}; spread of the least steady batch; {kept}", ""]

    def _pipeline_lines(self) -> list[str]:
        lines = []
        for row in self.pipeline:
            copy = f", copy {row.copy_images_per_s:.0f}" if row.copy_images_per_s is not None else ""
            lines += [
                f"files to index, {row.kind} ({row.name}): {row.end_to_end_images_per_s:.1f} images/s, {row.share:.2f} "
                f"({row.lowest_share:.2f} to {row.highest_share:.2f}) of the engine alone ({row.engine_images_per_s:.1f})",
                f"  limited by {row.limiting_stage}; alone: decode {row.decode_images_per_s:.0f}{copy}, compute "
                f"{row.engine_images_per_s:.0f}, store {row.store_images_per_s:.0f} images/s; the engine waited "
                f"{row.waited_for_decoding:.1%} for decoding and {row.waited_for_disk:.1%} for the disk (batch {row.batch}, "
                f"{row.workers} files decoded at once, {row.files} files)",
            ]
        return [*lines, ""]

    def _search_lines(self) -> list[str]:
        return [
            f"search {row.rows:,} rows, queries at once {row.queries}: p50 {row.search_p50_ms:.1f} ms, "
            f"p90 {row.search_p90_ms:.1f} ms, open {row.open_ms:.1f} ms ({row.mode}, {row.rescored:,} rows rescored)"
            for row in self.search
        ]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
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
