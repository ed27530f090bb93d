"""The training loss (paper, section 3.4): batch-hard triplets on every block, cross entropy on every classifier."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rrid_train.model import RRIDOutput

CROSS_ENTROPY_WEIGHT = 2.0
"""Weight of the sum of cross entropies beside the sum of triplet losses (published recipe)."""


class LossTerms(NamedTuple):
    """The terms of one batch, scalars.

    Attributes:
        total: what is minimised: triplet + 2 x cross entropy.
        triplet: sum over the descriptor's blocks.
        cross_entropy: sum over the classifiers.
        precision: share of images whose person the mean of all classifiers names, in [0, 1].
    """

    total: Tensor
    triplet: Tensor
    cross_entropy: Tensor
    precision: Tensor


def batch_hard_triplet(features: Tensor, persons: Tensor, margin: float) -> Tensor:
    """Batch-hard triplet loss: for each anchor the farthest of its person against the nearest of another.

    Args:
        features: float (..., B, D); leading axes are separate embeddings.
        persons: int64 (B,).
        margin: distance in the features' own units.

    Returns:
        float (...,): mean over the B anchors of max(0, farthest positive - nearest negative + margin), Euclidean. An
        anchor is its own positive where it has no other; where the batch holds one person only, the loss is 0.
    """
    distances = pairwise_distances(features)
    same = persons[:, None] == persons[None, :]
    if bool(same.all()):
        return distances.sum((-2, -1)) * 0
    positive = distances.masked_fill(~same, -torch.inf).amax(-1)
    negative = distances.masked_fill(same, torch.inf).amin(-1)
    return F.relu(positive - negative + margin).mean(-1)


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances (..., B, B) of float features (..., B, D), with a gradient at distance 0."""
    squares = features.square().sum(-1)
    products = features @ features.transpose(-2, -1)
    squared = squares[..., :, None] + squares[..., None, :] - 2 * products
    return squared.clamp_min(1e-12).sqrt()


def rrid_loss(output: RRIDOutput, persons: Tensor, *, margin: float = 1.2, label_smoothing: float = 0.0) -> LossTerms:
    """The whole loss of one batch, computed in float32.

    Args:
        output: blocks (B, blocks, width) and logits (heads, B, persons) of the network.
        persons: int64 (B,), in [0, persons).
        margin: of the triplet loss.
        label_smoothing: share of the target spread over all people; 0 in the published recipe.
    """
    blocks, logits = output.blocks.float().transpose(0, 1), output.logits.float()
    triplet = batch_hard_triplet(blocks, persons, margin).sum()
    heads, batch, classes = logits.shape
    targets = persons.expand(heads, batch).reshape(-1)
    mean = F.cross_entropy(logits.reshape(-1, classes), targets, label_smoothing=label_smoothing)
    cross_entropy = mean * heads
    precision = (logits.detach().mean(0).argmax(1) == persons).float().mean()
    return LossTerms(triplet + CROSS_ENTROPY_WEIGHT * cross_entropy, triplet, cross_entropy, precision)
