"""Open-set thresholds: from which cosine on two crops may be taken for one person.

Measured on labelled crops, pair by pair: *genuine* pairs show one person in two cameras, *impostor* pairs two people (a
distractor is somebody else). The threshold of a false-positive rate (FPR) is the lowest score that at most this share of
the impostor pairs reaches; the true-positive rate (TPR) is the share of genuine pairs that reach it. A search among N
crops makes N pairs: at FPR 1e-4, a gallery of 10,000 strangers answers with one of them on average.

Thresholds are kept beside the model and bound to its fingerprint; :mod:`rrid_edge.model.names` makes their file names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import write_json
from rrid_edge.ranking.labels import JUNK_PERSON, LabelledCrops

FALSE_POSITIVE_RATES = (1e-4, 1e-3, 1e-2)
FORMAT = 1
_QUERY_BLOCK = 256
_KEPT_FACTOR = 4


@dataclass(frozen=True)
class Threshold:
    """One operating point.

    Attributes:
        fpr: the false-positive rate asked for.
        score: lowest cosine of a match; None where there are too few impostor pairs to tell (fewer than 1 / fpr).
        tpr: share of the genuine pairs that reach it; None like ``score``.
    """

    fpr: float
    score: float | None
    tpr: float | None


@dataclass(frozen=True)
class Thresholds:
    """Operating points of one network on one dataset.

    Attributes:
        fingerprint: of the network.
        dataset: its name.
        genuine_pairs: pairs of one person in two cameras.
        impostor_pairs: pairs of two people.
        points: one for each rate, in ascending order of the rates.
    """

    fingerprint: str
    dataset: str
    genuine_pairs: int
    impostor_pairs: int
    points: tuple[Threshold, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable content."""
        return {"format": FORMAT, **asdict(self)}


