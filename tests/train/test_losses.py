"""Every term of the loss: against slow implementations and published values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rrid_train.losses import batch_hard_triplet, rrid_loss
from rrid_train.model import RRIDOutput
from support import reference


def _slow_triplet(features: np.ndarray, persons: np.ndarray, margin: float) -> float:
    losses = []
    for anchor in range(len(features)):
        distances = [float(np.sqrt(((features[anchor] - other) ** 2).sum())) for other in features]
        farthest = max(d for d, person in zip(distances, persons, strict=True) if person == persons[anchor])
        nearest = min(d for d, person in zip(distances, persons, strict=True) if person != persons[anchor])
        losses.append(max(0.0, farthest - nearest + margin))
    return float(np.mean(losses))


@pytest.mark.parametrize("margin", [1.2, 0.3])
def test_triplet_equals_the_published_value(margin):
    expected = json.loads((reference.DATA / "ranking_expected.json").read_text())[f"triplet_margin_{margin}"]
    with np.load(reference.DATA / "ranking_inputs.npz") as stored:
        names = [name for name in stored.files if name.startswith("triplet")]
        features = torch.from_numpy(stored[next(name for name in names if stored[name].ndim == 2)]).float()
        persons = torch.from_numpy(stored[next(name for name in names if stored[name].ndim == 1)])
    assert batch_hard_triplet(features, persons, margin).item() == pytest.approx(expected, abs=1e-5)


def test_triplet_equals_the_slow_implementation():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((12, 7)).astype(np.float32)
    persons = generator.integers(0, 4, 12)
    value = batch_hard_triplet(torch.from_numpy(features), torch.from_numpy(persons), 0.7).item()
    assert value == pytest.approx(_slow_triplet(features, persons, 0.7), abs=1e-5)


def test_triplet_of_several_embeddings_at_once():
    features = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    persons = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    together = batch_hard_triplet(features, persons, 1.2)
    for index in range(3):
        assert together[index].item() == pytest.approx(batch_hard_triplet(features[index], persons, 1.2).item())


def test_triplet_of_equal_features_has_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), 1.2)
    loss.backward()
    assert loss.item() == pytest.approx(1.2, abs=1e-5)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_triplet_of_one_person_is_zero():
    assert batch_hard_triplet(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64), 1.2).item() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_total_is_triplets_plus_twice_the_cross_entropies(smoothing):
    generator = np.random.default_rng(1)
    blocks = generator.standard_normal((6, 3, 4)).astype(np.float32)
    logits = generator.standard_normal((5, 6, 7)).astype(np.float32)
    persons = np.array([0, 0, 3, 3, 6, 6])
    terms = rrid_loss(
        RRIDOutput(torch.from_numpy(blocks), torch.from_numpy(logits)),
        torch.from_numpy(persons),
        margin=1.2,
        label_smoothing=smoothing,
    )
    triplet = sum(_slow_triplet(blocks[:, block], persons, 1.2) for block in range(3))
    cross_entropy = 0.0
    for head in logits.astype(np.float64):
        logs = head - np.log(np.exp(head).sum(1, keepdims=True))
        chosen = logs[np.arange(6), persons]
        cross_entropy += float(-((1 - smoothing) * chosen + smoothing * logs.mean(1)).mean())
    assert terms.triplet.item() == pytest.approx(triplet, rel=1e-5)
    assert terms.cross_entropy.item() == pytest.approx(cross_entropy, rel=1e-5)
    assert terms.total.item() == pytest.approx(triplet + 2 * cross_entropy, rel=1e-5)
    assert terms.precision.item() == pytest.approx((logits.mean(0).argmax(1) == persons).mean())
