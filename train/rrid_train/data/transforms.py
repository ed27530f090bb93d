"""Training images: decoded and resized as everywhere (``rrid_edge.crops.images``), mirrored, and randomly erased."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rrid_edge.crops.images import read_image
from rrid_train.settings import Augmentation


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Augmented training images with their persons.

    The augmentation of an image depends only on (seed, epoch, position in the epoch). So the number of worker processes
    and a resumed run do not change it.

    Args:
        paths: image files.
        persons: person of each image, in [0, persons).
        height_px: rows of the result.
        width_px: columns of the result.
        augmentation: probabilities and ranges.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        persons: Sequence[int],
        *,
        height_px: int,
        width_px: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._paths, self._persons = list(paths), list(persons)
        self._size = (height_px, width_px)
        self._augmentation, self._seed = augmentation, seed

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, item: tuple[int, int, int]) -> tuple[Tensor, int]:
        """One augmented image, uint8 (height, width, 3), and its person.

        Args:
            item: sample index, epoch, and position in the epoch.

        Raises:
            ImageError: the file cannot be decoded.
        """
        index, epoch, position = item
        generator = np.random.default_rng([self._seed, epoch, position, 2])
        pixels = augment(read_image(self._paths[index], *self._size), self._augmentation, generator)
        return torch.from_numpy(pixels), self._persons[index]


def augment(pixels: NDArray[np.uint8], augmentation: Augmentation, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A randomly mirrored and erased copy of one image, uint8 (height, width, 3)."""
    result: NDArray[np.uint8] = pixels[:, ::-1].copy() if generator.random() < augmentation.flip else pixels.copy()
    if generator.random() < augmentation.erase:
        _erase(result, augmentation, generator)
    return result


def _erase(pixels: NDArray[np.uint8], augmentation: Augmentation, generator: np.random.Generator) -> None:
    """Fill one random rectangle with one colour (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020)."""
    height, width, _ = pixels.shape
    for _ in range(100):  # Draw again while the rectangle does not fit.
        area = generator.uniform(*augmentation.erase_area) * height * width
        aspect = generator.uniform(augmentation.erase_aspect, 1 / augmentation.erase_aspect)
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = int(generator.integers(0, height - rows + 1)), int(generator.integers(0, width - columns + 1))
            pixels[top : top + rows, left : left + columns] = generator.integers(0, 256, 3, dtype=np.uint8)
            return
