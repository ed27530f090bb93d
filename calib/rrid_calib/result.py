"""What calibration chose and wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rrid_calib.forms import MethodResult
from rrid_calib.layers import FloatNode, in_words
from rrid_calib.ranges import Range
from rrid_edge.errors import printable
from rrid_edge.parity.check import ParityReport

_SHOWN: Final = 5
"""Layers that are named at most."""


@dataclass(frozen=True)
class Calibration:
    """What calibration chose, as it is listed in JSON.

    Attributes:
        method: how the ranges were chosen.
        compared: accuracy of each method in each form that was tried.
        form: name of the form; see :class:`rrid_calib.graph.Form`.
        cpu_form: name of the form of the file for CPUs.
        layers: number of layers that can be int8.
        floating: names of layers that stay in float32.
        cpu_floating: names of layers that stay in float32 in the file for CPUs.
        layer_costs: layer name -> 1 - mean cosine with only this layer in int8; empty if it was not measured.
        ranges: range of each activation, for both files.
        crops: the crops that ranges were taken from: name, person, camera, sha256.
        check: the crops that the result was checked on, and what their labels allow to measure; see
            :class:`~rrid_edge.ranking.sampling.PeopleSample`.
        left_out: the crops that could not be read: name, reason.
        unquantised: the layers that int8 cannot store, which stay in float32.
    """

    method: str
    compared: tuple[MethodResult, ...]
    form: str
    cpu_form: str
    layers: int
    floating: tuple[str, ...]
    cpu_floating: tuple[str, ...]
    layer_costs: dict[str, float]
    ranges: dict[str, Range]
    crops: tuple[dict[str, Any], ...]
    check: dict[str, Any]
    left_out: tuple[dict[str, str], ...] = ()
    unquantised: tuple[FloatNode, ...] = ()


@dataclass(frozen=True)
class Int8File:
    """One int8 file that :func:`rrid_calib.calibrate.calibrate` wrote.

    Attributes:
        model: the int8 ONNX file.
        report: its parity report as JSON.
        parity: the parity report as data.
        form: name of its form.
        floating: names of its layers that stay in float32.
        size_share: its bytes per byte of the float32 file.
    """

    model: Path
    report: Path
    parity: ParityReport
    form: str
    floating: tuple[str, ...]
    size_share: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {
            "model": str(self.model),
            "report": str(self.report),
            "form": self.form,
            "floating": list(self.floating),
            "size_share": self.size_share,
            "parity": self.parity.to_dict(),
        }

    def describe(self, use: str, layers: int) -> str:
        """The file, and how near it comes to the reference: two lines."""
        agreement = self.parity.agreement
        return (
            f"{printable(self.model)}: {use}; {layers - len(self.floating)} of {layers} layers in int8, form "
            f"{self.form!r}, {self.size_share:.0%} of the float32 file\n"
            f"parity with {self.parity.reference} over {agreement.images} training crops kept aside: minimum cosine "
            f"{agreement.min_cosine:.5f}, top-1 agreement {agreement.top1_agreement:.1%} ({printable(self.report)})"
        )


@dataclass(frozen=True)
class CalibrationResult:
    """What :func:`rrid_calib.calibrate.calibrate` wrote.

    Attributes:
        portable: the file that every runtime reads, TensorRT too.
        cpu: the file for CPUs.
        listing: the calibration as JSON.
        calibration: the calibration as data.
    """

    portable: Int8File
    cpu: Int8File
    listing: Path
    calibration: Calibration

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        chosen = self.calibration
        return self.portable.to_dict() | {
            "calibration": str(self.listing),
            "method": chosen.method,
            "compared": [asdict(item) for item in chosen.compared],
            "layers": chosen.layers,
            "crops": len(chosen.crops),
            "check": chosen.check,
            "left_out": list(chosen.left_out),
            "unquantised": [asdict(node) for node in chosen.unquantised],
            "cpu": self.cpu.to_dict(),
        }

    def describe(self) -> str:
        """What was chosen, how near both files come to the reference, and where the details are: five or six lines."""
        layers, others = self.calibration.layers, self.calibration.unquantised
        shown = ", ".join(printable(str(node)) for node in others[:_SHOWN]) + (", ..." if others[_SHOWN:] else "")
        verb = "stays" if len(others) == 1 else "stay"
        kept = f"{in_words(len(others))} that int8 cannot store {verb} in float32: {shown}\n"
        unquantised = kept if others else ""
        return (
            f"{self.cpu.describe('for CPUs', layers)}\n"
            f"{self.portable.describe('for TensorRT and every other runtime', layers)}\n"
            f"{unquantised}"
            f"ranges by {self.calibration.method}; crops, ranges and costs: {printable(self.listing)}"
        )
