"""A sample of a gallery, against which the parts of its matches are measured. It follows the gallery."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from rrid_edge.gallery.contract import Moment
from rrid_edge.gallery.paging import ListedMoment
from rrid_edge.gallery.sampling import SampledMoment, sample_of
from rrid_edge.matching.contrast import ContrastSample
from rrid_edge.model.spec import ModelSpec

_KEPT_S: Final = 60.0
"""Seconds that the sample of a gallery on a server is kept."""


class GallerySample:
    """The sample of one gallery, kept until its rows change. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._mark: object = None
        self._sample: ContrastSample | None = None

    def of(self, moment: Moment, spec: ModelSpec) -> ContrastSample:
        """The sample of a moment.

        Args:
            moment: of the gallery.
            spec: of its model.

        Raises:
            GalleryChangedError: others changed the sampled rows meanwhile.
        """
        with self._turn:
            mark: object = moment.mark() if isinstance(moment, ListedMoment) else int(time.monotonic() / _KEPT_S)
            if self._sample is None or mark != self._mark:
                self._sample = ContrastSample(spec, sample_of(moment, spec.dimension))
                self._mark = mark
            return self._sample

    @contextlib.contextmanager
    def meanwhile(self, moment: Moment, spec: ModelSpec) -> Iterator[Callable[[], ContrastSample]]:
        """A function that gives the sample. A server is asked in another thread meanwhile, as it lets calls wait."""
        if isinstance(moment, SampledMoment):
            yield lambda: self.of(moment, spec)
            return
        with ThreadPoolExecutor(1, "sample") as pool:
            yield pool.submit(self.of, moment, spec).result

    def clear(self) -> None:
        """Keep nothing of crops in memory: some were forgotten."""
        with self._turn:
            self._sample, self._mark = None, None
