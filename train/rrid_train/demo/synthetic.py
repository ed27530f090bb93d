"""Demo data: drawn pedestrians in the RRID dataset layout, with a gallery and queries to match.

The folder holds all inputs from training to matching:

- ``images/``, ``meta.json``, ``splits.json``, ``test.json``: the dataset; no person is in both training and test.
- ``gallery/``: one more shot of each test person in each camera, with Market-1501-style names.
- ``query/`` with one shot of one person, and ``queries/`` with three shots of another, named in the same way. The
  gallery shows these people in other cameras only.
- ``about.txt``: whom the query shows, and that person's near-twin.
- ``demo.json``: the settings, cameras and people, the near-twins with the part in which they differ, the groups in the
  same clothes, what each junk crop and distractor shows, and the true person and camera of each wrong label.

Junk has label -1 and distractors 0, as in other prepared datasets: ``meta.json`` lists no junk.

The same settings give the same bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rrid_edge.artefacts import LARGE_BYTES, Artefact
from rrid_edge.errors import ArtefactError, OutputError, item_at_work, printable
from rrid_edge.files import write_json, write_text
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_edge.ranking.labels import DISTRACTOR_PERSON, JUNK_PERSON
from rrid_edge.stopping import kept_if_stopped
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.people import UNIFORM_PARTS
from rrid_train.demo.plan import DemoPlan, is_test, plan_demo
from rrid_train.demo.shots import Shot, person_name

__all__ = ["DemoConfig", "DemoSummary", "count_files", "write_demo_data"]

KIND: Final = "rrid-edge demo data"
MARKER_NAME: Final = "demo.json"
ABOUT_NAME: Final = "about.txt"
_IMAGE_FOLDERS: Final = ("images", "gallery", "query", "queries")
_OLD_QUERY: Final = "query.jpg"
"""The query of demo data that an older version drew."""
_PARTS: Final = {
    "upper": "the upper clothes differ",
    "lower": "the lower clothes differ",
    "bag": "the bag differs",
    "hat": "the hat differs",
    "shoes": "the shoes differ",
    "hair": "the hair differs",
}
"""What is said of near-twins, by the part in which they differ."""


@dataclass(frozen=True)
class DemoSummary:
    """Summary of a demo dataset.

    Attributes:
        root: the folder.
        training_people: number of people in ``trainval``.
        test_people: number of people in ``query`` and ``gallery``.
        images: number of files in ``images/``.
        junk: number of bad boxes among them.
        distractors: number of strangers' crops and false detections among them.
        wrong_labels: number of images whose label names another person or camera than the picture shows.
        gallery_images: number of files in ``gallery/``.
        twins: number of pairs of near-twins.
        groups: number of groups in the same clothes.
        query_file: path of the single query below the folder.
        query_person: its person, as in the names of gallery files.
        query_twin: the near-twin of that person, or None.
        query_twin_differs_in: the part in which they differ (:data:`~rrid_train.demo.pedestrian.TWIN_PARTS`), or None.
    """

    root: Path
    training_people: int
    test_people: int
    images: int
    junk: int
    distractors: int
    wrong_labels: int
    gallery_images: int
    twins: int
    groups: int
    query_file: str
    query_person: str
    query_twin: str | None = None
    query_twin_differs_in: str | None = None

    @property
    def query_shows(self) -> str:
        """Whom the query shows, and that person's near-twin."""
        if self.query_twin is None or self.query_twin_differs_in is None:
            return f"person {self.query_person}"
        part = _PARTS[self.query_twin_differs_in]
        return f"person {self.query_person}, drawn as a near-twin of person {self.query_twin}: only {part}"


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
    with kept_if_stopped(lambda: _kept(out)):
        return _write(out, plan, progress)


def _kept(out: Path) -> str:
    """What a stopped run has left, in one line."""
    try:
        is_complete = _MARKER.read(out / MARKER_NAME).complete
    except (FileNotFoundError, ArtefactError):
        return f"{printable(out)} holds no demo data yet; run the same command again"
    state = "complete" if is_complete else "incomplete; run the same command again: it draws all images again"
    return f"the demo data in {printable(out)} are {state}"


def _write(out: Path, plan: DemoPlan, progress: Progress) -> DemoSummary:
    try:
        _prepare(out)
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
    write_json(out / "splits.json", [_split(plan)])
    write_json(out / "test.json", [_test_lists(plan)])
    summary = _summary(out, plan)
    write_text(out / ABOUT_NAME, f"{summary.query_file} shows {summary.query_shows}.\n")
    write_json(out / MARKER_NAME, _description(plan))
    return summary
    return summary


def _summary(out: Path, plan: DemoPlan) -> DemoSummary:
    labels = [shot.label[0] for shot in plan.images]
    twin = plan.query_twin
    return DemoSummary(
        root=out,
        training_people=plan.config.training_people,
        test_people=plan.config.test_people,
        images=len(labels),
        junk=labels.count(JUNK_PERSON),
        distractors=labels.count(DISTRACTOR_PERSON) if plan.config.benchmark else 0,
        wrong_labels=len(_wrong_labels(plan)),
        gallery_images=len(plan.gallery),
        twins=len(plan.crowd.twins),
        groups=len(plan.crowd.groups),
        query_file=plan.query.name,
        query_person=person_name(plan.query.label[0]),
        query_twin=None if twin is None else person_name(twin[0] + plan.config.first_number),
        query_twin_differs_in=None if twin is None else twin[1],
    )


