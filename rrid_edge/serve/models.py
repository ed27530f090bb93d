"""The model of each gallery that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from rrid_edge.engines.base import Engine
from rrid_edge.engines.opening import choose_runtime, open_engine
from rrid_edge.errors import item_at_work
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.opening import Location, model_path
from rrid_edge.gallery.shared import refuse_foreign
from rrid_edge.model.choice import choose_model
from rrid_edge.model.reading import read_any_spec
from rrid_edge.serve.settings import ServeSettings

_CPU_RUNTIMES: Final = ("openvino", "onnxruntime")
_BATCH: Final = 32
_BATCH_ON_CPU: Final = 8
"""A CPU computes 32 images no faster than four times 8, and takes 100 MiB more for them, of a large network 1 GiB."""


class Models(Protocol):
    """Chooses and opens models."""

    def choose(self, location: Location, store: GalleryStore) -> Path:
        """The model file of a gallery.

        Raises:
            UsageError: there is none.
            FingerprintMismatchError: the gallery was indexed with another model.
        """
        ...

    def open(self, model: Path) -> Engine:
        """Open a model file; called in the thread that runs it."""
        ...


class ModelFiles:
    """Models in files, chosen as ``match`` chooses them.

    Args:
        settings: the model, and how to run it.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings

    def choose(self, location: Location, store: GalleryStore) -> Path:
        """The model file of a gallery; see :class:`Models`."""
        path, _ = choose_model(self._settings.model, model_path(location, store.info().model))
        with item_at_work(path):
            choose_runtime(path, self._settings.runtime, precision=self._settings.precision)
            spec = read_any_spec(path)
        refuse_foreign(store.where, store.spec, spec)
        return path

    def open(self, model: Path) -> Engine:
        """Open a model file; see :class:`Models`."""
        settings = self._settings
        with item_at_work(model):
            choice = choose_runtime(model, settings.runtime, precision=settings.precision, threads=settings.threads)
            most = _BATCH_ON_CPU if choice.runtime in _CPU_RUNTIMES else _BATCH
            return open_engine(
                model, settings.runtime, precision=settings.precision, threads=settings.threads, max_batch=most
            )
