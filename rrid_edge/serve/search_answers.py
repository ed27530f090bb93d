"""The answer to a search."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from rrid_edge.matching.contrast import BlockContrast
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


class MatchAnswer(Crop):
    """A ranked crop."""

    rank: int
    score: float
    distance: float | None
    passes: MarkAnswer | None = Field(description="The strictest measured rate whose score is reached.")
    verdict: Literal["same", "different", "unsure"] | None
    blocks: tuple[BlockContrast, ...] = Field(description="What each block adds to the score.")


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
    threshold: ThresholdAnswer | None
    marks: list[MarkAnswer]
    searched: int
    mode: str
    milliseconds: Milliseconds = Field(default_factory=Milliseconds)
    warnings: list[str]
