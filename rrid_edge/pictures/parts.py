"""Shared by contact sheets and HTML reports: thumbnails, labels, contrasts of the parts of the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from rrid_edge.crops.folder import leads_out
from rrid_edge.crops.images import load_rgb
from rrid_edge.crops.naming import DISTRACTOR, JUNK
from rrid_edge.crops.times import format_time
from rrid_edge.errors import ImageError, UsageError
from rrid_edge.matching import Match, MatchResult
from rrid_edge.matching.contrast import region_of
from rrid_edge.matching.separation import stripes_of
from rrid_edge.model.spec import ADOPTED_BLOCKS

NEARER: Final = "nearer to the query than other people of this gallery usually are"
FARTHER: Final = "farther than usual"
LENGTHS: Final = "an empty bar is the lowest value among the matches of a query, a full one the highest"
Mark = Literal["", "clear", "unclear"]
"""How a part separates rank 1 from rank 2; empty if it does not."""
MARKS: Final[Mapping[Mark, str]] = {
    "clear": "the part that separates rank 1 from rank 2",
    "unclear": "the part that separates rank 1 from rank 2 most, but not clearly",
}
FEW_OTHERS: Final = "no bars: too few crops of other people in the gallery to say what is usual"


@dataclass(frozen=True)
class Thumbnail:
    """A small image of a crop, or the reason why there is none.

    Attributes:
        image: RGB image that fits the requested box, or None.
        problem: why there is no image, or empty.
    """

    image: Image.Image | None
    problem: str = ""


@dataclass(frozen=True)
class MatchPictures:
    """Where the pictures of matches lie.

    Attributes:
        folder: that the paths of matches are relative to; None if there is none here.
        source: of the crops in ``folder``. Files of other sources may have the same paths, so they are not read. None
            takes the crops of all sources for files of ``folder``.
        thumbnails: JPEG bytes by id of the match, for crops without a file here.
        follow_links: read links that lead out of ``folder`` too.
    """

    folder: Path | None
    source: str | None = None
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    follow_links: bool = False

    @classmethod
    def of(cls, folder: Path | MatchPictures) -> MatchPictures:
        """The pictures of a folder whose crops have one source."""
        return folder if isinstance(folder, MatchPictures) else cls(folder)

    def has_file(self, match: Match) -> bool:
        """Whether a match's file should lie in the folder."""
        is_own = self.source is None or match.source == self.source
        return self.folder is not None and match.path is not None and is_own

    def read(self, match: Match, width_px: int, height_px: int, *, enlarge: bool = True) -> Thumbnail:
        """The picture of a match, scaled to fit a box; see :func:`read_thumbnail`."""
        found = Thumbnail(None, "no picture of this crop is stored here")
        if self.folder is not None and match.path is not None and self.has_file(match):
            if not self.follow_links and leads_out(self.folder, match.path):
                found = Thumbnail(None, "this file is a link that leads out of its folder")
            else:
                found = read_thumbnail(self.folder / match.path, width_px, height_px, enlarge=enlarge)
        stored = self.thumbnails.get(match.id)
        if found.image is None and stored is not None:
            return read_thumbnail(match.name, width_px, height_px, stored, enlarge=enlarge)
        return found


def read_thumbnail(
    path: str | Path, width_px: int, height_px: int, content: bytes | None = None, *, enlarge: bool = True
) -> Thumbnail:
    """Read a crop, from a file or from its bytes, and scale it to fit a box, with its aspect ratio kept.

    With ``enlarge=False``, a picture that fits the box already keeps its size.
    """
    try:
        image = load_rgb(path, content)
    except ImageError as error:
        return Thumbnail(None, error.reason)
    scale = min(width_px / image.width, height_px / image.height)
    scale = scale if enlarge else min(scale, 1.0)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return Thumbnail(image.resize(size, Image.Resampling.BICUBIC))


def shown_person(person: str | None, kind: str) -> str:
    """A label as pictures show it: ``id 0002``, ``junk``, ``distractor``, or an empty text.

    Args:
        person: the label.
        kind: what it means; see :func:`rrid_edge.crops.naming.label_kind`.
    """
    return kind if kind in (JUNK, DISTRACTOR) else f"id {person}" if person else ""