def measure_thresholds(
    query: LabelledCrops,
    gallery: LabelledCrops,
    *,
    fingerprint: str = "",
    dataset: str = "",
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> Thresholds:
    """Measure operating points on labelled descriptors.

    Pairs of one person in one camera are left out, like junk (-1). Memory is bounded by a block of queries and by the
    largest rate's share of the pairs.

    Args:
        query: the queries.
        gallery: the gallery.
        fingerprint: of the network that made the descriptors.
        dataset: its name.
        rates: false-positive rates, in (0, 1).

    Raises:
        UsageError: rates out of range, or no genuine or no impostor pair.
    """
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise UsageError(f"false-positive rates {list(rates)} do not work: expected numbers between 0 and 1")
    kept = gallery.labels.persons != JUNK_PERSON
    persons, cameras = gallery.labels.persons[kept], gallery.labels.cameras[kept]
    asked = query.labels.persons[query.labels.persons != JUNK_PERSON]
    impostors = int(sum(np.count_nonzero(persons != person) for person in asked))
    pairs = _Pairs(most=math.floor(max(rates) * impostors) + 1)
    columns = np.ascontiguousarray(gallery.descriptors[kept].T, dtype=np.float32)
    for start in range(0, len(query), _QUERY_BLOCK):
        rows = slice(start, start + _QUERY_BLOCK)
        labels = query.labels[rows]
        scores = query.descriptors[rows].astype(np.float32, copy=False) @ columns
        known = (labels.persons != JUNK_PERSON)[:, None]
        same = labels.persons[:, None] == persons
        pairs.add(scores[known & same & (labels.cameras[:, None] != cameras)], scores[known & ~same])
    genuine, highest = pairs.finished()
    if not len(genuine) or not impostors:
        missing = "one person in two cameras" if not len(genuine) else "two people"
        raise UsageError(f"thresholds need pairs of {missing}, and there is none; check persons and cameras")
    points = tuple(_point(rate, genuine, highest, impostors) for rate in sorted(rates))
    return Thresholds(fingerprint, dataset, len(genuine), impostors, points)


class _Pairs:
    """Scores of all genuine pairs, and the highest ones of the impostor pairs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._genuine: list[NDArray[np.float32]] = []
        self._highest: list[NDArray[np.float32]] = []
        self._held = 0

    def add(self, genuine: NDArray[np.float32], impostor: NDArray[np.float32]) -> None:
        self._genuine.append(genuine)
        self._highest.append(_largest(impostor, self._most))
        self._held += len(self._highest[-1])
        if self._held > _KEPT_FACTOR * self._most:
            self._highest = [_largest(np.concatenate(self._highest), self._most)]
            self._held = len(self._highest[0])

    def finished(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Genuine scores; the highest impostor scores, highest first."""
        highest = _largest(np.concatenate(self._highest), self._most) if self._highest else np.empty(0, np.float32)
        genuine = np.concatenate(self._genuine) if self._genuine else np.empty(0, np.float32)
        return genuine, np.sort(highest)[::-1]


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return values if len(values) <= count else np.partition(values, len(values) - count)[-count:]


def _point(rate: float, genuine: NDArray[np.float32], highest: NDArray[np.float32], impostors: int) -> Threshold:
    allowed = math.floor(rate * impostors + 1e-9)
    if not allowed:
        return Threshold(rate, None, None)
    # Just above the first impostor that must not pass: all that are allowed, and none tied with it, reach the threshold.
    score = float(np.nextafter(highest[allowed], np.float32(2))) if allowed < len(highest) else -1.0
    return Threshold(rate, score, float(np.count_nonzero(genuine >= np.float32(score)) / len(genuine)))


def save_thresholds(path: Path, thresholds: Thresholds) -> None:
    """Write ``thresholds`` as JSON, atomically.

    Args:
        path: :func:`rrid_edge.model.names.thresholds_path` of the model.
        thresholds: what was measured.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_json(path, thresholds.to_dict())


def find_thresholds(candidates: Iterable[Path], fingerprint: str) -> Thresholds | None:
    """The first thresholds of a network among several files.

    Args:
        candidates: :func:`rrid_edge.model.names.thresholds_candidates` of the model; those that do not exist are skipped.
        fingerprint: of the network.

    Raises:
        ModelFileError: a damaged file of thresholds.
    """
    for path in candidates:
        if path.is_file():
            thresholds = _read(path)
            if thresholds.fingerprint == fingerprint:
                return thresholds
    return None


def threshold_for(candidates: Sequence[Path], fingerprint: str, fpr: float) -> float:
    """The lowest score of a match at a false-positive rate.

    Args:
        candidates: as for :func:`find_thresholds`; at least one.
        fingerprint: of the network.
        fpr: the false-positive rate, one of those that were measured.

    Raises:
        UsageError: no thresholds were measured for this network, or not at this rate.
        ModelFileError: a damaged file of thresholds.
    """
    thresholds = find_thresholds(candidates, fingerprint)
    if thresholds is None:
        raise UsageError(
            f"{printable(candidates[0])}: no thresholds of this network were found here; measure them with: rrid-edge "
            "evaluate MODEL --dataset DATASET"
        )
    for point in thresholds.points:
        if math.isclose(point.fpr, fpr, rel_tol=1e-6):
            if point.score is None:
                raise UsageError(
                    f"a false-positive rate of {fpr:g} was not measured: {thresholds.dataset} has "
                    f"{thresholds.impostor_pairs:,} impostor pairs, and a rate of {fpr:g} needs {math.ceil(1 / fpr):,}; "
                    "take a higher rate or evaluate on more data",
                    parameter="fpr",
                )
            return point.score
    known = ", ".join(f"{point.fpr:g}" for point in thresholds.points)
    raise UsageError(
        f"a false-positive rate of {fpr:g} was not measured: expected one of {known}; add it with: rrid-edge evaluate "
        f"--fpr {fpr:g}",
        parameter="fpr",
    )


def _read(path: Path) -> Thresholds:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ModelFileError(
                f"{printable(path)}: thresholds of format {content['format']}, expected {FORMAT}: measure them again with "
                "rrid-edge evaluate"
            )
        points = tuple(
            Threshold(
                float(point["fpr"]),
                None if point["score"] is None else float(point["score"]),
                None if point["tpr"] is None else float(point["tpr"]),
            )
            for point in content["points"]
        )
        return Thresholds(
            str(content["fingerprint"]),
            str(content["dataset"]),
            int(content["genuine_pairs"]),
            int(content["impostor_pairs"]),
            points,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{printable(path)}: damaged thresholds ({type(error).__name__}); measure them again with rrid-edge evaluate"
        ) from error
