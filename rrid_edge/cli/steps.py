"""Steps that several commands take, with the lines that they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import require, say
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.gallery.indexing.sync import IndexReport
    from rrid_edge.model.spec import ModelSpec

_WORTH_SAYING_S = 10.0


def open_model(
    model: Path | None, gallery_model: Path | None, runtime: str, precision: str | None, threads: int = 0
) -> tuple[Path, Engine]:
    """Choose a model, say which and why, and open it."""
    from rrid_edge.engines import choose_runtime, open_engine
    from rrid_edge.model.choice import choose_model

    path, why = choose_model(model, gallery_model)
    choice = choose_runtime(path, runtime, precision=precision)
    engine = open_engine(path, choice.runtime, precision=precision, threads=threads)
    say(f"model {printable(path)} ({why}), {choice.describe()}: {engine.runtime}")
    return path, engine


def open_network(path: Path, spec: ModelSpec) -> Engine:
    """The trained network of a checkpoint, in PyTorch; the extra is named where it is missing."""
    require("rrid_export.references", "export", "running the network in PyTorch")
    from rrid_export import references

    return references.open_network(path, spec)


def say_indexed(report: IndexReport) -> None:
    """What held an indexing up, where it took long, and which files were left out."""
    spent = report.waited_for_decoding_s + report.computed_s + report.waited_for_disk_s
    if spent > _WORTH_SAYING_S:
        images, disk = report.waited_for_decoding_s / spent, report.waited_for_disk_s / spent
        say(
            f"batches of {report.batch}, {report.workers} files decoded at once; the engine waited {images:.0%} of the time "
            f"for images, {disk:.0%} for the disk"
        )
    for path, reason in (*report.failed, *report.skipped):
        say(f"left out {printable(path)}: {reason}")
