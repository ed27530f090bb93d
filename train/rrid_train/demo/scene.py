"""Images of a drawn pedestrian by a simulated camera: background, light, white balance, blur, occluders, JPEG."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from rrid_train.demo.figure import SUPERSAMPLE, Pose, draw_figure
from rrid_train.demo.pedestrian import Colour, Person, pick

WIDTH_PX: Final = 64
HEIGHT_PX: Final = 128
_PLACE_PX: Final = (400, 170)
"""Width and height of a camera's background; each shot uses a random window of it."""
_FRONT, _SIDE, _BACK = 0.0, math.pi / 2, math.pi


@dataclass(frozen=True)
class Place:
    """Colours of one kind of place: wall, ground, and things in front of the wall."""

    name: str
    wall: Colour
    ground: Colour
    things: tuple[Colour, ...]
    tall_things: bool


_PLACES: Final = (
    Place("street", (150, 132, 118), (124, 124, 122), ((70, 84, 98), (96, 70, 58), (190, 186, 176)), True),
    Place("shop", (196, 190, 178), (176, 166, 150), ((186, 60, 50), (60, 110, 160), (220, 190, 90)), False),
    Place("park", (108, 138, 96), (146, 136, 110), ((70, 98, 56), (92, 76, 54), (128, 156, 90)), True),
    Place("station", (206, 210, 208), (86, 88, 92), ((60, 76, 120), (216, 186, 60), (120, 124, 128)), False),
    Place("corridor", (186, 172, 148), (112, 98, 84), ((140, 112, 84), (226, 224, 214), (96, 92, 90)), True),
    Place("car-park", (134, 138, 144), (96, 96, 98), ((150, 40, 44), (48, 66, 110), (210, 210, 212)), False),
)
_OCCLUDERS: Final = ("none", "pole", "hedge", "railing", "trolley", "bin")


@dataclass(frozen=True)
class Camera:
    """Properties of one camera; each shot varies them a little.

    Attributes:
        place: kind of background.
        light: factor on all values.
        balance: factors on red, green and blue (white balance).
        gamma: exponent on values in [0, 1]; above 1 darkens midtones, below 1 brightens them.
        slope: brightness of the left edge minus that of the right edge, as a share.
        blur_px: standard deviation of the lens blur.
        noise: standard deviation of the sensor noise, in values of 0..255.
        quality: lowest JPEG quality.
        views: probabilities of front, side and back views.
        occluder: object that can hide a part of the person, or ``none``.
        seed: seed of the background.
    """

    place: Place
    light: float
    balance: tuple[float, float, float]
    gamma: float
    slope: float
    blur_px: float
    noise: float
    quality: int
    views: tuple[float, float, float]
    occluder: str
    seed: int


def draw_cameras(count: int, generator: np.random.Generator) -> tuple[Camera, ...]:
    """``count`` cameras. Light, blur and warmth are spread evenly in random order, so each dataset has dark ones."""
    lights = generator.permutation(np.linspace(0.8, 1.16, count))
    blurs = generator.permutation(np.linspace(0.0, 0.85, count))
    warmths = generator.permutation(np.linspace(-0.1, 0.1, count))
    cameras = []
    for index in range(count):
        favourite = index % 3
        views = [0.7 if view == favourite else 0.15 for view in range(3)]
        warm, tint = float(warmths[index]), float(generator.uniform(-0.04, 0.04))
        cameras.append(
            Camera(
                place=_PLACES[index % len(_PLACES)],
                light=float(lights[index]),
                balance=(1 + warm, 1 + tint, 1 - warm),
                gamma=float(generator.uniform(0.88, 1.16)),
                slope=float(generator.uniform(-0.3, 0.3)),
                blur_px=float(blurs[index]),
                noise=float(generator.uniform(1.5, 6)),
                quality=int(generator.integers(55, 85)),
                views=(views[0], views[1], views[2]),
                occluder=_OCCLUDERS[index % len(_OCCLUDERS)],
                seed=int(generator.integers(2**31)),
            )
        )
    return tuple(cameras)


