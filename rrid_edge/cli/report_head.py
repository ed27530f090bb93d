"""The top of a report: when, with which model, in which gallery and how ``rrid-edge match`` was asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from rrid_edge.cli.answers import Answer
from rrid_edge.cli.asked import AskedGallery, AskedRows

if TYPE_CHECKING:
    from rrid_edge.matching import MatchSettings
    from rrid_edge.pictures.html import Fact


def report_head(
    answer: Answer, gallery: AskedGallery, settings: MatchSettings, rows: AskedRows, thresholds: Sequence[str]
) -> tuple[Fact, ...]:
    """What the top of a report says, in its order.

    Args:
        answer: the answer.
        gallery: that was asked.
        settings: how it was found.
        rows: the filter as the user gave it.
        thresholds: what decided the threshold, one line each; empty without a threshold.
    """
    import rrid_edge

    spec = answer.spec
    crops = [f"{answer.rows:,} crops"] + ([f"{answer.missing:,} of them without a file now"] if answer.missing else [])
    left_out = (("left out", answer.left_out),) if answer.left_out else ()
    return (
        ("made", [f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC by rrid-edge {rrid_edge.__version__}"]),
        ("model", [f"{answer.model}, fingerprint {spec.fingerprint[:12]}, {answer.runtime}"]),
        ("gallery", [f"{gallery.described}, {', '.join(crops)}"]),
        ("filters", _filters(settings, rows) or ["none: all crops were searched"]),
        ("threshold", list(thresholds) or ["none: the best crops are shown, however low their scores are"]),
        ("ranking", _ranking(answer, settings)),
        *left_out,
    )


def _filters(settings: MatchSettings, asked: AskedRows) -> list[str]:
    lines = [
        f"{name} {' or '.join(values)}"
        for name, values in (("camera", asked.cameras), ("source", asked.sources))
        if values
    ]
    rows = settings.rows
    if asked.since is not None:
        lines.append(_bound("since", asked.since, rows.since, rows.since_frame))
    if asked.until is not None:
        lines.append(_bound("until", asked.until, rows.until, rows.until_frame))
    if settings.exclude_same_camera:
        lines.append("not the query's own camera")
    if rows.not_files:
        lines.append("not the query's own files")
    return lines


def _bound(name: str, asked: str, time_us: int | None, frame: int | None) -> str:
    """``since 2026-11-26T21:50:15Z (2h)``, ``until frame 400``."""
    from rrid_edge.crops.times import format_time

    if time_us is None:
        return f"{name} frame {asked if frame is None else frame}"
    read = format_time(time_us)
    return f"{name} {read}" + ("" if asked == read else f" ({asked})")


def _ranking(answer: Answer, settings: MatchSettings) -> list[str]:
    lines = [f"at most {settings.top_k:,} crops per query, by cosine"]
    if any(len(result.query) > 1 for result in answer.results):
        how = {"mean": "their descriptors are averaged", "max": "each crop has its best score over them"}
        lines.append(f"several images per query: {how[settings.fuse]}")
    if settings.expand:
        lines.append(f"query expansion: the query and its {settings.expand} nearest crops are averaged")
    if settings.rerank:
        lines.append(f"the best {settings.rerank} crops are re-ranked by shared neighbours (k-reciprocal)")
    if any(result.search.startswith("fast") for result in answer.results):
        lines.append("approximate search: matches may be missing")
    return lines
