"""HTML reports: query results as one self-contained file with embedded thumbnails and sortable tables.

The pages are the files of ``templates/``, filled with :class:`string.Template`. A report loads nothing from the
network: pictures are data URIs, style and script are inline, and a content security policy forbids everything else.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from rrid_edge.crops.naming import PERSON, UNKNOWN
from rrid_edge.errors import UsageError, printable
from rrid_edge.files import PRIVATE_MODE, write_text
from rrid_edge.matching import Match, MatchResult
from rrid_edge.matching.records import DIFFERENT, SAME
from rrid_edge.pictures.parts import (
    FARTHER,
    FEW_OTHERS,
    LENGTHS,
    NEARER,
    MatchPictures,
    PartBar,
    Thumbnail,
    check_block_scores,
    finest_stripes,
    has_contrasts,
    marks_of,
    no_match_message,
    part_bars,
    read_thumbnail,
    when,
)

_THUMBNAIL_PX: Final = (64, 128)
"""Width and height of the box of a thumbnail."""
_LARGE_PX: Final = (192, 384)
"""Most width and height of the picture that a thumbnail is enlarged to."""
_MARK_CLASSES: Final = {"": "", "clear": " separates", "unclear": " separates unclear"}
_JPEG_QUALITY: Final = 85
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


Fact = tuple[str, Sequence[str]]
"""Something that the top of a report says: its name, and its lines."""


def html_report(
    results: Sequence[MatchResult],
    pictures: Path | MatchPictures,
    *,
    block_names: tuple[str, ...],
    facts: Sequence[Fact] = (),
    footer: str = "",
) -> str:
    """Build the HTML report of one or several queries.

    Args:
        results: one section each.
        pictures: of the matches: the folder that their paths are relative to, or more.
        block_names: the model's descriptor blocks, in order.
        facts: what the answer was made with, for the top: when, model, gallery, filters, threshold. The numbers of
            queries, of queries without a match and of right first matches follow, and the warnings of all queries.
        footer: last line.

    Returns:
        The document. A crop that cannot be read is shown as a grey box with the reason.

    Raises:
        UsageError: no results, or block scores of another model.
    """
    if not results:
        raise UsageError("there is no answer to report; give at least one query image")
    check_block_scores(results, block_names)
    has_parts = bool(finest_stripes(block_names))
    return _fill(
        "report.html",
        facts=_join((_fact(*fact) for fact in (*facts, *_counted(results))), "\n"),
        warnings=_warnings(dict.fromkeys(line for result in results for line in result.warnings)),
        legend=_legend(results) if has_parts else _Html(),
        frames_hint=_fill("frames_hint.html") if any(result.has_verdicts for result in results) else _Html(),
        policy=_Html(_POLICY),
        style=_template("report.css"),
        script=_template("report.js"),
        sections=_join((_section(result, MatchPictures.of(pictures), block_names) for result in results), "\n"),
        footer=footer,
    )


def write_report(path: Path, document: str) -> None:
    """Write an HTML report. Only its owner can read the file.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, document, PRIVATE_MODE)


class _Html(str):
    """Text that is HTML already. :func:`_fill` escapes everything else."""

    __slots__ = ()


@functools.cache
def _template(name: str) -> _Html:
    folder = resources.files("rrid_edge.pictures") / "templates"
    return _Html((folder / name).read_text(encoding="utf-8").rstrip("\n"))


def _fill(template: str, /, **values: str) -> _Html:
    """Fill a template. Values are escaped and their control characters shown, unless they are :class:`_Html`.

    Placeholders inside a value are not filled: each template is substituted once.
    """
    safe = {key: value if isinstance(value, _Html) else _escaped(value) for key, value in values.items()}
    return _Html(Template(_template(template)).substitute(safe))


def _escaped(text: str) -> _Html:
    return _Html(escape(printable(text)))


def _join(parts: Iterable[_Html], between: str = "") -> _Html:
    return _Html(between.join(parts))


def _fact(name: str, lines: Sequence[str]) -> _Html:
    return _fill("fact.html", name=name, value=_join(_fill("fact_line.html", line=line) for line in lines))


def _counted(results: Sequence[MatchResult]) -> tuple[Fact, ...]:
    """Numbers of queries, and of right first matches where the labels say."""
    empty = [result for result in results if not result.matches]
    queries = [str(len(results))]
    if empty:
        queries.append(f"without a match: {len(empty)} ({', '.join(map(_title, empty))})")
    verdicts = [result.verdict(result.matches[0]) for result in results if result.matches]
    judged = sum(verdict in (SAME, DIFFERENT) for verdict in verdicts)
    first = (("first matches", [f"{verdicts.count(SAME)} of {judged} right"]),) if judged else ()
    return (("queries", queries), *first)


def _warnings(lines: Iterable[str]) -> _Html:
    shown = _join(_fill("warning.html", warning=line) for line in lines)
    return _fill("warnings.html", lines=shown) if shown else _Html()


def _title(result: MatchResult) -> str:
    return ", ".join(Path(path).name for path in result.query)


