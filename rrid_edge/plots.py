"""Plots drawn with Pillow, because devices have no plotting package."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

INK, GRID, PAPER = (30, 30, 36), (225, 225, 230), (255, 255, 255)
BLUE, ORANGE = (42, 111, 187), (217, 108, 30)
COLOURS = (BLUE, ORANGE, (58, 150, 84), (170, 60, 140), (120, 120, 40), (40, 150, 160), (190, 50, 50))

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size_px: int = 14) -> Font:
    """The font for labels."""
    return ImageFont.load_default(size=size_px)


@dataclass(frozen=True)
class Axis:
    """One direction of a panel.

    Attributes:
        low: value at the left or lower end.
        high: value at the other end, above ``low``.
        title: quantity and unit.
        logarithmic: True for a logarithmic scale.
        label: formats the value at a tick.
    """

    low: float
    high: float
    title: str
    logarithmic: bool = False
    label: Callable[[float], str] = lambda value: f"{value:g}"

    def share(self, value: float) -> float:
        """Position of ``value`` on the axis, from 0 (low) to 1 (high); values outside are clipped."""
        low, high, position = (
            math.log(number) if self.logarithmic else number for number in (self.low, self.high, value)
        )
        return min(max((position - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Tick values: 1, 2 and 5 times powers of ten; powers of ten alone on a logarithmic axis of over 3 decades."""
        if self.logarithmic:
            numbers = (1,) if self.high / self.low > 1e3 else (1, 2, 5)
            steps = [number * 10.0**power for power in range(-9, 9) for number in numbers]
            return [value for value in steps if self.low <= value <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(number * power for number in (1, 2, 5, 10) if number * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Panel:
    """A frame with two axes, drawn on construction.

    Attributes:
        draw: drawing context of the image.
        frame: left, top, right, bottom in pixels.
        across: the horizontal axis.
        up: the vertical axis.
    """

    draw: ImageDraw.ImageDraw
    frame: tuple[int, int, int, int]
    across: Axis
    up: Axis

    def __post_init__(self) -> None:
        left, top, right, bottom = self.frame
        text = font()
        for value in self.across.ticks():
            x = self.x(value)
            self.draw.line((x, top, x, bottom), fill=GRID)
            self.draw.text((x, bottom + 6), self.across.label(value), fill=INK, font=text, anchor="ma")
        for value in self.up.ticks():
            y = self.y(value)
            self.draw.line((left, y, right, y), fill=GRID)
            self.draw.text((left - 8, y), self.up.label(value), fill=INK, font=text, anchor="rm")
        self.draw.rectangle(self.frame, outline=INK)
        middle = (left + right) / 2
        self.draw.text((middle, bottom + 28), self.across.title, fill=INK, font=text, anchor="ma")
        self.draw.text((left, top - 24), self.up.title, fill=INK, font=text)

    def x(self, value: float) -> float:
        """Pixel column of a value."""
        left, _, right, _ = self.frame
        return left + self.across.share(value) * (right - left)

    def y(self, value: float) -> float:
        """Pixel row of a value."""
        _, top, _, bottom = self.frame
        return bottom - self.up.share(value) * (bottom - top)

    def points(self, points: Iterable[tuple[float, float]], colour: Colour, radius_px: float) -> None:
        """Draw a disc at each (across, up)."""
        for across, up in points:
            x, y = self.x(across), self.y(up)
            self.draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=colour)

    def bars(self, edges: Sequence[float], heights: Sequence[float], colour: Colour) -> None:
        """Draw one bar per height, between neighbouring edges: one more edge than heights."""
        floor = self.frame[3]
        for begin, end, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height > 0:
                self.draw.rectangle(
                    (self.x(begin), self.y(height), max(self.x(end) - 1, self.x(begin)), floor), fill=colour
                )

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: Colour, width_px: int = 1) -> None:
        """Draw a straight line between two points (across, up)."""
        self.draw.line(
            (self.x(start[0]), self.y(start[1]), self.x(end[0]), self.y(end[1])), fill=colour, width=width_px
        )
