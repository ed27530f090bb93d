"""Shapes and cloth of drawn pedestrians."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from rrid_train.demo.pedestrian import Colour, Garment


@lru_cache(maxsize=64)  # 1.5 MB each; shots come person by person
def cloth(garment: Garment, shade: float) -> Image.Image:
    """A piece of cloth, RGBA, 512 x 768 px. The garment's upper edge is at row 128, the body's axis at column 256."""
    piece = Image.new("RGBA", (512, 768), shaded(garment.colour, shade))
    pen, accent = ImageDraw.Draw(piece), shaded(garment.accent, shade)
    if garment.pattern in ("hoops", "checks"):
        for y in range(0, 768, 44):
            pen.rectangle((0, y, 512, y + 19), fill=accent)
    if garment.pattern in ("stripes", "checks"):
        for x in range(10, 512, 34):
            pen.rectangle((x, 0, x + 11, 768), fill=accent)
    if garment.pattern == "two-tone":
        edge = 128 + (76 if garment.cut in ("long", "short") else 92)
        pen.rectangle((0, edge, 512, 768), fill=accent)
    return piece


def draw_shapes(
    pen: ImageDraw.ImageDraw,
    polygons: list[list[tuple[float, float]]],
    ellipses: list[tuple[float, float, float, float]],
    fill: Colour | int,
) -> None:
    """Fill polygons (corners) and ellipses (bounding boxes), in px, with one colour or mask value."""
    for polygon in polygons:
        pen.polygon(polygon, fill=fill)
    for ellipse in ellipses:
        pen.ellipse(ellipse, fill=fill)


def taper(
    start: tuple[float, float], end: tuple[float, float], start_radius: float, end_radius: float
) -> list[tuple[float, float]]:
    """Corners of a segment whose half width changes from ``start_radius`` to ``end_radius``."""
    direction = np.subtract(end, start)
    length = float(np.hypot(*direction)) or 1.0
    normal_x, normal_y = -float(direction[1]) / length, float(direction[0]) / length
    return [
        (start[0] + normal_x * start_radius, start[1] + normal_y * start_radius),
        (end[0] + normal_x * end_radius, end[1] + normal_y * end_radius),
        (end[0] - normal_x * end_radius, end[1] - normal_y * end_radius),
        (start[0] - normal_x * start_radius, start[1] - normal_y * start_radius),
    ]


def box(x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    """The bounding box of an ellipse or rectangle, from its centre and half sizes."""
    return x - half_width, y - half_height, x + half_width, y + half_height


def shaded(colour: Colour, shade: float) -> Colour:
    """A colour multiplied by ``shade``, and clipped at 255."""
    red, green, blue = (min(255, round(value * shade)) for value in colour)
    return red, green, blue
