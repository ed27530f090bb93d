"""One parity run: find the reference, compare, and name the mistake if they differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.engines import Engine
from rrid_edge.errors import CheckFailedError, printable
from rrid_edge.files import write_json
from rrid_edge.machine.advice import extra_advice, package_advice
from rrid_edge.machine.facts import onnxruntime_folder
from rrid_edge.machine.processor import cpu_flags
from rrid_edge.model.names import Kind, chart_path, goldens_path, kind_of, onnx_beside
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import HOW_MADE
from rrid_edge.parity.chart import write_parity_chart
from rrid_edge.parity.check import ParityReport, check_parity, refuse_other_network
from rrid_edge.parity.diagnosis import Diagnosis, Run, diagnose, pixel_mistake
from rrid_edge.parity.layers import LayerScale, estimate_scales, judge_layers, scale_errors
from rrid_edge.parity.reference import OpenNetwork, Reference, ReferenceSettings, find_reference, read_sources
from rrid_edge.parity.verdict import Outcome
from rrid_edge.progress import step

LAYER_EXPLAINS = 0.5
"""Share of the difference that a layer must explain to be named as the cause of a failed check."""
_TOLD_LAYERS = 5
_SATURATION = (
    "this CPU has no VNNI instructions, so OpenVINO's int8 sums saturate at 16 bits; take the runtime onnxruntime, or "
    "the float32 file"
)


@dataclass(frozen=True)
class GraphTools:
    """What changes an ONNX file and runs the result. Both need the package onnx.

    Attributes:
        mistakes: from an ONNX file to copies with one mistake each, by its name; see
            ``rrid_export.mistakes.mistaken_networks``.
        layers: from an ONNX file, N images and names (None means all layers) to names of L layers and the directions
            of their scales, float32 (L, N, D); see ``rrid_export.layer_scales.layer_directions``.
    """

    mistakes: Callable[[Path], Mapping[str, Run]]
    layers: Callable[[Path, NDArray[np.uint8], Collection[str] | None], tuple[tuple[str, ...], NDArray[np.float32]]]


@dataclass(frozen=True)
class ParityRun:
    """The result of a parity run.

    Attributes:
        model: the model file under test.
        images: the given folder of crops, or None.
        reference: the reference.
        report: the parity report.
        descriptors: the engine's descriptors of the reference's images, float32 (N, D).
        wrong_pixels: what is wrong with the pixels of the goldens; None if they are right or could not be checked.
        diagnosis: the mistake that explains the difference; None if the report passed.
        layers: layers whose scale the engine's error was projected on, most explained first; empty if not checked.
        untried: one line per group of mistakes that could not be imitated, with what it needs.
    """

    model: Path
    images: Path | None
    reference: Reference
    report: ParityReport
    descriptors: NDArray[np.float32]
    wrong_pixels: str | None = None
    diagnosis: Diagnosis | None = None
    layers: tuple[LayerScale, ...] = ()
    untried: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the engine agrees with the reference, and the goldens have the right pixels."""
        return self.outcome is Outcome.PASSED

    @property
    def outcome(self) -> Outcome:
        """The verdict; goldens with wrong pixels fail."""
        return Outcome.FAILED if self.wrong_pixels is not None else self.report.outcome

    def cause(self) -> str | None:
        """Why the check failed, in one line: a saturating CPU, a layer of a wrong scale, or a usual mistake.

        None if it did not fail, or nothing was looked for.
        """
        if self.outcome is not Outcome.FAILED:
            return None
        if self.report.arithmetic == "int8" and self.report.engine.startswith("openvino") and _int8_saturates():
            return _SATURATION
        explaining = [scale for scale in self.layers if scale.is_wrong and scale.explained >= LAYER_EXPLAINS]
        if explaining and not (self.diagnosis is not None and self.diagnosis.causes):
            return explaining[0].describe()
        return self.diagnosis.sentence() if self.diagnosis is not None else None

    def to_dict(self) -> dict[str, Any]:
        """The content of the parity report beside the model, as JSON-serialisable values."""
        return self.report.to_dict() | {
            "verdict": self.outcome.value,
            "passed": self.passed,
            "sample": self.reference.sample.to_dict(),
            "cause": self.cause(),
            "pixels": self.wrong_pixels,
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis is not None else None,
            "layers": [asdict(scale) for scale in self.layers[:_TOLD_LAYERS]],
        }

    def write(self, path: Path) -> None:
        """Write the report, and its chart beside it.

        Raises:
            OutputError: a file cannot be written.
        """
        write_json(path, self.to_dict())
        write_parity_chart(chart_path(path), self.report, self.reference.goldens.descriptors, self.descriptors)

    def refuse_failure(self, *, strict: bool = False) -> None:
        """Raise an error if the check failed.

        Args:
            strict: also raise one if the check is not decided.

        Raises:
            CheckFailedError: the engine differs from the reference, the goldens have wrong pixels, or ``strict`` is set
                and so few crops decide nothing.
        """
        if self.report.outcome is Outcome.FAILED:
            cause = f" ({self.cause()})" if self.cause() else ""
            raise CheckFailedError(
                f"parity failed: {'; '.join(self.report.failures)}{cause}; do not deploy {printable(self.model)} on "
                f"this runtime ({self.report.engine})"
            )
        if self.wrong_pixels is not None:
            raise CheckFailedError(
                f"the goldens do not belong to {printable(self.images or '')}: {self.wrong_pixels}; read images with "
                f"rrid_edge.crops.images, or make the goldens from crops again, with: {HOW_MADE}"
            )
        if strict and self.outcome is Outcome.UNDECIDED:
            raise CheckFailedError(f"parity is not decided: {'; '.join(self.report.undecided)}")


