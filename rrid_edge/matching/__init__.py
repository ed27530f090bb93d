"""Matching: the crops of a gallery that show the person of a query.

The names below are the interface of this package.
"""

from rrid_edge.gallery.searching import Match
from rrid_edge.matching.ranking import match, match_all
from rrid_edge.matching.records import (
    DEFAULT_RERANK_DEPTH,
    FUSIONS,
    LEAST_LIKENESS,
    LEAST_RERANK_DEPTH,
    MatchResult,
    MatchSettings,
)

__all__ = [
    "DEFAULT_RERANK_DEPTH",
    "FUSIONS",
    "LEAST_LIKENESS",
    "LEAST_RERANK_DEPTH",
    "Match",
    "MatchResult",
    "MatchSettings",
    "match",
    "match_all",
]
