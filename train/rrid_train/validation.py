"""Validation during training, by the published evaluation: unit descriptors of image and mirror, mAP and CMC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rrid_edge.crops.images import read_image
from rrid_edge.machine.processor import cpu_flags
from rrid_edge.progress import step
from rrid_edge.ranking.metrics import evaluate_ranking
from rrid_train.data.samples import Sample, labels_of
from rrid_train.reference import describe, normalise
from rrid_train.settings import TrainConfig


class ValidationStoppedError(Exception):
    """A validation was stopped before its end."""


def validate(
    network: nn.Module,
    config: TrainConfig,
    device: torch.device,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """mAP and CMC of ``network`` on labelled crops.

    Args:
        network: an :class:`~rrid_train.model.RRID` on ``device``; it is left in evaluation mode.
        config: image size, mixed precision, memory layout, decoding threads (``num_workers``, at least 1).
        device: the device to compute on.
        query: the queries.
        gallery: the gallery.
        stopping: asked before each batch; true stops the validation.

    Returns:
        ``mAP``, and ``rank-1``, ``rank-5``, ``rank-10``, in [0, 1].

    Raises:
        UsageError: no query has a right answer in the gallery.
        ImageError: a crop cannot be decoded.
        ValidationStoppedError: ``stopping`` said so.
    """
    network.eval()
    queries = extract(network, config, device, [sample.path for sample in query], stopping=stopping)
    crops = extract(network, config, device, [sample.path for sample in gallery], stopping=stopping)
    metrics = evaluate_ranking(
        2 - 2 * (queries @ crops.T),
        labels_of(query),
        labels_of(gallery),
    )
    return {"mAP": metrics.mean_ap, **{f"rank-{rank}": value for rank, value in metrics.cmc.items()}}


def extract(
    network: nn.Module,
    config: TrainConfig,
    device: torch.device,
    paths: Sequence[Path],
    *,
    batch: int = 64,
    stopping: Callable[[], bool] = lambda: False,
) -> NDArray[np.float32]:
    """Unit descriptors of image files, ``batch`` images per forward pass.

    Returns:
        float32 (N, D), in the order of ``paths``.

    Raises:
        ImageError: a file cannot be decoded.
        ValidationStoppedError: ``stopping`` said so.
    """
    rows = []
    pools = ThreadPoolExecutor(max_workers=max(1, config.num_workers))
    with pools as pool, torch.inference_mode(), step("validating", len(paths)) as counted:
        for start in range(0, len(paths), batch):
            if stopping():
                raise ValidationStoppedError
            chunk = paths[start : start + batch]
            images = np.stack(list(pool.map(lambda path: read_image(path, config.height, config.width), chunk)))
            with autocast(config, device):
                described = describe(network, torch.from_numpy(images).to(device), memory_format=_layout(config))
            rows.append(described.cpu().numpy())
            counted.advance(len(chunk))
    return np.concatenate(rows)


def to_input(images: torch.Tensor, config: TrainConfig, device: torch.device) -> torch.Tensor:
    """Turn uint8 (B, height, width, 3) into the network's float32 (B, 3, height, width) on ``device``."""
    return normalise(images.to(device, non_blocking=True), _layout(config))


def has_bfloat16(gpus: int) -> bool:
    """Whether the GPU (compute capability 8.0 and later), or with ``gpus`` 0 the CPU, computes in bfloat16.

    Others emulate it: a training step then takes many times as long as in float32.
    """
    if gpus:
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The autocast context of the setting ``amp``; it does nothing with ``none``."""
    dtype = torch.float16 if config.amp == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=config.amp in ("bf16", "fp16"))


def _layout(config: TrainConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.contiguous_format
