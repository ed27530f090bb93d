"""A chart of throughput against latency."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from rrid_edge.bench.results import BenchReport
from rrid_edge.files import atomic_output
from rrid_edge.plots import COLOURS, INK, PAPER, Axis, Panel, font

_SIZE = (900, 560)
_FRAME = (90, 40, 880, 440)


def write_chart(path: Path, report: BenchReport) -> None:
    """Draw one point per engine: best throughput (images/s) over median latency of one image (ms), both logarithmic.

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.new("RGB", _SIZE, PAPER)
    draw, text = ImageDraw.Draw(image), font()
    points = [(row.latency_p50_ms, row.best_images_per_s) for row in report.engines]
    panel = Panel(
        draw,
        _FRAME,
        _around([x for x, _ in points], "median latency of one image, ms"),
        _around([y for _, y in points], "best throughput, images/s"),
    )
    left, bottom = _FRAME[0], _FRAME[3]
    for index, (row, point) in enumerate(zip(report.engines, points, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        panel.points([point], colour, 6)
        column, line = divmod(index, 3)
        spot = (left + column * 270, bottom + 50 + line * 17)
        draw.ellipse((spot[0], spot[1] + 4, spot[0] + 9, spot[1] + 13), fill=colour)
        draw.text((spot[0] + 15, spot[1]), row.name[:34], fill=INK, font=text)
    with atomic_output(path) as partial:
        image.save(partial)


def _around(values: list[float], title: str) -> Axis:
    return Axis(min(values) * 0.7, max(values) * 1.4, title, logarithmic=True)
