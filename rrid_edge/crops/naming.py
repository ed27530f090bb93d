"""Person, camera, time, frame and track from the file names of crops."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.times import find_time, read_frame, read_time
from rrid_edge.errors import UsageError, printable

PRESETS = {
    "market1501": r"(?P<person>-0*1|junk|\d{4,})_c(?P<camera>\d+)s\d+_(?P<frame>\d+)_\d+",
    "dukemtmc": r"(?P<person>-0*1|junk|\d{4,})_c(?P<camera>\d+)_f(?P<frame>\d+)",
    "msmt17": r"(?P<person>\d{4,})_\d{3,}_(?P<camera>\d{2})_\d{4}(?:morning|noon|afternoon)_(?P<frame>\d+)_\d+",
    "veri776": r"(?P<person>\d{4,6})_c(?P<camera>\d{3})_(?P<frame>\d{8})_\d+",
    "cuhk03-np": r"(?P<person>-0*1|junk|\d{4,6})_c(?P<camera>\d)_\d{1,4}",
    "mars": r"(?:00(?=-))?(?P<person>-1|\d{4,})C(?P<camera>\d)T(?P<track>\d{4})F(?P<frame>\d{3,})",
    "ilids-vid": r"cam(?P<camera>\d)_person(?P<person>\d{3,})(?:_(?P<frame>\d{5}))?",
    "prid2011": r"cam_(?P<camera>[ab])/person_(?P<person>\d{4})(?:/(?P<frame>\d{4}))?",
    "viper": r"cam_(?P<camera>[ab])/(?P<person>\d{3})_\d{1,3}",
    "cuhk03": r"(?P<person>\d+_\d+)_(?P<camera>\d)_\d+",
    # Longer cameras and numbers only below person 1,000,000: "20261125_1730_0001" is a date and a time.
    "rrid": r"(?=00|-|j|\d{8}_\d\d_\d{4}(?!\d))(?P<person>junk|-\d{7}|\d{8})_(?P<camera>\d{2,4})_\d{4,}",
}
"""Regular expressions for file names without suffix, and with the last folders if they hold ``/``. More text may follow
after ``_`` or ``.``."""
AUTO = ("market1501", "dukemtmc", "msmt17", "veri776", "cuhk03-np", "mars", "ilids-vid", "prid2011", "rrid")
FOLDER_PRESETS = ("person-folders", "camera-folders", "folders")
"""Presets that read the first folder of a path as the person, as the camera, or as one of them by its name."""
CAMERA_PATTERN = r"(?:^|[/_.\- ])c(?:am(?:era)?)?[_\-]?(?P<camera>\d+)"
"""Finds the camera in a path: ``anna_c2_001.jpg``, ``cam3/0007.png``, ``camera-1_12.jpg``."""
LONGEST_NAME = 1000
"""Most characters of a name, such as a camera. A longer one counts as not told."""
PERSON, JUNK, DISTRACTOR, UNKNOWN = "person", "junk", "distractor", "unknown"
"""What a label of a person means; see :func:`label_kind`."""

_GROUPS = ("person", "camera", "time", "frame", "track")
_CAMERA_FOLDER = re.compile(r"(?:c|cam|camera)[_\- ]?\d+|(?:cam|camera)[_\- ].+", re.IGNORECASE | re.ASCII)
_NUMBERED_CAMERA = re.compile(r"(?:c|cam|camera)[_\- ]?(\d+)", re.IGNORECASE | re.ASCII)
_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,4}$", re.ASCII)
_FIRST_WORD = 1_000_000
_ZERO = re.compile(r"0+", re.ASCII)
_JUNK = re.compile(r"-\d+|junk", re.IGNORECASE | re.ASCII)
_DISTRACTOR = re.compile(r"0+|distractor", re.IGNORECASE | re.ASCII)
_NUMBERED_FROM_ZERO = ("msmt17", "viper")
"""Presets of datasets in which person 0 is a person."""
_MOST_DIGITS = 18
"""Numbers of so many digits fit 63 bits."""


@dataclass(frozen=True)
class NameFacts:
    """Facts from one file name; None if the name does not contain them.

    Attributes:
        person: the person's label as written.
        camera: name of the camera. A number has no leading zeros: ``c01`` in Market-1501's names is ``1``.
        time: UTC microseconds since 1970.
        frame: frame number.
        track: name of the track as written.
    """

    person: str | None = None
    camera: str | None = None
    time: int | None = None
    frame: int | None = None
    track: str | None = None


def name_reader(pattern: str = "auto") -> Callable[[str], NameFacts]:
    """Make a function from a relative path to the facts in its name.

    The function never raises. A time or frame that is too large and a name that is too long count as not told.

    Args:
        pattern: ``auto`` (recognises the names of the presets in :data:`AUTO`), the name of a preset, ``none``, or a
            regular expression. It has named groups ``person``, ``camera``, ``time``, ``frame`` or ``track`` and is
            searched in the relative path. A ``time`` that is a plain number, not a time
            (:func:`rrid_edge.crops.times.read_time`), is a frame.

            ``person-folders`` takes the first folder of the path as the person, ``camera-folders`` as the camera.
            ``folders`` takes the first folder that is named like a camera (``c3``, ``cam03``, ``camera-lobby``) as
            the camera, and the first other folder as the person. All three read what the folders do not tell from the
            file name: as ``auto``, or a camera such as ``cam3`` and a date with a clock time anywhere in the name.

    Raises:
        UsageError: ``pattern`` is no regular expression, or has none of those groups.
    """
    if pattern == "none":
        return lambda _path: NameFacts()
    if pattern in FOLDER_PRESETS:
        return lambda path: _folder_facts(path, pattern)
    if pattern == "auto" or pattern in PRESETS:
        expressions = _expressions(AUTO if pattern == "auto" else (pattern,))
        return lambda path: _facts(_first_match(expressions, path))
    presets = ", ".join((*PRESETS, *FOLDER_PRESETS, "none"))
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"pattern {pattern!r} is not a regular expression ({error}); presets: {presets}") from error
    if not pattern.isascii() and re.search("[\ud800-\udfff]", pattern):
        raise UsageError(f"pattern {printable(pattern)}: this is no UTF-8 text; use . in place of such a byte")
    if not expression.groupindex.keys() & set(_GROUPS):
        groups = ", ".join(f"(?P<{name}>...)" for name in _GROUPS)
        raise UsageError(
            f"pattern {pattern!r} has no named group: expected one of {groups}, or a preset: auto, {presets}"
        )
    return lambda path: _facts(expression.search(path))


def label_kind(person: str | None, name: str = "") -> str:
    """What the label of a person means. Only two crops labelled :data:`PERSON` can show the same person.

    Args:
        person: the label, from a file name or as a user gave it. Person -1, every negative number, and ``junk`` are
            :data:`JUNK`: a bad detection, or an unlabelled person. Person 0 with any number of digits, and
            ``distractor``, are :data:`DISTRACTOR`: a person who is no query's, or no person at all. None and the empty
            label are :data:`UNKNOWN`.
        name: the crop's file, as :func:`name_reader` reads it. MSMT17 and VIPeR number people from 0, so person 0 of
            such a file is a person.
    """
    if not person:
        return UNKNOWN
    if _JUNK.fullmatch(person):
        return JUNK
    if not _DISTRACTOR.fullmatch(person):
        return PERSON
    found = _first_match(_FROM_ZERO_EXPRESSIONS, name) if name and _ZERO.fullmatch(person) else None
    return PERSON if found is not None and found["person"] == person else DISTRACTOR


def crop_kind(label: str | None, person: str | None, path: str | None) -> str:
    """What is known of a gallery's crop: :func:`label_kind` of the confirmed label, or else of its file's person."""
    return label_kind(label) if label else label_kind(person, path or "")


def is_camera_folder(folder: str) -> bool:
    """Whether a folder is named like a camera: ``c3``, ``cam03``, ``camera-lobby``."""
    return _CAMERA_FOLDER.fullmatch(folder) is not None


def camera_name(text: str) -> str | None:
    """A camera as rows name it: without leading zeros if it is a number, and None if empty or too long."""
    return _name(text.lstrip("0") or "0") if re.fullmatch(r"\d+", text, re.ASCII) else _name(text)


_Form = tuple[re.Pattern[str], bool]
"""A compiled preset, and whether it reads folders too."""


def natural_order(name: str | None) -> tuple[bool, list[tuple[int, str]]]:
    """A key of names that puts numbers first, camera 2 before camera 10, and the unknown name (None) last."""
    parts = re.split(r"([0-9]{1,18})", name or "")
    return name is None, [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def _expressions(presets: Iterable[str]) -> list[_Form]:
    forms = ((PRESETS[name], "/" in PRESETS[name]) for name in presets)
    return [
        (re.compile((r"(?:[\s\S]*/)?" if folders else "") + form + r"(?:[_.][^/]*)?"), folders)
        for form, folders in forms
    ]


def _first_match(expressions: Sequence[_Form], path: str) -> re.Match[str] | None:
    stem = PurePosixPath(path).stem
    with_folders = path[: path.rfind(stem) + len(stem)]
    for expression, folders in expressions:
        if found := expression.fullmatch(with_folders if folders else stem):
            return found
    return None


def _facts(found: re.Match[str] | None) -> NameFacts:
    if found is None:
        return NameFacts()
    person, camera, time, frame, track = (found.groupdict().get(name) or "" for name in _GROUPS)
    # Patterns are searched in the whole name, so a greedy group takes the suffix too.
    time, frame = (_SUFFIX.sub("", text) for text in (time, frame))
    read = read_time(time)
    number = read_frame(frame)
    if number is None and read is None:
        number = read_frame(time)
    return NameFacts(_name(person), camera_name(camera), read, number, _name(track))


def plain_text(text: str) -> str:
    r"""A text that every store and every terminal takes: bytes that are no UTF-8 become escapes such as ``\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _name(text: str) -> str | None:
    """A name that a gallery stores, or None."""
    shown = plain_text(text)
    return shown if 0 < len(shown) <= LONGEST_NAME else None


