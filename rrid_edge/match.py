"""Matching: one person's query images against a gallery."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """One ranked gallery crop.

    Attributes:
        rank: 1 for the best.
        score: cosine of query and crop, in [-1, 1].
        path: the crop's file, relative to the gallery folder.
        camera: camera number where the file name tells it.
        person: identity where the file name tells it, as written there (``0002``, ``-1``).
        block_scores: each descriptor block's share of ``score``, in the model's block order; they sum to ``score``.
    """

    rank: int
    score: float
    path: str
    camera: int | None = None
    person: str | None = None
    block_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class MatchResult:
    """The answer to one query.

    Attributes:
        query: the query's image files.
        matches: best first; empty where nothing in the gallery passes the filters or the threshold.
        person: the query's identity where its file name tells it.
        camera: the query's camera where its file name tells it.
        threshold: the score that a match had to reach, or None.
    """

    query: tuple[str, ...]
    matches: tuple[Match, ...]
    person: str | None = None
    camera: int | None = None
    threshold: float | None = None
