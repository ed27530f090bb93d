"""Find out why a parity check failed, by imitating the usual mistakes one by one.

A mistake is imitated where it happens: in the pixels (channel order, swapped height and width), in the resize, in the
network (scaling, mirrored image), or in the descriptors (length, order of blocks or rows). The mistake that makes both
sides agree is the cause. Either side may have made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.images import resize
from rrid_edge.engines.base import Engine
from rrid_edge.errors import RridEdgeError
from rrid_edge.parity.agreement import row_cosines, unit_rows
from rrid_edge.parity.check import are_unit_lengths, lengths_of
from rrid_edge.parity.wrong_resizes import WRONG_RESIZES, Pixels
from rrid_edge.progress import step

Descriptors = NDArray[np.float32]
Run = Callable[[Pixels], Descriptors]

IMAGES = 32
"""Largest number of images to imitate mistakes on."""
SAME_PIXELS = 1.0
"""Largest mean difference of equal pixels, in levels of 0 .. 255. JPEG decoders differ by less."""
EXPLAINED = 0.9
"""Share of the difference that a mistake must explain to be named as the cause."""

MISTAKES: dict[str, str] = {
    "bgr": "colour channels in the order blue, green, red (OpenCV's) instead of red, green, blue",
    "swapped-size": "height and width swapped: resized to width x height, then transposed",
    "misread-size": "height and width swapped: rows of width x height pixels read as height x width",
    "nearest-resize": "nearest-neighbour resize instead of bilinear with antialiasing",
    "no-antialias": "bilinear resize without antialiasing (OpenCV's INTER_LINEAR) instead of Pillow's",
    "bicubic-resize": "bicubic resize instead of bilinear",
    "letterbox": "aspect ratio kept with black borders instead of stretching to height x width",
    "centre-crop": "aspect ratio kept by cutting off borders instead of stretching to height x width",
    "squashed-224": "resized to 224 x 224 first, then to height x width",
    "squashed-256": "resized to 256 x 256 first, then to height x width",
    "other-pixels": "the given pixels differ from those that this package reads from the files",
    "missing-scaling": "pixels of 0 .. 255 instead of 0 .. 1: the division by 255 is missing",
    "double-scaling": "pixels divided by 255 twice",
    "needless-scaling": "pixels divided by 255 for a network that takes 0 .. 255",
    "missing-normalisation": "mean and standard deviation not applied",
    "other-normalisation": "pixels scaled to -1 .. 1 instead of the network's mean and standard deviation",
    "imagenet-normalisation": "ImageNet's mean and standard deviation instead of the network's own",
    "missing-mirror": "the mirrored image is not averaged in",
    "unnormalised": "descriptors are not scaled to unit length",
    "shuffled-blocks": "the blocks of the descriptor are in another order",
    "interleaved-blocks": "the descriptor is stored value by value instead of block by block",
    "shuffled-rows": "the descriptors are in another order than the images",
}
"""Name of each mistake -> description."""


@dataclass(frozen=True)
class Finding:
    """One mistake that was imitated.

    Attributes:
        mistake: a name of :data:`MISTAKES`.
        words: its description, with details of this case.
        mean_cosine: mean cosine with the reference, with the mistake imitated.
        min_cosine: lowest cosine with the reference, with the mistake imitated.
        explained: share of the difference (1 - mean cosine) that it removes; negative if it adds to it.
    """

    mistake: str
    words: str
    mean_cosine: float
    min_cosine: float
    explained: float


@dataclass(frozen=True)
class Diagnosis:
    """The mistakes that explain a difference.

    Attributes:
        causes: the mistakes that explain it, best first; empty if none of the usual mistakes does.
        tried: every imitated mistake, in descending order of ``explained``.
        images: number of images that they were imitated on.
    """

    causes: tuple[Finding, ...]
    tried: tuple[Finding, ...]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON-serialisable values."""
        return asdict(self)

    def sentence(self) -> str:
        """The causes in one line."""
        if self.causes:
            return "; ".join(f"{finding.mistake}: {finding.words}" for finding in self.causes)
        return "none of the usual mistakes explains the difference"


@step("imitating usual mistakes")
def diagnose(
    engine: Engine,
    images: Pixels,
    reference: Descriptors,
    *,
    sources: Sequence[Image.Image] | None = None,
    networks: Mapping[str, Run] | None = None,
    descriptors: Descriptors | None = None,
) -> Diagnosis:
    """Find the mistake that explains the difference of an engine from a reference.

    Args:
        engine: the engine under test.
        images: the engine's input, uint8 (N, height, width, 3).
        reference: the reference's descriptors, float32 (N, D).
        sources: the N decoded RGB pictures that ``images`` were resized from; None skips resize mistakes.
        networks: name of a mistake -> the same network with this mistake (``rrid_export.mistakes``); None skips
            mistakes of scaling and mirroring.
        descriptors: the engine's descriptors of ``images``, float32 (N, D); None computes them.
    """
    if descriptors is None:
        descriptors = engine.run(images)
    chosen = np.linspace(0, len(images) - 1, min(IMAGES, len(images))).astype(np.int64)
    pixels, expected = images[chosen], reference[chosen]
    answers = descriptors[chosen]
    base = float(row_cosines(answers, expected).mean())

    def finding(mistake: str, found: Descriptors, target: Descriptors = expected, more: str = "") -> Finding:
        cosines = row_cosines(found, target)
        mean = float(cosines.mean())
        explained = (mean - base) / max(1 - base, 1e-12)
        return Finding(mistake, MISTAKES[mistake] + more, mean, float(cosines.min()), explained)

    tried = [finding(name, engine.run(wrong)) for name, wrong in _wrong_pixels(pixels)]
    if sources is not None:
        pictures = [sources[index] for index in chosen]
        tried += _wrong_resizes(engine, pixels, pictures, finding)
    for name, run in (networks or {}).items():
        try:
            tried.append(finding(name, run(pixels)))
        except RridEdgeError:  # a network that cannot run with a mistake was not built with it
            continue
    tried += [
        finding(name, answers, target, more)
        for name, target, more in _rearranged(engine.spec.blocks, chosen, descriptors, reference)
    ]
    tried.sort(key=lambda found: -found.explained)
    causes = tuple(found for found in tried[:1] if found.explained >= EXPLAINED)
    return Diagnosis(causes + _lengths(reference, base), tuple(tried), len(chosen))