def _prepare(out: Path) -> None:
    """Create the folders and delete the images of an earlier demo dataset; refuse a folder with other content."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{printable(out)}: this is a file, expected a folder; give a new or empty folder")
    if out.is_dir() and any(out.iterdir()) and not _is_demo_folder(out):
        raise OutputError(f"{printable(out)}: this folder holds other files than demo data; give a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER_NAME, {"kind": KIND, "complete": False})  # before images go
    for name in _IMAGE_FOLDERS:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.jpg"):
            old.unlink()
    (out / _OLD_QUERY).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Marker:
    kind: str
    complete: bool = False


_MARKER: Final = Artefact("description of demo data", _Marker, "delete the folder", most_bytes=LARGE_BYTES)


def _is_demo_folder(out: Path) -> bool:
    try:
        return _MARKER.read(out / MARKER_NAME).kind == KIND
    except (FileNotFoundError, ArtefactError):
        return False


def _file(shot: Shot) -> str:
    return Path(shot.name).name


def _meta(plan: DemoPlan) -> dict[str, object]:
    shape = plan.config
    numbers = shape.first_number + shape.people
    # Cameras count from 1, as in the names of gallery/: entry 0 of each person is empty.
    identities: list[list[list[str]]] = [[[] for _ in range(shape.cameras + 1)] for _ in range(numbers)]
    for shot in plan.images:
        person, camera = shot.label
        if person != JUNK_PERSON:
            identities[person][camera].append(_file(shot))
    persons = {str(person): person_name(person) for person in range(shape.first_number, numbers)}
    name = f"demo-seed-{shape.seed}"
    return {"name": name, "num_cameras": shape.cameras, "identities": identities, "persons": persons}


def _split(plan: DemoPlan) -> dict[str, list[int]]:
    first, training = plan.config.first_number, plan.config.training_people
    test = list(range(first + training, first + plan.config.people))
    known = [DISTRACTOR_PERSON] if plan.config.distractors else []
    return {"trainval": list(range(first, first + training)), "query": test, "gallery": [*known, *test]}


def _test_lists(plan: DemoPlan) -> dict[str, list[list[str | int]]]:
    lists: dict[str, list[list[str | int]]] = {"query": [], "gallery": []}
    for shot in plan.images:
        if is_test(plan.config, shot):
            lists["query" if shot.query else "gallery"].append([_file(shot), *shot.label])
    return lists


def _description(plan: DemoPlan) -> dict[str, object]:
    first, crowd, twin = plan.config.first_number, plan.crowd, plan.query_twin
    return {
        "kind": KIND,
        "complete": True,
        "config": asdict(plan.config),
        "first_person": first,
        "query": {
            "file": plan.query.name,
            "person": person_name(plan.query.label[0]),
            "camera": plan.query.camera + 1,
            "near_twin": None if twin is None else {"person": person_name(twin[0] + first), "differs_in": twin[1]},
        },
        "queries": {
            "files": [shot.name for shot in plan.queries],
            "person": person_name(plan.queries[0].label[0]),
            "camera": plan.queries[0].camera + 1,
        },
        "twins": [
            {"people": [person + first for person in pair.people], "differs_in": pair.part} for pair in crowd.twins
        ],
        "groups": [{"people": [person + first for person in group], "wear": UNIFORM_PARTS} for group in crowd.groups],
        "wrong_labels": _wrong_labels(plan),
        "junk": _shown(plan, JUNK_PERSON),
        "distractors": _shown(plan, DISTRACTOR_PERSON) if plan.config.distractors else [],
        "cameras": [asdict(camera) for camera in plan.cameras],
        "people": [asdict(person) for person in crowd.people],
        "strangers": [asdict(person) for person in crowd.strangers],
    }


def _wrong_labels(plan: DemoPlan) -> list[dict[str, object]]:
    """The images whose label is wrong, with what is true, in the numbers of the dataset's lists."""
    first = plan.config.first_number
    return [
        {"file": shot.name, "true_person": shot.person + first, "true_camera": shot.camera + 1}
        for shot in plan.images
        if shot.label[0] not in (JUNK_PERSON, DISTRACTOR_PERSON) or not plan.config.benchmark
        if shot.label != (shot.person + first, shot.camera + 1)
    ]


def _shown(plan: DemoPlan, label: int) -> list[dict[str, object]]:
    """What each crop with one of the labels -1 and 0 shows, and of whom. Strangers are counted from 0."""
    people, first = plan.config.people, plan.config.first_number
    return [
        {
            "file": shot.name,
            "shows": shot.kind,
            **({"person": shot.person + first} if shot.person < people else {"stranger": shot.person - people}),
        }
        for shot in (*plan.images, *plan.gallery)
        if shot.label[0] == label
    ]
