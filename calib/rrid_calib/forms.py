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

from rrid_calib.graph import Form
from rrid_calib.layers import Layer, in_words, int8_layers, weight_sizes
from rrid_calib.ranges import METHODS, Histogram, collect, descriptors_of, ranges_of
from rrid_calib.rounding import empty_moments, rounded_weights
from rrid_calib.settings import CalibrationSettings
from rrid_edge.parity.agreement import Agreement, compare
from rrid_edge.parity.verdict import TOLERANCES
from rrid_edge.progress import step

LARGEST_SHARE = 0.3
"""Largest size of the int8 weights, as a share of the float32 weights. It limits the layers that stay in float32."""
TOP1_TARGET = 0.995
"""Share of the measured crops that must keep their nearest neighbour."""
MEAN_TARGET = 0.99995
"""Lowest mean cosine of the measured crops."""
_METHODS_KEPT = 2
"""Number of methods, those with the highest mean cosine, that the next form tries again."""
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0.9375)
"""Shares of the layers that are float32 where :data:`LARGEST_SHARE` is too little for parity."""
_LAYER_CROPS = 16
"""Number of measured crops on which the error of each single layer is measured."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class MethodResult:
    """Accuracy of one method and one form, with all layers in int8.

    Attributes:
        form: name of the form; see :class:`Form`.
        signed: whether all activations are int8; otherwise those without negative values are uint8.
        method: how ranges were chosen.
        min_cosine: lowest cosine with the float32 model on the measured crops.
        mean_cosine: mean cosine on the measured crops.
        top1_agreement: share of the measured crops whose nearest neighbour among them stays the same.
    """

    form: str
    signed: bool
    method: str
    min_cosine: float
    mean_cosine: float
    top1_agreement: float


@dataclass(frozen=True)
class Choice:
    """The form that was chosen, and the measurements behind it.

    Attributes:
        form: the form for every runtime, with its ranges; all activations are int8.
        cpu_form: the form for CPUs, from the same ranges and weights; activations without negative values are uint8.
        method: how the ranges were chosen.
        compared: accuracy of each method in each form that was tried.
        layers: number of layers that can be int8.
        float_layers: names of layers that stay in float32 in ``form``.
        cpu_float_layers: names of layers that stay in float32 in ``cpu_form``.
        layer_costs: layer name -> 1 - mean cosine with only this layer in int8; empty if it was not measured.
    """

    form: Form
    cpu_form: Form
    method: str
    compared: tuple[MethodResult, ...]
    layers: int
    float_layers: tuple[str, ...]
    cpu_float_layers: tuple[str, ...]
    layer_costs: dict[str, float]


class Trial:
    """Measures forms of a model against the float32 model.

    Args:
        model: float32 model from :func:`rrid_calib.layers.read_graph`.
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
    """Choose the first form that reaches the targets, and the layers that stay in float32, for each kind of file.

    Args:
        trial: measures the forms.
        pixels: crops to take ranges from, uint8 (N, height, width, 3).
        settings: how to calibrate.
        say: called with one line per step.
    """
    layers = int8_layers(trial.model)
    histograms, weights = _ranges_and_weights(trial.model, pixels, settings, say)
    forms = _forms(layers, weights)
    form, compared = _cheapest_form(trial, forms, histograms, settings, say)
    best = next(result for result in compared if result.form == form.name)
    needs_float_layers = settings.float_layers is None and not _reaches_targets(best, settings)
    costs: dict[str, float] = {}
    float_layers: tuple[str, ...] = ()
    if settings.float_layers or needs_float_layers:
        say(f"measuring the error of {in_words(len(layers))}, each alone")
        costs = _costs(trial, form, layers)
        costliest_first = sorted(costs, key=lambda name: -costs[name])
        if settings.float_layers is not None:
            float_layers = tuple(costliest_first[: settings.float_layers])
        else:
            candidates = _layers_that_fit(costliest_first, weight_sizes(trial.model))
            float_layers, found = _fewest_float_layers(trial, form, candidates, settings, say)
            if not _passes(found or best):
                float_layers = _enough_float_layers(trial, form, costliest_first, say) or float_layers
    faster = forms[: [other.name for other in forms].index(form.name) + 1]
    cpu_forms = [replace(other, ranges=form.ranges, signed=False) for other in faster]
    cpu_form, results = _cpu_form(trial, cpu_forms, best.method, settings, say)
    reached = bool(results) and _reaches_targets(results[-1], settings)
    return Choice(
        form,
        cpu_form,
        best.method,
        (*compared, *results),
        len(layers),
        float_layers,
        () if reached else float_layers,
        costs,
    )


