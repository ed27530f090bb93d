"""What the benchmark compares with: the published evaluation loop, and the strongest plain PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rrid_export.branch import InferenceBranch
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine
from rrid_train.reference import describe


class PublishedEngine(TorchEngine):
    """The published evaluation loop: image and mirrored image in two eager passes, every block copied to the host alone.

    Arguments as for :class:`TorchEngine`. On a CPU a copy to the host is none.
    """

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(images).to(self.device)
        with torch.inference_mode():
            descriptors = describe(self.network, pixels, flip=self.spec.flip, gather=_copied_alone)
        result: NDArray[np.float32] = descriptors.numpy()
        return result


def _copied_alone(blocks: torch.Tensor) -> torch.Tensor:
    """Every block (B, width) of (B, blocks, width) copied to the host alone: (B, blocks * width)."""
    return torch.cat([block.cpu() for block in blocks.unbind(1)], dim=1)


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