def draw_shot(person: Person, camera: Camera, generator: np.random.Generator) -> bytes:
    """Draw one crop of a person in a camera.

    Returns:
        A JPEG file, 64 px wide and 128 px high.
    """
    return photograph(draw_figure(person, draw_pose(camera, generator), WIDTH_PX, HEIGHT_PX), camera, generator)


def photograph(
    cut_out: Image.Image, camera: Camera, generator: np.random.Generator, *, coarseness: float = 1.0
) -> bytes:
    """Put figures before a camera's background and take their picture.

    Args:
        cut_out: the figures, RGBA, :data:`SUPERSAMPLE` times 64 x 128 px.
        camera: the camera.
        generator: source of the picture's variations.
        coarseness: the picture has so many times fewer pixels before it gets its size, as of people far away.

    Returns:
        A JPEG file, 64 px wide and 128 px high.
    """
    if camera.occluder != "none" and generator.random() < 0.35:
        _draw_occluder(cut_out, camera.occluder, generator)
    small = np.asarray(cut_out.convert("RGBa").reduce(SUPERSAMPLE), dtype=np.float32)
    values = _blend(small, _cut_background(camera, generator), camera.slope)
    image = Image.fromarray(_expose(values, camera, generator))
    sharpness = camera.blur_px * float(generator.uniform(0.7, 1.3))
    if sharpness > 0.15:
        image = image.filter(ImageFilter.GaussianBlur(sharpness))
    if coarseness > 1:
        small_size = round(WIDTH_PX / coarseness), round(HEIGHT_PX / coarseness)
        image = image.resize(small_size, Image.Resampling.BOX).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(generator.integers(camera.quality, camera.quality + 12)))
    return stream.getvalue()


def draw_pose(camera: Camera, generator: np.random.Generator) -> Pose:
    """A pose as this camera sees people, in a box that fits."""
    heading = (_FRONT, _SIDE, _BACK)[int(np.searchsorted(np.cumsum(camera.views)[:2], generator.random(), "right"))]
    side = pick(generator, (-1.0, 1.0))
    height = float(generator.uniform(0.84, 0.97))
    return Pose(
        yaw=side * (heading + float(generator.normal(0, 0.22))),
        stride=float(generator.uniform(-0.5, 0.5)),
        elbow=float(generator.uniform(0.05, 0.9)),
        lean=float(generator.normal(0, 0.015)),
        centre_x=0.5 + float(generator.normal(0, 0.045)),
        feet_y=min(0.97 + float(generator.normal(0, 0.015)), 1.02),
        height=height,
    )


def _blend(cut_out: NDArray[np.float32], background: NDArray[np.float32], slope: float) -> NDArray[np.float32]:
    """Blend a cut-out (H, W, 4), premultiplied, over a background (H, W, 3), and shade the body's sides."""
    alpha = cut_out[..., 3:] / np.float32(255)
    soft = np.asarray(Image.fromarray(np.asarray(cut_out[..., 3], dtype=np.uint8)).filter(ImageFilter.BoxBlur(3)))
    across = np.roll(soft.astype(np.float32), 2, axis=1) - np.roll(soft.astype(np.float32), -2, axis=1)
    shade = 1 - across * np.float32(math.copysign(0.0016, slope)) - (255 - soft) * np.float32(0.0007)
    return np.asarray(cut_out[..., :3] * shade[..., None] + background * (1 - alpha), dtype=np.float32)