def _folder_facts(path: str, preset: str) -> NameFacts:
    *folders, file = PurePosixPath(path).parts or ("",)
    person, camera = _from_folders(folders, preset)
    named = _facts(_first_match(_AUTO_EXPRESSIONS, file))
    if camera is None:
        # A person's folder may be named like a camera ("c3"), so only the path below it is searched.
        below = path if person is None or preset == "folders" else "/".join((*folders[1:], file))
        found = None if named.camera else re.search(CAMERA_PATTERN, below)
        camera = camera_name(found["camera"]) if found else named.camera
    time = named.time if named.frame is not None else find_time(PurePosixPath(file).stem)
    return NameFacts(person or named.person, camera, time, named.frame, named.track)


def _from_folders(folders: Sequence[str], preset: str) -> tuple[str | None, str | None]:
    """Person and camera of a path's folders."""
    first = folders[0] if folders else ""
    if preset == "person-folders":
        return _name(first), None
    if preset == "camera-folders":
        return None, _folder_camera(first)
    cameras = [folder for folder in folders if is_camera_folder(folder)]
    persons = [folder for folder in folders if not is_camera_folder(folder)]
    return _name(persons[0]) if persons else None, _folder_camera(cameras[0]) if cameras else None


def _folder_camera(folder: str) -> str | None:
    found = _NUMBERED_CAMERA.fullmatch(folder)
    return camera_name(found[1] if found else folder)


