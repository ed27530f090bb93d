"""Choose the form of an int8 model: ranges, rounded weights, and which parts stay in float32.

Forms are tried from the fastest to the most accurate one, until the measured crops reach the targets. The measurements
behind the forms and the targets: ``docs/decisions/precision.md``, section int8.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_calib.graph import Layer, int8_layers, quantised, weight_sizes
from rrid_calib.ranges import METHODS, Histogram, collect, descriptors_of, scales
from rrid_calib.rounding import empty_moments, rounded_weights
from rrid_calib.settings import CalibrationSettings
from rrid_edge.parity.agreement import Agreement, compare

LARGEST_SHARE = 0.3
"""Largest size of the int8 weights, as a share of the float32 weights. It limits the layers that stay in float32."""
TOP1_TARGET = 0.995
"""Share of the measured crops that must keep their nearest neighbour."""
MEAN_TARGET = 0.99995
"""Lowest mean cosine of the measured crops."""
_METHODS_KEPT = 2
"""Number of methods, those with the highest mean cosine, that the next form tries again."""
_LAYER_CROPS = 16
"""Number of measured crops on which the error of each single layer is measured."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class MethodResult:
    """Accuracy of one method and one form, with all layers in int8.

    Attributes:
        form: name of the form; see :class:`Form`.
        method: how ranges were chosen.
        min_cosine: lowest cosine with the float32 model on the measured crops.
        mean_cosine: mean cosine on the measured crops.
        top1_agreement: share of the measured crops whose nearest neighbour among them stays the same.
    """

    form: str
    method: str
    min_cosine: float
    mean_cosine: float
    top1_agreement: float


@dataclass(frozen=True)
class Form:
    """One way to write a model in int8.

    Attributes:
        name: ``int8`` (all layers), ``fine head`` (the head's input is quantised in two steps) or ``float residuals``
            (as ``fine head``, with residual adds in float32).
        scales: scale of each activation.
        weights: weight name -> int8 weights; others are rounded to the nearest step.
        two_step_layers: names of layers whose input is quantised in two steps.
        float_residuals: add residuals in float32.
    """

    name: str
    scales: dict[str, float]
    weights: dict[str, NDArray[np.int8]]
    two_step_layers: tuple[str, ...] = ()
    float_residuals: bool = False

    def build(self, model: Any, float_layers: Collection[str]) -> Any:  # noqa: ANN401 - a protobuf message
        """Write ``model`` in int8, except the layers in ``float_layers``."""
        return quantised(
            model,
            self.scales,
            float_layers,
            self.two_step_layers,
            float_residuals=self.float_residuals,
            rounded=self.weights,
        )


@dataclass(frozen=True)
class Choice:
    """The form that was chosen, and the measurements behind it.

    Attributes:
        form: the form, with its scales.
        method: how its ranges were chosen.
        compared: accuracy of each method in each form that was tried.
        layers: number of layers that can be int8.
        float_layers: names of layers that stay in float32.
        layer_costs: layer name -> 1 - mean cosine with only this layer in int8; empty if it was not measured.
    """

    form: Form
    method: str
    compared: tuple[MethodResult, ...]
    layers: int
    float_layers: tuple[str, ...]
    layer_costs: dict[str, float]


class Trial:
    """Measures forms of a model against the float32 model.

    Args:
        model: float32 model from :func:`rrid_calib.graph.read_graph`.
        pixels: measured crops, uint8 (N, height, width, 3).
        blocks: names of the descriptor's blocks.
    """

    def __init__(self, model: Any, pixels: NDArray[np.uint8], blocks: tuple[str, ...]) -> None:  # noqa: ANN401
        self.model, self._pixels, self._blocks = model, pixels, blocks
        self._expected = descriptors_of(model, pixels)

    def agreement(self, form: Form, float_layers: Collection[str] = (), count: int | None = None) -> Agreement:
        """Compare the int8 model with the float32 model on the first ``count`` measured crops, or on all."""
        found = descriptors_of(form.build(self.model, float_layers), self._pixels[:count])
        return compare(self._expected[:count], found, self._blocks)


def choose_form(trial: Trial, pixels: NDArray[np.uint8], settings: CalibrationSettings, say: Say) -> Choice:
    """Choose the first form that reaches the targets, and the layers that stay in float32.

    Args:
        trial: measures the forms.
        pixels: crops to take ranges from, uint8 (N, height, width, 3).
        settings: how to calibrate.
        say: called with one line per step.
    """
    layers = int8_layers(trial.model)
    histograms, weights = _ranges_and_weights(trial.model, pixels, settings, say)
    form, compared = _cheapest_form(trial, _forms(layers, weights), histograms, settings, say)
    best = next(result for result in compared if result.form == form.name)
    needs_float_layers = settings.float_layers is None and not _reaches_targets(best, settings)
    costs: dict[str, float] = {}
    float_layers: tuple[str, ...] = ()
    if settings.float_layers or needs_float_layers:
        say(f"measuring the error of each of the {len(layers)} layers alone")
        costs = {layer.name: _cost(trial, form, layers, layer) for layer in layers}
        costliest_first = sorted(costs, key=lambda name: -costs[name])
        if settings.float_layers is not None:
            float_layers = tuple(costliest_first[: settings.float_layers])
        else:
            candidates = _layers_that_fit(costliest_first, weight_sizes(trial.model))
            float_layers = _fewest_float_layers(trial, form, candidates, settings, say)
    return Choice(form, best.method, tuple(compared), len(layers), float_layers, costs)


