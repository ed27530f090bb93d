"""Whether stored vectors match their checksums, each checked once per search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local.view import View


class IntactRows:
    """Checks live rows of one search, and remembers what it found.

    Args:
        view: the rows.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[int, bool] = {}

    def check(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some live slots (N,) are intact: bool (N,)."""
        wanted = slots.tolist()
        missing = [slot for slot in wanted if slot not in self._known]
        if missing:
            damaged = set(self._view.damaged(missing))
            self._known |= {slot: slot not in damaged for slot in missing}
        return np.array([self._known[slot] for slot in wanted], np.bool_)
