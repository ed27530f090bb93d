"""Demo data: drawn pedestrians in the RRID dataset layout, with a gallery and queries to match.

The folder holds everything that the way from training to matching needs:

- ``images/``, ``meta.json``, ``splits.json``, ``test.json``: the dataset, training and test identities disjoint;
- ``gallery/``: one more shot of every test identity from every camera, under Market-1501 style names;
- ``query.jpg`` and ``queries/`` (three shots of one person): people of the gallery seen by cameras that the gallery
  does not have of them;
- ``demo.json``: the settings, who is who, which identities are near-twins and in what they differ.

Every shot has a generator of its own, seeded by (seed, identity, camera, shot): the same settings give the same bytes,
and more identities or shots leave the earlier ones as they were.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rrid_edge.errors import OutputError, UsageError, printable
from rrid_edge.files import write_json
from rrid_train.data.pedestrian import Person, draw_near_twin, draw_person
from rrid_train.data.scene import Camera, draw_cameras, draw_shot

KIND: Final = "rrid-edge demo data"
MARKER_NAME: Final = "demo.json"
_PERSON_STREAM, _CAMERA_STREAM, _SHOT_STREAM = 1, 2, 3
_IMAGE_FOLDERS: Final = ("images", "gallery", "queries")
_LIMITS: Final = {"seed": (0, 2**31 - 1), "identities": (6, 9999), "cameras": (2, 32), "images_per_camera": (2, 99)}


@dataclass(frozen=True)
class DemoConfig:
    """Settings of one demo data set.

    Attributes:
        seed: seed of everything that is drawn by lot.
        identities: people altogether; a third of them (rounded down) are test identities.
        cameras: cameras; every person is seen by all of them.
        images_per_camera: shots of a person by a camera; of test identities the first is a query.
    """

    seed: int = 0
    identities: int = 120
    cameras: int = 6
    images_per_camera: int = 3

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UsageError(f"{name.replace('_', ' ')} {value} does not work: expected {least} to {most}")

    @property
    def test_identities(self) -> int:
        """Number of identities that training never sees."""
        return self.identities // 3

    @property
    def training_identities(self) -> int:
        """Number of identities for training; they have the lowest numbers."""
        return self.identities - self.test_identities


@dataclass(frozen=True)
class Twins:
    """Two identities that differ in one part.

    Attributes:
        identities: their two numbers.
        part: the field of :class:`~rrid_train.data.pedestrian.Person` in which they differ.
    """

    identities: tuple[int, int]
    part: str


@dataclass(frozen=True)
class DemoSummary:
    """What was written.

    Attributes:
        root: the folder.
        training_identities: identities in ``trainval``.
        test_identities: identities in ``query`` and ``gallery``.
        images: files in ``images/``.
        gallery_images: files in ``gallery/``.
        twins: pairs of near-twins.
        query_person: identity of ``query.jpg``, as its gallery file names write it.
    """

    root: Path
    training_identities: int
    test_identities: int
    images: int
    gallery_images: int
    twins: tuple[Twins, ...]
    query_person: str


@dataclass(frozen=True)
class _Shot:
    """One file to draw."""

    name: str
    identity: int
    camera: int
    number: int


@dataclass(frozen=True)
class _Plan:
    """All files of one data set, before the first is drawn."""

    config: DemoConfig
    people: tuple[Person, ...]
    cameras: tuple[Camera, ...]
    twins: tuple[Twins, ...]
    images: tuple[_Shot, ...]
    gallery: tuple[_Shot, ...]
    query: _Shot
    queries: tuple[_Shot, ...]

    def shots(self) -> Iterator[_Shot]:
        """Every file to draw."""
        yield from self.images
        yield from self.gallery
        yield self.query
        yield from self.queries


def count_files(config: DemoConfig) -> int:
    """Number of pictures that :func:`write_demo_data` draws."""
    return sum(1 for _ in _plan(config).shots())


def write_demo_data(
    out: Path, config: DemoConfig, *, advance: Callable[[int], None] = lambda _done: None
) -> DemoSummary:
    """Draw a demo data set.

    Args:
        out: folder to write; it is made when missing. An earlier demo data set in it is replaced.
        config: settings.
        advance: called with the number of pictures drawn since the last call.

    Raises:
        OutputError: ``out`` is a file, holds something else, or cannot be written.
    """
    plan = _plan(config)
    try:
        _prepare(out)
        write_json(out / MARKER_NAME, {"kind": KIND, "complete": False})
        for shot in plan.shots():
            # No fsync for each of thousands of pictures that can be drawn again: the marker is completed last.
            (out / shot.name).write_bytes(_draw(plan, shot))
            advance(1)
    except OSError as error:
        raise OutputError(
            f"{printable(error.filename or out)}: cannot be written ({error.strerror or error}); give a folder on a "
            "writable file system with free space"
        ) from error
    write_json(out / "meta.json", _meta(plan))
    write_json(out / "splits.json", [_split(config)])
    write_json(out / "test.json", [_test_lists(plan)])
    write_json(out / MARKER_NAME, _description(plan))
    return DemoSummary(
        root=out,
        training_identities=config.training_identities,
        test_identities=config.test_identities,
        images=len(plan.images),
        gallery_images=len(plan.gallery),
        twins=plan.twins,
        query_person=_person_name(plan.query.identity),
    )


def draw_people(config: DemoConfig) -> tuple[tuple[Person, ...], tuple[Twins, ...]]:
    """Everybody of a data set, and the near-twins: the third, sixth ... of each part resembles the one before.

    Pairs never reach across the border between training and test identities.
    """
    people: list[Person] = []
    twins: list[Twins] = []
    for identity in range(config.identities):
        generator = np.random.default_rng([config.seed, _PERSON_STREAM, identity])
        first = 0 if identity < config.training_identities else config.training_identities
        if (identity - first) % 3 == 2:
            twin, part = draw_near_twin(people[-1], generator)
            people.append(twin)
            twins.append(Twins(identities=(identity - 1, identity), part=part))
        else:
            people.append(draw_person(generator))
    return tuple(people), tuple(twins)


def _plan(config: DemoConfig) -> _Plan:
    people, twins = draw_people(config)
    cameras = draw_cameras(config.cameras, np.random.default_rng([config.seed, _CAMERA_STREAM]))
    test = range(config.training_identities, config.identities)
    images = tuple(
        _Shot(f"images/{identity:08d}_{camera:02d}_{number:04d}.jpg", identity, camera, number)
        for identity in range(config.identities)
        for camera in range(config.cameras)
        for number in range(config.images_per_camera)
    )
    extra = config.images_per_camera  # the first shot number that images/ does not use
    # One of a pair of near-twins where there is one (a third test identity): the harder question.
    asked = test[min(2, len(test) - 1)]
    query = _Shot("query.jpg", asked, 0, extra + 1)
    queries = tuple(
        _Shot(f"queries/{_market_name(test[0], 1, extra + number)}", test[0], 1, extra + number)
        for number in range(1, 4)
    )
    unseen = {(query.identity, query.camera), (queries[0].identity, queries[0].camera)}
    gallery = tuple(
        _Shot(f"gallery/{_market_name(identity, camera, extra)}", identity, camera, extra)
        for identity in test
        for camera in range(config.cameras)
        if (identity, camera) not in unseen
    )
    return _Plan(config, people, cameras, twins, images, gallery, query, queries)


def _draw(plan: _Plan, shot: _Shot) -> bytes:
    generator = np.random.default_rng([plan.config.seed, _SHOT_STREAM, shot.identity, shot.camera, shot.number])
    return draw_shot(plan.people[shot.identity], plan.cameras[shot.camera], generator)


def _prepare(out: Path) -> None:
    """Make the folders; refuse a folder that holds something else; remove an earlier data set's pictures."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{printable(out)}: this is a file; give the name of a folder for the demo data")
    if out.is_dir() and any(out.iterdir()) and not _is_demo_folder(out):
        raise OutputError(
            f"{printable(out)}: this folder holds something else than demo data; give a new or empty folder"
        )
    for name in _IMAGE_FOLDERS:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.jpg"):
            old.unlink()