def _wrong_pixels(pixels: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Images with mistakes that can be imitated on the resized pixels."""
    height, width = pixels.shape[1:3]
    transposed = np.stack([resize(Image.fromarray(image), width, height) for image in pixels])
    yield "bgr", np.ascontiguousarray(pixels[..., ::-1])
    yield "swapped-size", np.ascontiguousarray(transposed.transpose(0, 2, 1, 3))
    yield "misread-size", transposed.reshape(pixels.shape)


def _wrong_resizes(
    engine: Engine, pixels: Pixels, pictures: Sequence[Image.Image], finding: Callable[..., Finding]
) -> list[Finding]:
    """Findings of resize mistakes, and of pixels that differ from the files."""
    height, width = pixels.shape[1:3]
    made = {
        name: np.stack([how(picture, height, width) for picture in pictures]) for name, how in WRONG_RESIZES.items()
    }
    found = [finding(name, engine.run(wrong)) for name, wrong in made.items()]
    right = np.stack([resize(picture, height, width) for picture in pictures])
    if _difference(right, pixels) > SAME_PIXELS:
        found.append(finding("other-pixels", engine.run(right)))
    return found


def pixel_mistake(images: Pixels, sources: Sequence[Image.Image]) -> str | None:
    """Say what is wrong with images that were resized from ``sources``.

    Args:
        images: uint8 (N, height, width, 3).
        sources: the N decoded RGB pictures.

    Returns:
        A description of the mistake; None if the pixels are right.
    """
    height, width = images.shape[1:3]
    ways: dict[str, Callable[[Image.Image, int, int], Pixels]] = {
        "bgr": lambda picture, rows, columns: resize(picture, rows, columns)[..., ::-1],
        **WRONG_RESIZES,
    }
    wrong = [
        index
        for index, (image, source) in enumerate(zip(images, sources, strict=True))
        if _difference(resize(source, height, width), image) > SAME_PIXELS
    ]
    if not wrong:
        return None
    image, source = images[wrong[0]], sources[wrong[0]]
    distances = {name: _difference(how(source, height, width), image) for name, how in ways.items()}
    nearest = min(distances, key=distances.__getitem__)
    words = f": {nearest}: {MISTAKES[nearest]}" if distances[nearest] <= SAME_PIXELS else ""
    return f"{len(wrong)} of {len(images)} images differ from what this package reads from the files{words}"


def _difference(one: Pixels, two: Pixels) -> float:
    """Mean absolute difference in levels of 0 .. 255."""
    return float(np.abs(one.astype(np.int16) - two).mean())


def _rearranged(
    blocks: tuple[str, ...], chosen: NDArray[np.int64], descriptors: Descriptors, reference: Descriptors
) -> Iterator[tuple[str, Descriptors, str]]:
    """The ``chosen`` reference rows with blocks or rows reordered, if they look reordered: name, rows, details."""
    answers, expected = descriptors[chosen], reference[chosen]
    if len(blocks) > 1:
        yield from _rearranged_blocks(blocks, answers, expected)
    if len(reference) <= _MOST_ROWS:
        rows = (unit_rows(descriptors) @ unit_rows(reference).T).argmax(axis=1)
        if sorted(rows) == list(range(len(reference))) and list(rows) != list(range(len(reference))):
            yield "shuffled-rows", reference[rows[chosen]], ""


def _rearranged_blocks(
    blocks: tuple[str, ...], answers: Descriptors, expected: Descriptors
) -> Iterator[tuple[str, Descriptors, str]]:
    """Reference rows with blocks reordered: name, rows, details."""
    width = expected.shape[1] // len(blocks)
    yield (
        "interleaved-blocks",
        expected.reshape(-1, width, len(blocks)).transpose(0, 2, 1).reshape(expected.shape),
        "",
    )
    by_block = expected.reshape(-1, len(blocks), width)
    answers_by_block = answers.reshape(by_block.shape)
    likeness = np.stack(
        [
            [row_cosines(answers_by_block[:, one], by_block[:, two]).mean() for two in range(len(blocks))]
            for one in range(len(blocks))
        ]
    )
    order = likeness.argmax(axis=1)
    if sorted(order) == list(range(len(blocks))) and list(order) != list(range(len(blocks))):
        moved = [
            f"{blocks[position]} at the position of {blocks[index]}"
            for position, index in enumerate(order)
            if position != index
        ]
        yield (
            "shuffled-blocks",
            np.ascontiguousarray(by_block[:, order]).reshape(expected.shape),
            f" ({_few(moved)})",
        )


_MOST_ROWS = 2000
_NAMED = 3


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def _lengths(reference: Descriptors, base: float) -> tuple[Finding, ...]:
    shortest, longest = lengths_of(reference)
    if are_unit_lengths(shortest, longest):
        return ()
    words = f"{MISTAKES['unnormalised']}: the reference's have lengths {shortest:.4g} to {longest:.4g}"
    return (Finding("unnormalised", words, base, base, 0.0),)