def _ranges_and_weights(
    model: Any,  # noqa: ANN401
    pixels: NDArray[np.uint8],
    settings: CalibrationSettings,
    say: Say,
) -> tuple[dict[str, Histogram], dict[str, NDArray[np.int8]]]:
    layers = int8_layers(model)
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    say(f"measuring the ranges of {in_words(len(layers))} on {len(pixels)} crops")
    if settings.rounding == "nearest":
        return collect(model, tensors, pixels), {}
    moments = empty_moments(model, settings.seed)
    histograms = collect(model, tensors, pixels, watch=moments.add)
    say("rounding weights so that their errors cancel on these crops")
    return histograms, rounded_weights(model, moments)


def _forms(layers: Sequence[Layer], weights: dict[str, NDArray[np.int8]]) -> list[Form]:
    """All forms that differ, the fastest one first; their ranges are not set yet."""
    heads = tuple(layer.name for layer in layers if layer.head)
    forms = [Form("int8", {}, weights, signed=True)]
    if heads:
        forms.append(Form("fine head", {}, weights, heads, signed=True))
    if any(layer.residual is not None for layer in layers):
        forms.append(Form("float residuals", {}, weights, heads, float_residuals=True, signed=True))
    return forms


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
    ranges_by_method = {method: ranges_of(histograms, method) for method in methods}
    compared: list[MethodResult] = []
    for form in forms if settings.float_layers is None else forms[:1]:
        results = [_measured(trial, replace(form, ranges=ranges_by_method[method]), method, say) for method in methods]
        results.sort(key=lambda result: -result.mean_cosine)
        compared += results
        # Clipping pays less in the more accurate forms, so more than one method is tried again.
        methods = [result.method for result in results[:_METHODS_KEPT]]
        chosen = replace(form, ranges=ranges_by_method[methods[0]])
        if _reaches_targets(results[0], settings):
            break
    return chosen, compared


def _cpu_form(
    trial: Trial, forms: Sequence[Form], method: str, settings: CalibrationSettings, say: Say
) -> tuple[Form, list[MethodResult]]:
    """The first form that reaches the targets, else the last one; and the measurements.

    uint8 halves the error of most activations, so a faster form may do than in the file with int8 alone. If the number
    of float32 layers is given, nothing is measured.
    """
    results: list[MethodResult] = []
    for form in forms if settings.float_layers is None else ():
        results.append(_measured(trial, form, method, say))
        if _reaches_targets(results[-1], settings):
            return form, results
    return forms[-1], results


@step("measuring a form of the int8 model")
def _measured(trial: Trial, form: Form, method: str, say: Say) -> MethodResult:
    found = trial.agreement(form)
    say(f"{form.name}{'' if form.signed else ' for CPUs'}, {method}: {_in_words(found)}")
    return MethodResult(form.name, form.signed, method, found.min_cosine, found.mean_cosine, found.top1_agreement)


def _reaches_targets(found: Agreement | MethodResult, settings: CalibrationSettings) -> bool:
    # The mean cosine is a target too, because the neighbours of 200 crops alone are a coarse measure.
    return (
        found.min_cosine >= settings.target and found.mean_cosine >= MEAN_TARGET and found.top1_agreement >= TOP1_TARGET
    )


def _costs(trial: Trial, form: Form, layers: Collection[Layer]) -> dict[str, float]:
    """Layer name -> 1 - mean cosine with only this layer in int8."""
    costs, names = {}, [layer.name for layer in layers]
    with step("measuring each layer alone", len(names)) as measuring:
        for name in names:
            costs[name] = 1 - trial.agreement(form, {*names} - {name}, _LAYER_CROPS).mean_cosine
            measuring.advance(1)
    return costs


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
) -> tuple[tuple[str, ...], Agreement | None]:
    """The fewest first candidates that reach the targets in float32, else those with the highest mean cosine.

    Returns:
        Their names, and the accuracy; none without candidates.
    """
    best: Agreement | None = None
    chosen: tuple[str, ...] = ()
    for count in range(1, len(candidates) + 1):
        names = tuple(candidates[:count])
        found = trial.agreement(form, names)
        say(f"{in_words(count)} in float32: {_in_words(found)}")
        if _reaches_targets(found, settings):
            return names, found
        if best is None or found.mean_cosine > best.mean_cosine:
            best, chosen = found, names
    return chosen, best


def _enough_float_layers(trial: Trial, form: Form, costliest_first: Sequence[str], say: Say) -> tuple[str, ...]:
    """Float32 layers that bring a hard network within parity, whatever their size; empty if 15 of 16 do not."""
    for share in _SHARES:
        names = tuple(costliest_first[: max(1, int(share * len(costliest_first)))])
        found = trial.agreement(form, names)
        say(f"{in_words(len(names))} in float32, of any size: {_in_words(found)}")
        if _passes(found):
            return names
    return ()


def _passes(found: Agreement | MethodResult) -> bool:
    """Whether a file of this accuracy passes parity."""
    limits = TOLERANCES["int8"]
    return found.min_cosine >= limits.min_cosine and found.mean_cosine >= limits.mean_cosine