def _expose(values: NDArray[np.float32], camera: Camera, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Apply light from one side, white balance, gamma and sensor noise, with small random variations."""
    ramp = np.linspace(1 + camera.slope / 2, 1 - camera.slope / 2, WIDTH_PX, dtype=np.float32)
    gains = camera.light * np.asarray(camera.balance) * generator.uniform(0.95, 1.05, 3) * generator.uniform(0.93, 1.07)
    lit = values * ramp[None, :, None] * gains.astype(np.float32) / np.float32(255)
    exposed = np.clip(lit, 0, 1) ** np.float32(camera.gamma) * np.float32(255)
    exposed += generator.standard_normal(exposed.shape, dtype=np.float32) * np.float32(camera.noise)
    return np.asarray(np.clip(np.rint(exposed), 0, 255), dtype=np.uint8)


def _cut_background(camera: Camera, generator: np.random.Generator) -> NDArray[np.float32]:
    place = _background(camera.place, camera.seed)
    height = float(generator.uniform(124, 156))
    width = height * WIDTH_PX / HEIGHT_PX
    left = float(generator.uniform(0, place.width - width))
    top = float(generator.uniform(0, place.height - height))
    window = place.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    return np.asarray(window, dtype=np.float32)


@lru_cache(maxsize=32)
def _background(place: Place, seed: int) -> Image.Image:
    """The place that a camera looks at, as one wide picture."""
    generator = np.random.default_rng(seed)
    width, height = _PLACE_PX
    horizon = int(generator.integers(78, 100))
    picture = Image.new("RGB", _PLACE_PX, place.wall)
    pen = ImageDraw.Draw(picture)
    for row in range(0, horizon, 9):
        pen.line((0, row, width, row), fill=_mixed(place.wall, (0, 0, 0), 0.07))
    x = 0
    while x < width:
        thing = int(generator.integers(14, 44))
        top = int(generator.integers(5, 35)) if place.tall_things else int(generator.integers(40, 66))
        colour = _mixed(pick(generator, place.things), place.wall, float(generator.uniform(0, 0.5)))
        pen.rectangle((x, top, x + thing, horizon + 4), fill=colour)
        pen.rectangle((x + 3, top + 4, x + thing - 3, top + 16), fill=_mixed(colour, (255, 255, 255), 0.25))
        x += thing + int(generator.integers(6, 50))
    pen.rectangle((0, horizon, width, height), fill=place.ground)
    for step in range(7):
        y = horizon + 3 + step * step * 2
        pen.line((0, y, width, y), fill=_mixed(place.ground, (255, 255, 255), 0.14))
    for x in range(-200, width + 200, 36):
        pen.line((x, height, (x + 200) * 0.5 + 50, horizon), fill=_mixed(place.ground, (0, 0, 0), 0.12))
    grain = generator.normal(0, 5, (height, width, 1))
    rough = np.clip(np.asarray(picture, dtype=np.float64) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(rough).filter(ImageFilter.GaussianBlur(1.1))


def _draw_occluder(cut_out: Image.Image, kind: str, generator: np.random.Generator) -> None:
    """Draw an object in front of the person. It hides at most about a fifth of the frame."""
    pen, (width, height) = ImageDraw.Draw(cut_out), cut_out.size
    x = int(generator.integers(0, width))
    if kind == "pole":
        pen.rectangle((x, 0, x + width // 9, height), fill=(96, 98, 96))
    elif kind == "hedge":
        top = int(height * generator.uniform(0.78, 0.9))
        for bush in range(-20, width, 26):
            pen.ellipse((bush, top, bush + 50, top + 90), fill=(62, 92 + bush % 20, 52))
        pen.rectangle((0, top + 36, width, height), fill=(58, 90, 50))
    elif kind == "railing":
        top = int(height * generator.uniform(0.6, 0.75))
        pen.rectangle((0, top, width, top + 10), fill=(70, 72, 76))
        for bar in range(x % 40, width, 40):
            pen.rectangle((bar, top, bar + 6, height), fill=(70, 72, 76))
    elif kind == "trolley":
        left, top = x - width // 4, int(height * generator.uniform(0.7, 0.8))
        pen.rectangle((left, top, left + width // 2, int(height * 0.92)), outline=(176, 180, 184), width=8)
        pen.rectangle((left, top + 30, left + width // 2, top + 38), fill=(176, 180, 184))
    else:
        left, top = x - width // 6, int(height * generator.uniform(0.72, 0.82))
        pen.rounded_rectangle((left, top, left + width // 3, height), radius=14, fill=(46, 66, 58))


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
