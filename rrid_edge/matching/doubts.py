"""Doubts about queries and answers, each as one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from rrid_edge.crops.times import format_time
from rrid_edge.embedding.queries import Query
from rrid_edge.errors import printable
from rrid_edge.gallery.contract import Moment, SummarizedMoment
from rrid_edge.gallery.summary import RowSummary

_MOST_NAMES: Final = 20
"""Cameras and sources that a line names."""


def unlike_images(query: Query, least_likeness: float) -> tuple[str, ...]:
    """A line if two images of a query do not look like one person: if their cosine is below ``least_likeness``."""
    count = len(query.files)
    if count < 2:
        return ()
    cosines = query.descriptors @ query.descriptors.T
    np.fill_diagonal(cosines, np.inf)
    first, second = divmod(int(np.argmin(cosines)), count)
    cosine = float(cosines[first, second])
    if cosine >= least_likeness:
        return ()
    files = " and ".join(printable(query.files[index]) for index in (first, second))
    return (
        f"{files} do not look like one person (cosine {cosine:.2f}): expected at least {least_likeness:.2f}; make each "
        "person a query of its own",
    )


def nothing_passes(moment: Moment) -> str:
    """A line for filters that let no crop pass: the cameras, times, frames and sources of the gallery."""
    found = moment.summary() if isinstance(moment, SummarizedMoment) else RowSummary.of(moment.rows())
    if not found.rows:
        return "the gallery has no crops"
    facts = [f"cameras {_counted(found.cameras)}"]
    times = None if found.times is None else " to ".join(map(format_time, found.times))
    facts.append(f"times {times}" if times else "no times")
    facts += [f"frames {found.frames[0]} to {found.frames[1]}"] if found.frames is not None else []
    facts.append(f"sources {_counted(found.sources)}")
    return f"no crop passes the filters; the gallery's {found.rows} crops have {'; '.join(facts)}"


def _counted(counts: Mapping[str, int] | Mapping[str | None, int]) -> str:
    """Names with their counts, the most frequent first; numbers in their order."""
    told = {name: count for name, count in counts.items() if name is not None}
    unknown = sum(counts.values()) - sum(told.values())
    ordered = sorted(told, key=lambda name: (-told[name], not name.isdecimal(), len(name), name))
    shown = [f"{printable(name)} ({told[name]})" for name in ordered[:_MOST_NAMES]]
    shown += [f"{len(ordered) - _MOST_NAMES} more"] if len(ordered) > _MOST_NAMES else []
    return ", ".join([*shown, f"not told ({unknown})"] if unknown else shown)
