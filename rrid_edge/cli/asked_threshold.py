"""The threshold of ``rrid-edge match``: a score, or a false-positive rate per pair or per search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import say
from rrid_edge.errors import RridEdgeError, UsageError

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.matching import MatchResult
    from rrid_edge.ranking.search_thresholds import SearchThreshold
    from rrid_edge.ranking.threshold_file import FoundThresholds, Thresholds


@dataclass(frozen=True)
class AskedThreshold:
    """How the threshold is set.

    Attributes:
        threshold: the lowest score of a match, or None.
        fpr: false-positive rate per pair, or None.
        fpir: false-positive rate per search, or None.
        thresholds_of: dataset whose thresholds the rates take; None takes those in use.
    """

    threshold: float | None
    fpr: float | None
    fpir: float | None
    thresholds_of: str | None

    def refuse_conflicts(self, expand: int) -> None:
        """Refuse rates that are none, two ways to set the threshold, and measured ones with query expansion.

        Raises:
            UsageError: a rate is not between 0 and 1, or two options exclude each other.
        """
        for option, rate in (("fpr", self.fpr), ("fpir", self.fpir)):
            if rate is not None and not 0 < rate < 1:
                reason = f"a rate of {rate:g} does not work: expected more than 0 and less than 1, for example 0.01"
                raise UsageError(reason, parameter=option)
        given = {"--threshold": self.threshold, "--fpr": self.fpr, "--fpir": self.fpir}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise UsageError(f"{' and '.join(reversed(names))} exclude each other: give one way to set the threshold")
        if names and names[0] != "--threshold" and expand:
            raise UsageError(
                f"{names[0]} and --expand exclude each other: query expansion changes the scores, and the thresholds "
                "were measured without it; leave one out, or give --threshold"
            )

    def resolve(self, model: Path, engine: Engine, *, has_fused: bool) -> float | SearchThreshold | None:
        """The threshold. A rate per pair is also said on stderr with its score.

        Args:
            model: the model file.
            engine: its engine.
            has_fused: a query has several images.

        Raises:
            UsageError: the rate was not measured for this model, or not for queries of several images.
            ModelFileError: a file of thresholds is damaged or has another format.
        """
        if self.fpr is None and self.fpir is None:
            return self.threshold
        if has_fused:
            name = "--fpr" if self.fpir is None else "--fpir"
            raise UsageError(
                f"{name} and a query of several images: the thresholds were measured on queries of one image; make "
                "each image a query (--fuse none), or give --threshold"
            )
        found = self._found(model, engine)
        if self.fpir is not None:
            return found.search_threshold(self.fpir)
        assert self.fpr is not None
        score = found.pair_score(self.fpr)
        say(f"threshold {_per_pair(score, self.fpr, found)}")
        return score

    def say_per_search(self, results: Sequence[MatchResult], model: Path, engine: Engine) -> None:
        """Say on stderr which thresholds a rate per search gave, one line per number of searched crops."""
        if self.fpir is not None:
            for line in self.described(results, model, engine):
                say(f"threshold {line}")

    def described(self, results: Sequence[MatchResult], model: Path, engine: Engine) -> list[str]:
        """The score of each threshold and where it comes from, one line each; no line without a threshold."""
        if self.threshold is not None:
            return [f"{self.threshold:.5g}, as given"]
        if self.fpr is not None:
            found = self._found(model, engine)
            return [_per_pair(found.pair_score(self.fpr), self.fpr, found)]
        return [] if self.fpir is None else self._per_search(results, self._found(model, engine).record)

    def least_likeness(self, model: Path, engine: Engine) -> float:
        """The lowest cosine of two images of one person that is not doubted: measured for this model, or the default.

        One pair of different people in a hundred reaches the measured one.
        """
        from rrid_edge.matching import LEAST_LIKENESS

        try:
            return self._found(model, engine).pair_score(1e-2)
        except RridEdgeError:  # nothing measured, or a damaged file: it decides a warning only
            return LEAST_LIKENESS

    def _per_search(self, results: Sequence[MatchResult], record: Thresholds) -> list[str]:
        lines: list[str] = []
        least, largest = record.searches.sizes[0], record.searches.sizes[-1]
        for searched, score in dict.fromkeys((result.searched, result.threshold) for result in results):
            if not searched or score is None:
                continue
            beyond = ""
            if searched > largest:
                beyond = f"; extrapolated, measured in galleries of up to {largest:,} crops"
            elif searched < least:
                beyond = f"; that of {least:,} crops, the smallest gallery measured, so the rate is lower"
            crops = f"{searched:,} crop{'' if searched == 1 else 's'}"
            rate = f"a false-positive rate of {self.fpir:g} per search among {crops}"
            lines.append(f"{score:.4f} for {rate} ({record.describe()}{beyond})")
        return lines

    def _found(self, model: Path, engine: Engine) -> FoundThresholds:
        from rrid_edge.model.names import thresholds_candidates
        from rrid_edge.ranking.threshold_file import require_thresholds

        return require_thresholds(thresholds_candidates(model), engine.spec.fingerprint, self.thresholds_of)


def _per_pair(score: float, fpr: float, found: FoundThresholds) -> str:
    return f"{score:.4f} for a false-positive rate of {fpr:g} per pair ({found.record.describe()})"
