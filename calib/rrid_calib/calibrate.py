"""Calibrate a float32 model on training crops, write it in int8, and prove the int8 model on other training crops."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from rrid_calib.crops import CalibrationImages, choose_check, find_crops, read_crops
from rrid_calib.forms import Choice, MethodResult, Say, Trial, choose_form
from rrid_calib.graph import int8_layers, read_graph
from rrid_calib.settings import LEAST_CROPS, CalibrationSettings
from rrid_edge.engines.base import Engine
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, ModelFileError, UsageError, printable
from rrid_edge.files import atomic_output, write_json
from rrid_edge.model.names import calibration_path, onnx_beside, parity_report_path
from rrid_edge.model.operator_rules import check_operators
from rrid_edge.model.spec import ModelSpec
from rrid_edge.model.weights import contract_file, read_checked_spec
from rrid_edge.parity.check import ParityReport, check_parity
from rrid_edge.parity.goldens import Goldens
from rrid_edge.ranking.sampling import PeopleSample


@dataclass(frozen=True)
class Calibration:
    """What calibration chose, as it is listed in JSON.

    Attributes:
        method: how the ranges were chosen.
        compared: accuracy of each method in each form that was tried.
        form: name of the form; see :class:`rrid_calib.forms.Form`.
        layers: number of layers that can be int8.
        floating: names of layers that stay in float32.
        layer_costs: layer name -> 1 - mean cosine with only this layer in int8; empty if it was not measured.
        scales: scale (value of one int8 step) of each activation.
        crops: the crops that ranges were taken from: name, person, camera, sha256.
        check: the crops that the result was checked on, and what their labels allow to measure; see
            :class:`~rrid_edge.ranking.sampling.PeopleSample`.
        left_out: the crops that could not be read: name, reason.
    """

    method: str
    compared: tuple[MethodResult, ...]
    form: str
    layers: int
    floating: tuple[str, ...]
    layer_costs: dict[str, float]
    scales: dict[str, float]
    crops: tuple[dict[str, Any], ...]
    check: dict[str, Any]
    left_out: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class CalibrationResult:
    """What :func:`calibrate` wrote.

    Attributes:
        model: the int8 ONNX file.
        listing: the calibration as JSON.
        report: the parity report as JSON.
        calibration: the calibration as data.
        parity: the parity report as data.
        size_share: bytes of the int8 file per byte of the float32 file.
    """

    model: Path
    listing: Path
    report: Path
    calibration: Calibration
    parity: ParityReport
    size_share: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        chosen = self.calibration
        return {
            "model": str(self.model),
            "calibration": str(self.listing),
            "report": str(self.report),
            "method": chosen.method,
            "form": chosen.form,
            "compared": [asdict(item) for item in chosen.compared],
            "layers": chosen.layers,
            "floating": list(chosen.floating),
            "crops": len(chosen.crops),
            "check": chosen.check,
            "left_out": list(chosen.left_out),
            "size_share": self.size_share,
            "parity": self.parity.to_dict(),
        }

    def describe(self) -> str:
        """What was chosen, how near it comes to the reference, and the files: three lines."""
        chosen, agreement = self.calibration, self.parity.agreement
        return (
            f"{printable(self.model)}: {chosen.layers - len(chosen.floating)} of {chosen.layers} layers in int8, form "
            f"{chosen.form!r}, ranges by {chosen.method}, {self.size_share:.0%} of the float32 file\n"
            f"parity with {self.parity.reference} over {agreement.images} training crops kept aside: minimum cosine "
            f"{agreement.min_cosine:.5f}, top-1 agreement {agreement.top1_agreement:.1%} ({printable(self.report)})\n"
            f"crops, ranges and costs: {printable(self.listing)}"
        )


def calibrate(
    source: Path,
    folder: Path,
    settings: CalibrationSettings | None = None,
    *,
    output: Path | None = None,
    reference: Engine | None = None,
    say: Say = lambda _line: None,
) -> CalibrationResult:
    """Write the int8 form of a float32 model and prove it.

    Args:
        source: float32 ONNX file of this package.
        folder: a dataset, of which the training split is used, or a folder of training crops.
        settings: how to calibrate; the defaults if None.
        output: the int8 file; ``<stem>.int8.onnx`` in the folder of ``source`` if None.
        reference: engine to compare the int8 model with; ``source`` on ONNX Runtime if None.
        say: called with one line per step.

    Returns:
        The model, and beside it the calibration listing and the parity report (named by :mod:`rrid_edge.model.names`).

    Raises:
        UsageError: ``source`` is not a float32 model, or the folder has too few readable crops, or test crops.
        CheckFailedError: the int8 model fails parity with the reference, or a supported TensorRT version cannot read
            it; nothing is written.
        ModelFileError: ``source`` is damaged.
    """
    settings = settings or CalibrationSettings()
    spec = _float32_spec(source)
    model = _graph_with_layers(source)
    ranged, measured = _read(folder, settings, spec, say)
    choice = choose_form(Trial(model, measured.pixels, spec.blocks), ranged.pixels, settings, say)
    result = choice.form.build(model, choice.float_layers)
    path = output or onnx_beside(source, "int8")
    with atomic_output(path) as partial:
        partial.write_bytes(contract_file(result.SerializeToString(), spec.with_precision("int8")))
        onnx.checker.check_model(str(partial), full_check=True)
        check_operators(partial)
        report = _prove(partial, measured, reference or OnnxRuntimeEngine(source))
    for line in report.undecided:
        say(f"parity is not decided: {line}")
    calibration = _calibration(choice, ranged, measured)
    listing, report_path = calibration_path(path), parity_report_path(path)
    write_json(listing, {"fingerprint": spec.fingerprint, "settings": asdict(settings), **asdict(calibration)})
    write_json(report_path, report.to_dict() | {"sample": calibration.check})
    return CalibrationResult(
        path, listing, report_path, calibration, report, path.stat().st_size / source.stat().st_size
    )


def _float32_spec(source: Path) -> ModelSpec:
    spec = read_checked_spec(source)
    if spec.precision != "fp32":
        raise UsageError(
            f"{printable(source)}: precision {spec.precision}, expected fp32; calibrate the float32 file, "
            f"{onnx_beside(source, 'fp32').name}"
        )
    return spec


def _graph_with_layers(source: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """The graph of a model that has layers to store as int8.

    Raises:
        ModelFileError: it has none, or the file is damaged.
    """
    model = read_graph(source)
    if not int8_layers(model):
        raise ModelFileError(
            f"{printable(source)}: no convolution with constant weights: expected a network of layers that int8 can "
            "store; export it again with: rrid-edge export CHECKPOINT"
        )
    return model


def _read(
    folder: Path, settings: CalibrationSettings, spec: ModelSpec, say: Say
) -> tuple[CalibrationImages, CalibrationImages]:
    """Choose and decode the crops, and say which ones were left out.

    Returns:
        The crops to take ranges from, with everything that was left out, and the crops to measure on.

    Raises:
        UsageError: too few can be read.
    """
    crops = find_crops(folder, follow_links=settings.follow_links)
    measured = min(settings.measured, max(len(crops) // 2, 1))
    check, others = choose_check(crops, measured, settings.seed)
    kept = read_crops(check, spec.height_px, spec.width_px)
    # Crops of the others take the places of those that cannot be read.
    wanted = settings.count + measured
    taken = read_crops(others, spec.height_px, spec.width_px, count=wanted - len(kept.crops))
    images = taken.followed_by(kept)
    for name, reason in images.left_out:
        say(f"left out {printable(name)}: {reason}")
    total = len(images.crops)
    if total < 2 * LEAST_CROPS:
        unread = f", {len(images.left_out)} others cannot be read" if images.left_out else ""
        raise UsageError(
            f"{printable(folder)}: {total} training crops are too few{unread}; expected at least {2 * LEAST_CROPS}, "
            f"better {settings.count + settings.measured}"
        )
    if images.left_out:
        say(f"left out: {len(images.left_out)} crops that cannot be read")
    ranged, measured_on = images.split(
        min(max(len(kept.crops), total - settings.count, LEAST_CROPS), total - LEAST_CROPS)
    )
    say(f"accuracy is measured on {PeopleSample.of(measured_on.labels).describe()}")
    return replace(ranged, left_out=images.left_out), measured_on


def _calibration(choice: Choice, ranged: CalibrationImages, measured: CalibrationImages) -> Calibration:
    return Calibration(
        method=choice.method,
        compared=choice.compared,
        form=choice.form.name,
        layers=choice.layers,
        floating=choice.float_layers,
        layer_costs=choice.layer_costs,
        scales=choice.form.scales,
        crops=tuple(
            {"name": crop.name, "person": crop.person, "camera": crop.camera, "sha256": digest}
            for crop, digest in zip(ranged.crops, ranged.sha256, strict=True)
        ),
        check=PeopleSample.of(measured.labels).to_dict(),
        left_out=tuple({"name": name, "reason": reason} for name, reason in ranged.left_out),
    )


def _prove(path: Path, measured: CalibrationImages, reference: Engine) -> ParityReport:
    """Compare the int8 file with the reference on the measured crops, and close the reference."""
    names = tuple(crop.name for crop in measured.crops)
    with reference, OnnxRuntimeEngine(path) as engine:
        pixels, labels = measured.pixels, measured.labels
        goldens = Goldens(pixels, reference.run(pixels), names, reference.spec.fingerprint, labels)
        report = check_parity(engine, goldens, reference_name=reference.runtime)
    if report.failures:
        raise CheckFailedError(
            f"the int8 model differs from {reference.runtime}: {'; '.join(report.failures)}; nothing was written; "
            "give more crops, like those of the deployment, or leave more layers in float32",
            parameter=("count", "float_layers"),
        )
    return report
