"""Draws one pedestrian in one pose as an RGBA cut-out, four times oversampled.

The body is a three-dimensional skeleton in parallel projection. Its axes, in body heights: x to the person's left, y
down from the top of the head, z forward. The yaw angle turns it to front, side and back views, and decides which parts
hide others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from rrid_train.demo.pedestrian import Colour, Garment, Person
from rrid_train.demo.shapes import box, cloth, draw_shapes, shaded, taper

SUPERSAMPLE: Final = 4
_ARM_SHADE = 0.86
"""Sleeves are a little darker than the trunk, so that an arm in front of the body is visible."""
_FAR_SHADE = 0.74


@dataclass(frozen=True)
class Pose:
    """Posture and position of a person in one shot.

    Attributes:
        yaw: heading in radians: 0 towards the camera, pi away from it, pi/2 to the right of the picture.
        stride: swing of the left thigh in radians; the right one swings the other way.
        elbow: bend of both elbows in radians.
        lean: sideways lean, in body heights.
        centre_x: position of the body's axis, in frame widths.
        feet_y: position of the soles, in frame heights.
        height: body height in frame heights; the person's build multiplies it.
    """

    yaw: float
    stride: float
    elbow: float
    lean: float
    centre_x: float
    feet_y: float
    height: float


def draw_figure(person: Person, pose: Pose, width_px: int, height_px: int) -> Image.Image:
    """The person as an RGBA cut-out.

    Args:
        person: appearance.
        pose: posture and position in the frame.
        width_px: frame width before oversampling.
        height_px: frame height before oversampling.

    Returns:
        RGBA image of ``SUPERSAMPLE`` times the frame's size.
    """
    sketch = _Sketch(person, pose, width_px * SUPERSAMPLE, height_px * SUPERSAMPLE)
    near, far = (1, -1) if sketch.sin < 0 else (-1, 1)  # the body's side (x sign) that is closer to the camera
    sketch.shadow()
    sketch.arm(far, _FAR_SHADE if abs(sketch.sin) > 0.5 else _ARM_SHADE)
    if sketch.cos > 0:
        sketch.backpack()
        sketch.long_hair()
    sketch.leg(far, _FAR_SHADE if abs(sketch.sin) > 0.5 else 0.94)
    sketch.leg(near, 1.0)
    sketch.hips()
    sketch.trunk()
    sketch.head()
    if sketch.cos <= 0:
        sketch.long_hair()
        sketch.backpack()
    else:
        sketch.straps()
    sketch.shoulder_bag()
    sketch.arm(near, _ARM_SHADE)
    sketch.hat()
    return sketch.canvas


class _Sketch:
    """One drawing: the canvas, the projection and a method for each part of the body."""

    def __init__(self, person: Person, pose: Pose, width_px: int, height_px: int) -> None:
        self.person, self.pose = person, pose
        self.canvas = Image.new("RGBA", (width_px, height_px))
        self.pen = ImageDraw.Draw(self.canvas)
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.unit = pose.height * person.build.height * height_px
        self.origin_x = pose.centre_x * width_px
        self.origin_y = pose.feet_y * height_px - self.unit
        self.girth = person.build.girth

    def at(self, x: float, y: float, z: float = 0.0) -> tuple[float, float]:
        """Canvas position of a point of the body. Points closer to the camera are a little lower."""
        across = x * self.cos + z * self.sin + self.pose.lean * (1 - y)
        nearness = z * self.cos - x * self.sin
        return self.origin_x + across * self.unit, self.origin_y + (y + 0.12 * nearness) * self.unit

    def half_width(self, width: float, depth: float) -> float:
        """Half of the projected width (body heights) of an elliptic cross-section."""
        return math.hypot(width * self.cos, depth * self.sin)

    def shadow(self) -> None:
        """The darker ground under the feet."""
        x, y = self.at(0, 0.985)
        self.pen.ellipse(box(x, y, 0.16 * self.unit, 0.022 * self.unit), fill=(0, 0, 0, 80))

    def limb(
        self, points: list[tuple[float, float]], widths: list[float], fill: Colour | Garment, shade: float
    ) -> None:
        """A chain of tapered segments with round joints; ``widths`` (body heights) belong to the points."""
        radii = [width * self.unit / 2 for width in widths]
        polygons = [taper(*pair) for pair in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)]
        circles = [box(x, y, radius, radius) for (x, y), radius in zip(points, radii, strict=True)]
        self.fill(polygons, circles, fill, shade)

    def fill(
        self,
        polygons: list[list[tuple[float, float]]],
        ellipses: list[tuple[float, float, float, float]],
        fill: Colour | Garment,
        shade: float = 1.0,
    ) -> None:
        """Fill shapes with a colour, or with a garment's cloth, aligned to the shoulders or the waist."""
        if isinstance(fill, Garment) and fill.pattern not in ("plain", "print"):
            mask = Image.new("L", self.canvas.size)
            draw_shapes(ImageDraw.Draw(mask), polygons, ellipses, 255)
            bounds = mask.getbbox()
            if bounds is not None:
                top = self.at(0, 0.17 if fill.cut in ("long", "short") else 0.46)[1]
                across, down = round(self.origin_x) - 256, round(top) - 128
                piece = cloth(fill, shade).crop(
                    (bounds[0] - across, bounds[1] - down, bounds[2] - across, bounds[3] - down)
                )
                self.canvas.paste(piece, bounds, mask.crop(bounds))
            return
        colour = fill.colour if isinstance(fill, Garment) else fill
        draw_shapes(self.pen, polygons, ellipses, shaded(colour, shade))

    def leg(self, side: int, shade: float) -> None:
        """Shoe, skin and trouser leg of one side (+1 left, -1 right)."""
        lower, swing = self.person.lower, self.pose.stride * side
        bend = 0.25 + 0.5 * abs(swing) if swing < 0 else 0.06
        x, width = side * 0.052 * self.girth, 0.5 + 0.5 * self.girth
        knee = (0.51 + 0.225 * math.cos(swing), 0.225 * math.sin(swing))
        ankle = (knee[0] + 0.215 * math.cos(swing - bend), knee[1] + 0.215 * math.sin(swing - bend))
        hip_point, knee_point = self.at(x, 0.5), self.at(x, *knee)
        ankle_point = self.at(x * 0.9, *ankle)
        heel = self.at(x * 0.9, ankle[0] + 0.028, ankle[1] - 0.012)
        toe = self.at(x * 1.1, ankle[0] + 0.034, ankle[1] + 0.075)
        self.limb([knee_point, ankle_point], [0.062 * width, 0.045 * width], self.person.skin, shade * 0.95)
        self.limb([heel, toe], [0.05, 0.04], self.person.shoes, shade)
        if lower.cut == "trousers":
            widths = [0.098 * width, 0.078 * width, 0.064 * width]
            self.limb([hip_point, knee_point, ankle_point], widths, lower, shade)
        elif lower.cut == "shorts":
            self.limb([hip_point, knee_point], [0.104 * width, 0.1 * width], lower, shade)

    def hips(self) -> None:
        """The seat of the trousers, or the skirt."""
        waist, hem = self.half_width(0.085, 0.062) * self.girth, 0.55
        wide = self.half_width(0.096, 0.075) * self.girth
        if self.person.lower.cut == "skirt":
            hem, wide = 0.735, self.half_width(0.125, 0.12) * self.girth
        points = [self.offset(-waist, 0.44), self.offset(waist, 0.44), self.offset(wide, hem), self.offset(-wide, hem)]
        self.fill([points], [], self.person.lower)

    def offset(self, across: float, y: float) -> tuple[float, float]:
        """Canvas position beside the body's axis, ``across`` in body heights to the right of the picture."""
        x, down = self.at(0, y)
        return x + across * self.unit, down

    def trunk(self) -> None:
        """Neck and upper garment with its print."""
        upper, girth = self.person.upper, self.girth
        self.limb([self.at(0, 0.11), self.at(0, 0.18)], [0.055, 0.062], self.person.skin, 0.88)
        shoulder, chest = self.half_width(0.105, 0.05) * girth, self.half_width(0.1, 0.068) * girth
        waist, hip = self.half_width(0.088, 0.066) * girth, self.half_width(0.098, 0.076) * girth
        sides = [(0.032, 0.162), (shoulder * 0.72, 0.178), (shoulder, 0.204), (chest, 0.28), (waist, 0.4), (hip, 0.52)]
        right = [self.offset(across, y) for across, y in sides]
        left = [self.offset(-across, y) for across, y in reversed(sides)]
        self.fill([right + left], [], upper)
        if upper.pattern == "print" and abs(self.cos) > 0.35:
            self.print_on(upper.accent)
        if self.cos > 0.35:  # the open collar
            x, y = self.at(0, 0.168, 0.03)
            self.pen.ellipse(box(x, y, 0.028 * self.unit, 0.02 * self.unit), fill=self.person.skin)

    def print_on(self, colour: Colour) -> None:
        """A printed block on chest and back."""
        x, y = self.at(0, 0.29, 0.04 if self.cos > 0 else -0.04)
        half = 0.062 * self.girth * abs(self.cos) * self.unit
        self.pen.rounded_rectangle(box(x, y, half, 0.05 * self.unit), radius=0.02 * self.unit, fill=colour)

    def arm(self, side: int, shade: float) -> None:
        """Sleeve, skin and hand of one side (+1 left, -1 right); arms swing opposite to the legs."""
        swing, girth = -0.8 * self.pose.stride * side, self.girth
        x = side * 0.108 * girth
        elbow = (0.222 + 0.155 * math.cos(swing), 0.16 * math.sin(swing))
        hand = (
            elbow[0] + 0.15 * math.cos(swing + self.pose.elbow),
            elbow[1] + 0.15 * math.sin(swing + self.pose.elbow),
        )
        points = [self.at(x * 0.94, 0.222), self.at(x * 1.18, *elbow), self.at(x * 1.15, *hand)]
        widths = [0.058 * (0.6 + 0.4 * girth), 0.05 * (0.6 + 0.4 * girth), 0.036]
        self.limb(points, widths, self.person.skin, shade)
        if self.person.upper.cut == "long":
            wrist = tuple(end - 0.12 * (end - start) for start, end in zip(points[1], points[2], strict=True))
            self.limb([*points[:2], (wrist[0], wrist[1])], [widths[0], widths[1], 0.042], self.person.upper, shade)
        else:
            middle = tuple((start + 2 * end) / 3 for start, end in zip(points[0], points[1], strict=True))
            self.limb([points[0], (middle[0], middle[1])], [widths[0], widths[1] * 1.1], self.person.upper, shade)

    def head(self) -> None:
        """Hair and face; from the front also the line of the eyes."""
        unit, hair = self.unit, self.person.hair
        x, y = self.at(0, 0.075)
        if hair.style == "bald":
            self.pen.ellipse(box(x, y, 0.047 * unit, 0.064 * unit), fill=self.person.skin)
        else:
            self.pen.ellipse(box(x, y - 0.004 * unit, 0.052 * unit, 0.068 * unit), fill=hair.colour)
        if hair.style == "bun":
            bun_x, bun_y = self.at(0, 0.03, -0.05)
            self.pen.ellipse(box(bun_x, bun_y, 0.028 * unit, 0.028 * unit), fill=hair.colour)
        if self.cos > -0.5:
            turn = self.sin * 0.018 * unit
            half = (0.03 + 0.012 * max(self.cos, 0)) * unit
            self.pen.ellipse(box(x + turn, y + 0.014 * unit, half, 0.05 * unit), fill=self.person.skin)
            if self.cos > 0.2:
                eyes = box(x + turn * 1.4, y + 0.005 * unit, half * 0.7, 0.006 * unit)
                self.pen.rectangle(eyes, fill=shaded(self.person.skin, 0.6))

    def long_hair(self) -> None:
        """Hair down to the shoulders, behind the head."""
        if self.person.hair.style != "long":
            return
        x, y = self.at(0, 0.125, -0.025)
        half = self.half_width(0.054, 0.04) * self.unit
        self.pen.rounded_rectangle(
            box(x, y, half, 0.085 * self.unit), radius=0.03 * self.unit, fill=self.person.hair.colour
        )

    def hat(self) -> None:
        """Cap with a peak, or beanie."""
        hat, unit = self.person.hat, self.unit
        if hat.kind == "none":
            return
        x, y = self.at(0, 0.062)
        depth = 0.068 if hat.kind == "beanie" else 0.06
        self.pen.chord(box(x, y, 0.056 * unit, depth * unit), 180, 360, fill=hat.colour)
        if hat.kind == "beanie":
            self.pen.rectangle(box(x, y - 0.002 * unit, 0.056 * unit, 0.012 * unit), fill=shaded(hat.colour, 0.8))
        else:
            peak_x, peak_y = self.at(0, 0.058, 0.055)
            half = self.half_width(0.045, 0.032) * unit
            if self.cos > -0.5:
                self.pen.ellipse(box(peak_x, peak_y, half, 0.012 * unit), fill=shaded(hat.colour, 0.75))

    def backpack(self) -> None:
        """The backpack and its pocket."""
        bag = self.person.bag
        if bag.kind != "backpack":
            return
        x, y = self.at(0, 0.31, -0.095)
        half = self.half_width(0.088, 0.055) * self.unit
        self.pen.rounded_rectangle(box(x, y, half, 0.12 * self.unit), radius=0.035 * self.unit, fill=bag.colour)
        pocket = box(x, y + 0.055 * self.unit, half * 0.7, 0.04 * self.unit)
        self.pen.rounded_rectangle(pocket, radius=0.012 * self.unit, fill=shaded(bag.colour, 0.78))

    def straps(self) -> None:
        """The backpack's straps, seen from the front."""
        if self.person.bag.kind == "backpack":
            for side in (-1, 1):
                x = side * 0.066 * self.girth
                points = [self.at(x, 0.178, 0.03), self.at(x, 0.36, 0.06)]
                self.limb(points, [0.03, 0.026], self.person.bag.colour, 0.9)

    def shoulder_bag(self) -> None:
        """A strap across the trunk and the bag at the right hip, before or behind the body."""
        bag = self.person.bag
        if bag.kind != "shoulder":
            return
        depth = 0.06 if self.cos > 0 else -0.06
        points = [self.at(0.06 * self.girth, 0.175, depth / 2), self.at(-0.085 * self.girth, 0.45, depth)]
        self.limb(points, [0.022, 0.022], bag.colour, 0.85)
        x, y = self.at(-0.115 * self.girth, 0.5)
        half = self.half_width(0.05, 0.085) * self.unit
        hidden = self.sin < -0.6  # The right hip is turned away, so only an edge is visible.
        self.pen.rounded_rectangle(
            box(x, y, half, 0.062 * self.unit * (0.5 if hidden else 1)), radius=0.014 * self.unit, fill=bag.colour
        )
