"""The report of a benchmark as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rrid_edge.bench.results import BenchReport, EngineRow, SearchRow
from rrid_edge.errors import printable
from rrid_edge.machine.foreign_cpu import FOREIGN_LIMIT, disturbed, in_words
from rrid_edge.model.spec import ADOPTED, RRID

_MARK: Final = "!"
"""Behind a share of foreign CPU that is too large."""


def table(report: BenchReport) -> str:
    """The report as lines."""
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    lines = [
        f"machine  {machine}",
        f"threads  {report.threads or 'chosen by the runtimes'}; {report.date}",
        f"model    {printable(report.model)} ({report.fingerprint[:12]}), parity against {printable(report.reference)}",
        f"sample   {report.sample}",
        *_ceiling_lines(report),
        "",
    ]
    lines += _engine_lines(report)
    lines += [f"auto takes {printable(report.auto)}", ""] if report.auto else []
    lines += _pipeline_lines(report)
    lines += _search_lines(report)
    lines += [f"not measured: {printable(reason)}" for reason in report.passed_over]
    return "\n".join([*lines, *_foreign_lines(report)])


def _ceiling_lines(report: BenchReport) -> list[str]:
    ceilings = report.ceilings
    rates = [f"{name} {found.operations_per_s / 1e9:.0f}" for name, found in ceilings.compute.items()]
    network = "its operations could not be counted"
    if report.operations_per_image is not None:
        network = f"one image is {report.operations_per_image / 1e9:.2f} Gop"
    return [
        f"limits   Gop/s: {', '.join(rates) or 'not measured'}; memory {ceilings.memory_bytes_per_s / 1e9:.1f} GB/s; "
        f"{network}; foreign CPU {share(ceilings.foreign_cpu)}"
    ]


def _engine_lines(report: BenchReport) -> list[str]:
    calls = min(row.latency_calls for row in report.engines)
    few = "" if calls >= 200 else "; too few calls for a reliable p99"
    return [
        *align(_engine_table(report.engines)),
        f"p50, p90, p99: latency over at least {calls} calls{few}. spread: of the batch size that varies most.",
        "of limit: of the fastest layer in this arithmetic. of memory: weights read, one image per call.",
        "cold: first process; cached: later process, compiled model in the cache; warm: again in one process.",
        *(f"{printable(row.name)} has no shares: {row.no_share}" for row in report.engines if row.no_share),
        *(line for row in report.engines for line in _view_lines(row, report.family)),
        "",
    ]


_ONE_VIEW: Final = {
    RRID: (
        "rrid-edge export CHECKPOINT --no-flip --output FOLDER, then rrid-edge evaluate FOLDER/rrid.onnx --dataset DATA"
    ),
    ADOPTED: (
        "rrid-edge adopt FILE --no-flip --folder FOLDER, then rrid-edge evaluate FOLDER/NAME.onnx --dataset DATA"
    ),
}
"""Commands that measure the accuracy of one view, by the network's family."""


def _view_lines(row: EngineRow, family: str) -> list[str]:
    if row.of_two_views is None:
        return []
    return [
        f"{printable(row.name)}: {row.of_two_views:.2f}x the images/s of two views, in turns at batch "
        f"{max(row.images_per_s)}. Accuracy on your data: {_ONE_VIEW[family]}"
    ]


_Column = tuple[str, Callable[[EngineRow], str]]
_AFTER_RATES: Final[tuple[_Column, ...]] = (
    ("spread", lambda row: f"{max(row.spread.values()):.0%}"),
    ("Gop/s", lambda row: _number(row.operations_per_s and row.operations_per_s / 1e9, "{:.0f}")),
    ("of limit", lambda row: _number(row.of_ceiling, "{:.0%}")),
    ("of memory", lambda row: _number(row.of_memory, "{:.0%}")),
    ("cold s", lambda row: _number(row.load_cold_s, "{:.2f}")),
    ("cached s", lambda row: _number(row.load_cached_s, "{:.2f}")),
    ("warm s", lambda row: _number(row.load_warm_s, "{:.2f}")),
    ("MiB", lambda row: _number(row.memory_mib, "{:.0f}")),
    ("peak MiB", lambda row: _number(row.peak_memory_mib, "{:.0f}")),
    ("GPU MiB", lambda row: _number(row.device_memory_mib, "{:.0f}")),
    ("min cosine", lambda row: f"{row.min_cosine:.6f}"),
    ("top-1", lambda row: f"{row.top1_agreement:.1%}"),
    ("mAP change", lambda row: _number(row.map_change, "{:+.4f}")),
    ("foreign CPU", lambda row: share(row.foreign_cpu)),
)


