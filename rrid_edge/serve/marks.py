"""Measured thresholds of a served model: marks of scores, and the lowest score that a request asks for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.gallery.searching import AskedScore
from rrid_edge.matching import LEAST_LIKENESS
from rrid_edge.model.names import thresholds_candidates
from rrid_edge.model.spec import ModelSpec
from rrid_edge.ranking.search_thresholds import SearchThreshold
from rrid_edge.ranking.threshold_file import FoundThresholds, find_thresholds

_LIKENESS_RATE: Final = 1e-2
_COARSE_NS: Final = 2_000_000_000
"""Two changes of a folder within a file system's tick have one time; the coarsest ticks are two seconds."""
Kind = Literal["score", "fpr", "fpir"]


@dataclass(frozen=True)
class Mark:
    """A score with its measured false-positive rate per pair.

    Attributes:
        rate: share of pairs of different people that reach the score.
        score: the cosine.
    """

    rate: float
    score: float


class ModelMarks:
    """The thresholds beside a model file. Files that change are read again. Any thread may call its methods.

    Args:
        model: the model file.
        spec: of the model.
    """

    def __init__(self, model: Path, spec: ModelSpec) -> None:
        self._model, self._spec = model, spec
        self._turn = threading.Lock()
        self._state: object = None
        self._files: list[Path] = []
        self._listed_ns = 0
        self._found: FoundThresholds | None = None
        self._failure: ModelFileError | None = None

    def found(self) -> FoundThresholds | None:
        """The thresholds in use; None if none were measured.

        Raises:
            ModelFileError: a file is damaged or has another format.
        """
        with self._turn:
            files = self._candidates()
            state = [(path, _state(path)) for path in files]
            if state != self._state:
                self._found, self._failure = None, None
                try:
                    self._found = find_thresholds(files, self._spec.fingerprint)
                except ModelFileError as error:
                    self._failure = error
                self._state = state
            if self._failure is not None:
                raise self._failure
            return self._found

    def _candidates(self) -> list[Path]:
        """Files that may hold thresholds. They are listed again if the folder changed, or may change unseen."""
        try:
            changed_ns = self._model.parent.stat().st_mtime_ns
        except OSError:
            changed_ns = 0
        if changed_ns != self._listed_ns or time.time_ns() - changed_ns < _COARSE_NS:
            self._files, self._listed_ns = thresholds_candidates(self._model), changed_ns
        return self._files

    def marks(self) -> list[Mark]:
        """Measured scores, the highest rate first; empty if none were measured.

        Raises:
            ModelFileError: a file is damaged or has another format.
        """
        found = self.found()
        points = () if found is None else found.record.pairs.points
        marks = [Mark(point.fpr, point.score) for point in points if point.score is not None]
        return sorted(marks, key=lambda mark: -mark.rate)

    def threshold(self, asked: AskedScore) -> float | SearchThreshold | None:
        """The lowest cosine of a match that a request asks for; None if it asks for none.

        Raises:
            UsageError: several are given, or the rate was not measured.
            ModelFileError: a file is damaged or has another format.
        """
        return asked.resolve(lambda: self._model, self._spec)

    def least_likeness(self) -> float:
        """The lowest cosine of two images of one person that is not doubted: measured, or the default."""
        try:
            found = self.found()
            return LEAST_LIKENESS if found is None else found.pair_score(_LIKENESS_RATE)
        except (ModelFileError, UsageError):  # it decides a warning only
            return LEAST_LIKENESS


def strictest(marks: list[Mark], score: float) -> Mark | None:
    """The mark of the lowest rate that a score reaches, or None."""
    return min((mark for mark in marks if score >= mark.score), key=lambda mark: mark.rate, default=None)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
