"""What ``index``, ``match`` and others do first: choose a model, open an engine, bring a gallery in step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.common import ProgressBar, say

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.gallery.base import Gallery
    from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings
    from rrid_edge.gallery.opening import Location

_WORTH_SAYING_S = 10.0

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", help="Model file; else RRID_EDGE_MODEL, the gallery's own, or the best in models/."),
]
RuntimeOption = Annotated[
    str, typer.Option(help="auto, tensorrt, onnxruntime-cuda, openvino (-gpu, -npu: Intel's) or onnxruntime.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="Arithmetic to force on OpenVINO: fp32, bf16 or fp16; its own choice otherwise.")
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0 lets the runtime choose.")]
GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        help="Where the index lies, if not in FOLDER/.rrid-edge: a folder, or milvus+http://HOST:19530/COLLECTION.",
    ),
]
IndexTypeOption = Annotated[
    str,
    typer.Option("--index-type", help="Of a new gallery in Milvus: flat (exact), ivf, hnsw or diskann (for --fast)."),
]
ReplicasOption = Annotated[
    int, typer.Option("--replicas", min=0, help="Of a new gallery in Milvus: copies in memory; 2 survive a query node.")
]
PatternOption = Annotated[
    str,
    typer.Option(help="What names tell: auto, market1501, dukemtmc, cuhk03, rrid, none, or a regular expression."),
]


def open_model(
    model: Path | None, gallery_model: Path | None, runtime: str, precision: str | None, threads: int = 0
) -> tuple[Path, Engine]:
    """Choose a model, say which and why, and open it."""
    from rrid_edge.engines import open_engine
    from rrid_edge.errors import printable
    from rrid_edge.model.choice import choose_model

    path, why = choose_model(model, gallery_model)
    reasons: list[str] = []
    engine = open_engine(path, runtime, precision=precision, threads=threads, explain=reasons.append)
    say(f"model {printable(path)} ({why}), {'; '.join(reasons) or 'runtime as asked'}: {engine.runtime}")
    return path, engine


def gallery_model(location: Location) -> Path | None:
    """The model file that an index was made with, if there is an index and it remembers."""
    from rrid_edge.gallery.opening import gallery_exists, open_gallery

    if not gallery_exists(location):
        return None
    with open_gallery(location) as gallery:
        model = gallery.info().model
    return Path(model) if model else None


def run_index(folder: Path, gallery: Gallery, engine: Engine, settings: IndexSettings) -> IndexReport:
    """Index with a progress bar; files that could not be read are named on stderr."""
    from rrid_edge.errors import printable
    from rrid_edge.gallery.indexing.sync import index_folder

    with ProgressBar("indexing") as bar:
        report = index_folder(folder, gallery, engine, settings, progress=bar)
    spent = report.waited_for_decoding_s + report.computed_s + report.waited_for_disk_s
    if spent > _WORTH_SAYING_S:
        images, disk = report.waited_for_decoding_s / spent, report.waited_for_disk_s / spent
        say(
            f"batches of {report.batch}, {report.workers} files decoded at once; the engine waited {images:.0%} of the time "
            f"for images, {disk:.0%} for the disk"
        )
    for path, reason in (*report.failed, *report.skipped):
        say(f"left out {printable(path)}: {reason}")
    return report
