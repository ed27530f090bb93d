"""Export a trained network: ONNX files that passed parity, with goldens, parity reports and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, UsageError, item_at_work
from rrid_edge.files import write_json
from rrid_edge.model.names import (
    chart_path,
    goldens_path,
    onnx_path,
    parity_report_path,
    thresholds_candidates,
    thresholds_path,
)
from rrid_edge.model.spec import INPUT_FORMS, UINT8_NHWC
from rrid_edge.parity.chart import write_parity_chart
from rrid_edge.parity.check import ParityReport, check_parity
from rrid_edge.parity.goldens import save_goldens
from rrid_edge.parity.reference import Reference
from rrid_edge.ranking.sampling import PeopleSample
from rrid_edge.ranking.threshold_file import carry_thresholds, find_thresholds
from rrid_export.branch import InferenceBranch
from rrid_export.goldens import make_goldens
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork

GOLDEN_CROPS = 256
"""Golden crops, if the folder has so many: 256 crops of 384 x 128 px take about 24 MB."""


@dataclass(frozen=True)
class ExportSettings:
    """What to export.

    Attributes:
        flip: average each image with its mirror. False gives a different model with another fingerprint.
        crops: folder of real crops for the goldens, or None for drawn patterns.
        golden_crops: largest number of crops of the goldens.
        form: form of the files' input, one of :data:`rrid_edge.model.spec.INPUT_FORMS`.
        fp16: also write the float16 model. A CPU computes float16 operations in float32, so parity on a CPU proves the
            file but not the device's arithmetic. Run ``rrid-edge parity`` on the device too.
    """

    flip: bool = True
    crops: Path | None = None
    fp16: bool = False
    golden_crops: int = GOLDEN_CROPS
    form: str = UINT8_NHWC

    def __post_init__(self) -> None:
        if self.form not in INPUT_FORMS:
            raise UsageError(
                f"input {self.form!r} is unknown: expected one of {', '.join(INPUT_FORMS)}", parameter="form"
            )


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        model: the ONNX file.
        goldens: file of images and PyTorch's descriptors of them.
        sample: what the labels of these images allow to measure.
        left_out: one line per crop that cannot be read.
        report: the parity report as JSON.
        parity: the parity report as data.
    """

    model: Path
    goldens: Path
    report: Path
    parity: ParityReport
    sample: PeopleSample
    left_out: tuple[str, ...] = ()


def export_network(source: SourceNetwork, output: Path, settings: ExportSettings) -> tuple[ExportResult, ...]:
    """Export ``source`` to ``output/rrid.onnx`` (and ``rrid.fp16.onnx``) with goldens and parity reports beside them.

    Files that take float32 planes are ``rrid.nchw.onnx`` and ``rrid.nchw.fp16.onnx``.

    The trained network in PyTorch runs once, with image and mirrored image in two passes. Each ONNX file must reach
    parity with it before the file gets its name. Score thresholds measured for the checkpoint are copied.

    Returns:
        One result per ONNX file, float32 first.

    Raises:
        CheckFailedError: a file breaks the model contract or fails parity with PyTorch; this file is not written.
        ModelFileError: the thresholds of the checkpoint are damaged; nothing is written.
        OutputError: the folder cannot be written.
    """
    find_thresholds(thresholds_candidates(source.path), source.spec(flip=settings.flip).fingerprint)  # before the work
    reference = make_goldens(source, flip=settings.flip, crops=settings.crops, count=settings.golden_crops)
    precisions = (False, True) if settings.fp16 else (False,)
    return tuple(_export(source, output, settings, reference, half=half) for half in precisions)


def _export(
    source: SourceNetwork, output: Path, settings: ExportSettings, reference: Reference, *, half: bool
) -> ExportResult:
    """Write one ONNX file, its parity report with chart, its goldens, and its thresholds if there are any."""
    flip, goldens = settings.flip, reference.goldens
    spec = source.spec(flip=flip).with_precision("fp16" if half else "fp32").with_input(settings.form)
    branch = InferenceBranch(source.model, flip=flip, form=settings.form).eval()
    model = onnx_path(output, spec.precision, settings.form)
    with item_at_work(model):
        report, descriptors = export_onnx(
            branch.to_half() if half else branch, spec, model, accept=lambda path: _prove(path, reference)
        )
    save_goldens(goldens_path(model), goldens)
    report_path = parity_report_path(model)
    write_json(report_path, report.to_dict() | {"sample": reference.sample.to_dict()})
    write_parity_chart(chart_path(report_path), report, goldens.descriptors, descriptors)
    if not half:  # all precisions have one fingerprint and use the same thresholds
        carry_thresholds(thresholds_candidates(source.path), spec.fingerprint, thresholds_path(model))
    return ExportResult(model, goldens_path(model), report_path, report, reference.sample, reference.left_out)


def _prove(path: Path, reference: Reference) -> tuple[ParityReport, NDArray[np.float32]]:
    """Compare a written file with the goldens.

    Returns:
        The parity report, and the file's descriptors of the golden images, float32 (N, D).

    Raises:
        CheckFailedError: the file fails parity.
    """
    with OnnxRuntimeEngine(path) as engine:
        descriptors = engine.run(reference.goldens.images)
        report = check_parity(engine, reference.goldens, reference_name=reference.name, descriptors=descriptors)
    if report.failures:
        raise CheckFailedError(
            f"the exported file differs from PyTorch: {'; '.join(report.failures)}; it was not written; try other "
            "versions of torch and onnx"
        )
    return report, descriptors
