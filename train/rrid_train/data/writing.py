"""Writing a plan as a dataset in the RRID layout.

The folder gets its final name when it is complete. Files are copied byte for byte, and arrays become PNG, without loss.
So evaluation of the prepared dataset gives the same numbers as the original.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rrid_edge.crops.images import load_rgb
from rrid_edge.crops.reading import read_file
from rrid_edge.errors import DatasetError, ImageError, OutputError, RridEdgeError, printable, unforeseen
from rrid_edge.files import workplace, write_json
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_edge.ranking.labels import JUNK_PERSON
from rrid_edge.stopping import collecting_results, note_result
from rrid_train.data.plan import Plan, Source

_NAMED = 10


@dataclass(frozen=True)
class LeftOut:
    """An image that was not written.

    Attributes:
        file: the file, or the name of CUHK03's picture.
        reason: what is wrong, in one line.
        foreseen: False if reading it failed in a way that nobody foresaw.
    """

    file: str
    reason: str
    foreseen: bool


@dataclass(frozen=True)
class Written:
    """What :func:`write_plan` wrote.

    Attributes:
        images: number of images.
        left_out: images that are missing.
    """

    images: int
    left_out: tuple[LeftOut, ...] = ()


def write_plan(plan: Plan, out: Path, *, leave_out_damaged: bool = False, progress: Progress = NO_PROGRESS) -> Written:
    """Write a dataset in the RRID layout.

    Args:
        plan: what to write.
        out: folder to write; it must be new or empty. Until it is complete, it has a hidden name in the same folder.
        leave_out_damaged: write the dataset without images that cannot be read. Its results are not comparable with
            those of the whole dataset.
        progress: gets the number of images, and one step per image.

    Raises:
        OutputError: ``out`` is not empty or cannot be written. No partial folder is left.
        DatasetError: images of the original cannot be read. The message names the first ones and their number. No
            partial folder is left.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{printable(out)}: the folder is not empty; give a new or an empty folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with workplace(out.parent) as place:
            with collecting_results(None):  # the lists have yet to get their final place
                written = _write(plan, place / "dataset", leave_out_damaged, progress)
            if out.exists():
                out.rmdir()
            note_result(out, place / "dataset")
            (place / "dataset").rename(out)
    except OSError as error:
        raise OutputError(
            f"{printable(error.filename or out)}: cannot be written ({error.strerror or error}); give a folder on a "
            "writable file system with free space"
        ) from error
    return written


def _write(plan: Plan, folder: Path, leave_out_damaged: bool, progress: Progress) -> Written:
    """Write all files of the dataset. They are not synced: the folder gets its name when all are written.

    Raises:
        DatasetError: images cannot be read.
        OSError: a file cannot be written.
    """
    (folder / "images").mkdir(parents=True)
    names = _names(plan)
    left_out: dict[int, LeftOut] = {}
    progress.start(len(names))
    for place, (source, name) in enumerate(zip(plan.sources, names, strict=True)):
        file = printable(source if isinstance(source, Path) else source.name)
        try:
            content = _content(plan, source)
        except RridEdgeError as error:
            left_out[place] = LeftOut(file, error.message.removeprefix(f"{file}: "), foreseen=True)
        except Exception as error:
            left_out[place] = LeftOut(file, unforeseen(error), foreseen=False)
        else:
            (folder / "images" / name).write_bytes(content)
        progress.advance(1)
    kept = set(range(len(names))) - left_out.keys()
    damaged = [image for image in left_out.values() if image.foreseen or not kept]
    if damaged and (not leave_out_damaged or not kept):
        raise _damaged(damaged)
    for list_file, listed in _lists(plan, names, kept).items():
        write_json(folder / list_file, listed)
    return Written(len(kept), tuple(left_out.values()))


def _damaged(images: Sequence[LeftOut]) -> DatasetError:
    first, *others = images
    message = f"{first.file}: {first.reason}; copy the dataset again, or leave damaged images out"
    if others:
        named = ", ".join(Path(image.file).name for image in others[:_NAMED])
        message += f" ({len(images)} images in all; the others: {named}{', ...' if len(others) > _NAMED else ''})"
    return DatasetError(message, parameter="leave_out_damaged")


def _names(plan: Plan) -> list[str]:
    """File name of each image: ``<person 8 digits>_<camera 2>_<number 4>`` and the extension of its source.

    Junk is named ``junk_<camera 2>_<number 4>``: programs would take a file ``-0000001_...`` for an option.
    """
    counts: Counter[tuple[int, int]] = Counter()
    names = []
    for source, label in zip(plan.sources, plan.labels, strict=True):
        ending = source.suffix.lower() if isinstance(source, Path) else ".png"
        person = "junk" if label[0] == JUNK_PERSON else f"{label[0]:08d}"
        names.append(f"{person}_{label[1]:02d}_{counts[label]:04d}{ending}")
        counts[label] += 1
    return names


def _content(plan: Plan, source: Source) -> bytes:
    if isinstance(source, Path):
        try:
            content, _ = read_file(source)
            load_rgb(source, content)
        except ImageError as error:
            raise DatasetError(error.message) from error
        return content
    assert plan.pixels is not None
    stream = io.BytesIO()
    Image.fromarray(plan.pixels(source)).save(stream, "PNG")
    return stream.getvalue()


def _lists(plan: Plan, names: list[str], kept: set[int]) -> dict[str, object]:
    """Contents of meta.json, splits.json and test.json by file name, with the images ``kept``."""
    persons: list[list[list[str]]] = [[] for _ in range(max(person for person, _ in plan.labels) + 1)]
    for place in sorted(kept):
        person, camera = plan.labels[place]
        if person != JUNK_PERSON:  # Junk has no index in this list; test.json names it.
            cameras = persons[person]
            cameras += [[] for _ in range(camera + 1 - len(cameras))]
            cameras[camera].append(names[place])
    cameras_seen = len({camera for _, camera in plan.labels})
    meta: dict[str, object] = {"name": plan.name, "num_cameras": cameras_seen, "identities": persons, **plan.facts}
    told = {names[place]: sequence for place, sequence in enumerate(plan.sequences) if sequence and place in kept}
    if told:
        meta["sequences"] = told

    def numbers(places: Iterable[int]) -> list[int]:
        return sorted({plan.labels[place][0] for place in places} - {JUNK_PERSON})

    def rows(places: Iterable[int]) -> list[list[object]]:
        return [[names[place], *plan.labels[place]] for place in places if place in kept]

    splits = [
        {"trainval": list(split.trainval), "query": numbers(split.query), "gallery": numbers(split.gallery)}
        for split in plan.splits
    ]
    tests = [{"query": rows(split.query), "gallery": rows(split.gallery)} for split in plan.splits]
    return {"meta.json": meta, "splits.json": splits, "test.json": tests}
