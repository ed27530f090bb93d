"""``rrid-edge match``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.answers import Answer, draw, print_answer
from rrid_edge.cli.app import app
from rrid_edge.cli.asked import AskedGallery, AskedRows, query_and_gallery, rerank_depth_of
from rrid_edge.cli.asked_threshold import AskedThreshold
from rrid_edge.cli.common import JsonOption, ProgressBar, say
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.options import (
    FollowLinksOption,
    GalleryOption,
    ModelOption,
    PatternOption,
    PrecisionOption,
    RuntimeOption,
    ThreadsOption,
)
from rrid_edge.cli.outputs import refuse_among_pictures, refuse_outputs
from rrid_edge.cli.report_head import report_head
from rrid_edge.cli.startup import meanwhile
from rrid_edge.cli.steps import (
    AskedRuntime,
    open_model,
    say_files_left_out,
    say_if_exact,
    say_indexed,
    say_links_left_out,
)
from rrid_edge.errors import RridEdgeError
from rrid_edge.stopping import going_on, kept_if_stopped

if TYPE_CHECKING:
    from rrid_edge.embedding.queries import Query
    from rrid_edge.engines.base import Engine
    from rrid_edge.gallery.base import SearchFilter
    from rrid_edge.gallery.contract import GalleryStore
    from rrid_edge.gallery.indexing.queried import IndexedGallery
    from rrid_edge.matching import MatchSettings


@app.command(
    epilog="Example: rrid-edge match demo/query demo/gallery --top-k 8 --sheet demo/sheet.png",
    help="Rank a gallery for the person in the query images. Several images show one person and are averaged. In a "
    "folder of queries, each image is a query. New and changed crops of the gallery's folder are added first.",
)
def match(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="QUERY... GALLERY", help="Query images, then the gallery's folder or Milvus address."),
    ],
    model: ModelOption = None,
    location: GalleryOption = None,
    pattern: PatternOption = None,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    top_k: Annotated[int, typer.Option(help="Return this many matches per query.")] = 10,
    exclude_same_camera: Annotated[
        bool, typer.Option("--exclude-same-camera", help="Leave out crops of the query's camera.")
    ] = False,
    camera: Annotated[list[str] | None, typer.Option(help="Search this camera only; can be repeated.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Search crops of this time or later: ISO 8601, a date, 30m, 2h or 7d ago, or a frame."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Search crops of this time or earlier, written as --since.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Search this source only; can be repeated.")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Set the lowest score of a match, from -1 to 1.")
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(help="Set the threshold by false-positive rate per pair, as measured by evaluate: 1e-6 to 1e-2."),
    ] = None,
    fpir: Annotated[
        float | None,
        typer.Option(help="Set it by false-positive rate per search, for the number of crops searched: 0.001 to 0.3."),
    ] = None,
    thresholds_of: Annotated[
        str | None,
        typer.Option(help="Dataset whose thresholds --fpr and --fpir take. [default: the one in use]"),
    ] = None,
    fuse: Annotated[
        str,
        typer.Option(
            help="Combine query images: mean (of descriptors), max (of scores), or none (one query per image).",
            autocompletion=one_of("mean max none"),
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
        typer.Option("--fast", help="Milvus indexes ivf, hnsw, diskann: answer approximately; may miss matches."),
    ] = False,
    follow_links: FollowLinksOption = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what carried each match, against other people.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet into this PNG file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.embedding.queries import query_files
    from rrid_edge.matching import MatchSettings

    refuse_outputs(sheet, report)
    query_paths, asked = query_and_gallery(paths, location)
    asked_threshold = AskedThreshold(threshold, fpr, fpir, thresholds_of)
    asked_threshold.refuse_conflicts(expand)
    depth = rerank_depth_of(rerank_depth, top_k, is_wanted=rerank)
    asked_rows = AskedRows(tuple(camera or ()), tuple(source or ()), since, until)
    rows = asked_rows.filter()
    groups = query_files(query_paths, separate=fuse == "none", follow_links=follow_links)
    folders = [path for path in query_paths if path.is_dir()]
    refuse_among_pictures(sheet, groups, [*folders, *([asked.folder] if asked.folder else [])])
    for folder in folders:
        say_files_left_out(folder, follow_links=follow_links)
    settings = MatchSettings(top_k, fuse, exclude_same_camera, rows, threshold, expand, fast, depth)
    question = _Question(
        groups,
        asked,
        pattern,
        asked_rows,
        asked_threshold,
        needs_pictures=sheet is not None or report is not None,
        follow_links=follow_links,
        in_folders=bool(folders),
    )
    asked_runtime = AskedRuntime(runtime, precision, threads, images=sum(map(len, groups)))
    with going_on("run the same command again for the answer"), kept_if_stopped(lambda: "no crop was indexed"):
        answer = _ask(question, settings, model, asked_runtime)
    draw(answer, sheet, report)
    print_answer(answer, written=[path for path in (sheet, report) if path], as_json=as_json, explain=explain)


@dataclass(frozen=True)
class _Question:
    """The queries and their gallery.

    Attributes:
        groups: image files of each query.
        asked: the gallery.
        pattern: how file names are read; None as the gallery remembers.
        rows: which crops may answer.
        threshold: how the threshold is set.
        needs_pictures: the answer is drawn.
        follow_links: links that lead out of the gallery's folder are read.
        in_folders: the queries are the images of folders; one that cannot be read is left out.
    """

    groups: Sequence[tuple[Path, ...]]
    asked: AskedGallery
    pattern: str | None
    rows: AskedRows
    threshold: AskedThreshold
    needs_pictures: bool
    follow_links: bool
    in_folders: bool


def _without_own_files(
    rows: SearchFilter, groups: Sequence[tuple[Path, ...]], found: IndexedGallery, folder: Path | None
) -> SearchFilter:
    """A filter that also leaves out query images that are crops of the gallery."""
    from rrid_edge.embedding.queries import names_within

    own = frozenset() if folder is None else names_within(groups, folder)
    stored = {row.path for row in found.gallery.rows_of(sorted(own), found.source)} if own else set()
    if stored:
        say(f"left out of the answers: {len(stored)} query image(s) that are crops of the gallery")
    return replace(rows, not_files=frozenset((found.source, path) for path in own))


def _ask(question: _Question, settings: MatchSettings, model: Path | None, runtime: AskedRuntime) -> Answer:
    """Open the gallery and the model, embed the queries, add what is new in the gallery's folder, and match."""
    from rrid_edge.crops.images import load_decoders
    from rrid_edge.gallery.indexing.queried import QueriedGallery
    from rrid_edge.gallery.indexing.settings import IndexSettings
    from rrid_edge.gallery.indexing.undoing import undone_if_refused
    from rrid_edge.matching import match_all

    groups, folder, links = question.groups, question.asked.folder, question.follow_links
    with contextlib.ExitStack() as stack:
        stack.enter_context(undone_if_refused(question.asked.location))
        queried = stack.enter_context(QueriedGallery(folder, question.asked.location, follow_links=links))

        def start_threads() -> None:
            queried.compare_meanwhile()
            meanwhile(load_decoders)

        images = None if queried.info is None else runtime.images  # a new gallery has yet to be embedded
        runtime = replace(runtime, images=images, before_loading=start_threads)
        path, engine = open_model(model, queried.model, runtime)
        stack.enter_context(engine)
        settings = _with_threshold(settings, question, path, engine)
        remembered = queried.info.pattern if queried.info is not None else ""
        queries, left_out = _embedded(engine, question, question.pattern or remembered or "auto")
        with ProgressBar("indexing") as bar:
            indexed = queried.indexed(path, engine, IndexSettings(question.pattern), bar)
        stored = 0 if indexed.report is None else indexed.report.added + indexed.report.changed
        stack.enter_context(kept_if_stopped(lambda: f"{stored:,} new and changed crops are indexed"))
        _say_indexing(folder, indexed)
        if settings.fast:
            say_if_exact(indexed.info, "--fast")
        settings = replace(settings, rows=_without_own_files(settings.rows, groups, indexed, folder))
        results = match_all(indexed.gallery, queries, settings)
        question.threshold.say_per_search(results, path, engine)
        answer = Answer(
            results, question.asked.text, folder, indexed.source, path, engine.spec, engine.runtime, indexed.info.rows,
            indexed.folder.missing, follow_links=links, left_out=left_out,
        )  # fmt: skip
        if question.needs_pictures:
            thresholds = question.threshold.described(results, path, engine)
            head = report_head(answer, question.asked, settings, question.rows, thresholds)
            answer = replace(_with_thumbnails(answer, indexed.gallery), head=head)
        return answer


