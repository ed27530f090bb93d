"""The verdict: each criterion at its limit, few crops, damaged layers, and what the command makes of it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from rrid_edge.engines import open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.parity.agreement import compare
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.parity.layers import judge_layers, scale_errors
from rrid_edge.parity.verdict import (
    TOLERANCES,
    Change,
    Criterion,
    Outcome,
    judge_batches,
    judge_changes,
    judge_cosines,
    judge_map,
    overall,
)
from rrid_edge.ranking.labels import Labels
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model

BF16 = TOLERANCES["bf16"]
SAME = np.eye(4, dtype=np.float32)
EQUAL = compare(SAME, SAME, ("one",))


def _agreement(**values):
    return dataclasses.replace(EQUAL, **values)


def test_cosines_are_compared_with_the_limits_of_the_arithmetic():
    assert judge_cosines(EQUAL, BF16).outcome is Outcome.PASSED
    low = judge_cosines(_agreement(min_cosine=0.998, mean_cosine=0.9998), BF16)
    assert low.outcome is Outcome.FAILED
    assert low.reason == "minimum cosine 0.998 is below 0.999; mean cosine 0.9998 is below 0.9999"
    # A float32 engine whose descriptors are those of a bfloat16 engine is wrong.
    assert judge_cosines(_agreement(mean_cosine=1 - 1e-6), TOLERANCES["fp32"]).outcome is Outcome.FAILED
    assert judge_batches(0.9, BF16).reason.startswith("descriptors change with the batch: cosine 0.9 is below 0.999")


@pytest.mark.parametrize(
    ("counted", "answers", "outcome"),
    [
        (0, 58, Outcome.UNDECIDED),
        (0, 59, Outcome.PASSED),
        (4, 200, Outcome.PASSED),  # the bound is 4.5 %
        (5, 200, Outcome.UNDECIDED),  # 5.2 %
        (15, 200, Outcome.UNDECIDED),  # 4.7 % to 11.3 %
        (16, 200, Outcome.FAILED),
        (200, 4000, Outcome.UNDECIDED),
        (300, 4000, Outcome.FAILED),
        (0, 0, Outcome.PASSED),
    ],
)
def test_changed_answers_are_judged_by_their_bounds(counted, answers, outcome):
    found = judge_changes(_agreement(counted=counted, answers=answers), BF16)
    assert found.outcome is outcome
    assert bool(found.reason) == (outcome is not Outcome.PASSED)


def test_an_undecided_share_says_how_many_crops_decide():
    assert "give at least 59 crops" in judge_changes(_agreement(counted=0, answers=20), BF16).reason
    # 3 % seen, 5 % allowed: 1.645 ** 2 * 0.05 * 0.95 / 0.02 ** 2
    assert "give at least 322 crops" in judge_changes(_agreement(counted=6, answers=200), BF16).reason
    assert "give more crops" in judge_changes(_agreement(counted=10, answers=200), BF16).reason


def test_float32_is_decided_by_cosines_but_many_changes_fail():
    exact = TOLERANCES["fp32"]
    assert judge_changes(_agreement(counted=0, answers=2), exact).outcome is Outcome.PASSED
    assert judge_changes(_agreement(counted=1, answers=5000), exact).outcome is Outcome.PASSED
    assert judge_changes(_agreement(counted=5, answers=200), exact).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (None, Outcome.PASSED),
        (Change(900, 0.001, -0.004, 0.006), Outcome.PASSED),
        (Change(50, -0.002, -0.02, 0.016), Outcome.UNDECIDED),
        (Change(50, -0.02, -0.04, 0.001), Outcome.UNDECIDED),
        (Change(900, -0.02, -0.03, -0.01), Outcome.FAILED),
    ],
)
def test_map_is_judged_by_its_interval(change, outcome):
    assert judge_map(change, BF16).outcome is outcome


def test_an_undecided_map_says_how_many_queries_decide():
    # 0.018 below the mean of -0.002; allowed are 0.003 below it. The interval shrinks with the root of the queries.
    assert "give at least 1,801 queries" in judge_map(Change(50, -0.002, -0.02, 0.016), BF16).reason


def test_the_worst_outcome_is_the_verdict():
    criteria = [Criterion("", outcome) for outcome in Outcome]
    assert overall(()) is Outcome.PASSED
    assert overall(tuple(criteria)) is Outcome.FAILED
    assert overall(tuple(item for item in criteria if item.outcome is not Outcome.FAILED)) is Outcome.UNDECIDED


def _linear_network(layers=5, images=8, inputs=40, dimension=24, seed=0):
    """Descriptors as unit sums of layers, so that the direction of each layer's scale is known in closed form."""
    generator = np.random.default_rng(seed)
    parts = generator.standard_normal((layers, images, dimension)) + generator.standard_normal((layers, 1, dimension))

    def descriptors(scales):
        values = np.einsum("l,lnd->nd", scales, parts)
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)

    exact = descriptors(np.ones(layers))
    steps = np.ones(layers) + 1e-3 * np.eye(layers)
    directions = np.stack([(descriptors(scales) - exact) / np.float32(1e-3) for scales in steps])
    return descriptors, exact, directions, generator


