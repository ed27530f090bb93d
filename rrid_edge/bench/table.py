"""The report of a benchmark as text for a terminal of 80 columns: a comparison, and a block for each engine."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

from rrid_edge.bench.results import BenchReport, EngineRow, PipelineRow, SearchRow
from rrid_edge.errors import printable
from rrid_edge.machine.foreign_cpu import FOREIGN_LIMIT, disturbed, in_words
from rrid_edge.model.spec import ADOPTED, RRID

COLUMNS: Final = 80
_LABEL: Final = 10
"""Columns of the labels at the beginning of lines."""
_MARK: Final = "!"
"""Behind a share of foreign CPU that is too large."""


def table(report: BenchReport, *, in_full: bool = False) -> str:
    """The report as lines of at most 80 characters.

    Args:
        report: what was measured.
        in_full: give all reasons for the runtime that ``auto`` takes.
    """
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    auto = report.auto if in_full else report.auto_in_brief or report.auto
    lines = [
        *_fact("machine", machine),
        *_fact("threads", f"{report.threads or 'chosen by the runtimes'}; {report.date}"),
        *_fact("model", f"{report.model} ({report.fingerprint[:12]})"),
        *_fact("parity", f"against {report.reference}"),
        *_fact("sample", report.sample),
        *_fact("limits", _ceilings(report)),
        *(_fact("auto", f"takes {auto}") if auto else ()),
        "",
        *_comparison(report.engines),
        "",
        *(line for row in report.engines for line in (*_engine_block(row, report.family), "")),
        *_meanings(report.engines),
        "",
        *(line for row in report.pipeline for line in (*_pipeline_block(row), "")),
        *(line for row in report.search for line in _search_block(row)),
        *(line for reason in report.passed_over for line in _wrapped("not measured: ", reason, 2)),
    ]
    return "\n".join([*lines, *_foreign_lines(report)])


def _wrapped(label: str, text: str, indent: int) -> list[str]:
    """Lines of ``label`` and ``text``, of which all but the first are indented. Words that are too long are broken."""
    text = f"{label}{printable(text)}"
    return textwrap.wrap(text, COLUMNS, subsequent_indent=" " * indent, break_on_hyphens=False) or [text]


def _fact(label: str, text: str) -> list[str]:
    return _wrapped(f"{label:<{_LABEL}}", text, _LABEL)


def _inner(label: str, parts: Iterable[str | None]) -> list[str]:
    """A line of a block: the parts that there are; nothing without any."""
    told = ", ".join(part for part in parts if part is not None)
    return _wrapped(f"  {label:<{_LABEL}}", told, _LABEL + 2) if told else []


def _ceilings(report: BenchReport) -> str:
    ceilings = report.ceilings
    rates = [f"{name} {found.operations_per_s / 1e9:.0f}" for name, found in ceilings.compute.items()]
    network = "its operations could not be counted"
    if report.operations_per_image is not None:
        network = f"one image is {report.operations_per_image / 1e9:.2f} Gop"
    return (
        f"Gop/s: {', '.join(rates) or 'not measured'}; memory {ceilings.memory_bytes_per_s / 1e9:.1f} GB/s; "
        f"{network}; foreign CPU {share(ceilings.foreign_cpu)}"
    )


def _comparison(engines: Sequence[EngineRow]) -> list[str]:
    """A line per engine. The end of a name that is too long is in its block only."""
    base = engines[0].best_images_per_s
    heads = ("p50 ms", "images/s", "vs first", "min cosine")
    rows = [
        (
            f"{row.latency_p50_ms:.1f}",
            f"{row.best_images_per_s:.1f}",
            f"{row.best_images_per_s / base:.2f}x",
            f"{row.min_cosine:.6f}",
        )
        for row in engines
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    left = COLUMNS - sum(widths) - 2 * len(widths)
    names = ["engine", *(_cut(printable(row.name), left) for row in engines)]
    return [
        "  ".join((*(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)), name))
        for cells, name in zip((heads, *rows), names, strict=True)
    ]


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else f"{text[: columns - 3]}..."


def _engine_block(row: EngineRow, family: str) -> list[str]:
    rates = [f"{rate:.1f} at batch {batch}" for batch, rate in row.images_per_s.items()]
    latencies = (("p50", row.latency_p50_ms), ("p90", row.latency_p90_ms), ("p99", row.latency_p99_ms))
    loads = (("cold", row.load_cold_s), ("cached", row.load_cached_s), ("warm", row.load_warm_s))
    sizes = (("", row.memory_mib), ("peak ", row.peak_memory_mib), ("GPU ", row.device_memory_mib))
    return [
        *_wrapped("", row.name, 2),
        *_inner("latency", [f"{name} {value:.1f} ms" for name, value in latencies]),
        *_inner("images/s", [*rates, f"spread {max(row.spread.values()):.0%}"]),
        *_inner(
            "work",
            [
                None if row.operations_per_s is None else f"{row.operations_per_s / 1e9:.0f} Gop/s",
                None if row.of_ceiling is None else f"{row.of_ceiling:.0%} of limit",
                None if row.of_memory is None else f"{row.of_memory:.0%} of memory",
                None if row.no_share is None else f"no shares: {row.no_share}",
            ],
        ),
        *_inner("loading", [None if value is None else f"{name} {value:.2f} s" for name, value in loads]),
        *_inner("memory", [None if value is None else f"{name}{value:.0f} MiB" for name, value in sizes]),
        *_inner(
            "accuracy",
            [
                f"min cosine {row.min_cosine:.6f}",
                f"top-1 {row.top1_agreement:.1%}",
                None if row.map_change is None else f"mAP change {row.map_change:+.4f}",
            ],
        ),
        *_inner("others", [f"foreign CPU {share(row.foreign_cpu)}"]),
        *_view_lines(row, family),
    ]


def _meanings(engines: Sequence[EngineRow]) -> list[str]:
    """What the words of the blocks mean."""
    calls = min(row.latency_calls for row in engines)
    few = "" if calls >= 200 else "; too few calls for a reliable p99"
    return [
        *_wrapped("latency: ", f"of one image per call, at least {calls} calls{few}.", 2),
        *_wrapped("images/s, ", "above: at the best batch size. spread: of the batch size that varies most.", 2),
        *_wrapped("of limit: ", "of the fastest layer in this arithmetic.", 2),
        *_wrapped("of memory: ", "weights read, one image per call.", 2),
        *_wrapped("cold: ", "first process. cached: later process, compiled model in the cache.", 2),
        *_wrapped("warm: ", "again in one process.", 2),
    ]


_ONE_VIEW: Final = {
    RRID: (
        "rrid-edge export CHECKPOINT --no-flip --output FOLDER",
        "rrid-edge evaluate FOLDER/rrid.onnx --dataset DATA",
    ),
    ADOPTED: (
        "rrid-edge adopt FILE --no-flip --folder FOLDER",
        "rrid-edge evaluate FOLDER/NAME.onnx --dataset DATA",
    ),
}
"""Commands that measure the accuracy of one view, by the network's family."""


