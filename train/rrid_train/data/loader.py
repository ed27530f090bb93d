"""The data loader of a training: batches of several people, decoded by worker processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from rrid_train.data.layout import Dataset
from rrid_train.data.sampler import PersonSampler
from rrid_train.data.transforms import TrainingImages
from rrid_train.data.workers import MOST_AHEAD, Batch, BatchReader, batches_ahead, read_batches, too_few_ahead
from rrid_train.distributed import Processes
from rrid_train.settings import TrainConfig


class Batches(Iterable[Batch]):
    """The batches of an epoch, in the order of the sampler.

    Args:
        loader: reads them, in worker processes or in this one.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        """As :func:`rrid_train.data.workers.read_batches`."""
        return read_batches(self._loader)


def make_loader(config: TrainConfig, dataset: Dataset, processes: Processes) -> tuple[PersonSampler, Batches]:
    """The sampler, and the loader that follows it.

    Args:
        config: batch size, image size, augmentation, workers and seed.
        dataset: its ``train`` images are loaded.
        processes: each process loads its own part of every batch.

    Raises:
        UsageError: the batch size does not fit, or the shared memory is too small for the worker processes.
    """
    persons = [sample.person for sample in dataset.train]
    sampler = PersonSampler(
        persons,
        batch_size=config.batch_size,
        images_per_person=config.batch_sample,
        seed=config.seed,
        rank=processes.rank,
        world=processes.world,
    )
    images = TrainingImages(
        [sample.path for sample in dataset.train],
        persons,
        height_px=config.height,
        width_px=config.width,
        augmentation=config.augmentation,
        seed=config.seed,
    )
    loader: DataLoader[Any] = DataLoader(
        BatchReader(images),
        batch_sampler=sampler,
        collate_fn=_as_is,
        num_workers=config.num_workers,
        pin_memory=processes.device.type == "cuda",
        prefetch_factor=_batches_ahead(config, processes) if config.num_workers else None,
    )
    return sampler, Batches(loader)


def _as_is(batch: Any) -> Any:  # noqa: ANN401 - what a reader returns for one batch
    return batch


def _batches_ahead(config: TrainConfig, processes: Processes) -> int:
    """Batches that each worker decodes ahead. The main process says if these are fewer than usual."""
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    batch_bytes = config.batch_size // processes.world * config.height * config.width * 3 * on_this_machine
    held = config.accumulate + 2  # one is handed over, one is copied to the GPU
    ahead = batches_ahead(batch_bytes, config.num_workers, held)
    if ahead < MOST_AHEAD and processes.is_main:
        print(too_few_ahead(ahead), file=sys.stderr, flush=True)
    return ahead


def accumulation_groups(batches: Iterable[Batch], size: int) -> Iterable[list[Batch]]:
    """Groups of ``size`` consecutive batches, one group per optimiser step; the last group may be smaller."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
