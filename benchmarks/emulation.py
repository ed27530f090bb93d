"""The inference branch in PyTorch with every result rounded to float16 or bfloat16."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rrid_export.branch import InferenceBranch
from rrid_train.model import RRID


class Rounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds every float32 result to a narrower type. Values beyond the range of float16 overflow.

    Sums inside an operation are in float32, as in the matrix units of GPUs and CPUs.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or result.dtype != torch.float32:
            return result
        rounded = result.to(self._dtype).float()
        return result.copy_(rounded) if func._schema.is_mutable else rounded


class Half(InferenceBranch):
    """The inference branch with every result rounded to float16 in all but some parts.

    Args:
        model: the trained network.
        scaling: keep scaling and normalisation of the pixels in float32.
        norm: keep the sum of both views and the L2 norm in float32.
        stem: keep the first convolution in float32.
        head: keep pooling and projections in float32.
        gain: factor of the features before the norm. Exact descriptors do not depend on it; float16 may overflow.
    """

    dtype = torch.float16

    def __init__(
        self,
        model: RRID,
        *,
        scaling: bool = True,
        norm: bool = True,
        stem: bool = False,
        head: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__(model)
        self._wide = {"scaling": scaling, "norm": norm, "stem": stem, "head": head}
        self._gain = gain
        weights = [] if stem else [*self.backbone[0].parameters()]
        weights += [*self.backbone[1:].parameters()]
        for kind in ("part", "rest", "relation"):
            weights += [] if head else [getattr(self, f"{kind}_weight"), getattr(self, f"{kind}_bias")]
        for tensor in weights:
            tensor.data = tensor.data.to(self.dtype).float()

    def forward(self, images: Tensor) -> Tensor:
        """Return the descriptors, float32 (B, D), of uint8 images (B, height, width, 3)."""
        with self._part("scaling"):
            pixels = images.float().permute(0, 3, 1, 2) * self.scale + self.shift
        views = torch.stack([pixels, pixels.flip(3)], dim=1).flatten(0, 1).to(self.dtype).float()
        with self._part("stem"):
            values = self.backbone[0](views)
        with Rounded(self.dtype):
            features = self.backbone[1:](values)
        with self._part("head"):
            blocks = self.head(features)
        with self._part("norm"):
            values = blocks.flatten(1) * self._gain
            total = values.reshape(len(images), 2, -1).sum(1)
            return total / total.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)

    def _part(self, name: str) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._wide[name] else Rounded(self.dtype)


class Brain(Half):
    """The same with bfloat16."""

    dtype = torch.bfloat16
