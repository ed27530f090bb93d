"""Adopt a network of another program: read, compose, prove, and write the file with its goldens and report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge import __version__
from rrid_edge.errors import RridEdgeError, UsageError, item_at_work, printable
from rrid_edge.files import atomic_output, write_json
from rrid_edge.model.names import (
    Kind,
    adopted_path,
    chart_path,
    goldens_path,
    ir_weights_path,
    kind_of,
    parity_report_path,
    stem_of,
)
from rrid_edge.model.operator_rules import operator_remark
from rrid_edge.model.reading import read_any_spec
from rrid_edge.model.spec import ADOPTED, ModelSpec
from rrid_edge.parity.chart import write_parity_chart
from rrid_edge.parity.check import ParityReport
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.parity.reference import CropFiles, Crops, read_crop_files
from rrid_edge.progress import step
from rrid_edge.ranking.sampling import PeopleSample
from rrid_export.adopt.facts import Choices, Facts, resolve
from rrid_export.adopt.foreign import ForeignNetwork, refused
from rrid_export.adopt.ir_work import IrWork
from rrid_export.adopt.onnx_work import OnnxWork
from rrid_export.adopt.original import MOST_DESCRIPTOR_VALUES, original_descriptors
from rrid_export.adopt.proof import check_descriptors, check_repeated, prove
from rrid_export.drawn import drawn_patterns

GOLDEN_CROPS: Final = 256


@dataclass(frozen=True)
class AdoptSettings:
    """How to adopt a network.

    Attributes:
        choices: what the caller says about it.
        name: stem of the files; None takes the stem of the original file.
        crops: folder of real crops for the proof and the goldens; None uses drawn patterns.
        golden_crops: largest number of crops.
        origin: where the file came from, for the metadata; None takes its name.
        training_data: name of the data that the network was trained on, for the metadata.
        pattern: how the names of crops are read; see :func:`rrid_edge.crops.naming.name_reader`.
        follow_links: take links to crops outside the folder too.
    """

    choices: Choices
    name: str | None = None
    crops: Path | None = None
    golden_crops: int = GOLDEN_CROPS
    origin: str | None = None
    training_data: str = "unknown"
    pattern: str = "auto"
    follow_links: bool = False


@dataclass(frozen=True)
class AdoptResult:
    """What was written.

    Attributes:
        model: the adopted file.
        spec: its spec.
        goldens: file of images and the original network's descriptors of them.
        report: the parity report as JSON.
        parity: the parity report as data.
        sample: what the labels of the images allow to measure.
        left_out: one line per crop that cannot be read.
        remarks: what the file cannot be used for, as lines for people.
    """

    model: Path
    spec: ModelSpec
    goldens: Path
    report: Path
    parity: ParityReport
    sample: PeopleSample
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def adopt_network(network: ForeignNetwork, output: Path, settings: AdoptSettings) -> AdoptResult:
    """Bring an ONNX file or an OpenVINO IR of another program under the model contract.

    The file must reach parity with the original before it gets its name.

    Args:
        network: the original file.
        output: folder to write to.
        settings: see :class:`AdoptSettings`.

    Raises:
        UsageError: a fact is missing or contradicts the file, the crops cannot be used, or the adopted file would
            replace the original or another file that is no adopted network.
        ModelFileError: the network cannot be adopted; the message names what is in the way.
        CheckFailedError: the adopted file differs from the original.
        OutputError: the folder cannot be written.
    """
    path = network.path
    facts = resolve(network, settings.choices)
    work = IrWork(network, facts) if kind_of(path) is Kind.IR else OnnxWork(network, facts)
    target = _target(output, settings.name or path.stem, work)
    _refuse_to_replace(target, path)
    spec = _spec(target, network, facts, settings)
    crops = _crops(spec, settings)
    if (work.dimension or 0) > MOST_DESCRIPTOR_VALUES:
        raise refused(path, f"descriptors of {work.dimension:,} values, expected {MOST_DESCRIPTOR_VALUES:,} at most")
    original = work.original()
    descriptors = original_descriptors(original, crops.images, facts)
    check_descriptors(path, descriptors, facts)
    check_repeated(path, descriptors, original_descriptors(original, crops.images[: original.batch], facts))
    if work.dimension not in (None, descriptors.shape[1]):
        raise refused(path, f"descriptors of {descriptors.shape[1]:,} values, its shapes say {work.dimension}")
    spec = replace(spec, fingerprint=work.identity, precision=work.precision, block_width=descriptors.shape[1])
    goldens = Goldens(crops.images, descriptors.astype(np.float32), crops.names, work.identity, crops.labels)
    with item_at_work(target), atomic_output(target) as partial:
        with step("writing the adopted network"):
            work.write(partial, spec)
        with work.open(partial) as engine:
            parity, found = prove(engine, goldens, original.name, work.culprit)
        work.finish(partial, target, spec)
    return _written(target, spec, crops, goldens, parity, found)


def _crops(spec: ModelSpec, settings: AdoptSettings) -> Crops:
    if settings.crops is None:
        if settings.follow_links or settings.pattern != "auto":
            raise UsageError(
                "a pattern and links are about the names of crops, and there are none: give a folder of crops",
                parameter=("pattern", "follow_links", "crops"),
            )
        return drawn_patterns(spec)
    files = CropFiles.of(settings.crops, pattern=settings.pattern, follow_links=settings.follow_links)
    return read_crop_files(files, spec, settings.golden_crops)


def _target(output: Path, name: str, work: OnnxWork | IrWork) -> Path:
    try:
        return adopted_path(output, name, work.precision, is_ir=work.is_ir)
    except ValueError as error:
        raise UsageError(
            f"the name {printable(name)!r} does not work: expected a plain file name without a precision at its end, "
            "for example osnet",
            parameter="name",
        ) from error


def _refuse_to_replace(target: Path, original: Path) -> None:
    """Refuse to write over anything but an adopted network."""
    if not target.exists() and kind_of(target) is Kind.IR:
        target = ir_weights_path(target)
    if not target.exists():
        return
    if target.samefile(original):
        what = "this is the original, which the adopted file would replace"
    else:
        try:
            family = read_any_spec(target).family
        except RridEdgeError:
            family = ""
        if family == ADOPTED:
            return
        what = "this file is no adopted network, and would be replaced"
    raise UsageError(f"{printable(target)}: {what}: choose another name or folder", parameter=("name", "folder"))


def _spec(target: Path, network: ForeignNetwork, facts: Facts, settings: AdoptSettings) -> ModelSpec:
    """The spec of an adopted file as far as it is known before the network ran."""
    return ModelSpec(
        height_px=facts.height_px,
        width_px=facts.width_px,
        fingerprint="",
        stripes=(),
        block_width=1,
        flip=facts.flip,
        backbone=stem_of(target),
        source_sha256=network.sha256,
        training_data=settings.training_data,
        version=__version__,
        family=ADOPTED,
        preprocessing=facts.preprocessing,
        origin=settings.origin or network.path.name,
    )


def _written(
    model: Path, spec: ModelSpec, crops: Crops, goldens: Goldens, parity: ParityReport, found: NDArray[Any]
) -> AdoptResult:
    """Write goldens, parity report and chart beside an adopted file."""
    save_goldens(goldens_path(model), goldens)
    report = parity_report_path(model)
    write_json(report, parity.to_dict() | {"sample": crops.sample.to_dict()})
    write_parity_chart(chart_path(report), parity, goldens.descriptors, found)
    remark = operator_remark(model) if kind_of(model) is Kind.ONNX else ""
    remarks = (remark,) if remark else ()
    return AdoptResult(model, spec, goldens_path(model), report, parity, crops.sample, crops.left_out, remarks)
