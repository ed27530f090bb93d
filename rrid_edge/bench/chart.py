"""A chart of throughput against latency, drawn with Pillow: a device has no plotting package."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rrid_edge.bench.report import BenchReport
from rrid_edge.files import atomic_output

_SIZE = (900, 560)
_FRAME = (90, 40, 880, 440)
_INK, _GRID, _PAPER = (30, 30, 36), (225, 225, 230), (255, 255, 255)
_COLOURS = (
    (42, 111, 187),
    (217, 108, 30),
    (58, 150, 84),
    (170, 60, 140),
    (120, 120, 40),
    (40, 150, 160),
    (190, 50, 50),
)


def write_chart(path: Path, report: BenchReport) -> None:
    """One point an engine: median latency of one image (ms) against its best throughput (images/s), both logarithmic.

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.new("RGB", _SIZE, _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=14)
    points = [(row.latency_p50_ms, row.best_images_per_s, row.name) for row in report.engines]
    across, up = _range([x for x, _, _ in points]), _range([y for _, y, _ in points])
    left, top, right, bottom = _FRAME
    for value in _ticks(across):
        x = left + _share(value, across) * (right - left)
        draw.line((x, top, x, bottom), fill=_GRID)
        draw.text((x, bottom + 6), f"{value:g}", fill=_INK, font=font, anchor="ma")
    for value in _ticks(up):
        y = bottom - _share(value, up) * (bottom - top)
        draw.line((left, y, right, y), fill=_GRID)
        draw.text((left - 8, y), f"{value:g}", fill=_INK, font=font, anchor="rm")
    draw.rectangle(_FRAME, outline=_INK)
    draw.text(((left + right) / 2, bottom + 28), "median latency of one image, ms", fill=_INK, font=font, anchor="ma")
    draw.text((left, top - 24), "best throughput, images/s", fill=_INK, font=font)
    for index, (latency, rate, name) in enumerate(points):
        colour = _COLOURS[index % len(_COLOURS)]
        x = left + _share(latency, across) * (right - left)
        y = bottom - _share(rate, up) * (bottom - top)
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour)
        column, line = divmod(index, 3)
        spot = (left + column * 270, bottom + 50 + line * 17)
        draw.ellipse((spot[0], spot[1] + 4, spot[0] + 9, spot[1] + 13), fill=colour)
        draw.text((spot[0] + 15, spot[1]), name[:34], fill=_INK, font=font)
    with atomic_output(path) as partial:
        image.save(partial)


def _range(values: list[float]) -> tuple[float, float]:
    """Logarithms of a range around the values."""
    return math.log(min(values) * 0.7), math.log(max(values) * 1.4)


def _share(value: float, bounds: tuple[float, float]) -> float:
    return (math.log(value) - bounds[0]) / (bounds[1] - bounds[0])


def _ticks(bounds: tuple[float, float]) -> list[float]:
    steps = [number * 10.0**power for power in range(-3, 7) for number in (1, 2, 5)]
    return [value for value in steps if bounds[0] <= math.log(value) <= bounds[1]]
