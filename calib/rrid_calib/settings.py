"""How a calibration is run."""

from __future__ import annotations

from dataclasses import dataclass

from rrid_calib.ranges import METHODS
from rrid_edge.errors import UsageError

LEAST_CROPS = 8
"""Fewest crops to take ranges from, and fewest crops to measure on."""
ROUNDINGS = ("compensated", "nearest")


@dataclass(frozen=True)
class CalibrationSettings:
    """How to calibrate.

    Attributes:
        count: number of crops to take ranges from.
        measured: number of further crops to measure accuracy on: all crops of some people, from whom no ranges are
            taken if the others have ``count`` crops. At most half of all crops are measured on.
        seed: seed of the choice of crops.
        method: how ranges are chosen: ``minmax``, ``percentile``, ``entropy``, or ``auto`` for the method with the
            highest mean cosine.
        rounding: how weights are rounded: ``compensated`` (errors cancel on the calibration crops, see
            :mod:`rrid_calib.rounding`) or the quicker ``nearest``.
        float_layers: number of layers to leave in float32, those with the largest error first. None leaves as few as
            reach the targets, within :data:`rrid_calib.forms.LARGEST_SHARE` of the file.
        target: lowest cosine of a measured crop that calibration aims at.
        follow_links: take links to files outside the folder of crops too.

    Raises:
        UsageError: a value is out of range.
    """

    count: int = 300
    measured: int = 200
    seed: int = 0
    method: str = "auto"
    rounding: str = "compensated"
    float_layers: int | None = None
    target: float = 0.985
    follow_links: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise UsageError(
                f"calibration method {self.method!r} is unknown: expected auto, {', '.join(METHODS)}",
                parameter="method",
            )
        if self.rounding not in ROUNDINGS:
            raise UsageError(
                f"rounding {self.rounding!r} is unknown: expected one of {', '.join(ROUNDINGS)}", parameter="rounding"
            )
        if min(self.count, self.measured) < LEAST_CROPS:
            raise UsageError(
                f"{self.count} crops to calibrate with and {self.measured} to measure on are too few: expected at "
                f"least {LEAST_CROPS} each, better 300 and 200"
            )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative: expected 0 or larger", parameter="seed")
        if not 0 < self.target < 1:
            raise UsageError(f"target cosine {self.target} is out of range: expected a value between 0 and 1")
        if self.float_layers is not None and self.float_layers < 0:
            raise UsageError(
                f"number of float32 layers {self.float_layers} is negative: expected 0 or more",
                parameter="float_layers",
            )
