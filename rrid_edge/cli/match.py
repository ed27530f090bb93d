"""``rrid-edge match``."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, say
from rrid_edge.cli.options import (
    GalleryOption,
    ModelOption,
    PatternOption,
    PrecisionOption,
    RuntimeOption,
    ThreadsOption,
)
from rrid_edge.cli.steps import open_model, say_indexed
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.gallery.indexing.queried import InStep
    from rrid_edge.matching import MatchResult


@app.command(
    epilog="Example: rrid-edge match demo/query.jpg demo/gallery --top-k 8 --sheet demo/sheet.png",
    help="Find the crops of a gallery that show the person of the query images. Several images are of one person and "
    "averaged; of a folder of queries, every image is a query of its own. The gallery is indexed when it must be.",
)
def match(
    paths: Annotated[
        list[Path], typer.Argument(metavar="QUERY... GALLERY", help="Query images, then the gallery folder.")
    ],
    model: ModelOption = None,
    location: GalleryOption = None,
    pattern: PatternOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    top_k: Annotated[int, typer.Option(help="Matches of a query.")] = 10,
    exclude_same_camera: Annotated[
        bool, typer.Option("--exclude-same-camera", help="Leave out crops of the query's own camera.")
    ] = False,
    camera: Annotated[list[int] | None, typer.Option(help="Only this camera; may be given several times.")] = None,
    since: Annotated[int | None, typer.Option(help="Only crops of this time (frame number) or later.")] = None,
    until: Annotated[int | None, typer.Option(help="Only crops of this time or earlier.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Lowest score of a match: where none reaches it, the answer is 'no match'.",
        ),
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(help="Threshold of this false-positive rate a pair, as evaluate measured it (1e-4, 1e-3, 1e-2)."),
    ] = None,
    fuse: Annotated[
        str,
        typer.Option(help="Several query images: mean (of descriptors), max (of scores), or none: each is a query."),
    ] = "mean",
    expand: Annotated[int, typer.Option(help="Average query expansion over so many nearest crops; 0 is off.")] = 0,
    rerank: Annotated[
        bool,
        typer.Option("--rerank", help="Put the best crops in a new order by their common neighbours (k-reciprocal)."),
    ] = False,
    rerank_depth: Annotated[
        int | None,
        typer.Option(help="How many crops --rerank looks at: 200 if left out, or --top-k where that is more."),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Large galleries: score a fixed number of crops; see gallery verify --recall."),
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print which stripes carried each match.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet into this PNG.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.embedding.queries import embed_queries, names_within, query_files
    from rrid_edge.gallery.base import SearchFilter
    from rrid_edge.gallery.indexing.queried import QueriedGallery
    from rrid_edge.gallery.indexing.sync import IndexSettings
    from rrid_edge.gallery.opening import location_of
    from rrid_edge.matching import RERANK_DEPTH, MatchSettings, match_all

    if len(paths) < 2:
        raise UsageError("match needs a query and a gallery: rrid-edge match query.jpg gallery/")
    if fpr is not None and (threshold is not None or expand):
        other = "--threshold" if threshold is not None else "--expand"
        raise UsageError(
            f"--fpr and {other} exclude each other: the measured thresholds hold for plain scores; give one"
        )
    *query_paths, folder = paths
    _refuse_no_folder(folder)
    groups = query_files(query_paths, apart=fuse == "none")
    own = names_within(groups, folder)
    if own:
        say(f"left out of the answers: {len(own)} query image(s) that lie in the gallery themselves")
    rows = SearchFilter(frozenset(camera or ()), since=since, until=until, not_paths=own)
    depth = (max(RERANK_DEPTH, top_k) if rerank_depth is None else rerank_depth) if rerank else 0
    settings = MatchSettings(top_k, fuse, exclude_same_camera, rows, threshold, expand, fast, depth)
    with contextlib.ExitStack() as stack:
        queried = stack.enter_context(QueriedGallery(folder, location_of(folder, location)))
        path, engine = open_model(model, queried.model, runtime, precision, threads)
        stack.enter_context(engine)
        if fpr is not None:
            score = _measured_threshold(path, engine, fpr, several=any(len(files) > 1 for files in groups))
            settings = replace(settings, threshold=score)
        queries = embed_queries(engine, groups, pattern)
        with ProgressBar("indexing") as bar:
            found = queried.in_step(path, engine, IndexSettings(pattern), bar)
        _say_state(folder, found)
        results = match_all(found.gallery, queries, settings)
    footer = f"{path.name} {engine.spec.fingerprint[:12]} · {engine.runtime} · {found.info.rows} crops"
    blocks = engine.spec.blocks
    _draw(results, folder, blocks, footer, sheet, report)
    if as_json:
        print_json(
            {
                "gallery": str(folder),
                "model": str(path),
                "runtime": engine.runtime,
                "results": [asdict(r) for r in results],
            }
        )
        return
    for result in results:
        _print_result(result, blocks if explain else ())
    for written in (sheet, report):
        if written is not None:
            print(f"written: {printable(written)}")


def _measured_threshold(model: Path, engine: Engine, fpr: float, *, several: bool) -> float:
    """The score of a false-positive rate, said on stderr."""
    from rrid_edge.model.names import thresholds_candidates
    from rrid_edge.ranking.thresholds import threshold_for

    score = threshold_for(thresholds_candidates(model), engine.spec.fingerprint, fpr)
    note = "; measured on single images, so several fused ones reach it more often" if several else ""
    say(f"threshold {score:.4f} for a false-positive rate of {fpr:g} a pair{note}")
    return score


def _refuse_no_folder(gallery: Path) -> None:
    if not gallery.is_dir():
        what = "this is a file" if gallery.exists() else "no such folder"
        raise UsageError(f"{printable(gallery)}: {what}; the last argument is the gallery: a folder of crops")


def _say_state(folder: Path, found: InStep) -> None:
    """What was done to the gallery before the search, and what was not.

    Raises:
        UsageError: the folder gave no gallery.
    """
    from rrid_edge.gallery.indexing.sync import refuse_empty

    if found.busy:
        say(f"another process is writing the index: answering from the {found.info.rows} crops that it has committed")
    if found.report is not None:
        say_indexed(found.report)
        refuse_empty(folder, found.report)
        say(f"indexed {found.report.added + found.report.changed} crops, removed {found.report.removed}")


def _draw(
    results: tuple[MatchResult, ...],
    folder: Path,
    blocks: tuple[str, ...],
    footer: str,
    sheet: Path | None,
    report: Path | None,
) -> None:
    if sheet is not None:
        from rrid_edge.pictures.contact_sheet import contact_sheet, write_sheet

        write_sheet(sheet, contact_sheet(results, folder, block_names=blocks, footer=footer))
    if report is not None:
        from rrid_edge.pictures.html import html_report, write_report

        write_report(report, html_report(results, folder, block_names=blocks, footer=footer))


def _print_result(result: MatchResult, blocks: tuple[str, ...]) -> None:
    names = ", ".join(printable(file) for file in result.query)
    who = "".join(
        f", {word} {value}"
        for word, value in (("person", result.person), ("camera", result.camera))
        if value is not None
    )
    print(f"query {names}{who}")
    if not result.matches:
        limit = f" (no score reaches {result.threshold})" if result.threshold is not None else ""
        print(f"no match in the gallery{limit}")
        return
    heading = f"  {'distance':>8}" if result.reranked else ""
    print(f"{'rank':>4}  {'score':>6}{heading}  {'camera':>6}  {'person':>8}  path")
    for found in result.matches:
        camera = "-" if found.camera is None else found.camera
        distance = "" if found.distance is None else f"  {found.distance:>8.3f}"
        print(
            f"{found.rank:>4}  {found.score:>6.3f}{distance}  {camera:>6}  {found.person or '-':>8}  {printable(found.path)}"
        )
        if blocks:
            order = sorted(zip(blocks, found.block_scores, strict=True), key=lambda pair: -pair[1])
            carried = ", ".join(f"{name} {share:+.3f}" for name, share in order[:3])
            against = ", ".join(f"{name} {share:+.3f}" for name, share in order[-2:])
            print(f"{'':>4}  carried by {carried}; least by {against}")
