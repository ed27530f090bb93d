"""The training loss (paper, section 3.4): batch-hard triplet loss per block, cross entropy per classifier."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rrid_train.model import RRIDOutput

CROSS_ENTROPY_WEIGHT = 2.0
"""Weight of the sum of cross entropies; the sum of triplet losses has weight 1 (published recipe)."""


class LossTerms(NamedTuple):
    """Loss terms of one batch; each is a float scalar.

    Attributes:
        total: the loss to minimise: triplet + 2 x cross_entropy.
        triplet: sum over the descriptor's blocks.
        cross_entropy: sum over the classifiers.
        precision: share of images whose person has the highest mean logit, in [0, 1].
    """

    total: Tensor
    triplet: Tensor
    cross_entropy: Tensor
    precision: Tensor


def batch_hard_triplet(features: Tensor, persons: Tensor, margin: float) -> Tensor:
    """Triplet loss with batch-hard mining: per anchor, the farthest positive and the nearest negative.

    Args:
        features: float (..., B, D); leading axes are separate embeddings.
        persons: int64 (B,).
        margin: margin, in Euclidean distance of ``features``.

    Returns:
        float (...,): mean over the B anchors of max(0, farthest positive - nearest negative + margin). An anchor
        without another positive is its own positive. The loss of a batch with one person is 0.
    """
    distances = pairwise_distances(features)
    same = persons[:, None] == persons[None, :]
    if bool(same.all()):
        return distances.sum((-2, -1)) * 0
    positive = distances.masked_fill(~same, -torch.inf).amax(-1)
    negative = distances.masked_fill(same, torch.inf).amin(-1)
    return F.relu(positive - negative + margin).mean(-1)


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances (..., B, B) between float features (..., B, D). The gradient is finite at distance 0."""
    squares = features.square().sum(-1)
    products = features @ features.transpose(-2, -1)
    squared = squares[..., :, None] + squares[..., None, :] - 2 * products
    return squared.clamp_min(1e-12).sqrt()


def rrid_loss(output: RRIDOutput, persons: Tensor, *, margin: float = 1.2, label_smoothing: float = 0.0) -> LossTerms:
    """Total loss of one batch, computed in float32.

    Args:
        output: blocks (B, blocks, width) and logits (heads, B, persons) of the network.
        persons: int64 (B,), in [0, persons).
        margin: margin of the triplet loss.
        label_smoothing: share of the target that is spread over all persons; 0 in the published recipe.
    """
    blocks, logits = output.blocks.float().transpose(0, 1), output.logits.float()
    triplet = batch_hard_triplet(blocks, persons, margin).sum()
    heads, batch, classes = logits.shape
    targets = persons.expand(heads, batch).reshape(-1)
    mean = F.cross_entropy(logits.reshape(-1, classes), targets, label_smoothing=label_smoothing)
    cross_entropy = mean * heads
    precision = (logits.detach().mean(0).argmax(1) == persons).float().mean()
    return LossTerms(triplet + CROSS_ENTROPY_WEIGHT * cross_entropy, triplet, cross_entropy, precision)
