"""Run the original network with one variant of its preprocessing after the other, on labelled crops."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.images import read_image
from rrid_edge.errors import ModelFileError, item_at_work
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.parity.check import are_unit_lengths, lengths_of
from rrid_edge.parity.reference import CropFiles, read_crop_files
from rrid_edge.progress import Progress
from rrid_edge.ranking.sampling import spread_people
from rrid_export.adopt.facts import Choices, Facts
from rrid_export.adopt.foreign import ForeignNetwork
from rrid_export.adopt.ir_work import IrOriginal
from rrid_export.adopt.labelled import check_labels
from rrid_export.adopt.original import OnnxOriginal, Original, original_descriptors
from rrid_export.adopt.proof import check_lengths
from rrid_export.adopt.telling import person_precision, ranking_of, separation
from rrid_export.adopt.variants import Space, Variant

CROPS: Final = 240
"""Crops of a trial: 60 people with four each, if there are so many."""
_AT_A_TIME: Final = 32
"""Images per step: their float64 pixels take 25 MB at 256 x 128."""
_SHORTEST: Final = 1e-12
Form = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.uint8]]
"""Recolours crops, given their cameras."""


@dataclass(frozen=True)
class Trial:
    """What one variant gives.

    Attributes:
        variant: the variant.
        facts: all facts of the network with it.
        mean_ap: mean average precision over all queries, in [0, 1].
        rank_1: share of the queries whose first answer is right, in [0, 1].
        separation: d' of genuine and impostor pairs; see :func:`rrid_export.adopt.telling.separation`.
        person_ap: float64 (people,): mean average precision of each person's queries.
    """

    variant: Variant
    facts: Facts
    mean_ap: float
    rank_1: float
    separation: float
    person_ap: NDArray[np.float64] = field(repr=False, compare=False)


class Bench:
    """Labelled crops and the original network, ready for trials.

    Args:
        network: the network.
        choices: what the caller says about it.
        space: what is varied. Sizes at which the network cannot be run are dropped.
        files: labelled crops.
        seed: seed of their choice.

    Attributes:
        space: what is varied.
        crops: the crops, in the first size.
        seconds_per_image: how long the network took for an image of the first size.
        remarks: what was left out, one line each.

    Raises:
        UsageError: the crops are unlabelled, or of too few people or cameras.
        ModelFileError: the network cannot be run.
    """

    def __init__(
        self, network: ForeignNetwork, choices: Choices, space: Space, files: CropFiles, seed: int = 0
    ) -> None:
        self._network, self._choices, self._folder = network, choices, files.folder
        first = next(space.at(space.sizes[0])).facts(network, choices)
        self.crops = read_crop_files(files, first, CROPS, seed=seed, choose=spread_people)
        check_labels(files.folder, self.crops)
        self.remarks = [f"left out {line}" for line in self.crops.left_out]
        self._original: Original = IrOriginal(network) if kind_of(network.path) is Kind.IR else OnnxOriginal(network)
        self.seconds_per_image = 0.0
        self.space = self._runnable(space)
        self._images = {space.sizes[0]: self.crops.images}

    def try_variant(self, variant: Variant, progress: Progress, *, form: Form | None = None) -> Trial | None:
        """Measure a variant.

        Args:
            variant: the variant.
            progress: advances by one per image.
            form: recolours the crops first.

        Returns:
            The trial; None, and a remark, if its descriptors are not finite.

        Raises:
            UsageError: the network is said to normalise, and does not.
        """
        facts, labels = variant.facts(self._network, self._choices), self.crops.labels
        rows, step = [], self._original.batch * max(1, _AT_A_TIME // self._original.batch)
        images = self.images_at(variant.size, form)
        for start in range(0, len(images), step):
            part = images[start : start + step]
            rows.append(self._features(part, facts))
            progress.advance(len(part))
        features = np.concatenate(rows)
        if not np.isfinite(features).all():
            self.remarks.append(f"left out {facts.preprocessing.describe()}: its descriptors are not finite")
            return None
        if self._choices.normalise == "none":
            check_lengths(self._network.path, features)
        elif self._choices.normalise is None and not variant.flip and are_unit_lengths(*lengths_of(features)):
            facts = replace(facts, preprocessing=replace(facts.preprocessing, normalise="none"))
        descriptors = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _SHORTEST)
        metrics = ranking_of(descriptors, labels)
        return Trial(
            variant,
            facts,
            metrics.mean_ap,
            metrics.cmc[1],
            separation(descriptors, labels),
            person_precision(metrics.query_ap, labels),
        )

    def _features(self, images: NDArray[np.uint8], facts: Facts) -> NDArray[Any]:
        """The network's own output without mirrors, to see its length; descriptors of unit length with them."""
        raw = facts if facts.flip else replace(facts, preprocessing=replace(facts.preprocessing, normalise="none"))
        with np.errstate(invalid="ignore", over="ignore"):  # a wrong scale may be too much for float16
            return original_descriptors(self._original, images, raw)

    def images_at(self, size: tuple[int, int], form: Form | None = None) -> NDArray[np.uint8]:
        """The crops in one size, uint8 (N, height, width, 3), recoloured if ``form`` is given."""
        if size not in self._images:
            self._images.clear()  # the pixels of one size at a time
            images = []
            for name in self.crops.names:
                with item_at_work(self._folder / name):
                    images.append(read_image(self._folder / name, *size))
            self._images[size] = np.stack(images)
        found = self._images[size]
        return found if form is None else form(found, self.crops.labels.cameras)

    def _runnable(self, space: Space) -> Space:
        """Drop sizes at which the network cannot be run, and time the first one at which it can."""
        sizes: list[tuple[int, int]] = []
        for size in space.sizes:
            image = np.full((self._original.batch, *size, 3), 127, np.uint8)
            facts = next(space.at(size)).facts(self._network, self._choices)
            try:
                self._features(image, facts)
            except ModelFileError:
                if size == space.sizes[-1] and not sizes:
                    raise
                self.remarks.append(f"left out {size[0]} x {size[1]} px: the network cannot be run at this size")
                continue
            if not sizes:
                start = time.perf_counter()
                self._features(image, facts)
                self.seconds_per_image = (time.perf_counter() - start) / len(image)
            sizes.append(size)
        return replace(space, sizes=tuple(sizes))
