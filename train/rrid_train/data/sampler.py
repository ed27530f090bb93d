"""The person sampler: batches with several images per person, for batch-hard mining."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from rrid_edge.errors import UsageError

Item = tuple[int, int, int]
"""Sample index, epoch, and position in the epoch. Epoch and position seed the augmentation."""


class PersonSampler(Sampler[list[Item]]):
    """Batches for the batch-hard triplet loss.

    Every image is an anchor once per epoch. For each anchor, ``images_per_person`` other images of its person are drawn
    as one group. If the person has fewer others, they are drawn with replacement; a person's only image is repeated. So
    one epoch is ``images_per_person`` passes over the data, as in the published recipe.

    The draw depends only on (seed, epoch). With several processes, each takes its share of the same batches. If the
    last batch does not divide among them, groups from the start of the epoch fill it up.

    Args:
        persons: person of each sample.
        batch_size: images per batch, over all processes.
        images_per_person: images drawn per anchor.
        seed: seed of the draw.
        rank: number of this process, from 0.
        world: number of processes.

    Attributes:
        epoch: the epoch that iteration yields; the caller sets it.
        start: number of batches of this epoch to skip; the caller sets it.

    Raises:
        UsageError: the batch size is no multiple of world x images_per_person, a process gets fewer than two groups per
            batch, or there are fewer than two people.
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
                f"({images_per_person} images per person, {world} process(es)) with at least two people each",
                parameter=("batch_size", "batch_sample"),
            )
        self._members: dict[int, list[int]] = defaultdict(list)
        for index, person in enumerate(persons):
            self._members[person].append(index)
        if len(self._members) < 2:
            raise UsageError(f"the training set has {len(self._members)} people: expected at least 2; add people")
        self._persons = list(persons)
        self._groups_per_batch = batch_size // images_per_person
        self._images_per_person = images_per_person
        self._seed, self._rank, self._world = seed, rank, world
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        """Batches per epoch. A last batch with a single group is dropped, because it has no negatives."""
        full, rest = divmod(len(self._persons), self._groups_per_batch)
        return full + (rest >= 2 * self._world or (full == 0 and rest >= 2))

    def __iter__(self) -> Iterator[list[Item]]:
        """This process's share of each batch of epoch ``self.epoch``, from batch ``self.start`` on."""
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
        """One group of sample indices per anchor, with anchors in random order."""
        generator = np.random.default_rng([self._seed, self.epoch, 1])
        groups = []
        for anchor in generator.permutation(len(self._persons)).tolist():
            others = [index for index in self._members[self._persons[anchor]] if index != anchor] or [anchor]
            enough = len(others) >= self._images_per_person
            groups.append(generator.choice(others, self._images_per_person, replace=not enough).tolist())
        return groups
