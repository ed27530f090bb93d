"""The trained network in PyTorch as an engine: the reference for all other engines.

It runs the network as it was trained, with image and mirrored image in two passes, as the published evaluation does. It
does not use the rewritten inference branch, because parity has to prove that branch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.engines.base import BatchEngine
from rrid_edge.machine.processor import threads_within
from rrid_edge.model.spec import ModelSpec
from rrid_export.source import SourceNetwork, load_source
from rrid_train.reference import describe


class TorchEngine(BatchEngine):
    """The trained network in PyTorch, float32.

    Args:
        source: the trained network.
        flip: average each image with its mirror.
        device: PyTorch's name of the device.
        max_batch: images per pass.
        threads: CPU threads of PyTorch in the whole process; 0 leaves the number, or lowers it to the cores that
            this process may use.
    """

    def __init__(
        self, source: SourceNetwork, *, flip: bool = True, device: str = "cpu", max_batch: int = 32, threads: int = 0
    ) -> None:
        spec: ModelSpec = source.spec(flip=flip)
        super().__init__(spec, f"torch {device} fp32", max_batch)
        if count := threads_within(threads, torch.get_num_threads()):
            torch.set_num_threads(count)
        self.device = torch.device(device)
        self.network = source.model.eval().to(self.device)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        flip: bool = True,
        height_px: int | None = None,
        width_px: int | None = None,
        device: str = "cpu",
        threads: int = 0,
    ) -> Self:
        """Open a checkpoint. Formats and errors: :func:`rrid_export.source.load_source`."""
        return cls(
            load_source(Path(path), height_px=height_px, width_px=width_px), flip=flip, device=device, threads=threads
        )

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            descriptors = describe(self.network, torch.from_numpy(images).to(self.device), flip=self.spec.flip)
        result: NDArray[np.float32] = descriptors.cpu().numpy()
        return result
