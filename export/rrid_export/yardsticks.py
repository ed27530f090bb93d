"""Baselines of the benchmark: the published evaluation loop, and the fastest plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rrid_edge.bench.inputs import YARDSTICKS
from rrid_edge.bench.variants import Variant
from rrid_edge.engines import Engine
from rrid_edge.model.spec import ModelSpec
from rrid_export.branch import InferenceBranch
from rrid_export.references import load_network
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine
from rrid_train.reference import describe


class PublishedEngine(TorchEngine):
    """The published evaluation loop in eager PyTorch.

    It runs image and mirror in two passes and, on a GPU, copies each block to the host in a separate transfer.
    Arguments as for :class:`TorchEngine`.
    """

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(images).to(self.device)
        with torch.inference_mode():
            descriptors = describe(self.network, pixels, flip=self.spec.flip, gather=_copy_block_by_block)
        result: NDArray[np.float32] = descriptors.numpy()
        return result


def _copy_block_by_block(blocks: torch.Tensor) -> torch.Tensor:
    """Copy ``blocks``, (B, blocks, width), to the host block by block: (B, blocks * width)."""
    return torch.cat([block.cpu() for block in blocks.unbind(1)], dim=1)


class CompiledTorchEngine(TorchEngine):
    """The fastest plain PyTorch: the inference branch through ``torch.compile``, channels-last.

    It computes in bfloat16 on a CPU and in float16 on a GPU. Use it as a reference of speed, not of values. Each new
    batch size is compiled on first use. Arguments as for :class:`TorchEngine`.
    """

    def __init__(
        self, source: SourceNetwork, *, flip: bool = True, device: str = "cpu", max_batch: int = 32, threads: int = 0
    ) -> None:
        super().__init__(source, flip=flip, device=device, max_batch=max_batch, threads=threads)
        branch = InferenceBranch(source.model, flip=flip).eval()
        # Weights are converted once. On a CPU, autocast and the compiler's weight freezing were no faster.
        branch = branch.to_bfloat16() if self.device.type == "cpu" else branch.to_half()
        branch.to(self.device).backbone.to(memory_format=torch.channels_last)
        self.arithmetic = "bf16" if self.device.type == "cpu" else "fp16"
        self.runtime = f"torch.compile {device} {self.arithmetic}"
        # Static shapes are faster than dynamic ones.
        self._compiled = torch.compile(branch, dynamic=False)

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            descriptors: NDArray[np.float32] = self._compiled(torch.from_numpy(images).to(self.device)).cpu().numpy()
        return descriptors


_KINDS: dict[str, type[TorchEngine]] = {"published": PublishedEngine, "torch-compile": CompiledTorchEngine}


def yardsticks(
    names: Collection[str], checkpoint: Path, spec: ModelSpec, threads: int = 0, weights: str | None = None
) -> list[Variant]:
    """Make the yardsticks of a benchmark, in the order of :data:`rrid_edge.bench.inputs.YARDSTICKS`.

    Args:
        names: names of the yardsticks.
        checkpoint: network that the model was exported from. It is read each time a yardstick is opened.
        spec: spec of the model.
        threads: CPU threads; 0 keeps PyTorch's setting.
        weights: ``ema`` or ``raw``; see :func:`rrid_export.source.load_source`.
    """

    def opener(name: str) -> Callable[[], Engine]:
        return lambda: _KINDS[name](load_network(checkpoint, spec, weights), flip=spec.flip, threads=threads)

    return [Variant(f"{name} (PyTorch)", opener(name)) for name in YARDSTICKS if name in names]