def when(match: Match) -> str:
    """The time of a match, or else its frame, or an empty text."""
    if match.time is not None:
        return format_time(match.time)
    return "" if match.frame is None else f"frame {match.frame}"


def no_match_message(result: MatchResult) -> str:
    """The line for a query without matches; names the threshold, where there is one."""
    limit = "" if result.threshold is None else f" at a score of {result.threshold:.3f} or more"
    return f"no match in the gallery{limit}"


def finest_stripes(block_names: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the blocks that are stripes of the finest scale, from head to feet.

    Args:
        block_names: names of a model's blocks (:attr:`rrid_edge.model.spec.ModelSpec.blocks`).

    Returns:
        No index for an adopted network, whose only block describes the whole body.

    Raises:
        UsageError: no block is a stripe.
    """
    if block_names == ADOPTED_BLOCKS:
        return ()
    found = stripes_of(block_names)
    if not found:
        raise UsageError(f"none of the {len(block_names)} block names is a stripe's; expected stripe-1-of-6 and so on")
    return found


def check_block_scores(results: Sequence[MatchResult], block_names: tuple[str, ...]) -> None:
    """Refuse matches with block scores of another model; matches without block scores pass.

    Raises:
        UsageError: the message names the first such match.
    """
    for result in results:
        for match in result.matches:
            if match.block_scores and len(match.block_scores) != len(block_names):
                raise UsageError(
                    f"the match of rank {match.rank} has {len(match.block_scores)} block scores; expected "
                    f"{len(block_names)}, one for each block of the model: match again with this model"
                )


@dataclass(frozen=True)
class PartBar:
    """What one part of the body says of a match.

    Attributes:
        name: of the block: a stripe of the finest scale.
        region: of the body that it describes.
        contrast: of the block; None if nothing is usual.
        fill: length of the bar, from 0 to 1.
        mark: how this block separates rank 1 from rank 2, if the match is one of them.
    """

    name: str
    region: str
    contrast: float | None
    fill: float
    mark: Mark

    @property
    def is_nearer(self) -> bool:
        """Whether the part is nearer to the query than usual."""
        return self.contrast is not None and self.contrast > 0

    @property
    def shown(self) -> str:
        """The contrast as text: ``+1.2``, or empty."""
        return "" if self.contrast is None else f"{self.contrast:+.1f}".replace("-", "\N{MINUS SIGN}")


def part_bars(result: MatchResult, block_names: tuple[str, ...]) -> tuple[tuple[PartBar, ...], ...]:
    """The bars of each match, from head to feet; without contrasts if they are unknown, and none without stripes.

    The lowest contrast among the matches has an empty bar and the highest a full one, because those of good matches
    differ little from each other. The bars of a single match begin at 0.
    """
    places = finest_stripes(block_names)
    values = [match.contrasts[place] for match in result.matches if match.contrasts for place in places]
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if len(result.matches) < 2:
        low = min(0.0, low)
    mark = mark_of(result)
    shown = []
    for match in result.matches:
        contrasts = match.contrasts or (None,) * len(block_names)
        marked = result.separation.block if result.separation is not None and match.rank <= 2 else ""
        measured = ((block_names[place], contrasts[place]) for place in places)
        shown.append(tuple(_bar(*one, (low, high), mark if one[0] == marked else "") for one in measured))
    return tuple(shown)


def _bar(name: str, contrast: float | None, scale: tuple[float, float], mark: Mark) -> PartBar:
    low, high = scale
    fill = 0.0 if contrast is None or high <= low else (contrast - low) / (high - low)
    return PartBar(name, region_of(name), contrast, fill, mark)


def mark_of(result: MatchResult) -> Mark:
    """The mark of the part that separates rank 1 from rank 2."""
    return "" if result.separation is None else "clear" if result.separation.clear else "unclear"


def marks_of(results: Sequence[MatchResult]) -> dict[Mark, str]:
    """The marks that some answers have, and what they mean."""
    found = {mark_of(result) for result in results}
    return {mark: meaning for mark, meaning in MARKS.items() if mark in found}


def has_contrasts(results: Sequence[MatchResult]) -> bool:
    """Whether the contrasts of any match are known."""
    return any(match.contrasts for result in results for match in result.matches)