_AUTO_EXPRESSIONS = _expressions(AUTO)
_FROM_ZERO_EXPRESSIONS = _expressions(_NUMBERED_FROM_ZERO)


def read_labels(names: Sequence[str], pattern: str = "auto") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Person and camera of each name as numbers for ranking metrics: int64 (N,) each.

    A person or camera that is written as a whole number keeps it. Others are numbered from 1,000,000, or from the
    number above the largest written one, sorted by name. An unknown person or camera is -1, like junk; distractors are
    0 (:func:`label_kind`).
    """
    reader = name_reader(pattern)
    facts = [reader(name) for name in names]
    kinds = [label_kind(fact.person, name) for fact, name in zip(facts, names, strict=True)]
    told = [fact.person if kind == PERSON else None for fact, kind in zip(facts, kinds, strict=True)]
    # Person 0 is a number of distractors only: where it is a person, it is numbered like a name.
    numbers = number_names(told, r"0*[1-9]\d*", _FIRST_WORD)
    persons = [0 if kind == DISTRACTOR else number for kind, number in zip(kinds, numbers, strict=True)]
    cameras = number_names([fact.camera for fact in facts], r"\d+", _FIRST_WORD)
    return np.array(persons, np.int64), np.array(cameras, np.int64)


def number_names(names: Sequence[str | None], whole: str, first: int, most_digits: int = _MOST_DIGITS) -> list[int]:
    """A number per name; the same name has the same number, and two names never share one. None is -1.

    Args:
        names: to number.
        whole: regular expression of names that are numbers and keep them.
        first: lowest number of the other names, which are sorted. Numbers start above those that are kept.
        most_digits: names of more digits are no numbers.
    """

    def kept(name: str) -> bool:
        return re.fullmatch(whole, name, re.ASCII) is not None and len(name.lstrip("-0")) <= most_digits

    told = {name for name in names if name is not None}
    numbers = {name: int(name) for name in told if kept(name)}
    start = max([first, *(number + 1 for number in numbers.values())])
    numbers |= {name: start + index for index, name in enumerate(sorted(told - numbers.keys()))}
    return [-1 if name is None else numbers[name] for name in names]