def test_the_layer_with_a_wrong_scale_is_named_below_the_rounding():
    descriptors, exact, directions, generator = _linear_network()
    names = [f"layer{index}" for index in range(5)]
    rounding = 0.004 * generator.standard_normal(exact.shape) / np.sqrt(exact.shape[1])
    healthy = scale_errors(names, directions, exact, (exact + rounding).astype(np.float32))
    assert judge_layers(healthy).outcome is Outcome.PASSED
    scales = np.ones(5)
    scales[3] = 1.02
    found = scale_errors(names, directions, exact, (descriptors(scales) + rounding).astype(np.float32))
    assert found[0].layer == "layer3"
    assert found[0].error == pytest.approx(0.02, abs=0.004)
    verdict = judge_layers(found)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.reason.startswith("the scale of layer layer3 is off by +")


def test_scale_errors_are_least_squares_slopes():
    _, exact, directions, generator = _linear_network(seed=4)
    other = exact + generator.standard_normal(exact.shape).astype(np.float32) * 0.01
    for scale in scale_errors(list("abcde"), directions, exact, other):
        column = directions["abcde".index(scale.layer)].reshape(-1, 1)
        error = (other - exact).reshape(-1)
        slope, residue, *_ = np.linalg.lstsq(column, error, rcond=None)
        assert scale.error == pytest.approx(slope[0], rel=1e-4)
        assert scale.explained == pytest.approx(1 - residue[0] / (error @ error), rel=1e-3, abs=1e-5)
    assert scale_errors(["idle"], np.zeros_like(directions[:1]), exact, other) == ()


@pytest.fixture
def int8_model(tmp_path, monkeypatch):
    """An int8 model with goldens of 12 crops without labels."""
    monkeypatch.chdir(tmp_path)
    spec = fake_spec()
    path = save_tiny_model(tmp_path / "rrid.int8.onnx", spec.with_precision("int8"))
    images = np.random.default_rng(3).integers(0, 256, (12, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    with open_engine(path, "onnxruntime") as engine:
        unknown = Labels(np.full(12, -1), np.full(12, -1))
        save_goldens(tmp_path / "g.npz", Goldens(images, engine.run(images), ("x",) * 12, spec.fingerprint, unknown))
    return path


def test_too_few_crops_end_with_0_and_a_warning_or_with_1_if_asked(int8_model):
    arguments = ("parity", int8_model, "--reference", "g.npz", "--runtime", "onnxruntime", "--output", "p.json")
    outcome = rrid_edge(*arguments)
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[-1].startswith("NOT DECIDED")
    assert "not decided: 0 of 12 first answers changed" in outcome.err
    assert "give at least 59 crops" in outcome.err
    report = json.loads((int8_model.parent / "p.json").read_text())
    assert (report["verdict"], report["passed"], report["failures"]) == ("not decided", False, [])
    refused(rrid_edge(*arguments, "--strict"), 1, "parity is not decided: 0 of 12 first answers")


def test_int8_that_saturates_is_named_as_the_cause(int8_model, monkeypatch):
    save_tiny_model(int8_model, fake_spec().with_precision("int8"), seed=5)  # other weights
    arguments = ("parity", int8_model, "--reference", "g.npz", "--runtime", "openvino", "--output", "p.json")
    monkeypatch.setattr("rrid_edge.parity.run.cpu_flags", lambda: {"avx", "avx2"})
    refused(rrid_edge(*arguments), 1, "this CPU has no VNNI instructions", "take the runtime onnxruntime")
    monkeypatch.setattr("rrid_edge.parity.run.cpu_flags", lambda: {"avx2", "avx512_vnni"})
    outcome = rrid_edge(*arguments)
    refused(outcome, 1, "parity failed")
    assert "VNNI" not in outcome.err


def test_a_layer_that_hardly_changes_descriptors_is_not_wrong():
    """Its scale cannot be told from the rounding, and does no harm."""
    _, exact, directions, generator = _linear_network(images=32)
    idle = 1e-3 * directions[:1]
    rounding = 0.02 * generator.standard_normal(exact.shape) / np.sqrt(exact.shape[1])
    engine = (exact + rounding + 0.02 * idle[0]).astype(np.float32)
    assert judge_layers(scale_errors(["idle"], idle, exact, engine)).outcome is Outcome.PASSED
