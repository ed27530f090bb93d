"""The number of CPU threads of a training, measured with a small piece of the network's work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from rrid_edge.machine.threads import ThreadChoice, choose_threads, thread_counts
from rrid_train.distributed import Processes
from rrid_train.settings import TrainConfig
from rrid_train.validation import autocast

_IMAGES, _CHANNELS, _STRIDE = 2, 64, 4
"""The piece is a block of ResNet's first stage: two convolutions of 64 channels, at a quarter of the image size."""


def with_threads(config: TrainConfig, processes: Processes) -> TrainConfig:
    """``config`` with a number of threads, which is measured and said where it is open.

    Launchers of several processes choose it themselves, and on a GPU it matters little: it stays open there.
    """
    if config.threads or config.gpus or processes.world > 1:
        return config
    choice = measured_threads(config)
    print(choice.describe(), file=sys.stderr, flush=True)
    return replace(config, threads=choice.threads)


def measured_threads(config: TrainConfig, counts: Sequence[int] | None = None) -> ThreadChoice:
    """Choose the number of threads by forward and backward passes of a small block.

    It draws no random numbers and touches no network, so the weights do not depend on it. Their rounding depends on the
    number that the training then uses.

    Args:
        config: image size, mixed precision and memory layout.
        counts: numbers to try; by default those of :func:`rrid_edge.machine.threads.thread_counts`.
    """
    before = torch.get_num_threads()
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    size = (_IMAGES, _CHANNELS, config.height // _STRIDE, config.width // _STRIDE)
    images = torch.full(size, 0.5).to(memory_format=layout)
    kernels = torch.full((_CHANNELS, _CHANNELS, 3, 3), 0.01, requires_grad=True)

    def work(threads: int) -> None:
        torch.set_num_threads(threads)
        with autocast(config, torch.device("cpu")):
            values = images
            for _ in range(2):
                values = functional.conv2d(values, kernels, padding=1)
                values = functional.relu(functional.batch_norm(values, None, None, training=True))
        values.float().sum().backward()  # type: ignore[no-untyped-call]
        kernels.grad = None

    try:
        return choose_threads(work, counts or thread_counts())
    finally:
        torch.set_num_threads(before)
