"""Whether the first folder of a path is the person or the camera."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rrid_edge.crops.naming import is_camera_folder, name_reader
from rrid_edge.errors import DatasetError, printable

LAYOUTS = ("auto", "person-first", "camera-first")
_SHOWN = 3
_ONE_CAMERA = 0.9
"""Share of the images from the first folder's most frequent camera: a few may be in a wrong folder."""
_Cameras = dict[str, Counter[str | None]]
"""Number of images per camera, by first folder."""
_read_camera_folder = name_reader("camera-folders")


def camera_first(folder: str) -> str | None:
    """The camera that a folder is named for: ``1`` of ``cam01``, ``lobby`` of ``lobby``."""
    return _read_camera_folder(f"{folder}/x").camera


def refuse_camera_first(raw: Path, images: Iterable[tuple[Sequence[str], str | None]]) -> None:
    """Refuse folders that look like ``camera/person`` and are to be read as ``person/camera``.

    They look so if the names of the folders in the first folders repeat, or all first folders are named like cameras,
    and each first folder has images of about one camera. That is not needed if both hold. A single first folder with
    several folders in it looks so too. Folders named like cameras in the persons' folders (``anna/cam1``) do not.

    Args:
        raw: the folder, for the message.
        images: the parts of each path below the first folders' folder, and its camera if it was found.

    Raises:
        DatasetError: the folders look camera-first.
    """
    cameras: _Cameras = defaultdict(Counter)
    inner: dict[str, set[str]] = defaultdict(set)
    for parts, camera in images:
        cameras[parts[0]][camera] += 1
        inner[parts[0]].update(parts[1:2] if len(parts) > 2 else ())
    tops = sorted(cameras)
    all_cameras = all(is_camera_folder(top) for top in tops)
    names = Counter(name for found in inner.values() for name in found)
    if not names:
        if len(tops) > 1 and all_cameras and all(cameras[top].keys() == {camera_first(top)} for top in tops):
            raise DatasetError(
                f"{printable(raw)}: these look like {len(tops)} cameras ({_first(tops)}) without a folder per person; "
                "expected one folder per person: sort the crops by person, or give the layout person-first if the "
                "first folder is the person",
                parameter="layout",
            )
        return
    repeated = sorted(name for name, count in names.items() if count > 1)
    if repeated:
        why = f"and names of the folders in it repeat ({_first(repeated)})"
    else:
        why = "and is named like one" if all_cameras else f"and holds several folders ({_first(sorted(names))})"
    if len(tops) == 1:
        likely = len(names) > 1
    elif repeated and all_cameras:
        likely = True
    else:
        alike = sum(max(found.values()) for found in cameras.values()) / sum(map(Counter.total, cameras.values()))
        likely = alike >= _ONE_CAMERA and (bool(repeated) or all_cameras)
    if likely and not all(is_camera_folder(name) for name in names):
        raise _looks_camera_first(raw, cameras, [len(inner[top]) for top in tops], why)


def _looks_camera_first(raw: Path, cameras: _Cameras, people: Sequence[int], why: str) -> DatasetError:
    tops = sorted(cameras)
    told = any(found.keys() != {None} for found in cameras.values())
    one = "has one camera" if told else "has no camera in the names below it"
    these = "this looks like 1 camera" if len(tops) == 1 else f"these look like {len(tops)} cameras"
    counts = " to ".join(str(count) for count in dict.fromkeys((min(people), max(people))))
    return DatasetError(
        f"{printable(raw)}: {these} with {counts} people each: each first folder ({_first(tops)}) {one}, {why}; "
        "expected a folder per person first: give the layout camera-first, or person-first if the first folder is the "
        "person",
        parameter="layout",
    )


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown
