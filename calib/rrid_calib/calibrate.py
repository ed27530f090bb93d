"""Calibrate a float32 model on training crops, write it in int8, and prove the int8 model on other training crops."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from rrid_calib.crops import CalibrationImages, choose_check, find_crops, read_crops
from rrid_calib.forms import Choice, Say, Trial, choose_form
from rrid_calib.layers import float_nodes, int8_layers, read_graph
from rrid_calib.result import Calibration, CalibrationResult, Int8File
from rrid_calib.settings import LEAST_CROPS, CalibrationSettings
from rrid_edge.engines.base import Engine
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, ModelFileError, UsageError, printable
from rrid_edge.files import atomic_output, check_output, write_json
from rrid_edge.model.names import ONNX_SUFFIX, calibration_path, cpu_onnx_path, onnx_beside, parity_report_path
from rrid_edge.model.operator_rules import check_operators, operator_remark
from rrid_edge.model.spec import ADOPTED, ModelSpec
from rrid_edge.model.weights import contract_file, read_checked_spec
from rrid_edge.parity.check import ParityReport, check_parity
from rrid_edge.parity.goldens import Goldens
from rrid_edge.progress import step
from rrid_edge.ranking.sampling import PeopleSample


def calibrate(
    source: Path,
    folder: Path,
    settings: CalibrationSettings | None = None,
    *,
    output: Path | None = None,
    reference: Engine | None = None,
    say: Say = lambda _line: None,
) -> CalibrationResult:
    """Write the int8 forms of a float32 model and prove them.

    Args:
        source: float32 ONNX file of this package, exported or adopted.
        folder: a dataset, of which the training split is used, or a folder of training crops.
        settings: how to calibrate; the defaults if None.
        output: the int8 file for every runtime; ``<stem>.int8.onnx`` in the folder of ``source`` if None. The file for
            CPUs is written beside it.
        reference: engine to compare the int8 models with; ``source`` on ONNX Runtime if None.
        say: called with one line per step.

    Returns:
        The models, and beside them the calibration listing and the parity reports (named by
        :mod:`rrid_edge.model.names`).

    Raises:
        UsageError: ``source`` is not a float32 model, ``output`` would replace it or is no name of an ONNX file, or the
            folder has too few readable crops, or test crops.
        OutputError: a file cannot be written.
        CheckFailedError: an int8 model fails parity with the reference, or a supported TensorRT version cannot read
            the one that is for it; nothing is written. Of an adopted network, the latter is only said.
        ModelFileError: ``source`` is damaged.
    """
    settings = settings or CalibrationSettings()
    spec = _float32_spec(source)
    path = output or onnx_beside(source, "int8")
    _refuse_output(path, source)
    model = _graph_with_layers(source)
    ranged, measured = _read(folder, settings, spec, say)
    choice = choose_form(Trial(model, measured.pixels, spec.blocks), ranged.pixels, settings, say)
    reference = reference or OnnxRuntimeEngine(source)
    goldens = _goldens(measured, reference)
    paths = (path, cpu_onnx_path(path))
    with atomic_output(paths[0]) as portable, atomic_output(paths[1]) as cpu:
        _write(choice.form.build(model, choice.float_layers), spec, portable)
        if spec.family == ADOPTED:
            remark = operator_remark(portable)
        else:
            check_operators(portable)
            remark = ""
        _write(choice.cpu_form.build(model, choice.cpu_float_layers), spec, cpu)
        reports = [_prove(partial, goldens, reference.runtime) for partial in (portable, cpu)]
    for line in dict.fromkeys(line for report in reports for line in report.undecided):
        say(f"parity is not decided: {line}")
    if remark:
        say(f"{printable(path)}: {remark}")
    calibration = replace(_calibration(choice, ranged, measured), unquantised=float_nodes(model))
    listing = calibration_path(path)
    write_json(listing, {"fingerprint": spec.fingerprint, "settings": asdict(settings), **asdict(calibration)})
    chosen = ((choice.form, choice.float_layers), (choice.cpu_form, choice.cpu_float_layers))
    files = []
    for file, report, (form, floating) in zip(paths, reports, chosen, strict=True):
        write_json(parity_report_path(file), report.to_dict() | {"sample": calibration.check})
        share = file.stat().st_size / source.stat().st_size
        files.append(Int8File(file, parity_report_path(file), report, form.name, floating, share))
    return CalibrationResult(files[0], files[1], listing, calibration)


def _refuse_output(path: Path, source: Path) -> None:
    """Refuse a file to write that is no ONNX file by its name, or that is the source.

    Raises:
        UsageError: it is.
        OutputError: its folder cannot be written.
    """
    if path.suffix.lower() != ONNX_SUFFIX:
        raise UsageError(f"{printable(path)}: an int8 model is an ONNX file; end its name in .onnx", parameter="output")
    if any(file.resolve() == source.resolve() for file in (path, cpu_onnx_path(path))):
        raise UsageError(
            f"{printable(path)}: the int8 files would replace the float32 model {printable(source)}; give another name",
            parameter="output",
        )
    check_output(path)


def _float32_spec(source: Path) -> ModelSpec:
    spec = read_checked_spec(source)
    if spec.precision != "fp32":
        raise UsageError(
            f"{printable(source)}: precision {spec.precision}, expected fp32; calibrate the float32 file, "
            f"{onnx_beside(source, 'fp32').name}"
        )
    return spec


def _graph_with_layers(source: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """The graph of a model that has convolutions to store as int8.

    Raises:
        ModelFileError: it has none, or the file is damaged.
    """
    model = read_graph(source)
    if all(layer.head for layer in int8_layers(model)):
        raise ModelFileError(
            f"{printable(source)}: no convolution with constant weights: expected a convolutional network, whose "
            "layers int8 can store"
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
        cpu_form=choice.cpu_form.name,
        layers=choice.layers,
        floating=choice.float_layers,
        cpu_floating=choice.cpu_float_layers,
        layer_costs=choice.layer_costs,
        ranges=dict(choice.form.ranges),
        crops=tuple(
            {"name": crop.name, "person": crop.person, "camera": crop.camera, "sha256": digest}
            for crop, digest in zip(ranged.crops, ranged.sha256, strict=True)
        ),
        check=PeopleSample.of(measured.labels).to_dict(),
        left_out=tuple({"name": name, "reason": reason} for name, reason in ranged.left_out),
    )


def _write(model: Any, spec: ModelSpec, path: Path) -> None:  # noqa: ANN401 - a protobuf message
    path.write_bytes(contract_file(model.SerializeToString(), spec.with_precision("int8")))
    onnx.checker.check_model(str(path), full_check=True)


def _goldens(measured: CalibrationImages, reference: Engine) -> Goldens:
    """The reference's descriptors of the measured crops. The reference is closed."""
    names = tuple(crop.name for crop in measured.crops)
    with reference:
        found = reference.run(measured.pixels)
        return Goldens(measured.pixels, found, names, reference.spec.fingerprint, measured.labels)


@step("checking an int8 file")
def _prove(path: Path, goldens: Goldens, reference: str) -> ParityReport:
    """Compare an int8 file with the reference on the measured crops."""
    with OnnxRuntimeEngine(path) as engine:
        report = check_parity(engine, goldens, reference_name=reference)
    if report.failures:
        raise CheckFailedError(
            f"the int8 model differs from {report.reference}: {'; '.join(report.failures)}; nothing was written; "
            "give more crops, like those of the deployment, or leave more layers in float32",
            parameter=("count", "float_layers"),
        )
    return report