def _section(result: MatchResult, pictures: MatchPictures, block_names: tuple[str, ...]) -> _Html:
    kind = result.query_kind
    person = f"person {result.person}" if kind == PERSON else "" if kind == UNKNOWN else f"{kind} (no verdicts)"
    camera = f"camera {result.camera}" if result.camera is not None else ""
    return _fill(
        "section.html",
        pictures=_join(
            _picture(read_thumbnail(path, *_LARGE_PX, enlarge=False), printable(path)) for path in result.query
        ),
        title=_title(result),
        origin=" · ".join(part for part in (person, camera) if part),
        warnings=_warnings(result.warnings),
        answer=_answer(result, pictures, block_names),
    )


def _answer(result: MatchResult, pictures: MatchPictures, block_names: tuple[str, ...]) -> _Html:
    if not result.matches:
        return _fill("no_match.html", message=no_match_message(result))
    return _fill(
        "table.html",
        separation=_separation(result),
        distance_heading=_fill("distance_heading.html") if result.reranked else _Html(),
        parts_heading=_fill("parts_heading.html") if finest_stripes(block_names) else _Html(),
        time_heading=_fill("time_heading.html") if _has_times(result) else _Html(),
        verdict_heading=_fill("verdict_heading.html") if result.has_verdicts else _Html(),
        rows=_join(
            (
                _row(result, match, pictures, _parts(match, bars, block_names))
                for match, bars in zip(result.matches, part_bars(result, block_names), strict=True)
            ),
            "\n",
        ),
    )


def _row(result: MatchResult, match: Match, pictures: MatchPictures, parts: _Html) -> _Html:
    verdict = result.shown_verdict(match) or "not known"
    return _fill(
        "row.html",
        verdict_class=result.verdict(match),
        rank=str(match.rank),
        picture=_picture(pictures.read(match, *_LARGE_PX, enlarge=False), match.name),
        exact_score=repr(float(match.score)),
        score=f"{match.score:.3f}",
        distance_cell=_distance(match) if result.reranked else _Html(),
        parts_cell=parts,
        camera=match.camera or "",
        person=match.label or match.person or "",
        time_cell=_time(match) if _has_times(result) else _Html(),
        verdict_cell=_fill("verdict_cell.html", verdict=verdict) if result.has_verdicts else _Html(),
        path=match.name,
    )


def _has_times(result: MatchResult) -> bool:
    return any(when(match) for match in result.matches)


def _time(match: Match) -> _Html:
    """The cell of the time or frame, which is sorted by its number."""
    number = match.frame if match.time is None else match.time
    return _fill("time_cell.html", order="" if number is None else str(number), time=when(match))


def _distance(match: Match) -> _Html:
    """The cell of the distance that re-ranking sorted by; empty for matches that it did not reach."""
    if match.distance is None:
        return _fill("distance_cell.html", exact_distance="", distance="")
    return _fill("distance_cell.html", exact_distance=repr(float(match.distance)), distance=f"{match.distance:.3f}")


def _legend(results: Sequence[MatchResult]) -> _Html:
    """What the bars mean."""
    if not any(result.matches for result in results):
        return _Html()
    if not has_contrasts(results):
        return _fill("few_others.html", reason=FEW_OTHERS)
    marks = (
        _fill("legend_mark.html", mark=_MARK_CLASSES[mark], meaning=meaning)
        for mark, meaning in marks_of(results).items()
    )
    return _fill("legend.html", nearer=NEARER, farther=FARTHER, lengths=LENGTHS, marks=_join(marks))


def _separation(result: MatchResult) -> _Html:
    """A line on the part that separates rank 1 from rank 2."""
    line = result.shown_separation
    return _fill("separation.html", line=f"{line[:1].upper()}{line[1:]}") if line else _Html()


def _parts(match: Match, bars: Sequence[PartBar], block_names: tuple[str, ...]) -> _Html:
    """The cell with one bar per part of the body. No cell for a model without stripes."""
    if not bars:
        return _Html()
    if not match.contrasts:
        return _fill("parts_cell.html", parts=_Html())
    measured = zip(block_names, match.block_scores, match.contrasts, strict=True)
    lines = (
        f"{name}: share {share:+.4f}" + ("" if contrast is None else f", contrast {contrast:+.2f}")
        for name, share, contrast in measured
    )
    details = _join(map(_escaped, lines), "\n")
    return _fill("parts_cell.html", parts=_fill("parts.html", details=details, bars=_join(map(_bar, bars), "\n")))


def _bar(bar: PartBar) -> _Html:
    return _fill(
        "bar.html",
        mark=_MARK_CLASSES[bar.mark],
        region=bar.region,
        block=bar.name,
        direction="for" if bar.is_nearer else "against",
        width=f"{100 * bar.fill:.0f}",
        contrast=bar.shown,
    )


def _picture(thumbnail: Thumbnail, name: str) -> _Html:
    if thumbnail.image is None:
        return _fill("missing.html", problem=thumbnail.problem)
    scale = min(box / side for box, side in zip(_THUMBNAIL_PX, thumbnail.image.size, strict=True))
    stream = io.BytesIO()
    thumbnail.image.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return _fill(
        "picture.html",
        jpeg=base64.b64encode(stream.getvalue()).decode("ascii"),
        description=name,
        width=str(max(1, round(thumbnail.image.width * scale))),
        height=str(max(1, round(thumbnail.image.height * scale))),
    )
