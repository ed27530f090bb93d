"""Compensated rounding of weights, compared with an exhaustive search and measured on activations of a network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rrid_calib.layers import Layer, int8_layers, read_graph
from rrid_calib.ranges import collect, descriptors_of, ranges_of
from rrid_calib.rounding import SecondMoments, compensated, empty_moments, rounded_weights
from rrid_calib.weights import LARGEST, quantised_weights, weight_steps
from rrid_edge.parity.agreement import row_cosines
from support.int8 import form_of
from support.networks import TINY


def _error(weights, steps, rounded, moments):
    """Mean squared error of the outputs, summed over all of them."""
    off = (rounded * steps[:, None] - weights).astype(np.float64)
    return float(np.einsum("ok,kj,oj->", off, moments.astype(np.float64), off))


def _correlated(count, inputs, seed):
    """Positive, correlated inputs, as after a ReLU: (count, inputs)."""
    generator = np.random.default_rng(seed)
    return np.abs(generator.standard_normal((count, 1)) + 0.3 * generator.standard_normal((count, inputs)))


def test_uncorrelated_inputs_give_the_nearest_step():
    weights = np.random.default_rng(0).standard_normal((6, 9)).astype(np.float32)
    nearest, steps = quantised_weights(weights)
    np.testing.assert_array_equal(compensated(weights, steps, np.eye(9, dtype=np.float32)[None]), nearest)


def test_compensated_error_is_close_to_the_best_rounding():
    """On thirty small layers, compensation removes more than half of the avoidable error of the nearest step."""
    best = nearest = mine = 0.0
    for seed in range(30):
        weights = np.random.default_rng(seed).uniform(-1, 1, (1, 8)).astype(np.float32)
        steps = np.full(1, 0.3, np.float32)
        inputs = _correlated(500, 8, seed)
        moments = (inputs.T @ inputs / len(inputs)).astype(np.float32)
        below = np.floor(weights / steps[:, None])
        tried = (below + np.array(up) for up in itertools.product((0, 1), repeat=8))
        best += min(_error(weights, steps, one, moments) for one in tried)
        nearest += _error(weights, steps, np.rint(weights / steps[:, None]), moments)
        mine += _error(weights, steps, compensated(weights, steps, moments[None]), moments)
    assert best < mine < nearest
    assert mine - best < 0.5 * (nearest - best)


def _gptq(weights, steps, moments):
    """Algorithm 1 of the paper, one input at a time: with the Cholesky factor of the inverse of the damped H."""
    damped = moments + 0.01 * np.mean(np.diag(moments)) * np.eye(len(moments))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    adjusted = weights.astype(np.float64)
    result = np.empty(weights.shape)
    for index in range(weights.shape[1]):
        result[:, index] = np.clip(np.rint(adjusted[:, index] / steps), -LARGEST, LARGEST)
        error = (adjusted[:, index] - result[:, index] * steps) / factor[index, index]
        adjusted[:, index:] -= np.outer(error, factor[index, index:])
    return result


@pytest.mark.parametrize("inputs", [1, 7, 128, 301])
def test_the_weights_are_those_of_the_published_algorithm(inputs):
    values = _correlated(2 * inputs, inputs, 4)
    moments = values.T @ values / len(values)
    weights = np.random.default_rng(5).standard_normal((16, inputs)).astype(np.float32)
    steps = weight_steps(weights) * np.float32(0.8)  # some weights are clipped
    found = compensated(weights, steps, moments[None].astype(np.float32))
    # float32 products decide a few ties otherwise
    assert np.mean(found != _gptq(weights, steps, moments)) < 0.002


def test_values_are_int8_and_groups_are_independent():
    generator = np.random.default_rng(3)
    weights = generator.standard_normal((8, 300, 1, 1)).astype(np.float32)  # more inputs than one block
    moments = np.stack([_correlated(900, 300, seed).T @ _correlated(900, 300, seed) / 900 for seed in (1, 2)]).astype(
        np.float32
    )
    found = compensated(weights, weight_steps(weights), moments)
    assert found.dtype == np.int8
    assert found.shape == weights.shape
    assert np.abs(found.astype(int)).max() <= LARGEST
    alone = [
        compensated(weights[part], weight_steps(weights[part]), moments[[index]])
        for index, part in enumerate((slice(0, 4), slice(4, 8)))
    ]
    np.testing.assert_array_equal(found, np.concatenate(alone))


def test_inputs_of_zeros_give_the_nearest_step():
    weights = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    found = compensated(weights, weight_steps(weights), np.zeros((1, 4, 4), np.float32))
    np.testing.assert_array_equal(found, quantised_weights(weights)[0])


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, 0)])
def test_moments_equal_those_of_unfolded_inputs(stride, padding):
    """On maps so small that all positions are sampled; the expected inputs are unfolded by PyTorch."""
    values = np.random.default_rng(0).standard_normal((5, 3, 4, 6)).astype(np.float32)
    layer = Layer("conv", "input", "weight", None)
    moments = SecondMoments([layer], {"conv": (7, 3, 3, 3)}, {"conv": (stride, padding)})
    for start in (0, 2):
        moments.add("input", values[start : start + (2 if start == 0 else 3)])
    unfolded = (
        F.unfold(torch.from_numpy(values), 3, padding=padding, stride=stride).permute(0, 2, 1).reshape(-1, 27).numpy()
    )
    found = moments.of("conv")
    assert found is not None
    np.testing.assert_allclose(found[0], unfolded.T @ unfolded / len(unfolded), rtol=1e-4, atol=1e-5)


def test_sampled_positions_do_not_depend_on_the_batch():
    values = np.random.default_rng(0).standard_normal((6, 2, 9, 9)).astype(np.float32)
    layer = Layer("conv", "input", "weight", None)
    found = []
    for batch in (1, 4):
        moments = SecondMoments([layer], {"conv": (7, 2, 1, 1)}, {"conv": (1, 0)})
        for start in range(0, 6, batch):
            moments.add("input", values[start : start + batch])
        seen = moments.of("conv")
        assert seen is not None
        found.append(seen)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_moments_do_not_depend_on_when_they_are_added(monkeypatch):
    """Inputs are gathered, because adding to the moments of a wide layer costs more than a few more inputs."""
    values = np.random.default_rng(0).standard_normal((7, 2, 4, 4)).astype(np.float32)
    layer = Layer("conv", "input", "weight", None)
    found = []
    for rows in (1, 40, 10_000):  # at once, after three images, at the end
        monkeypatch.setattr("rrid_calib.rounding._ROWS", rows)
        moments = SecondMoments([layer], {"conv": (7, 2, 1, 1)}, {"conv": (1, 0)})
        for image in range(7):
            moments.add("input", values[image : image + 1])
        seen = moments.of("conv")
        assert seen is not None
        np.testing.assert_array_equal(moments.of("conv"), seen)
        found.append(seen)
    assert SecondMoments([layer], {"conv": (7, 2, 1, 1)}, {"conv": (1, 0)}).of("conv") is None
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-5)


def test_compensation_reduces_the_error_of_a_network(narrow_export):
    model = read_graph(narrow_export / "rrid.onnx")
    shape = (96, TINY.height_px, TINY.width_px, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    moments = empty_moments(model)
    histograms = collect(
        model, {layer.source for layer in moments._layers} | _residuals(model), pixels[:48], watch=moments.add
    )
    ranges, rounded = ranges_of(histograms, "minmax"), rounded_weights(model, moments)
    assert len(rounded) == 23
    expected = descriptors_of(model, pixels[48:])

    def lost(weights):
        found = form_of(model, "float residuals", ranges, weights=weights).build(model)
        return 1 - row_cosines(expected, descriptors_of(found, pixels[48:])).mean()

    assert lost(rounded) < 0.7 * lost({})


def _residuals(model):
    return {layer.residual for layer in int8_layers(model)} - {None}
