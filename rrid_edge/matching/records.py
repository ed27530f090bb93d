"""The records of matching: settings, matches, answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rrid_edge.crops.naming import DISTRACTOR, JUNK, PERSON, UNKNOWN, label_kind
from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import SearchFilter
from rrid_edge.gallery.searching import Match
from rrid_edge.matching.contrast import UsualBlock
from rrid_edge.matching.separation import Separation, stripes_of
from rrid_edge.ranking.rerank import RerankSettings
from rrid_edge.ranking.search_thresholds import SearchThreshold

LEAST_LIKENESS: Final = 0.5
"""Lowest cosine of two images of one person that is not doubted, where no threshold of the model was measured."""
SAME, DIFFERENT = "same", "different"
"""Verdicts on a match besides ``junk``, ``distractor`` and ``unknown``; see :meth:`MatchResult.verdict`."""
SHOWN_VERDICTS: Final = {SAME: "right", DIFFERENT: "wrong", JUNK: "junk", DISTRACTOR: "distractor", UNKNOWN: ""}
"""Verdicts as tables and reports show them; empty where the labels do not say."""
FUSIONS = ("mean", "max", "none")
DEFAULT_RERANK_DEPTH = 200
LEAST_RERANK_DEPTH = RerankSettings().k1
"""Fewest crops that re-ranking accepts: ``k1`` crops and the query make the ``k1 + 1`` images that it compares."""


@dataclass(frozen=True)
class MatchResult:
    """The answer to one query.

    Attributes:
        query: the query's image files.
        matches: best first. Empty if no crop passes the filters or reaches the threshold.
        person: the query's person from its file names, or None.
        camera: the query's camera from its file names, or None.
        threshold: lowest score of a match, or None.
        fpir: false-positive rate per search that set ``threshold``, or None.
        search: how the gallery was searched; see :class:`rrid_edge.gallery.base.SearchResult`.
        searched: number of crops that passed the filters.
        rescored: number of exact scores computed, over all images of the query.
        reranked: number of crops re-ranked; 0 without re-ranking.
        warnings: doubts about the query and the answer, one line each.
        blocks: of the model, in order, with what is usual for other people's crops.
        others: number of other people's crops that ``blocks`` were measured on.
        separation: the block that speaks most for rank 1 and against rank 2; None if none does.
    """

    query: tuple[str, ...]
    matches: tuple[Match, ...]
    person: str | None = None
    camera: str | None = None
    threshold: float | None = None
    fpir: float | None = None
    search: str = ""
    searched: int = 0
    rescored: int = 0
    reranked: int = 0
    warnings: tuple[str, ...] = ()
    blocks: tuple[UsualBlock, ...] = ()
    others: int = 0
    separation: Separation | None = None

    @property
    def query_kind(self) -> str:
        """What the query's own label means; see :func:`rrid_edge.crops.naming.label_kind`."""
        return label_kind(self.person, self.query[0] if self.query else "")

    def verdict(self, match: Match) -> str:
        """What the labels in the file names say about a match.

        ``same`` or ``different`` person, if both are labelled with a person. Junk and distractors are neither right nor
        wrong: ``junk`` or ``distractor``, also where a user confirmed such a label. ``unknown`` if a label is missing,
        or the query's own label is junk or a distractor.
        """
        if self.query_kind != PERSON:
            return UNKNOWN
        kind = match.kind
        if kind != PERSON:
            return kind
        if match.person is None or label_kind(match.person, match.path or "") != PERSON:
            return UNKNOWN  # A user confirmed a person, whose name is not one of the file names.
        return SAME if self.person == match.person else DIFFERENT

    @property
    def has_verdicts(self) -> bool:
        """Whether the labels say anything about one of the matches."""
        return any(self.verdict(match) != UNKNOWN for match in self.matches)

    def shown_verdict(self, match: Match) -> str:
        """:meth:`verdict` in the words of tables and reports; see :data:`SHOWN_VERDICTS`."""
        return SHOWN_VERDICTS[self.verdict(match)]

    @property
    def shown_separation(self) -> str:
        """:attr:`separation` in the words of tables and reports; empty without parts of two matches to compare."""
        found, best = self.separation, self.matches[:2]
        if found is not None:
            doubt = "" if found.clear else ", but not clearly"
            where = f"{found.region} ({found.block}){doubt}: by {found.difference:.1f} standard deviations"
            return f"rank 1 and rank 2 differ most in the {where}"
        if len(best) < 2 or not all(match.contrasts for match in best):
            return ""
        has_parts = bool(stripes_of(tuple(block.name for block in self.blocks)))
        return "no part speaks for rank 1 and against rank 2" if has_parts else ""


@dataclass(frozen=True)
class MatchSettings:
    """How to match.

    Attributes:
        top_k: matches per query.
        fuse: how several images of one person are combined. ``mean`` averages their descriptors. ``max`` takes each
            crop's best score over the images. ``none`` refuses queries of several images.
        exclude_same_camera: leave out crops of the query's own camera.
        rows: filter of the crops that may answer.
        threshold: lowest score of a match, or None. A threshold measured per search gives each search the score for
            the number of crops that it searches. It holds for queries of one image without query expansion, and with
            re-ranking, which changes the order only.
        expand: average query expansion: number of nearest crops averaged into the query; 0 turns it off.
        fast: accept the candidates of an approximate index in Milvus (``ivf``, ``hnsw``, ``diskann``), which may miss a
            crop. Other galleries are searched exactly anyway.
        rerank: number of best crops ordered by k-reciprocal re-ranking (:func:`rrid_edge.ranking.rerank.k_reciprocal`
            with its default parameters); 0 turns it off. Scores and ``threshold`` stay cosines.
        least_likeness: a query with two images of a lower cosine is answered with a warning.

    Raises:
        UsageError: a value is out of range.
    """

    top_k: int = 10
    fuse: str = "mean"
    exclude_same_camera: bool = False
    rows: SearchFilter = field(default_factory=SearchFilter)
    threshold: float | SearchThreshold | None = None
    expand: int = 0
    fast: bool = False
    rerank: int = 0
    least_likeness: float = LEAST_LIKENESS

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k {self.top_k} does not work: expected at least 1", parameter="top_k")
        if self.fuse not in FUSIONS:
            raise UsageError(f"fuse {self.fuse!r} is unknown: expected one of {', '.join(FUSIONS)}", parameter="fuse")
        for name, value in (("threshold", self.threshold), ("least_likeness", self.least_likeness)):
            if value is not None and not isinstance(value, SearchThreshold) and not -1 <= value <= 1:
                raise UsageError(f"{name} {value} is not a cosine: expected a number from -1 to 1", parameter=name)
        if self.expand < 0:
            raise UsageError(f"expand {self.expand} does not work: expected 0 or more", parameter="expand")
        if self.expand and isinstance(self.threshold, SearchThreshold):
            raise UsageError(
                "query expansion changes the scores, and thresholds per search were measured without it: leave one "
                "out, or give the lowest score",
                parameter=("expand", "fpir"),
            )
        least = max(self.top_k, LEAST_RERANK_DEPTH)
        if self.rerank and self.rerank < least:
            raise UsageError(
                f"a re-ranking depth of {self.rerank} crops does not work: expected at least {least}, for {self.top_k} "
                f"matches and the {LEAST_RERANK_DEPTH} neighbours that re-ranking compares",
                parameter="rerank_depth",
            )
