"""Person, camera and time from the file names of crops."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError

PRESETS = {
    "market1501": r"(?P<person>-1|\d{4})_c(?P<camera>\d+)s\d+_(?P<time>\d+)_\d+",
    "dukemtmc": r"(?P<person>-1|\d{4})_c(?P<camera>\d+)_f(?P<time>\d+)",
    "cuhk03": r"(?P<person>\d+_\d+)_(?P<camera>\d)_\d+",
    "rrid": r"(?P<person>-\d{7}|\d{8})_(?P<camera>\d{2})_\d{4}",
}
"""Regular expressions for file names without suffix. More text may follow after ``_`` or ``.``."""
AUTO = ("market1501", "dukemtmc", "rrid")
_GROUPS = frozenset({"person", "camera", "time"})


@dataclass(frozen=True)
class NameFacts:
    """Facts from one file name; None if the name does not contain them.

    Attributes:
        person: the person's label as written.
        camera: camera number.
        time: time or frame number.
    """

    person: str | None = None
    camera: int | None = None
    time: int | None = None


def name_reader(pattern: str = "auto") -> Callable[[str], NameFacts]:
    """Make a function from a relative path to the facts in its name.

    Args:
        pattern: ``auto`` (recognises names of Market-1501, DukeMTMC-reID and RRID), the name of a preset, ``none``, or
            a regular expression. It has named groups ``person``, ``camera`` or ``time`` and is searched in the relative
            path.

    Raises:
        UsageError: ``pattern`` is no regular expression, or has none of those groups.
    """
    if pattern == "none":
        return lambda _path: NameFacts()
    if pattern == "auto" or pattern in PRESETS:
        names = AUTO if pattern == "auto" else (pattern,)
        expressions = [re.compile(PRESETS[name] + r"(?:[_.].*)?") for name in names]
        return lambda path: _facts(_first_match(expressions, PurePosixPath(path).stem))
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"pattern {pattern!r} is not a regular expression ({error}); presets: {', '.join(PRESETS)}, none"
        ) from error
    if not _GROUPS & expression.groupindex.keys():
        raise UsageError(
            f"pattern {pattern!r} has no named group: expected (?P<person>...), (?P<camera>...) or (?P<time>...), "
            f"or a preset: auto, {', '.join(PRESETS)}, none"
        )
    return lambda path: _facts(expression.search(path))


def _first_match(expressions: Sequence[re.Pattern[str]], stem: str) -> re.Match[str] | None:
    return next((found for expression in expressions if (found := expression.fullmatch(stem))), None)


def _facts(found: re.Match[str] | None) -> NameFacts:
    if found is None:
        return NameFacts()
    groups = found.groupdict()
    return NameFacts(groups.get("person"), _number(groups.get("camera")), _number(groups.get("time")))


def _number(text: str | None) -> int | None:
    digits = re.sub(r"\D", "", text or "")
    return int(digits) if digits else None


def read_labels(names: Sequence[str], pattern: str = "auto") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Person and camera of each name as numbers for ranking metrics: int64 (N,) each.

    A person that is written as an integer keeps it; -1 is junk. Other persons are numbered from 1,000,000, sorted by
    name. An unknown person or camera is -1.
    """
    reader = name_reader(pattern)
    facts = [reader(name) for name in names]
    words = sorted({fact.person for fact in facts if fact.person is not None and not _is_whole(fact.person)})
    numbers = {word: 1_000_000 + index for index, word in enumerate(words)}
    persons = [
        -1 if fact.person is None else int(fact.person) if _is_whole(fact.person) else numbers[fact.person]
        for fact in facts
    ]
    cameras = [-1 if fact.camera is None else fact.camera for fact in facts]
    return np.array(persons, np.int64), np.array(cameras, np.int64)


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None
