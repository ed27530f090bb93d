"""The answer to a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from rrid_edge.matching.contrast import Region
from rrid_edge.matching.separation import Separation
from rrid_edge.serve.answers import Crop


class QueryAnswer(BaseModel):
    """The query of an answer."""

    id: str | None = Field(description="Id of the kept query; it can be searched again for a day.")
    crop: int | None
    images: int
    thumbnail: str | None


class MarkAnswer(BaseModel):
    """A score with its measured false-positive rate."""

    kind: Literal["fpr"]
    rate: float
    score: float


class ThresholdAnswer(BaseModel):
    """The lowest score of a match."""

    kind: Literal["score", "fpr", "fpir"]
    rate: float | None
    score: float
    dataset: str | None


@dataclass(slots=True)  # a frozen one takes six times as long to make, and an answer has 120 and more
class BlockAnswer:
    """What one block of a match adds to its score, against other people's crops.

    Attributes:
        name: of the block.
        region: of the body that it describes.
        share: of the block in the score.
        usual: mean distance from the query's block in other people's crops; None if too few are known.
        spread: standard deviation of these distances; None if too few are known.
        contrast: (usual - distance of this match) / spread; None if too few are known, or if all are equally far.
    """

    name: str
    region: Region
    share: float
    usual: float | None
    spread: float | None
    contrast: float | None


class MatchAnswer(Crop):
    """A ranked crop."""

    rank: int
    score: float
    distance: float | None
    passes: MarkAnswer | None = Field(description="The strictest measured rate whose score is reached.")
    verdict: Literal["same", "different", "unsure"] | None
    blocks: tuple[BlockAnswer, ...] = Field(description="What each block adds to the score.")


class Milliseconds(BaseModel):
    """Where the time went."""

    waiting: float = 0.0
    decoding: float = 0.0
    embedding: float = 0.0
    searching: float = 0.0
    total: float = 0.0


class SearchAnswer(BaseModel):
    """The ranked crops of a gallery."""

    query: QueryAnswer
    gallery: str
    fingerprint: str
    matches: list[MatchAnswer]
    separation: Separation | None = Field(description="The block that speaks most for rank 1 and against rank 2.")
    others: int = Field(description="Other people's crops that the contrasts of the blocks were measured on.")
    threshold: ThresholdAnswer | None
    marks: list[MarkAnswer]
    searched: int
    mode: str
    milliseconds: Milliseconds = Field(default_factory=Milliseconds)
    warnings: list[str]
