"""The trained network in PyTorch as an engine: the reference for all other engines.

It runs the network as it was trained, with image and mirrored image in two passes, as the published evaluation does. It
does not use the rewritten inference branch, because parity has to prove that branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.machine.processor import threads_within
from rrid_edge.model.spec import ModelSpec
from rrid_export.source import SourceNetwork
from rrid_train.reference import describe


class TorchEngine(BatchEngine):
    """The trained network in PyTorch, float32.

    On a GPU, PyTorch multiplies the float32 values of convolutions in TF32 unless told otherwise. Here it is told
    otherwise: a reference must be float32, and with TF32 a descriptor depends on the batch it is computed in. On an
    H200 a ResNet-50 then differed from the CPU by up to 6.8e-5 per value, without TF32 by 1.6e-7.

    Args:
        source: the trained network.
        flip: average each image with its mirror.
        device: PyTorch's name of the device.
        max_batch: images per pass.
        threads: CPU threads of PyTorch in the whole process; 0 leaves the number, or lowers it to the cores that
            this process may use.

    Attributes:
        notes: what was taken off, chosen or converted when the weights were read, a short phrase each.
    """

    def __init__(
        self, source: SourceNetwork, *, flip: bool = True, device: str = "cpu", max_batch: int = 32, threads: int = 0
    ) -> None:
        spec: ModelSpec = source.spec(flip=flip)
        super().__init__(spec, f"torch {device} fp32", max_batch)
        if count := threads_within(threads, torch.get_num_threads()):
            torch.set_num_threads(count)
        self.notes = source.notes
        self.device = torch.device(device)
        self.network = source.model.eval().to(self.device)

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), without_tf32():
            descriptors = describe(self.network, torch.from_numpy(images).to(self.device), flip=self.spec.flip)
        result: NDArray[np.float32] = descriptors.cpu().numpy()
        return result


@contextmanager
def without_tf32() -> Iterator[None]:
    """Let PyTorch compute float32 convolutions and products of GPUs in float32, whatever the process has set."""
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    allowed = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, before in zip(places, allowed, strict=True):
            place.allow_tf32 = before