def _engine_table(engines: Sequence[EngineRow]) -> list[list[str]]:
    batches = sorted({batch for row in engines for batch in row.images_per_s})
    head = ["engine", "p50 ms", "p90 ms", "p99 ms", *(f"img/s@{batch}" for batch in batches), "vs first"]
    base = engines[0].best_images_per_s
    rows = [
        [
            row.name,
            f"{row.latency_p50_ms:.1f}",
            f"{row.latency_p90_ms:.1f}",
            f"{row.latency_p99_ms:.1f}",
            *(_number(row.images_per_s.get(batch), "{:.1f}") for batch in batches),
            f"{row.best_images_per_s / base:.2f}x",
            *(cell(row) for _, cell in _AFTER_RATES),
        ]
        for row in engines
    ]
    return [[*head, *(name for name, _ in _AFTER_RATES)], *rows]


def _pipeline_lines(report: BenchReport) -> list[str]:
    lines = []
    for row in report.pipeline:
        copy = f", copy {row.copy_images_per_s:.0f}" if row.copy_images_per_s is not None else ""
        lines += [
            f"files to index, {row.kind} ({row.name}): {row.end_to_end_images_per_s:.1f} images/s, {row.share:.2f} "
            f"({row.lowest_share:.2f} to {row.highest_share:.2f}) of the engine's {row.engine_images_per_s:.1f}",
            f"  limited by {row.limiting_stage}; stages alone, images/s: "
            f"decode {row.decode_images_per_s:.0f}{copy}, compute {row.engine_images_per_s:.0f}, "
            f"store {row.store_images_per_s:.0f}; foreign CPU {share(row.foreign_cpu)}",
            f"  the engine waited {row.waited_for_decoding:.1%} of the time for decoding, "
            f"{row.waited_for_disk:.1%} for the disk (batch size {row.batch}, {row.workers} decoders, "
            f"{row.files} files)",
        ]
    return [*lines, ""]


def _search_lines(report: BenchReport) -> list[str]:
    return [
        f"search {row.rows:,} rows, queries per call {row.queries}: p50 {row.search_p50_ms:.1f} ms, "
        f"p90 {row.search_p90_ms:.1f} ms, {_of_limits(row)}, "
        f"open {row.open_ms:.1f} ms ({row.mode}, {row.rescored:,} rows rescored); foreign CPU {share(row.foreign_cpu)}"
        for row in report.search
    ]


def _of_limits(row: SearchRow) -> str:
    """A search in times of what its two limits allow: memory for one query, arithmetic for many."""
    reading, products = (
        "-" if times is None else f"{times:.2f}x" if times < 10 else f"{times:.0f}x"
        for times in (row.of_reading, row.of_products)
    )
    return f"{reading} of reading all vectors once, {products} of all scores at the fp32 limit"


def _foreign_lines(report: BenchReport) -> list[str]:
    lines = [f"{in_words(report.foreign_cpu)}, over the whole run"]
    if report.disturbed_rows:
        lines.append(
            f"{_MARK} marks {report.disturbed_rows} row{'s' if report.disturbed_rows > 1 else ''} during which other "
            f"programs took more than {FOREIGN_LIMIT:.0%} of the CPU, also when measured again: do not compare them"
        )
    return lines


def share(value: float | None) -> str:
    """A share of foreign CPU, marked if it is too large."""
    return _number(value, "{:.0%}") + (_MARK if disturbed(value) else "")


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
