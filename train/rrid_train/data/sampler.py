"""The person sampler: batches of several images of each of several people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from rrid_edge.errors import UsageError

Item = tuple[int, int, int]
"""Sample index, epoch, and position in the epoch: the last two seed its augmentation."""


class PersonSampler(Sampler[list[Item]]):
    """Batches for batch-hard triplets.

    Once an epoch every image is an anchor; for each anchor ``images_per_person`` other images of its person are
    drawn (with replacement where it has fewer others; an only image stands for itself). So an epoch is
    ``images_per_person`` passes over the data, as in the published recipe.

    The draw depends on (seed, epoch) alone: with several processes each takes its part of the same batches, so that an
    epoch's images are the same as on one; the last batch is filled up from the epoch's first groups where it does not
    divide among them.

    Args:
        persons: person of every sample.
        batch_size: images a step, over all processes.
        images_per_person: images drawn for one anchor.
        seed: of the draw.
        rank: this process.
        world: number of processes.

    Raises:
        UsageError: the batch is no multiple of world x images_per_person, or holds fewer than two groups.
    """

    def __init__(
        self,
        persons: Sequence[int],
        *,
        batch_size: int,
        images_per_person: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % (images_per_person * world) or batch_size < 2 * images_per_person * world:
            raise UsageError(
                f"batch size {batch_size} does not fit: expected a multiple of {images_per_person * world} "
                f"({images_per_person} images per person, {world} process(es)) with at least two people each"
            )
        self._members: dict[int, list[int]] = defaultdict(list)
        for index, person in enumerate(persons):
            self._members[person].append(index)
        if len(self._members) < 2:
            raise UsageError(f"{len(self._members)} people cannot be told apart: training needs at least 2")
        self._persons = list(persons)
        self._groups_per_batch = batch_size // images_per_person
        self._images_per_person = images_per_person
        self._seed, self._rank, self._world = seed, rank, world
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        """Batches an epoch; the rest that would hold a single group is left out (nothing to contrast it with)."""
        full, rest = divmod(len(self._persons), self._groups_per_batch)
        return full + (rest >= 2 * self._world or (full == 0 and rest >= 2))

    def __iter__(self) -> Iterator[list[Item]]:
        """This process's part of every batch of the epoch ``self.epoch``, from batch ``self.start`` on."""
        groups = self._draw()
        for batch in range(self.start, len(self)):
            start = batch * self._groups_per_batch
            chosen = list(range(start, min(start + self._groups_per_batch, len(groups))))
            while len(chosen) % self._world:
                chosen.append(len(chosen) % len(groups))
            share = len(chosen) // self._world
            mine = chosen[self._rank * share : (self._rank + 1) * share]
            yield [
                (index, self.epoch, group * self._images_per_person + place)
                for group in mine
                for place, index in enumerate(groups[group])
            ]

    def _draw(self) -> list[list[int]]:
        """One group of samples for every anchor, anchors in random order."""
        generator = np.random.default_rng([self._seed, self.epoch, 1])
        groups = []
        for anchor in generator.permutation(len(self._persons)).tolist():
            others = [index for index in self._members[self._persons[anchor]] if index != anchor] or [anchor]
            enough = len(others) >= self._images_per_person
            groups.append(generator.choice(others, self._images_per_person, replace=not enough).tolist())
        return groups
