"""The chart of a parity check: cosines with the reference, and scores of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rrid_edge.files import atomic_output
from rrid_edge.parity.agreement import row_cosines, unit_rows
from rrid_edge.parity.check import ParityReport
from rrid_edge.plots import BLUE, INK, ORANGE, PAPER, Axis, Panel, font

_SIZE = (1120, 560)
_LEFT, _RIGHT = (80, 100, 540, 490), (660, 100, 1100, 490)
_BINS = 40
_LARGEST_DISTANCE, _SMALLEST_DISTANCE = 2.0, 1e-8
_PAIRS = 4000
"""Largest number of pairs in the scatter plot; evenly spaced."""


def write_parity_chart(
    path: Path, report: ParityReport, reference: NDArray[np.float32], descriptors: NDArray[np.float32]
) -> None:
    """Draw two plots into a PNG file.

    Left: a logarithmic histogram of 1 - cosine of each image with its reference, with the tolerance. Right: a scatter
    plot of the scores of pairs of images, the engine's over the reference's.

    Args:
        path: PNG file to write.
        report: the parity report.
        reference: descriptors of the reference, float32 (N, D).
        descriptors: descriptors of the engine, float32 (N, D).

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.new("RGB", _SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    head = f"{report.engine} ({report.arithmetic}) against {report.reference}: {report.outcome.value.upper()}"
    draw.text((_LEFT[0], 20), head[:130], fill=INK, font=font(16))
    _cosines(draw, report, row_cosines(reference, descriptors))
    _scores(draw, unit_rows(reference), unit_rows(descriptors))
    with atomic_output(path) as partial:
        image.save(partial, "PNG")


def _cosines(draw: ImageDraw.ImageDraw, report: ParityReport, cosines: NDArray[np.float64]) -> None:
    limit = 1 - report.tolerance.min_cosine
    distances = np.clip(1 - cosines, _SMALLEST_DISTANCE, _LARGEST_DISTANCE)
    low = min(float(distances.min()), limit) / 2
    high = max(float(distances.max()), limit) * 2
    edges = np.geomspace(low, high, _BINS + 1)
    counts = np.histogram(distances, edges)[0]
    panel = Panel(
        draw,
        _LEFT,
        Axis(low, high, "1 - cosine with the reference", logarithmic=True, label=lambda value: f"{value:.0e}"),
        Axis(0, float(counts.max()) * 1.1, f"images (of {len(cosines)})"),
    )
    panel.bars(edges.tolist(), counts.tolist(), BLUE)
    panel.line((limit, 0), (limit, float(counts.max()) * 1.1), ORANGE, 2)
    draw.text((panel.x(limit) - 6, _LEFT[1] + 6), "tolerance", fill=ORANGE, font=font(), anchor="ra")


def _scores(draw: ImageDraw.ImageDraw, reference: NDArray[np.float64], descriptors: NDArray[np.float64]) -> None:
    first, second = _pairs(len(reference))
    expected = np.einsum("nd,nd->n", reference[first], reference[second])
    found = np.einsum("nd,nd->n", descriptors[first], descriptors[second])
    low = min(expected.min(), found.min())
    high = max(expected.max(), found.max())
    room = max((high - low) * 0.05, 1e-3)
    low, high = float(low - room), float(high + room)
    panel = Panel(
        draw, _RIGHT, Axis(low, high, "score of a pair, reference"), Axis(low, high, "score of the pair, engine")
    )
    panel.line((low, low), (high, high), ORANGE)
    panel.points(zip(expected.tolist(), found.tolist(), strict=True), BLUE, 1.6)


def _pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Evenly spaced pairs of different images, in the order of a list of all pairs."""
    total = count * (count - 1) // 2
    taken = np.linspace(0, total - 1, min(total, _PAIRS)).astype(np.int64)
    ends = np.cumsum(np.arange(count - 1, 0, -1))
    first = np.searchsorted(ends, taken, side="right")
    return first, taken - np.concatenate([[0], ends])[first] + first + 1
