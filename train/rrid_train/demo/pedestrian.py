"""Appearance of drawn pedestrians: build, skin, hair, hat, clothing, shoes and bag, from a seeded generator.

A near-twin copies another person in all parts but one. To distinguish them, a network must relate this part to the rest
of the body, as RRID's relation features do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

Colour = tuple[int, int, int]
_Choice = TypeVar("_Choice")

PATTERNS: Final = ("plain", "hoops", "stripes", "checks", "print", "two-tone")
TWIN_PARTS: Final = ("upper", "lower", "bag", "hat", "shoes", "hair")
"""Parts in which a near-twin can differ; all of them are visible from all sides."""

_CLOTH: Final[tuple[Colour, ...]] = (
    (28, 28, 32),
    (28, 28, 32),
    (92, 94, 100),
    (168, 168, 170),
    (232, 230, 224),
    (34, 46, 92),
    (58, 96, 168),
    (128, 172, 214),
    (170, 34, 40),
    (116, 28, 48),
    (224, 120, 40),
    (232, 200, 64),
    (40, 104, 62),
    (124, 148, 76),
    (112, 74, 150),
    (214, 120, 152),
    (120, 84, 56),
    (196, 170, 126),
    (38, 140, 144),
)
_SHOES: Final[tuple[Colour, ...]] = ((24, 24, 26), (240, 238, 234), (112, 70, 40), (180, 36, 40), (52, 78, 150))
_SKIN: Final[tuple[Colour, ...]] = ((244, 208, 180), (226, 180, 146), (198, 146, 108), (150, 100, 70), (94, 62, 46))
_HAIR: Final[tuple[Colour, ...]] = (
    (26, 22, 22),
    (62, 40, 28),
    (112, 72, 40),
    (206, 168, 96),
    (150, 66, 34),
    (176, 176, 178),
)
_CLEARLY_APART = 110.0
"""Smallest RGB distance between near-twins' colours. A camera's white balance and light change colours by less."""


@dataclass(frozen=True)
class Build:
    """Body size.

    Attributes:
        height: share of the usual figure height.
        girth: share of the usual shoulder, hip and limb widths.
    """

    height: float
    girth: float


@dataclass(frozen=True)
class Hair:
    """Hair: ``style`` is ``short``, ``long``, ``bun`` or ``bald``."""

    style: str
    colour: Colour


@dataclass(frozen=True)
class Item:
    """A hat (``none``, ``cap``, ``beanie``) or a bag (``none``, ``backpack``, ``shoulder``)."""

    kind: str
    colour: Colour


@dataclass(frozen=True)
class Garment:
    """One piece of clothing.

    Attributes:
        cut: ``long`` or ``short`` sleeves for the upper body; ``trousers``, ``shorts`` or ``skirt`` for the lower.
        pattern: one of :data:`PATTERNS`.
        colour: main colour, sRGB.
        accent: colour of the pattern's second part, sRGB.
    """

    cut: str
    pattern: str
    colour: Colour
    accent: Colour


@dataclass(frozen=True)
class Person:
    """Appearance of one person, equal in all shots."""

    build: Build
    skin: Colour
    hair: Hair
    hat: Item
    upper: Garment
    lower: Garment
    shoes: Colour
    bag: Item


def draw_person(generator: np.random.Generator) -> Person:
    """A random person."""
    return Person(
        build=Build(height=float(generator.uniform(0.88, 1.0)), girth=float(generator.uniform(0.84, 1.26))),
        skin=_near(generator, pick(generator, _SKIN), 8),
        hair=_draw_hair(generator),
        hat=_draw_hat(generator),
        upper=_draw_garment(generator, pick(generator, ("long", "long", "short")), PATTERNS),
        lower=_draw_lower(generator),
        shoes=_near(generator, pick(generator, _SHOES), 10),
        bag=_draw_bag(generator),
    )


def draw_near_twin(person: Person, generator: np.random.Generator) -> tuple[Person, str]:
    """A copy of ``person`` that differs clearly in one part.

    Returns:
        The twin, and the name of the :class:`Person` field that differs (one of :data:`TWIN_PARTS`).
    """
    part = pick(generator, TWIN_PARTS)
    if part == "hair" and (person.hat.kind != "none" or person.hair.style == "bald"):
        part = "upper"  # The hair is not visible.
    while True:
        twin = replace(person, **{part: getattr(draw_person(generator), part)})
        if part in ("upper", "lower"):
            cut = getattr(person, part).cut
            twin = replace(twin, **{part: replace(getattr(twin, part), cut=cut)})
        if _clearly_apart(getattr(person, part), getattr(twin, part)):
            return twin, part


def pick(generator: np.random.Generator, choices: Sequence[_Choice]) -> _Choice:
    """One of ``choices``, all equally likely."""
    return choices[int(generator.integers(len(choices)))]


def _clearly_apart(one: object, other: object) -> bool:
    if isinstance(one, Garment) and isinstance(other, Garment):
        return _distance(one.colour, other.colour) >= _CLEARLY_APART
    if isinstance(one, Item) and isinstance(other, Item):
        if one.kind == other.kind == "none":
            return False
        return "none" in (one.kind, other.kind) or _distance(one.colour, other.colour) >= _CLEARLY_APART
    if isinstance(one, Hair) and isinstance(other, Hair):
        return _distance(one.colour, other.colour) >= _CLEARLY_APART and "bald" not in (one.style, other.style)
    return _distance(one, other) >= _CLEARLY_APART  # type: ignore[arg-type]


def _distance(one: Colour, other: Colour) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _near(generator: np.random.Generator, colour: Colour, spread: int) -> Colour:
    red, green, blue = (int(value) for value in np.clip(generator.integers(-spread, spread + 1, 3) + colour, 0, 255))
    return red, green, blue


def _cloth(generator: np.random.Generator) -> Colour:
    return _near(generator, pick(generator, _CLOTH), 14)


def _draw_hair(generator: np.random.Generator) -> Hair:
    style = pick(generator, ("short", "short", "short", "long", "long", "bun", "bald"))
    return Hair(style=style, colour=_near(generator, pick(generator, _HAIR), 8))


def _draw_hat(generator: np.random.Generator) -> Item:
    return Item(kind=pick(generator, ("none", "none", "none", "cap", "beanie")), colour=_cloth(generator))


def _draw_bag(generator: np.random.Generator) -> Item:
    return Item(kind=pick(generator, ("none", "none", "backpack", "backpack", "shoulder")), colour=_cloth(generator))


def _draw_lower(generator: np.random.Generator) -> Garment:
    cut = pick(generator, ("trousers", "trousers", "trousers", "shorts", "skirt"))
    return _draw_garment(generator, cut, ("plain", "plain", "plain", "stripes", "checks", "two-tone"))


def _draw_garment(generator: np.random.Generator, cut: str, patterns: Sequence[str]) -> Garment:
    pattern, colour = pick(generator, patterns), _cloth(generator)
    accent = _cloth(generator)
    while _distance(accent, colour) < _CLEARLY_APART:
        accent = _cloth(generator)
    return Garment(cut=cut, pattern=pattern, colour=colour, accent=accent)
