"""``rrid-edge match``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
    from rrid_edge.gallery.base import SearchFilter
    from rrid_edge.gallery.indexing.queried import IndexedGallery
    from rrid_edge.matching import Match, MatchResult, MatchSettings
    from rrid_edge.model.spec import ModelSpec


@app.command(
    epilog="Example: rrid-edge match demo/query.jpg demo/gallery --top-k 8 --sheet demo/sheet.png",
    help="Rank a gallery for the person in the query images. Several images show one person and are averaged. In a "
    "folder of queries, each image is a query. The gallery is indexed first if its folder has changed.",
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
    top_k: Annotated[int, typer.Option(help="Return this many matches per query.")] = 10,
    exclude_same_camera: Annotated[
        bool, typer.Option("--exclude-same-camera", help="Leave out crops of the query's camera.")
    ] = False,
    camera: Annotated[list[int] | None, typer.Option(help="Search this camera only; can be repeated.")] = None,
    since: Annotated[int | None, typer.Option(help="Search crops of this time or frame and later.")] = None,
    until: Annotated[int | None, typer.Option(help="Search crops of this time or frame and earlier.")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Set the lowest score of a match, from -1 to 1.")
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(help="Set the threshold by false-positive rate per pair, as measured by evaluate: 1e-4 to 1e-2."),
    ] = None,
    fuse: Annotated[
        str,
        typer.Option(
            help="Combine query images: mean (of descriptors), max (of scores), or none (one query per image)."
        ),
    ] = "mean",
    expand: Annotated[int, typer.Option(help="Average this many nearest crops into the query; 0 is off.")] = 0,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank the best crops by shared neighbours (k-reciprocal).")
    ] = False,
    rerank_depth: Annotated[
        int | None, typer.Option(help="Re-rank this many crops. [default: 200, or --top-k if larger]")
    ] = None,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Score a fixed number of crops; may miss matches (see gallery verify --recall)."),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print each match's largest and smallest block shares.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet into this PNG file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.embedding.queries import query_files
    from rrid_edge.matching import MatchSettings

    query_paths, folder = _query_and_gallery(paths)
    _refuse_conflicts(fpr, threshold, expand)
    groups = query_files(query_paths, separate=fuse == "none")
    rows = _row_filter(groups, folder, frozenset(camera or ()), since, until)
    depth = _rerank_depth(rerank_depth, top_k) if rerank else 0
    settings = MatchSettings(top_k, fuse, exclude_same_camera, rows, threshold, expand, fast, depth)
    question = _Question(groups, folder, location, pattern, fpr)
    answer = _ask(question, settings, lambda stored: open_model(model, stored, runtime, precision, threads))
    _draw(answer, sheet, report)
    _print_answer(answer, written=[path for path in (sheet, report) if path], as_json=as_json, explain=explain)


@dataclass(frozen=True)
class _Question:
    """The queries and their gallery.

    Attributes:
        groups: image files of each query.
        folder: of crops.
        location: of the index, as the user gave it.
        pattern: how file names are read.
        fpr: false-positive rate that sets the threshold, or None.
    """

    groups: Sequence[tuple[Path, ...]]
    folder: Path
    location: str | None
    pattern: str
    fpr: float | None


@dataclass(frozen=True)
class _Answer:
    """The results of all queries, and what they were made with."""

    results: tuple[MatchResult, ...]
    folder: Path
    model: Path
    spec: ModelSpec
    runtime: str
    rows: int


def _query_and_gallery(paths: list[Path]) -> tuple[list[Path], Path]:
    """Split the command's arguments.

    Raises:
        UsageError: there is no query, or the last argument is not a folder.
    """
    if len(paths) < 2:
        raise UsageError("match needs a query and a gallery: rrid-edge match query.jpg gallery/")
    *queries, folder = paths
    if not folder.is_dir():
        problem = "this is a file" if folder.exists() else "no such folder"
        raise UsageError(f"{printable(folder)}: {problem}; the last argument is the gallery: a folder of crops")
    return queries, folder


def _refuse_conflicts(fpr: float | None, threshold: float | None, expand: int) -> None:
    if fpr is not None and (threshold is not None or expand):
        other = "--threshold" if threshold is not None else "--expand"
        raise UsageError(
            f"--fpr and {other} exclude each other: the measured thresholds hold for plain scores; give one"
        )


def _row_filter(
    groups: Sequence[tuple[Path, ...]], folder: Path, cameras: frozenset[int], since: int | None, until: int | None
) -> SearchFilter:
    """The filter of the options, which also leaves out query images that are crops of the gallery."""
    from rrid_edge.embedding.queries import names_within
    from rrid_edge.gallery.base import SearchFilter

    queries_in_gallery = names_within(groups, folder)
    if queries_in_gallery:
        say(f"left out of the answers: {len(queries_in_gallery)} query image(s) that are crops of the gallery")
    return SearchFilter(cameras, since=since, until=until, not_paths=queries_in_gallery)


def _rerank_depth(rerank_depth: int | None, top_k: int) -> int:
    from rrid_edge.matching import DEFAULT_RERANK_DEPTH

    return max(DEFAULT_RERANK_DEPTH, top_k) if rerank_depth is None else rerank_depth


def _ask(
    question: _Question, settings: MatchSettings, open_for_gallery: Callable[[Path | None], tuple[Path, Engine]]
) -> _Answer:
    """Open the gallery and the model, embed the queries, index the gallery if its folder has changed, and match."""
    from rrid_edge.embedding.queries import embed_queries
    from rrid_edge.gallery.indexing.queried import QueriedGallery
    from rrid_edge.gallery.indexing.sync import IndexSettings
    from rrid_edge.gallery.opening import location_of
    from rrid_edge.matching import match_all

    groups, folder = question.groups, question.folder
    with contextlib.ExitStack() as stack:
        queried = stack.enter_context(QueriedGallery(folder, location_of(folder, question.location)))
        path, engine = open_for_gallery(queried.model)
        stack.enter_context(engine)
        if question.fpr is not None:
            has_fused = any(len(files) > 1 for files in groups)
            settings = replace(settings, threshold=_measured_threshold(path, engine, question.fpr, has_fused=has_fused))
        queries = embed_queries(engine, groups, question.pattern)
        with ProgressBar("indexing") as bar:
            indexed = queried.indexed(path, engine, IndexSettings(question.pattern), bar)
        _say_indexing(folder, indexed)
        results = match_all(indexed.gallery, queries, settings)
        return _Answer(results, folder, path, engine.spec, engine.runtime, indexed.info.rows)


def _measured_threshold(model: Path, engine: Engine, fpr: float, *, has_fused: bool) -> float:
    """The threshold of a false-positive rate, which is also said on stderr."""
    from rrid_edge.model.names import thresholds_candidates
    from rrid_edge.ranking.thresholds import threshold_for

    score = threshold_for(thresholds_candidates(model), engine.spec.fingerprint, fpr)
    note = "; measured on single images, which reach it less often than fused ones" if has_fused else ""
    say(f"threshold {score:.4f} for a false-positive rate of {fpr:g} per pair{note}")
    return score


def _say_indexing(folder: Path, indexed: IndexedGallery) -> None:
    """Say on stderr what the indexing before the search did.

    Raises:
        UsageError: the folder has no readable images.
    """
    from rrid_edge.gallery.indexing.sync import refuse_empty

    report = indexed.report
    if indexed.busy:
        say(f"another process is writing the index: searching the {indexed.info.rows} crops that it has committed")
    if report is not None:
        say_indexed(report)
        refuse_empty(folder, report)
        say(f"indexed {report.added + report.changed} crops, removed {report.removed}")


def _draw(answer: _Answer, sheet: Path | None, report: Path | None) -> None:
    blocks = answer.spec.blocks
    footer = f"{answer.model.name} {answer.spec.fingerprint[:12]} · {answer.runtime} · {answer.rows} crops"
    if sheet is not None:
        from rrid_edge.pictures.contact_sheet import contact_sheet, write_sheet

        write_sheet(sheet, contact_sheet(answer.results, answer.folder, block_names=blocks, footer=footer))
    if report is not None:
        from rrid_edge.pictures.html import html_report, write_report

        write_report(report, html_report(answer.results, answer.folder, block_names=blocks, footer=footer))


def _print_answer(answer: _Answer, *, written: Sequence[Path], as_json: bool, explain: bool) -> None:
    if as_json:
        results = [asdict(result) for result in answer.results]
        facts = {"gallery": str(answer.folder), "model": str(answer.model), "runtime": answer.runtime}
        print_json({**facts, "results": results})
        return
    for result in answer.results:
        _print_result(result, answer.spec.blocks if explain else ())
    for path in written:
        print(f"written: {printable(path)}")


def _print_result(result: MatchResult, blocks: tuple[str, ...]) -> None:
    files = ", ".join(printable(file) for file in result.query)
    labels = (("person", result.person), ("camera", result.camera))
    print(f"query {files}" + "".join(f", {name} {value}" for name, value in labels if value is not None))
    if not result.matches:
        limit = f" (no score reaches {result.threshold})" if result.threshold is not None else ""
        print(f"no match in the gallery{limit}")
        return
    heading = f"  {'distance':>8}" if result.reranked else ""
    print(f"{'rank':>4}  {'score':>6}{heading}  {'camera':>6}  {'person':>8}  path")
    for match in result.matches:
        _print_match(match, blocks)


def _print_match(match: Match, blocks: tuple[str, ...]) -> None:
    camera, person = "-" if match.camera is None else match.camera, match.person or "-"
    distance = "" if match.distance is None else f"  {match.distance:>8.3f}"
    print(f"{match.rank:>4}  {match.score:>6.3f}{distance}  {camera:>6}  {person:>8}  {printable(match.path)}")
    if blocks:
        shares = sorted(zip(blocks, match.block_scores, strict=True), key=lambda pair: -pair[1])
        most, least = (", ".join(f"{name} {share:+.3f}" for name, share in part) for part in (shares[:3], shares[-2:]))
        print(f"{'':>4}  largest shares: {most}; smallest: {least}")
