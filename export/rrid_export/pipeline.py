"""Export a trained network: ONNX files that passed parity, with goldens, parity reports and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, item_at_work
from rrid_edge.files import write_json
from rrid_edge.model.names import (
    chart_path,
    goldens_path,
    onnx_path,
    parity_report_path,
    thresholds_candidates,
    thresholds_path,
)
from rrid_edge.parity.chart import write_parity_chart
from rrid_edge.parity.check import ParityReport, check_parity
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.thresholds import find_thresholds, save_thresholds
from rrid_export.branch import InferenceBranch
from rrid_export.goldens import make_goldens
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork

GOLDEN_CROPS = 64
"""Largest number of golden crops: 64 crops of 384 x 128 px take about 6 MB."""


@dataclass(frozen=True)
class ExportSettings:
    """What to export.

    Attributes:
        flip: average each image with its mirror. False gives a different model with another fingerprint.
        crops: folder of real crops for the goldens, or None for drawn patterns.
        fp16: also write the float16 model. A CPU computes float16 operations in float32, so parity on a CPU proves the
            file but not the device's arithmetic. Run ``rrid-edge parity`` on the device too.
    """

    flip: bool = True
    crops: Path | None = None
    fp16: bool = False


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        model: the ONNX file.
        goldens: file of images and PyTorch's descriptors of them.
        report: the parity report as JSON.
        parity: the parity report as data.
    """

    model: Path
    goldens: Path
    report: Path
    parity: ParityReport


def export_network(source: SourceNetwork, output: Path, settings: ExportSettings) -> tuple[ExportResult, ...]:
    """Export ``source`` to ``output/rrid.onnx`` (and ``rrid.fp16.onnx``) with goldens and parity reports beside them.

    The trained network in PyTorch runs once, with image and mirrored image in two passes. Each ONNX file must reach
    parity with it before the file gets its name. Score thresholds measured for the checkpoint are copied.

    Returns:
        One result per ONNX file, float32 first.

    Raises:
        CheckFailedError: a file breaks the model contract or fails parity with PyTorch; this file is not written.
        OutputError: the folder cannot be written.
    """
    goldens = make_goldens(source, flip=settings.flip, crops=settings.crops, count=GOLDEN_CROPS)
    precisions = (False, True) if settings.fp16 else (False,)
    return tuple(_export(source, output, settings.flip, goldens, half=half) for half in precisions)


def _export(source: SourceNetwork, output: Path, flip: bool, goldens: Goldens, *, half: bool) -> ExportResult:
    """Write one ONNX file, its parity report with chart, its goldens, and its thresholds if there are any."""
    spec = source.spec(flip=flip).with_precision("fp16" if half else "fp32")
    branch = InferenceBranch(source.model, flip=flip).eval()
    model = onnx_path(output, spec.precision)
    with item_at_work(model):
        report, descriptors = export_onnx(
            branch.to_half() if half else branch, spec, model, accept=lambda path: _prove(path, goldens)
        )
    save_goldens(goldens_path(model), goldens)
    report_path = parity_report_path(model)
    write_json(report_path, report.to_dict())
    write_parity_chart(chart_path(report_path), report, goldens.descriptors, descriptors)
    thresholds = find_thresholds(thresholds_candidates(source.path), spec.fingerprint)
    if thresholds is not None and not half:  # all precisions have one fingerprint and use the same thresholds
        save_thresholds(thresholds_path(model), thresholds)
    return ExportResult(model, goldens_path(model), report_path, report)


def _prove(path: Path, goldens: Goldens) -> tuple[ParityReport, NDArray[np.float32]]:
    """Compare a written file with the goldens.

    Returns:
        The parity report, and the file's descriptors of the golden images, float32 (N, D).

    Raises:
        CheckFailedError: the file fails parity.
    """
    with OnnxRuntimeEngine(path) as engine:
        descriptors = engine.run(goldens.images)
        report = check_parity(engine, goldens, reference_name="PyTorch, two passes", descriptors=descriptors)
    if not report.passed:
        raise CheckFailedError(
            f"the exported file differs from PyTorch: {'; '.join(report.failures)}; it was not written; try other "
            "versions of torch and onnx"
        )
    return report, descriptors
