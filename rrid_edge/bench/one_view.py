"""The fastest engine without the mirrored image: its rate in turns with the other, and what it costs in accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rrid_edge.bench.engines import EffortSettings, Measured, engine_row, timings
from rrid_edge.bench.results import EngineRow
from rrid_edge.bench.shares import Limits
from rrid_edge.bench.variants import Variant
from rrid_edge.engines.opening import open_engine
from rrid_edge.errors import UsageError
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.model.one_view import write_one_view
from rrid_edge.model.operations import Work
from rrid_edge.parity.goldens import Goldens

NO_FLIP = "no-flip"
"""The row's name ends with it."""


def fastest_of_onnx(rows: Sequence[EngineRow], variants: Sequence[Variant]) -> Variant:
    """The variant with the fastest row of an ONNX file: the views of an engine file cannot be changed.

    Raises:
        UsageError: no variant is of an ONNX file.
    """
    found = [
        (row, variant)
        for row, variant in zip(rows, variants, strict=True)
        if variant.path is not None and kind_of(variant.path) is Kind.ONNX
    ]
    if not found:
        raise UsageError("no ONNX file lies beside the model: a view can be taken out of ONNX files only")
    return max(found, key=lambda pair: pair[0].best_images_per_s)[1]


def measure_one_view(
    variant: Variant, goldens: Goldens, effort: EffortSettings, limits: Limits, folder: Path
) -> EngineRow:
    """Measure a variant and the same without the mirrored image in turns: one image, and the largest batch.

    Args:
        variant: of an ONNX file; see :func:`fastest_of_onnx`.
        goldens: images, and the descriptors with two views. The row's accuracy is the agreement with these.
        effort: how much to measure.
        limits: limits of the machine, and the work of two views.
        folder: takes the model with one view.

    Returns:
        The row with one view. Its file is temporary, so loading is not measured.

    Raises:
        ModelFileError: the file has one view already, or joins its views in another way than the export does.
    """
    source = variant.path or Path()
    path = folder / source.name
    spec = write_one_view(source, path)
    most = max(effort.batches)
    options = {"precision": variant.precision, "threads": effort.threads, "max_batch": most}
    with variant.open() as two, open_engine(path, variant.runtime, **options) as one:  # type: ignore[arg-type]
        latency = timings([two, one], goldens.images, 1, effort.latency_repetitions, effort)[1]
        pair = timings([two, one], goldens.images, most, effort.repetitions, effort)
        measured = Measured(latency, {most: pair[1]})
        reference = replace(goldens, fingerprint=spec.fingerprint)
        single = replace(variant, name=f"{variant.name} {NO_FLIP}", path=path)
        halved = limits.work and Work(limits.work.operations // 2, limits.work.weights)
        found = engine_row(single, one, reference, measured, replace(limits, work=halved))
    return replace(found, of_two_views=pair[0].median / pair[1].median)
