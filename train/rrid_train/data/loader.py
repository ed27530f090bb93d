"""The data loader of a training: batches of several people, decoded by worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from rrid_train.data.layout import Dataset
from rrid_train.data.sampler import PersonSampler
from rrid_train.data.transforms import TrainingImages
from rrid_train.data.workers import Batch, BatchReader, end_with_parent, quiet_about_cores, read_batches
from rrid_train.distributed import Processes
from rrid_train.settings import TrainConfig

_PREFETCHED_BATCHES = 4
"""Batches that each worker process decodes ahead."""


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
        UsageError: the batch size does not fit.
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
    with quiet_about_cores():
        loader: DataLoader[Any] = DataLoader(
            BatchReader(images),
            batch_sampler=sampler,
            collate_fn=_as_is,
            num_workers=config.num_workers,
            worker_init_fn=end_with_parent,
            pin_memory=processes.device.type == "cuda",
            prefetch_factor=_PREFETCHED_BATCHES if config.num_workers else None,
        )
    return sampler, Batches(loader)


def _as_is(batch: Any) -> Any:  # noqa: ANN401 - what a reader returns for one batch
    return batch


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
