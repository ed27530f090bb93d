"""Engines that watch what tests do with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.model.spec import ModelSpec


class CountingEngine(FakeEngine):
    """Counts the images that it embeds."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.images = 0

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.images += len(images)
        return super().run(images)