def _embedded(engine: Engine, question: _Question, pattern: str) -> tuple[list[Query], tuple[str, ...]]:
    """The queries, and a line for each that cannot be read. In folders such a query is left out, as stderr says."""
    from rrid_edge.embedding.queries import embed_queries

    left_out: list[str] = []

    def leave_out(error: RridEdgeError) -> None:
        say(f"left out {error.message}")
        left_out.append(error.message)

    unreadable = leave_out if question.in_folders else None
    return embed_queries(engine, question.groups, pattern, question.asked.folder, unreadable), tuple(left_out)


def _with_threshold(settings: MatchSettings, question: _Question, model: Path, engine: Engine) -> MatchSettings:
    """The settings with the threshold, and with the bound for images of one query."""
    has_fused = any(len(files) > 1 for files in question.groups)
    settings = replace(settings, threshold=question.threshold.resolve(model, engine, has_fused=has_fused))
    if not has_fused:
        return settings
    return replace(settings, least_likeness=question.threshold.least_likeness(model, engine))


def _with_thumbnails(answer: Answer, gallery: GalleryStore) -> Answer:
    """The answer with the stored thumbnails of crops that have no file here."""
    from rrid_edge.pictures.parts import MatchPictures

    pictures = MatchPictures(answer.folder, answer.source, follow_links=answer.follow_links)
    absent = {match.id for result in answer.results for match in result.matches if not pictures.has_file(match)}
    return replace(answer, thumbnails=gallery.thumbnails(sorted(absent)) if absent else {})


def _say_indexing(folder: Path | None, indexed: IndexedGallery) -> None:
    """Say on stderr what the indexing before the search did.

    Raises:
        UsageError: the folder has no readable images.
    """
    for line in indexed.remarks:
        say(line)
    if indexed.report is None:
        say_links_left_out(indexed.folder.outside)
    report = indexed.report
    if report is not None and folder is not None:
        from rrid_edge.gallery.indexing.sync import refuse_empty

        say_indexed(report)
        refuse_empty(folder, report)
        if stored := report.added + report.changed:
            say(f"indexed {stored} crops")
