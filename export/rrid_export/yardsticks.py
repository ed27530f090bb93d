"""What the benchmark compares with: the published evaluation loop, and the strongest plain PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from rrid_export.branch import InferenceBranch
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine
from rrid_train.data.transforms import normalise


class PublishedEngine(TorchEngine):
    """The published evaluation loop: image and mirrored image in two eager passes, every block copied to the host alone.

    Arguments as for :class:`TorchEngine`. On a CPU a copy to the host is none.
    """

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = normalise(torch.from_numpy(images).to(self.device))
        with torch.inference_mode():
            views = [pixels, pixels.flip(3)] if self.spec.flip else [pixels]
            total = sum(
                torch.cat([block.cpu() for block in self.network(view).blocks.unbind(1)], dim=1) for view in views
            )
            assert isinstance(total, torch.Tensor)
            descriptors: NDArray[np.float32] = F.normalize(total / len(views)).numpy()
        return descriptors


class CompiledTorchEngine(TorchEngine):
    """The strongest plain PyTorch: the inference branch through ``torch.compile``, channels-last, bf16 on a CPU, fp16 on a GPU.

    Weights are lowered once: autocast, which lowers them in every call, was no faster on a CPU, nor was the compiler's
    weight freezing. Compiled again for every batch size, as static shapes are faster. A yardstick, not a reference.
    Arguments as for :class:`TorchEngine`.
    """

    def __init__(
        self, source: SourceNetwork, *, flip: bool = True, device: str = "cpu", max_batch: int = 32, threads: int = 0
    ) -> None:
        super().__init__(source, flip=flip, device=device, max_batch=max_batch, threads=threads)
        branch = InferenceBranch(source.model, flip=flip).eval()
        branch = branch.to_bfloat16() if self.device.type == "cpu" else branch.to_half()
        branch.to(self.device).backbone.to(memory_format=torch.channels_last)
        self.arithmetic = "bf16" if self.device.type == "cpu" else "fp16"
        self.runtime = f"torch.compile {device} {self.arithmetic}"
        self._compiled = torch.compile(branch, dynamic=False)

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            descriptors: NDArray[np.float32] = self._compiled(torch.from_numpy(images).to(self.device)).cpu().numpy()
        return descriptors
