"""Demo data: drawn pedestrians in the RRID dataset layout, with a gallery and queries to match.

The folder holds all inputs from training to matching:

- ``images/``, ``meta.json``, ``splits.json``, ``test.json``: the dataset; no person is in both training and test.
- ``gallery/``: one more shot of each test person in each camera, with Market-1501-style names.
- ``query.jpg``, and ``queries/`` with three shots of one person. The gallery shows these people in other cameras only.
- ``demo.json``: the settings, cameras and people, and the near-twins with the part in which they differ.

The same settings give the same bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rrid_edge.artefacts import LARGE_BYTES, Artefact
from rrid_edge.errors import ArtefactError, OutputError, item_at_work, printable
from rrid_edge.files import write_json
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_train.demo.plan import DemoConfig, DemoPlan, Twins, person_name, plan_demo

__all__ = ["DemoConfig", "DemoSummary", "Twins", "count_files", "write_demo_data"]

KIND: Final = "rrid-edge demo data"
MARKER_NAME: Final = "demo.json"
_IMAGE_FOLDERS: Final = ("images", "gallery", "queries")


@dataclass(frozen=True)
class DemoSummary:
    """Summary of a demo dataset.

    Attributes:
        root: the folder.
        training_persons: number of people in ``trainval``.
        test_persons: number of people in ``query`` and ``gallery``.
        images: number of files in ``images/``.
        gallery_images: number of files in ``gallery/``.
        twins: pairs of near-twins.
        query_person: person of ``query.jpg``, as in the names of gallery files.
    """

    root: Path
    training_persons: int
    test_persons: int
    images: int
    gallery_images: int
    twins: tuple[Twins, ...]
    query_person: str


def count_files(config: DemoConfig) -> int:
    """Number of images that :func:`write_demo_data` draws."""
    return sum(1 for _ in plan_demo(config).shots())


def write_demo_data(out: Path, config: DemoConfig, *, progress: Progress = NO_PROGRESS) -> DemoSummary:
    """Draw a demo dataset.

    Args:
        out: folder to write; it is created if missing. An earlier demo dataset in it is replaced.
        config: settings.
        progress: gets the number of images, and one step per image drawn.

    Raises:
        OutputError: ``out`` is a file, holds other files than demo data, or cannot be written.
    """
    plan = plan_demo(config)
    progress.start(count_files(config))
    try:
        _prepare(out)
        write_json(out / MARKER_NAME, {"kind": KIND, "complete": False})
        for shot in plan.shots():
            # No fsync per image, as images can be drawn again: the marker is completed last.
            with item_at_work(out / shot.name):
                (out / shot.name).write_bytes(plan.draw(shot))
            progress.advance(1)
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
        training_persons=config.training_persons,
        test_persons=config.test_persons,
        images=len(plan.images),
        gallery_images=len(plan.gallery),
        twins=plan.twins,
        query_person=person_name(plan.query.person),
    )


def _prepare(out: Path) -> None:
    """Create the folders and delete the images of an earlier demo dataset; refuse a folder with other content."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{printable(out)}: this is a file, expected a folder; give a new or empty folder")
    if out.is_dir() and any(out.iterdir()) and not _is_demo_folder(out):
        raise OutputError(f"{printable(out)}: this folder holds other files than demo data; give a new or empty folder")
    for name in _IMAGE_FOLDERS:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.jpg"):
            old.unlink()


@dataclass(frozen=True)
class _Marker:
    kind: str


_MARKER: Final = Artefact("description of demo data", _Marker, "delete the folder", most_bytes=LARGE_BYTES)


def _is_demo_folder(out: Path) -> bool:
    try:
        return _MARKER.read(out / MARKER_NAME).kind == KIND
    except (FileNotFoundError, ArtefactError):
        return False


def _meta(plan: DemoPlan) -> dict[str, object]:
    shape = plan.config
    persons: list[list[list[str]]] = [[[] for _ in range(shape.cameras)] for _ in range(shape.persons)]
    for shot in plan.images:
        persons[shot.person][shot.camera].append(Path(shot.name).name)
    return {"name": f"demo-seed-{shape.seed}", "num_cameras": shape.cameras, "identities": persons}


def _split(config: DemoConfig) -> dict[str, list[int]]:
    test = list(range(config.training_persons, config.persons))
    return {"trainval": list(range(config.training_persons)), "query": test, "gallery": test}


def _test_lists(plan: DemoPlan) -> dict[str, list[list[str | int]]]:
    lists: dict[str, list[list[str | int]]] = {"query": [], "gallery": []}
    for shot in plan.images:
        if shot.person >= plan.config.training_persons:
            part = "query" if shot.number == 0 else "gallery"
            lists[part].append([Path(shot.name).name, shot.person, shot.camera])
    return lists


def _description(plan: DemoPlan) -> dict[str, object]:
    return {
        "kind": KIND,
        "complete": True,
        "config": asdict(plan.config),
        "query": {
            "file": plan.query.name,
            "person": person_name(plan.query.person),
            "camera": plan.query.camera + 1,
        },
        "queries": {
            "files": [shot.name for shot in plan.queries],
            "person": person_name(plan.queries[0].person),
            "camera": plan.queries[0].camera + 1,
        },
        "twins": [{"persons": list(pair.persons), "differs_in": pair.part} for pair in plan.twins],
        "cameras": [asdict(camera) for camera in plan.cameras],
        "persons": [asdict(person) for person in plan.people],
    }