def _view_lines(row: EngineRow, family: str) -> list[str]:
    if row.of_two_views is None:
        return []
    ratio = f"{row.of_two_views:.2f}x the images/s of two views, in turns at batch {max(row.images_per_s)}"
    return [
        *_inner("one view", [ratio]),
        *_inner("", ["its accuracy on your data:"]),
        *(f"{'':<{_LABEL + 2}}{command}" for command in _ONE_VIEW[family]),
    ]


def _pipeline_block(row: PipelineRow) -> list[str]:
    copy = None if row.copy_images_per_s is None else f"copy {row.copy_images_per_s:.0f}"
    span = f"{row.share:.2f} ({row.lowest_share:.2f} to {row.highest_share:.2f})"
    computed = f"{row.engine_images_per_s:.1f}"
    waited = f"the engine waited {row.waited_for_decoding:.1%} for decoding"
    return [
        *_wrapped("files to index, ", f"{row.kind} ({row.name})", 2),
        *_inner("images/s", [f"{row.end_to_end_images_per_s:.1f}", f"{span} of the engine's {computed}"]),
        *_inner(
            "stages",
            [
                f"alone, images/s: decode {row.decode_images_per_s:.0f}",
                copy,
                f"compute {row.engine_images_per_s:.0f}",
                f"store {row.store_images_per_s:.0f}",
            ],
        ),
        *_inner("limited", [f"by {row.limiting_stage}"]),
        *_inner("waiting", [waited, f"{row.waited_for_disk:.1%} for the disk"]),
        *_inner("run", [f"batch size {row.batch}", f"{row.workers} decoders", f"{row.files} files"]),
        *_inner("others", [f"foreign CPU {share(row.foreign_cpu)}"]),
    ]


def _search_block(row: SearchRow) -> list[str]:
    return [
        *_wrapped("search ", f"{row.rows:,} rows, queries per call {row.queries}", 2),
        *_inner(
            "time", [f"p50 {row.search_p50_ms:.1f} ms", f"p90 {row.search_p90_ms:.1f} ms", f"open {row.open_ms:.1f} ms"]
        ),
        *_inner("limits", [_of_limits(row)]),
        *_inner("how", [row.mode, f"{row.rescored:,} rows rescored"]),
        *_inner("others", [f"foreign CPU {share(row.foreign_cpu)}"]),
        "",
    ]


def _of_limits(row: SearchRow) -> str:
    """A search in times of what its two limits allow: memory for one query, arithmetic for many."""
    reading, products = (
        "-" if times is None else f"{times:.2f}x" if times < 10 else f"{times:.0f}x"
        for times in (row.of_reading, row.of_products)
    )
    return f"{reading} reading all vectors, {products} computing all scores (fp32 limit)"


def _foreign_lines(report: BenchReport) -> list[str]:
    lines = _wrapped("", f"{in_words(report.foreign_cpu)}, over the whole run", 2)
    if report.disturbed_rows:
        rows = f"{report.disturbed_rows} row{'s' if report.disturbed_rows > 1 else ''}"
        told = (
            f"marks {rows} during which other programs took more than {FOREIGN_LIMIT:.0%} of the CPU, also when "
            "measured again: do not compare them"
        )
        lines += _wrapped(f"{_MARK} ", told, 2)
    return lines


def share(value: float | None) -> str:
    """A share of foreign CPU, marked if it is too large."""
    return _number(value, "{:.0%}") + (_MARK if disturbed(value) else "")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
