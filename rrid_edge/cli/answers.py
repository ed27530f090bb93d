"""The answer of ``rrid-edge match``: table, JSON, sheet, report, and lines on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.aligning import right, widest
from rrid_edge.cli.common import print_json, say, show
from rrid_edge.cli.wrapping import show_beside
from rrid_edge.errors import printable
from rrid_edge.progress import step

if TYPE_CHECKING:
    from rrid_edge.matching import Match, MatchResult
    from rrid_edge.model.spec import ModelSpec
    from rrid_edge.pictures.html import Fact
    from rrid_edge.pictures.parts import MatchPictures


@dataclass(frozen=True)
class Answer:
    """The results of all queries, and what they were made with.

    Attributes:
        results: one per query.
        gallery: as the user gave it: a folder or an address.
        folder: of crops; None if only the gallery was asked.
        source: of the crops in ``folder``.
        model: the model file.
        spec: of the model.
        runtime: that computed the queries' descriptors.
        rows: number of crops in the gallery.
        missing: number of crops whose file is not in ``folder`` now.
        thumbnails: JPEG bytes by id of the match, for crops without a file here.
        follow_links: pictures are drawn of links too that lead out of ``folder``.
        left_out: queries that cannot be read, one line each.
        head: the top of the report.
    """

    results: tuple[MatchResult, ...]
    gallery: str
    folder: Path | None
    source: str
    model: Path
    spec: ModelSpec
    runtime: str
    rows: int
    missing: int = 0
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    follow_links: bool = False
    left_out: tuple[str, ...] = ()
    head: tuple[Fact, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """The warnings of all results, each once."""
        return list(dict.fromkeys(line for result in self.results for line in result.warnings))


@step("drawing the answer")
def draw(answer: Answer, sheet: Path | None, report: Path | None) -> None:
    """Draw a contact sheet and write a report, where a path is given."""
    if sheet is None and report is None:
        return
    from rrid_edge.pictures.parts import MatchPictures

    blocks = answer.spec.blocks
    footer = f"{answer.model.name} {answer.spec.fingerprint[:12]} · {answer.runtime} · {answer.rows} crops"
    pictures: MatchPictures = MatchPictures(
        answer.folder, answer.source, answer.thumbnails, follow_links=answer.follow_links
    )
    if sheet is not None:
        from rrid_edge.pictures.contact_sheet import contact_sheet, write_sheet

        write_sheet(sheet, contact_sheet(answer.results, pictures, block_names=blocks, footer=footer))
    if report is not None:
        from rrid_edge.pictures.html import html_report, write_report

        write_report(report, html_report(answer.results, pictures, block_names=blocks, facts=answer.head))


def print_answer(answer: Answer, *, written: Sequence[Path], as_json: bool, explain: bool) -> None:
    """Print the answer on stdout, and its warnings on stderr."""
    for line in answer.warnings:
        say(f"warning: {line}")
    has_parts = len(answer.spec.blocks) > 1
    if explain and not has_parts:
        say("no parts to explain: an adopted network has one descriptor block of the whole body, and no stripes")
    if as_json:
        facts = {"gallery": answer.gallery, "model": str(answer.model), "runtime": answer.runtime}
        results = [_as_json(result) for result in answer.results]
        print_json({**facts, "missing": answer.missing, "warnings": answer.warnings, "results": results})
        return
    blocks = answer.spec.blocks if explain and has_parts else ()
    for result in answer.results:
        _print_result(result, blocks)
    for path in written:
        show(f"written: {printable(path)}")


def _as_json(result: MatchResult) -> dict[str, object]:
    """A result with a verdict on each match, and with times as ISO 8601 in UTC."""
    from rrid_edge.crops.times import format_time

    shown = asdict(result)
    for match, values in zip(result.matches, shown["matches"], strict=True):
        values["time"] = None if match.time is None else format_time(match.time)
        values["verdict"] = result.verdict(match)
    shown["separation"] = None if result.separation is None else asdict(result.separation)
    return shown


def _print_result(result: MatchResult, blocks: tuple[str, ...]) -> None:
    files = ", ".join(printable(file) for file in result.query)
    labels = (("person", result.person), ("camera", result.camera))
    show(f"query {files}" + "".join(f", {name} {printable(value)}" for name, value in labels if value is not None))
    if not result.matches:
        has_limit = result.threshold is not None and result.searched
        limit = f" (no score reaches {result.threshold:.5g})" if has_limit else ""
        show(f"no match in the gallery{limit}")
        return
    columns = _columns(result)
    minimum = {"rank": 4, "score": 6, "distance": 8, "camera": 6, "person": 8}
    widths = {name: widest([name, *cells], minimum.get(name, 0)) for name, cells in columns.items()}
    show("  ".join(right(name, width) for name, width in widths.items()) + "  path")
    for number, match in enumerate(result.matches):
        cells = (right(columns[name][number], width) for name, width in widths.items())
        show(f"{'  '.join(cells)}  {printable(match.name)}")
        if blocks:
            _print_parts(match, blocks)
    if blocks:
        _print_separation(result)


def _columns(result: MatchResult) -> dict[str, list[str]]:
    """Cells by heading. Distances, verdicts and times are shown where there are any."""
    from rrid_edge.crops.times import format_time

    matches = result.matches
    columns = {
        "rank": [str(match.rank) for match in matches],
        "score": [f"{match.score:.3f}" for match in matches],
    }
    if result.reranked:
        columns["distance"] = ["" if match.distance is None else f"{match.distance:.3f}" for match in matches]
    columns["camera"] = [printable(match.camera or "-") for match in matches]
    columns["person"] = [printable(match.label or match.person or "-") for match in matches]
    if result.has_verdicts:
        columns["verdict"] = [result.shown_verdict(match) or "-" for match in matches]
    if any(match.time is not None for match in matches):
        columns["time"] = ["-" if match.time is None else format_time(match.time) for match in matches]
    return columns


def _print_parts(match: Match, blocks: tuple[str, ...]) -> None:
    """Print the largest and smallest shares of blocks, and how near each part is against other people."""
    from rrid_edge.matching.contrast import region_of
    from rrid_edge.matching.separation import stripes_of

    shares = sorted(zip(blocks, match.block_scores, strict=True), key=lambda pair: -pair[1])
    most, least = (", ".join(f"{name} {share:+.3f}" for name, share in part) for part in (shares[:3], shares[-2:]))
    show(f"{'':>4}  largest:  {most}")
    show(f"{'':>4}  smallest: {least}")
    if match.contrasts:
        told = ((blocks[place], match.contrasts[place]) for place in stripes_of(blocks))
        parts = (f"{region_of(name)} {'unknown' if one is None else f'{one:+.1f}'} ({name})" for name, one in told)
        show_beside(f"{'':>4}  against other people: ", ", ".join(parts))


def _print_separation(result: MatchResult) -> None:
    if not any(match.contrasts for match in result.matches):
        show("against other people: unknown, the gallery has too few crops of them")
    elif told := result.shown_separation:
        show(told)
