"""Crops as real detectors and cameras give them: loose, shifted and cut boxes, passers-by, dim light, blur, few pixels.

The shares are choices of this package: a third of the crops of a benchmark have at least one clear fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from rrid_train.demo.figure import SUPERSAMPLE, Pose, draw_figure
from rrid_train.demo.pedestrian import Person, pick
from rrid_train.demo.scene import HEIGHT_PX, WIDTH_PX, Camera, draw_pose, photograph
from rrid_train.demo.shots import Kind

_PASSER_BEHIND, _PASSER_IN_FRONT = 0.1, 0.06
_DIM, _BLURRED, _COMPRESSED, _FAR = 0.12, 0.1, 0.12, 0.12


def draw_hard_shot(
    kind: Kind, person: Person, passers: Sequence[Person], camera: Camera, generator: np.random.Generator
) -> bytes:
    """Draw one crop of a benchmark.

    Args:
        kind: what the crop shows.
        person: the person in it; ``background`` does not show them.
        passers: people who may be in the picture too.
        camera: the camera.
        generator: source of all variations.

    Returns:
        A JPEG file, 64 px wide and 128 px high.
    """
    worse, coarseness = _worse(camera, generator)
    figures = _figures(kind, person, passers, worse, generator)
    cut_out = Image.new("RGBA", (WIDTH_PX * SUPERSAMPLE, HEIGHT_PX * SUPERSAMPLE))
    for figure, pose in figures:
        cut_out.alpha_composite(draw_figure(figure, pose, WIDTH_PX, HEIGHT_PX))
    return photograph(cut_out, worse, generator, coarseness=coarseness)


def _worse(camera: Camera, generator: np.random.Generator) -> tuple[Camera, float]:
    """The camera in this moment: sometimes dim, out of focus or compressed more; and how coarse its picture is."""
    dim, blurred, compressed, far = generator.random(4) < (_DIM, _BLURRED, _COMPRESSED, _FAR)
    light, blur = float(generator.uniform(0.4, 0.65)), float(generator.uniform(0.7, 1.4))
    quality, coarseness = int(generator.integers(18, 40)), float(generator.uniform(1.5, 2.6))
    if dim:
        camera = replace(camera, light=camera.light * light, noise=camera.noise * 1.3)
    if blurred:
        camera = replace(camera, blur_px=camera.blur_px + blur)
    if compressed:
        camera = replace(camera, quality=quality)
    return camera, coarseness if far else 1.0


def _figures(
    kind: Kind, person: Person, passers: Sequence[Person], camera: Camera, generator: np.random.Generator
) -> list[tuple[Person, Pose]]:
    """Who is in the picture and where, from the back to the front."""
    side = pick(generator, (-1.0, 1.0))
    pose, passer = draw_pose(camera, generator), pick(generator, passers)
    beside = draw_pose(camera, generator)
    if kind == "background":
        return []
    if kind == "two":
        apart = float(generator.uniform(0.2, 0.3))
        zoom = float(generator.uniform(1.05, 1.3))
        return [(passer, framed(beside, zoom, -side * apart)), (person, framed(pose, zoom, side * apart))]
    if kind == "cut":
        zoom, down = float(generator.uniform(0.42, 0.65)), pick(generator, (-0.35, 0.0, 0.35))
        return [(person, framed(pose, zoom, float(generator.normal(0, 0.1)), down))]
    if kind == "shifted":
        return [
            (person, framed(pose, 1.0, side * float(generator.uniform(0.35, 0.55)), float(generator.normal(0, 0.15))))
        ]
    if kind == "wide":
        zoom = float(generator.uniform(1.7, 2.6))
        return [(person, framed(pose, zoom, *(float(shift) for shift in generator.normal(0, 0.12, 2))))]
    zoom = float(np.clip(np.exp(generator.normal(0.03, 0.08)), 0.85, 1.25))
    figures = [(person, framed(pose, zoom, *(float(shift) for shift in generator.normal(0, 0.035, 2))))]
    where = generator.random()
    shift = side * float(generator.uniform(0.35, 0.6))
    if where < _PASSER_BEHIND:
        figures.insert(0, (passer, framed(beside, 1.15, shift)))
    elif where < _PASSER_BEHIND + _PASSER_IN_FRONT:
        figures.append((passer, framed(beside, 0.9, shift, 0.1)))
    return figures


def framed(pose: Pose, zoom: float, across: float = 0.0, down: float = 0.0) -> Pose:
    """The pose in another box.

    Args:
        pose: the pose in a box that fits.
        zoom: size of the box in sizes of the first one.
        across: the person's shift to the right in widths of the box.
        down: the person's shift downwards in heights of the box.
    """
    return replace(
        pose,
        centre_x=0.5 + (pose.centre_x - 0.5) / zoom + across,
        feet_y=0.5 + (pose.feet_y - 0.5) / zoom + down,
        height=pose.height / zoom,
    )