def run_parity(
    engine: Engine,
    model: Path,
    settings: ReferenceSettings,
    *,
    open_network: OpenNetwork | None = None,
    graph_tools: GraphTools | None = None,
) -> ParityRun:
    """Compare an engine with its reference. If they differ, look for the mistake.

    Args:
        engine: the engine under test.
        model: its model file.
        settings: what to compare it with.
        open_network: opens a checkpoint; None refuses a checkpoint as the reference.
        graph_tools: checks the scales of layers and makes networks with mistakes. This is left out, and told in
            ``untried``, if it is None or raises ModuleNotFoundError.

    Raises:
        UsageError: the reference or its crops are missing, or there are too few crops.
        FingerprintMismatchError: the reference is another network.
        MissingDependencyError: the reference needs a package that is not installed.
        ModelFileError: a file is damaged.
    """
    reference = find_reference(model, engine.spec, settings, open_network)
    goldens = reference.goldens
    refuse_other_network(engine, goldens.fingerprint, reference.name)
    own_images = kind_of(settings.reference or goldens_path(model)) is Kind.GOLDENS
    sources = read_sources(goldens, settings.images) if own_images and settings.images is not None else None
    descriptors = engine.run(goldens.images)
    report = check_parity(engine, goldens, reference_name=reference.name, descriptors=descriptors)
    wrong_pixels = pixel_mistake(goldens.images, sources) if sources is not None else None
    run = ParityRun(model, settings.images, reference, report, descriptors, wrong_pixels)
    if not (report.passed and report.tolerance.exact):
        run = _with_layers(run, engine, graph_tools)
    return run if run.report.outcome is not Outcome.FAILED else _diagnosed(run, engine, sources, graph_tools)


def _with_layers(run: ParityRun, engine: Engine, tools: GraphTools | None) -> ParityRun:
    """Check the scale of every layer. A wrong one fails a check that nothing else failed."""
    graph = _float_graph(run.model, engine)
    if graph is None:
        return replace(run, untried=("scales of layers (they need the float32 ONNX file of this network)",))
    if tools is None or onnxruntime_folder() is None:
        return replace(run, untried=(f"scales of layers ({_tools_advice(tools)})",))
    try:
        scales = _layer_scales(run, graph, tools)
    except ModuleNotFoundError as error:
        return replace(run, untried=(f"scales of layers ({package_advice(error.name or 'onnx')})",))
    run = replace(run, layers=scales)
    if run.report.outcome is Outcome.FAILED:
        return run
    return replace(run, report=replace(run.report, criteria=(*run.report.criteria, judge_layers(scales))))


def _tools_advice(tools: GraphTools | None) -> str:
    """What to install for work on graphs. ONNX Runtime computes the changed ones."""
    return extra_advice("export" if tools is None else "onnxruntime")


@step("estimating the scales of layers")
def _layer_scales(run: ParityRun, graph: Path, tools: GraphTools) -> tuple[LayerScale, ...]:
    """Errors of all layers' scales on the images of the goldens; the most explained come first."""
    goldens = run.reference.goldens

    def measured(count: int, only: Collection[str] | None) -> tuple[LayerScale, ...]:
        rows = np.linspace(0, len(goldens.images) - 1, min(count, len(goldens.images))).astype(np.int64)
        names, directions = tools.layers(graph, goldens.images[rows], only)
        return scale_errors(names, directions, goldens.descriptors[rows], run.descriptors[rows])

    return estimate_scales(measured, len(goldens.images))


def _int8_saturates() -> bool:
    """Whether int8 products of this CPU go through 16-bit sums (AVX2's ``vpmaddubsw``)."""
    flags = cpu_flags()
    return "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni", "amx_int8"}


def _diagnosed(
    run: ParityRun, engine: Engine, sources: list[Image.Image] | None, tools: GraphTools | None
) -> ParityRun:
    """Add the diagnosis to a run, and the mistakes that could not be tried."""
    untried = list(run.untried)
    if sources is None:
        untried.append("resize mistakes (they need goldens and the folder of their source images)")
    if len(engine.spec.blocks) == 1:
        untried.append("the order of blocks (an adopted network has one)")
    networks: Mapping[str, Run] = {}
    graph = _graph_beside(run.model, engine)
    if graph is None:
        untried.append("mistakes of scaling and mirroring (they need the ONNX file of this network beside the engine)")
    elif tools is None or onnxruntime_folder() is None:
        untried.append(f"mistakes of scaling and mirroring ({_tools_advice(tools)})")
    else:
        try:
            networks = tools.mistakes(graph)
        except ModuleNotFoundError as error:
            untried.append(f"mistakes of scaling and mirroring ({package_advice(error.name or 'onnx')})")
    goldens = run.reference.goldens
    diagnosis = diagnose(
        engine,
        goldens.images,
        goldens.descriptors,
        sources=sources,
        networks=networks,
        descriptors=run.descriptors,
    )
    return replace(run, diagnosis=diagnosis, untried=tuple(untried))


def _float_graph(model: Path, engine: Engine) -> Path | None:
    """The float32 ONNX file of the engine's network, or the model itself if its weights are floats; None without."""
    beside = onnx_beside(model, "fp32")
    if beside.is_file() and read_spec(beside).fingerprint == engine.spec.fingerprint:
        return beside
    return model if kind_of(model) is Kind.ONNX and engine.spec.precision in ("fp32", "fp16") else None


def _graph_beside(model: Path, engine: Engine) -> Path | None:
    """The ONNX file of the engine's network: ``model`` itself, or the float32 file beside it; None if there is none."""
    if kind_of(model) is Kind.ONNX:
        return model
    beside = onnx_beside(model, "fp32")
    return beside if beside.is_file() and read_spec(beside).fingerprint == engine.spec.fingerprint else None
