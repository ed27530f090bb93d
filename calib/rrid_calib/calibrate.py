"""From a float32 model and training crops to an int8 model that has proved itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rrid_calib.crops import Crop, find_crops, read_crops, sample_crops
from rrid_calib.graph import Layer, int8_layers, quantised, read_graph, weight_sizes
from rrid_calib.ranges import METHODS, Histogram, collect, descriptors_of, scales
from rrid_calib.rounding import empty_moments, rounded_weights
from rrid_edge.crops.naming import read_labels
from rrid_edge.engines.base import Engine
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, UsageError, printable
from rrid_edge.files import atomic_output, write_json
from rrid_edge.model.names import calibration_path, onnx_beside, parity_report_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.agreement import Agreement, compare
from rrid_edge.parity.check import ParityReport, check_parity
from rrid_edge.parity.goldens import Labels

_LEAST_CROPS = 8
ROUNDINGS = ("compensated", "nearest")
LARGEST_SHARE = 0.3
"""Share of the float32 weights' bytes that the int8 file may hold: what layers left in float32 have to fit in."""
TOP1_TARGET = 0.995
"""Share of the measured crops whose nearest neighbour has to stay before nothing more is spent on accuracy."""
MEAN_TARGET = 0.99995
"""Mean cosine of the measured crops, likewise: neighbours of 200 crops alone are a coarse measure."""
_METHODS_KEPT = 2
"""Methods that are tried again in the next form: clipping matters less the less else is lost."""
_LAYER_CROPS = 16
"""Measured crops that every single layer's cost is measured on."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CalibrationSettings:
    """How to calibrate.

    Attributes:
        count: crops that the ranges are taken from.
        measured: further crops that are kept from the ranges and measured on instead; half of all, where there are fewer
            than ``count`` and these.
        seed: of their choice.
        method: ``minmax``, ``percentile``, ``entropy``, or ``auto``: the one with the highest mean cosine.
        rounding: of weights: ``compensated`` (errors cancel on the calibration crops, see :mod:`rrid_calib.rounding`) or
            ``nearest``, which is quicker.
        float_layers: layers to leave in float32: a number of them, the costliest; or None for as few as reach the targets
            within :data:`LARGEST_SHARE` of the file.
        target: lowest cosine to be reached.

    Raises:
        UsageError: a value out of its range.
    """

    count: int = 300
    measured: int = 200
    seed: int = 0
    method: str = "auto"
    rounding: str = "compensated"
    float_layers: int | None = None
    target: float = 0.985

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
        if min(self.count, self.measured) < _LEAST_CROPS:
            raise UsageError(
                f"{self.count} crops to calibrate with and {self.measured} to measure on do not work: expected at least "
                f"{_LEAST_CROPS} of each, better 300 and 200"
            )
        if not 0 < self.target < 1 or (self.float_layers is not None and self.float_layers < 0):
            raise UsageError(
                f"target cosine {self.target} and {self.float_layers} float layers do not work: expected a target between 0 and "
                "1, and no negative number of layers"
            )


@dataclass(frozen=True)
class MethodResult:
    """What one way to choose ranges came to, all layers in int8.

    Attributes:
        form: what was spent on accuracy; see :class:`Calibration`.
        method: its name.
        min_cosine: lowest cosine with the float32 model on the measured crops.
        mean_cosine: their mean.
        top1_agreement: share of the measured crops whose nearest neighbour among them stays.
    """

    form: str
    method: str
    min_cosine: float
    mean_cosine: float
    top1_agreement: float


@dataclass(frozen=True)
class Calibration:
    """What calibration chose, and why.

    Attributes:
        method: how the ranges were chosen.
        compared: every method that was tried, in every form that was.
        form: what is spent on accuracy beside float layers: ``int8`` (nothing), ``fine head`` (the head's input in two
            steps), ``float residuals`` (that, and residual additions in float32).
        layers: number of layers that can be int8.
        floating: names of those left in float32.
        layer_costs: for every layer, 1 minus the mean cosine with it alone in int8; empty where it was not needed.
        scales: the value of one int8 step of every activation.
        crops: listed with sha256, which were calibrated with.
    """

    method: str
    compared: tuple[MethodResult, ...]
    form: str
    layers: int
    floating: tuple[str, ...]
    layer_costs: dict[str, float]
    scales: dict[str, float]
    crops: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class CalibrationResult:
    """What :func:`calibrate` wrote.

    Attributes:
        model: the int8 ONNX file.
        listing: the calibration as JSON.
        report: the parity report.
        calibration: what was chosen.
        parity: the report as data.
    """

    model: Path
    listing: Path
    report: Path
    calibration: Calibration
    parity: ParityReport


def calibrate(
    source: Path,
    folder: Path,
    settings: CalibrationSettings | None = None,
    *,
    output: Path | None = None,
    reference: Engine | None = None,
    say: Progress = lambda _line: None,
) -> CalibrationResult:
    """Write the int8 form of a float32 model, calibrated with training crops, and prove it on others of them.

    Args:
        source: float32 ONNX file of this package.
        folder: a dataset (its training split is taken) or a folder of training crops.
        settings: see :class:`CalibrationSettings`.
        output: the int8 file; ``<stem>.int8.onnx`` beside ``source`` if None.
        reference: what the result is compared with; the float32 file on ONNX Runtime if None.
        say: told what is being done.

    Returns:
        The files: the model, and beside it the calibration listing and the parity report
        (:mod:`rrid_edge.model.names` says how they are named).

    Raises:
        UsageError: the file is no float32 model, the folder has no or too few crops, unreadable ones, or some of a test
            split.
        CheckFailedError: the int8 model does not answer as the reference; nothing is left behind.
        ModelFileError: a damaged file.
    """
    settings = settings or CalibrationSettings()
    spec = read_spec(source)
    if spec.precision != "fp32":
        raise UsageError(
            f"{printable(source)}: precision {spec.precision}, expected fp32; calibrate the float32 "
            f"file, {onnx_beside(source, 'fp32').name}"
        )
    chosen = sample_crops(find_crops(folder), settings.count + settings.measured, settings.seed)
    if len(chosen) < 2 * _LEAST_CROPS:
        raise UsageError(
            f"{printable(folder)}: {len(chosen)} training crops are too few; expected {2 * _LEAST_CROPS} at least, better "
            f"{settings.count + settings.measured}"
        )
    measured = min(settings.measured, len(chosen) // 2)
    images = read_crops(chosen, spec.height_px, spec.width_px)
    kept, tried = images.pixels[:-measured], images.pixels[-measured:]
    model = read_graph(source)
    say(f"ranges of {len(int8_layers(model))} layers over {len(kept)} crops")
    form, calibration = _choose(model, kept, tried, settings, spec.blocks, say)
    calibration = _listed(calibration, chosen[: len(kept)], images.sha256)
    path = output or onnx_beside(source, "int8")
    result = form.build(model, calibration.floating)
    onnx.helper.set_model_props(result, spec.with_precision("int8").to_metadata())
    with atomic_output(path) as partial:
        onnx.save_model(result, str(partial))
        onnx.checker.check_model(str(partial), full_check=True)
        report = _prove(partial, tried, chosen[-measured:], reference or OnnxRuntimeEngine(source))
    listing, report_path = calibration_path(path), parity_report_path(path)
    write_json(listing, {"fingerprint": spec.fingerprint, "settings": asdict(settings), **asdict(calibration)})
    write_json(report_path, report.to_dict())
    return CalibrationResult(path, listing, report_path, calibration, report)


def _choose(
    model: Any,  # noqa: ANN401 - a protobuf message
    kept: NDArray[np.uint8],
    tried: NDArray[np.uint8],
    settings: CalibrationSettings,
    blocks: tuple[str, ...],
    say: Progress,
) -> tuple[Form, Calibration]:
    layers = int8_layers(model)
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    weights: dict[str, NDArray[np.int8]] = {}
    if settings.rounding == "compensated":
        moments = empty_moments(model, settings.seed)
        histograms = collect(model, tensors, kept, watch=moments.add)
        say("rounding weights so that their errors cancel on those crops")
        weights = rounded_weights(model, moments)
    else:
        histograms = collect(model, tensors, kept)
    expected = descriptors_of(model, tried)

    def agreement(form: Form, floating: Collection[str] = (), count: int | None = None) -> Agreement:
        found = descriptors_of(form.build(model, floating), tried[:count])
        return compare(expected[:count], found, blocks)

    form, best, compared = _cheapest_form(weights, histograms, layers, settings, agreement, say)
    reached = _reached(best, settings)
    costs: dict[str, float] = {}
    floating: tuple[str, ...] = ()
    if settings.float_layers or (settings.float_layers is None and not reached):
        say(f"the cost of each of {len(layers)} layers alone")
        costs = {layer.name: 1 - agreement(form, _others(layers, layer), _LAYER_CROPS).mean_cosine for layer in layers}
        order = sorted(costs, key=lambda name: -costs[name])
        if settings.float_layers is not None:
            floating = tuple(order[: settings.float_layers])
        else:
            floating = _left_floating(
                _fitting(order, weight_sizes(model)), settings, lambda names: agreement(form, names), say
            )
    return form, Calibration(best.method, tuple(compared), form.name, len(layers), floating, costs, form.steps, ())


def _cheapest_form(
    weights: dict[str, NDArray[np.int8]],
    histograms: dict[str, Histogram],
    layers: Sequence[Layer],
    settings: CalibrationSettings,
    measure: Callable[[Form], Agreement],
    say: Progress,
) -> tuple[Form, MethodResult, list[MethodResult]]:
    """The first form, with its best ranges, that reaches the targets, or the last one; how it did; all that was measured."""
    methods = list(METHODS if settings.method == "auto" else (settings.method,))
    steps = {method: scales(histograms, method) for method in methods}
    heads = tuple(layer.name for layer in layers if layer.head)
    forms = [
        Form("int8", {}, weights),
        Form("fine head", {}, weights, heads),
        Form("float residuals", {}, weights, heads, float_residuals=True),
    ]
    compared: list[MethodResult] = []
    for form in forms if settings.float_layers is None else forms[:1]:
        here = []
        for method in methods:
            found = measure(replace(form, steps=steps[method]))
            here.append(MethodResult(form.name, method, found.min_cosine, found.mean_cosine, found.top1_agreement))
            say(f"{form.name}, {method}: {_words(found)}")
        compared += here
        here.sort(key=lambda result: -result.mean_cosine)
        methods = [result.method for result in here[:_METHODS_KEPT]]
        chosen, best = replace(form, steps=steps[methods[0]]), here[0]
        if _reached(best, settings):
            break
    return chosen, best, compared


@dataclass(frozen=True)
class Form:
    """One way to write a model in int8: ranges, rounded weights, and what is spent on accuracy."""

    name: str
    steps: dict[str, float]
    weights: dict[str, NDArray[np.int8]]
    fine: tuple[str, ...] = ()
    float_residuals: bool = False

    def build(self, model: Any, floating: Collection[str]) -> Any:  # noqa: ANN401
        """The model in int8."""
        return quantised(
            model, self.steps, floating, self.fine, float_residuals=self.float_residuals, rounded=self.weights
        )


def _reached(found: Agreement | MethodResult, settings: CalibrationSettings) -> bool:
    return (
        found.min_cosine >= settings.target and found.mean_cosine >= MEAN_TARGET and found.top1_agreement >= TOP1_TARGET
    )


def _others(layers: Collection[Layer], one: Layer) -> set[str]:
    return {layer.name for layer in layers} - {one.name}


def _words(found: Agreement) -> str:
    return f"minimum cosine {found.min_cosine:.5f}, mean {found.mean_cosine:.5f}, top-1 agreement {found.top1_agreement:.2%}"


def _fitting(order: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    """The layers of ``order`` that can be float32 together, the first ones first, within :data:`LARGEST_SHARE`."""
    total, taken = sum(sizes.values()), 0
    fitting = []
    for name in order:
        if total / 4 + (taken + sizes[name]) * 3 / 4 <= LARGEST_SHARE * total:
            taken += sizes[name]
            fitting.append(name)
    return fitting


def _left_floating(
    candidates: Sequence[str],
    settings: CalibrationSettings,
    measure: Callable[[tuple[str, ...]], Agreement],
    say: Progress,
) -> tuple[str, ...]:
    """As few of the candidates, from the first on, as reach the target; else as many as came nearest to it."""
    best, chosen = -1.0, tuple[str, ...]()
    for count in range(1, len(candidates) + 1):
        names = tuple(candidates[:count])
        found = measure(names)
        say(f"{count} layers in float32: {_words(found)}")
        if _reached(found, settings):
            return names
        if found.mean_cosine > best:
            best, chosen = found.mean_cosine, names
    return chosen


def _listed(calibration: Calibration, crops: list[Crop], digests: tuple[str, ...]) -> Calibration:
    rows = [
        {"name": crop.name, "person": crop.person, "camera": crop.camera, "sha256": digest}
        for crop, digest in zip(crops, digests, strict=False)
    ]
    return replace(calibration, crops=tuple(rows))


def _prove(path: Path, pixels: NDArray[np.uint8], crops: list[Crop], reference: Engine) -> ParityReport:
    labels = Labels(*read_labels([crop.name for crop in crops]))
    with reference, OnnxRuntimeEngine(path) as engine:
        report = check_parity(
            engine,
            pixels,
            reference.run(pixels),
            reference_name=reference.runtime,
            reference_fingerprint=reference.spec.fingerprint,
            labels=labels,
        )
    if not report.passed:
        raise CheckFailedError(
            f"the int8 model does not answer as {reference.runtime}: {'; '.join(report.failures)}; nothing was kept. Give "
            "more crops, like those of the deployment, or leave more layers in float32",
            parameter=("count", "float_layers"),
        )
    return report