def _ranges_and_weights(
    model: Any,  # noqa: ANN401
    pixels: NDArray[np.uint8],
    settings: CalibrationSettings,
    say: Say,
) -> tuple[dict[str, Histogram], dict[str, NDArray[np.int8]]]:
    layers = int8_layers(model)
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    say(f"measuring the ranges of {len(layers)} layers on {len(pixels)} crops")
    if settings.rounding == "nearest":
        return collect(model, tensors, pixels), {}
    moments = empty_moments(model, settings.seed)
    histograms = collect(model, tensors, pixels, watch=moments.add)
    say("rounding weights so that their errors cancel on these crops")
    return histograms, rounded_weights(model, moments)


def _forms(layers: Sequence[Layer], weights: dict[str, NDArray[np.int8]]) -> list[Form]:
    """All forms, the fastest one first; their scales are not set yet."""
    heads = tuple(layer.name for layer in layers if layer.head)
    return [
        Form("int8", {}, weights),
        Form("fine head", {}, weights, heads),
        Form("float residuals", {}, weights, heads, float_residuals=True),
    ]


def _cheapest_form(
    trial: Trial,
    forms: Sequence[Form],
    histograms: dict[str, Histogram],
    settings: CalibrationSettings,
    say: Say,
) -> tuple[Form, list[MethodResult]]:
    """The first form that reaches the targets, else the last one, with its best method; and all measurements.

    The measurements of each form are sorted, the best method first.
    """
    methods = list(METHODS if settings.method == "auto" else (settings.method,))
    scales_by_method = {method: scales(histograms, method) for method in methods}
    compared: list[MethodResult] = []
    for form in forms if settings.float_layers is None else forms[:1]:
        results = []
        for method in methods:
            found = trial.agreement(replace(form, scales=scales_by_method[method]))
            results.append(MethodResult(form.name, method, found.min_cosine, found.mean_cosine, found.top1_agreement))
            say(f"{form.name}, {method}: {_in_words(found)}")
        results.sort(key=lambda result: -result.mean_cosine)
        compared += results
        # Clipping pays less in the more accurate forms, so more than one method is tried again.
        methods = [result.method for result in results[:_METHODS_KEPT]]
        chosen = replace(form, scales=scales_by_method[methods[0]])
        if _reaches_targets(results[0], settings):
            break
    return chosen, compared


def _reaches_targets(found: Agreement | MethodResult, settings: CalibrationSettings) -> bool:
    # The mean cosine is a target too, because the neighbours of 200 crops alone are a coarse measure.
    return (
        found.min_cosine >= settings.target and found.mean_cosine >= MEAN_TARGET and found.top1_agreement >= TOP1_TARGET
    )


def _cost(trial: Trial, form: Form, layers: Collection[Layer], layer: Layer) -> float:
    """1 - mean cosine with only ``layer`` in int8."""
    others = {other.name for other in layers} - {layer.name}
    return 1 - trial.agreement(form, others, _LAYER_CROPS).mean_cosine


def _in_words(found: Agreement) -> str:
    return (
        f"minimum cosine {found.min_cosine:.5f}, mean {found.mean_cosine:.5f}, "
        f"top-1 agreement {found.top1_agreement:.2%}"
    )


def _layers_that_fit(order: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    """The layers that can be float32 together within :data:`LARGEST_SHARE`, taken in ``order``."""
    total, in_float32 = sum(sizes.values()), 0
    fitting = []
    for name in order:
        # In float32 weights: a layer in int8 takes a quarter of its size, float32 adds three quarters.
        if total / 4 + (in_float32 + sizes[name]) * 3 / 4 <= LARGEST_SHARE * total:
            in_float32 += sizes[name]
            fitting.append(name)
    return fitting


def _fewest_float_layers(
    trial: Trial, form: Form, candidates: Sequence[str], settings: CalibrationSettings, say: Say
) -> tuple[str, ...]:
    """The fewest first candidates that reach the targets in float32, else those with the highest mean cosine."""
    best, chosen = -1.0, tuple[str, ...]()
    for count in range(1, len(candidates) + 1):
        names = tuple(candidates[:count])
        found = trial.agreement(form, names)
        say(f"{count} layers in float32: {_in_words(found)}")
        if _reaches_targets(found, settings):
            return names
        if found.mean_cosine > best:
            best, chosen = found.mean_cosine, names
    return chosen
