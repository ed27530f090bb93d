"""One file of a demo dataset: who is drawn in it, and what its label says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rrid_edge.ranking.labels import DISTRACTOR_PERSON, JUNK_PERSON

Kind = Literal["person", "cut", "two", "shifted", "wide", "background"]
"""What a crop shows: a person in a usual box, a part of a person, two people, a box beside or far around a person, or
nobody."""


@dataclass(frozen=True)
class Shot:
    """One file to draw.

    Attributes:
        name: path below the dataset's folder.
        person: index of the person in the picture.
        camera: number of the camera that takes it, from 0.
        number: number of the shot of this person in this camera, from 0. Shots of different kinds share no numbers.
        label: person and camera of the label, as in the dataset's lists and in all file names. Cameras count from 1.
        kind: what the crop shows.
        query: whether it is a query of the test split.
    """

    name: str
    person: int
    camera: int
    number: int
    label: tuple[int, int]
    kind: Kind = "person"
    query: bool = False


def image_name(label: tuple[int, int], count: int) -> str:
    """Path of the image number ``count`` with this label in the RRID layout."""
    person = "junk" if label[0] == JUNK_PERSON else f"{label[0]:08d}"
    return f"images/{person}_{label[1]:02d}_{count:04d}.jpg"


def market_name(label: tuple[int, int], number: int) -> str:
    """A Market-1501-style file name: person, camera, sequence 1, frame, box."""
    person, camera = label
    if person in (JUNK_PERSON, DISTRACTOR_PERSON):
        return f"{person_name(person)}_c{camera}s1_{number:06d}_00.jpg"
    frame = (person * 131 + (camera - 1) * 17 + number * 7) % 1_000_000
    return f"{person_name(person)}_c{camera}s1_{frame:06d}_00.jpg"


def person_name(person: int) -> str:
    """A person's number as in the names of gallery files."""
    return "junk" if person == JUNK_PERSON else f"{person:04d}"