def _is_demo_folder(out: Path) -> bool:
    try:
        marker = json.loads((out / MARKER_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and marker.get("kind") == KIND


def _meta(plan: _Plan) -> dict[str, object]:
    shape = plan.config
    identities: list[list[list[str]]] = [[[] for _ in range(shape.cameras)] for _ in range(shape.identities)]
    for shot in plan.images:
        identities[shot.identity][shot.camera].append(Path(shot.name).name)
    return {"name": f"demo-seed-{shape.seed}", "num_cameras": shape.cameras, "identities": identities}


def _split(config: DemoConfig) -> dict[str, list[int]]:
    test = list(range(config.training_identities, config.identities))
    return {"trainval": list(range(config.training_identities)), "query": test, "gallery": test}


def _test_lists(plan: _Plan) -> dict[str, list[list[str | int]]]:
    lists: dict[str, list[list[str | int]]] = {"query": [], "gallery": []}
    for shot in plan.images:
        if shot.identity >= plan.config.training_identities:
            part = "query" if shot.number == 0 else "gallery"
            lists[part].append([Path(shot.name).name, shot.identity, shot.camera])
    return lists


def _description(plan: _Plan) -> dict[str, object]:
    return {
        "kind": KIND,
        "complete": True,
        "config": asdict(plan.config),
        "query": {
            "file": plan.query.name,
            "person": _person_name(plan.query.identity),
            "camera": plan.query.camera + 1,
        },
        "queries": {
            "files": [shot.name for shot in plan.queries],
            "person": _person_name(plan.queries[0].identity),
            "camera": plan.queries[0].camera + 1,
        },
        "twins": [{"identities": list(pair.identities), "differs_in": pair.part} for pair in plan.twins],
        "cameras": [asdict(camera) for camera in plan.cameras],
        "identities": [asdict(person) for person in plan.people],
    }


def _person_name(identity: int) -> str:
    return f"{identity:04d}"


def _market_name(identity: int, camera: int, number: int) -> str:
    """A Market-1501 style name: person, camera and sequence (from 1), frame, box."""
    frame = (identity * 131 + camera * 17 + number * 7) % 1_000_000
    return f"{_person_name(identity)}_c{camera + 1}s1_{frame:06d}_00.jpg"
