"""The way from a checkpoint to a model that has proved itself: ONNX, goldens, parity report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError
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
from rrid_edge.parity.goldens import save_goldens
from rrid_edge.ranking.thresholds import find_thresholds, save_thresholds
from rrid_export.branch import InferenceBranch
from rrid_export.goldens import make_goldens
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork

GOLDEN_CROPS = 64
"""Crops whose descriptors are kept: 64 at 384 x 128 are about 6 MB."""


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        model: the ONNX file.
        goldens: images and PyTorch's descriptors of them.
        report: the parity report as JSON.
        parity: the same as data.
    """

    model: Path
    goldens: Path
    report: Path
    parity: ParityReport


def export_model(
    source: SourceNetwork, output: Path, *, flip: bool = True, crops: Path | None = None, half: bool = False
) -> ExportResult:
    """Export ``source`` to ``output/rrid.onnx`` (or ``rrid.fp16.onnx``) with goldens and a parity report beside it.

    Score thresholds that were measured for the checkpoint go with it.

    The trained network in PyTorch is asked first, image and mirrored image in two passes; the written file has to answer
    likewise before it gets its name.

    Args:
        source: the trained network.
        output: folder to write to.
        flip: average with the mirrored image.
        crops: folder of real crops for the goldens, or None for drawn patterns.
        half: write the float16 model. A CPU computes its float16 operations in float32, so parity here proves the file, not
            yet the arithmetic of the device: run ``rrid-edge parity`` there.

    Raises:
        CheckFailedError: the file does not keep the contract or does not answer as PyTorch; nothing is left behind.
        OutputError: the folder cannot be written.
    """
    spec = source.spec(flip=flip).with_precision("fp16" if half else "fp32")
    goldens = make_goldens(source, flip=flip, crops=crops, count=GOLDEN_CROPS)
    proofs: list[tuple[ParityReport, NDArray[np.float32]]] = []

    def prove(path: Path) -> None:
        with OnnxRuntimeEngine(path) as engine:
            descriptors = engine.run(goldens.images)
            report = check_parity(
                engine,
                goldens.images,
                goldens.descriptors,
                reference_name="PyTorch, two passes",
                reference_fingerprint=goldens.fingerprint,
                labels=goldens.labels,
                descriptors=descriptors,
            )
        if not report.passed:
            raise CheckFailedError(
                f"the exported file does not answer as PyTorch: {'; '.join(report.failures)}; nothing was kept"
            )
        proofs.append((report, descriptors))

    branch = InferenceBranch(source.model, flip=flip).eval()
    model = onnx_path(output, spec.precision)
    export_onnx(branch.to_half() if half else branch, spec, model, accept=prove)
    save_goldens(goldens_path(model), goldens)
    report, descriptors = proofs[0]
    report_path = parity_report_path(model)
    write_json(report_path, report.to_dict())
    write_parity_chart(chart_path(report_path), report, goldens.descriptors, descriptors)
    thresholds = find_thresholds(thresholds_candidates(source.path), spec.fingerprint)
    if thresholds is not None and not half:  # any precision of the network finds them by its fingerprint
        save_thresholds(thresholds_path(model), thresholds)
    return ExportResult(model, goldens_path(model), report_path, report)
