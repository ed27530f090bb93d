"""The inference branch: the trained network rewritten for speed, with the same values.

It differs from the trained network (:class:`rrid_train.model.RRID`) in five points:

- The graph scales and normalises uint8 pixels with one multiplication and one addition.
- Each image and its mirror are adjacent in one batch. The graph ends with their mean and the L2 norm.
- Batch norms are folded into the convolutions before them.
- The feature map is max-pooled once to a strip of lcm(stripes) rows. The stripes of all scales and the global maximum
  are maxima over rows of this strip.
- The 15 local, 15 rest and 15 relation projections are three batched matrix products.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rrid_edge.errors import CheckFailedError
from rrid_edge.model.spec import FLOAT32_NCHW, IMAGENET_MEAN, IMAGENET_STD, UINT8_NHWC
from rrid_train.model import RRID

_FLOAT16_MAX = 65504.0


class InferenceBranch(nn.Module):
    """Images to unit descriptors.

    Args:
        model: the trained network; it is copied and not changed.
        flip: True averages each image with its mirror (published evaluation); False uses the image alone.
        form: form of the input, one of :data:`rrid_edge.model.spec.INPUT_FORMS`. It does not change the descriptors.

    Shapes:
        input: uint8 (B, height, width, 3), RGB; float32 (B, 3, height, width) of 0 to 255 for ``float32-nchw``.
        output: float32 (B, blocks * block_width), rows of unit length.
    """

    scale: Tensor
    shift: Tensor
    part_weight: Tensor
    part_bias: Tensor
    rest_weight: Tensor
    rest_bias: Tensor
    relation_weight: Tensor
    relation_bias: Tensor

    def __init__(self, model: RRID, *, flip: bool = True, form: str = UINT8_NHWC) -> None:
        super().__init__()
        self.config = model.config
        self.compute_dtype = torch.float32
        self.flip = flip
        self.form = form
        self.backbone = _folded_backbone(model)
        self.strip_rows = math.lcm(*model.config.stripes)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (1 / (255 * std)).reshape(3, 1, 1))
        self.register_buffer("shift", (-mean / std).reshape(3, 1, 1))
        for name, local, overall in (
            ("part", "local", "max"),
            ("rest", "rest", "rest"),
            ("relation", "relation", "pooling"),
        ):
            weight, bias = _stacked_projections(model, local, overall)
            self.register_buffer(f"{name}_weight", weight)
            self.register_buffer(f"{name}_bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        """Unit descriptors of images; see the class."""
        planes = images if self.form == FLOAT32_NCHW else images.float().permute(0, 3, 1, 2)
        pixels = (planes * self.scale + self.shift).to(self.compute_dtype)
        if not self.flip:
            return _unit_length(self.blocks(pixels).flatten(1))
        # stack and flatten keep the batch size symbolic; chunk and cat froze it in the exported graph.
        views = torch.stack([pixels, pixels.flip(3)], dim=1).flatten(0, 1)
        features = self.blocks(views).flatten(1).float()
        # Sum and mean have the same direction, and the norm removes the length.
        return _unit_length(features.reshape(-1, 2, features.shape[1]).sum(1))

    def to_half(self) -> InferenceBranch:
        """Convert this branch to float16 weights and arithmetic, in place, and return it.

        Two parts stay in float32: scaling and normalisation of the pixels, and everything from the sum of the two views
        on. See ``docs/decisions/precision.md``.

        Raises:
            CheckFailedError: a weight exceeds the range of float16.
        """
        # Batch norms were folded in float32 before: folding in float16 doubles the error.
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            if not bool((tensor.abs() < _FLOAT16_MAX).all()):
                largest = float(tensor.abs().max())
                raise CheckFailedError(
                    f"weights {name!r} reach {largest:.3g} and exceed float16: expected magnitudes below 65504; export "
                    "this network in fp32"
                )
        return self._convert_to(torch.float16)

    def to_bfloat16(self) -> InferenceBranch:
        """Convert this branch to bfloat16 weights and arithmetic, in place, and return it.

        The same parts as in :meth:`to_half` stay in float32.
        """
        return self._convert_to(torch.bfloat16)

    def _convert_to(self, dtype: torch.dtype) -> InferenceBranch:
        self.backbone.to(dtype)
        for projection in ("part", "rest", "relation"):
            for suffix in ("weight", "bias"):
                name = f"{projection}_{suffix}"
                self.register_buffer(name, getattr(self, name).to(dtype))
        self.compute_dtype = dtype
        return self

    def blocks(self, pixels: Tensor) -> Tensor:
        """Descriptor blocks before mean and norm.

        Args:
            pixels: normalised pixels (N, 3, height, width) in ``compute_dtype``.

        Returns:
            Blocks (N, blocks, block_width) in ``compute_dtype``.
        """
        return self.head(self.backbone(pixels))

    def head(self, features: Tensor) -> Tensor:
        """Descriptor blocks (N, blocks, block_width) of the backbone's feature map (N, channels, rows, columns)."""
        rows, columns = features.shape[2:]
        strip = F.max_pool2d(features, (rows // self.strip_rows, columns)).flatten(2)
        parts, rests = self._pooled(strip)
        part = torch.relu(torch.matmul(parts, self.part_weight) + self.part_bias)
        rest = torch.relu(torch.matmul(rests, self.rest_weight) + self.rest_bias)
        both = torch.cat([part, rest], dim=2)
        relation = torch.relu(torch.matmul(both, self.relation_weight) + self.relation_bias)
        return (part + relation).transpose(0, 1)

    def _pooled(self, strip: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the strip (N, channels, strip rows) to the inputs of the projections.

        Returns:
            The pooled features of the blocks and what they are related to, both (blocks, N, channels). A stripe is
            related to the mean of the other stripes of its scale, a global block to its contrast.
        """
        global_max = strip.amax(2, keepdim=True)
        parts, rests, contrasts = [], [], []
        for count in self.config.stripes:
            pooled = strip.reshape(strip.shape[0], strip.shape[1], count, -1).amax(3)
            total = pooled.sum(2, keepdim=True)
            parts.append(pooled)
            rests.append((total - pooled) * (1 / (count - 1)))
            contrasts.append((total - global_max) * (1 / (count - 1)))
        peaks = [global_max] * len(contrasts)
        return torch.cat([*parts, *peaks], 2).permute(2, 0, 1), torch.cat([*rests, *contrasts], 2).permute(2, 0, 1)


def _unit_length(features: Tensor) -> Tensor:
    """Scale rows to unit length, in float32."""
    features = features.float()
    return features / features.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def _folded_backbone(model: RRID) -> nn.Sequential:
    """Copy the backbone, with each batch norm folded into the convolution before it."""
    base: Any = copy.deepcopy(model.base).eval()
    for parent in list(base.modules()):
        names: dict[str, Any] = dict(parent.named_children())
        for number in (1, 2, 3):
            if f"conv{number}" in names and f"bn{number}" in names:
                folded = fuse_conv_bn_eval(names[f"conv{number}"], names[f"bn{number}"])
                setattr(parent, f"conv{number}", folded)
                setattr(parent, f"bn{number}", nn.Identity())
        downsample = names.get("downsample")
        if downsample is not None:
            parent.downsample = nn.Sequential(fuse_conv_bn_eval(downsample[0], downsample[1]))
    stem = (base.conv1, base.relu, base.maxpool)
    return nn.Sequential(*stem, base.layer1, base.layer2, base.layer3, base.layer4)


def _stacked_projections(model: RRID, local: str, overall: str) -> tuple[Tensor, Tensor]:
    """Stack the projections of all blocks, with batch norms folded in.

    Args:
        model: the trained network.
        local: the network's name for the projections of stripes.
        overall: the network's name for the projections of global blocks.

    Returns:
        Weights (blocks, inputs, outputs) and biases (blocks, 1, outputs).
    """
    stripes = model.config.stripes
    modules = [model.get_submodule(f"{local}_{count}_conv_list.{index}") for count in stripes for index in range(count)]
    modules += [model.get_submodule(f"global_{count}_{overall}_conv_list.0") for count in stripes]
    weights, biases = [], []
    for module in modules:
        projection: Any = copy.deepcopy(module).eval()
        folded: nn.Conv2d = fuse_conv_bn_eval(projection[0], projection[1])
        assert folded.bias is not None
        weights.append(folded.weight.detach().flatten(1).t())
        biases.append(folded.bias.detach()[None])
    return torch.stack(weights).contiguous(), torch.stack(biases)
