"""A training process that waits to be killed: it prints the numbers of its workers. Run as a program."""

from __future__ import annotations

import multiprocessing
import signal

import torch
from torch.utils.data import DataLoader, Dataset

from rrid_train.data.workers import BatchReader, end_with_parent, read_batches


class _LargeImages(Dataset[tuple[torch.Tensor, int]]):
    """Images of 300 kB; a pipe holds 64 kB."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        return torch.zeros((100, 1000, 3), dtype=torch.uint8), item


def main() -> None:
    """Take one batch, so that the workers fill the pipe, and wait."""
    loader = DataLoader(
        BatchReader(_LargeImages()),
        batch_size=2,
        num_workers=2,
        collate_fn=lambda batch: batch,
        worker_init_fn=end_with_parent,
        multiprocessing_context="fork",
    )
    batches = read_batches(loader)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
