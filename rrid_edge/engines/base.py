"""The engine contract, and a base class that checks and splits batches."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.closable import Closable
from rrid_edge.errors import ClosedError, UsageError, printable
from rrid_edge.model.spec import FLOAT32_NCHW, ModelSpec
from rrid_edge.progress import step


@runtime_checkable
class Engine(Protocol):
    """Anything that turns images into descriptors; a context manager.

    Attributes:
        spec: input size, blocks, flip, fingerprint, precision.
        runtime: name for display, for example ``openvino CPU bf16``.
        arithmetic: how it computes (``fp32``, ``bf16``, ``fp16``, ``int8``); sets the tolerance of parity.
        max_batch: images per call of the runtime; ``run`` splits larger batches.
    """

    spec: ModelSpec
    runtime: str
    arithmetic: str
    max_batch: int

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of a batch. Any thread may call it; calls of several threads give what serial calls give.

        Args:
            images: uint8, shape (B, height, width, 3), RGB; B may be 0 or larger than ``max_batch``.

        Returns:
            float32, shape (B, D), rows of unit length; the caller owns the array.

        Raises:
            UsageError: wrong dtype or shape.
            ClosedError: the engine was closed, also while this call waited for its turn.
        """
        ...

    def close(self) -> None:
        """Wait for the running call, then free the runtime's resources. Any thread may call it, also twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BatchEngine(Closable, ABC):
    """Base of all engines: checks the input, splits batches above ``max_batch``, accepts B = 0.

    Calls of several threads run one at a time. One call uses all cores or the whole GPU. A pool of requests gained
    nothing beyond the spread (BENCHMARKS.md).

    Args:
        spec: spec of the model.
        runtime: name for display.
        max_batch: images per call of :meth:`_run_batch`.
        arithmetic: how it computes; the spec's precision if None.
        path: the model file, for messages; None if there is none.
    """

    def __init__(
        self,
        spec: ModelSpec,
        runtime: str,
        max_batch: int,
        *,
        arithmetic: str | None = None,
        path: Path | None = None,
    ) -> None:
        self.spec = spec
        self.runtime = runtime
        self.arithmetic = arithmetic or spec.precision
        self.max_batch = max_batch
        self._path = path
        self._turn = threading.Lock()
        self._closed = self._released = False

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of a batch; see :class:`Engine`."""
        check_images(images, self.spec)
        descriptors = np.empty((len(images), self.spec.dimension), np.float32)
        with self._turn:
            if self._closed:
                where = f" of {printable(self._path)}" if self._path is not None else ""
                raise ClosedError(f"the engine {self.runtime}{where}")
            self._run_split(images, descriptors)
        return descriptors

    def close(self) -> None:
        """Wait for the running call, then free the runtime's resources; see :class:`Engine`."""
        self._closed = True  # before the lock: calls that wait for their turn do not delay the close
        with self._turn:
            if not self._released:
                self._released = True
                self._release()

    def _run_split(self, images: NDArray[np.uint8], descriptors: NDArray[np.float32]) -> None:
        """Write the descriptors of any number of checked images. Only one thread at a time is in here."""
        many = len(images) > self.max_batch
        with step(f"computing descriptors on {self.runtime}", len(images)) if many else nullcontext() as counted:
            for start in range(0, len(images), self.max_batch):
                chunk = model_input(images[start : start + self.max_batch], self.spec.input)
                descriptors[start : start + len(chunk)] = self._run_batch(chunk)
                if counted is not None:
                    counted.advance(len(chunk))

    @abstractmethod
    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Descriptors of 1 to ``max_batch`` images: the model's input as :func:`model_input` makes it."""

    def _release(self) -> None:
        """Free the runtime's resources. It is called once, and no call runs."""


def arranged(images: NDArray[np.uint8], form: str) -> NDArray[np.uint8]:
    """A view of a batch with the axes in the order of the model's input. Its values have yet to be cast.

    Args:
        images: uint8 (B, height, width, 3), RGB.
        form: one of :data:`rrid_edge.model.spec.INPUT_FORMS`.
    """
    return images.transpose(0, 3, 1, 2) if form == FLOAT32_NCHW else images


def model_input(images: NDArray[np.uint8], form: str) -> NDArray[Any]:
    """A batch as the model takes it, contiguous: uint8 (B, height, width, 3) or float32 (B, 3, height, width).

    Args:
        images: uint8 (B, height, width, 3), RGB.
        form: one of :data:`rrid_edge.model.spec.INPUT_FORMS`.
    """
    return np.ascontiguousarray(arranged(images, form), np.float32 if form == FLOAT32_NCHW else np.uint8)


def check_images(images: NDArray[np.uint8], spec: ModelSpec) -> None:
    """Refuse a batch that is not uint8 (B, height, width, 3).

    Raises:
        UsageError: wrong dtype or shape.
    """
    expected = (spec.height_px, spec.width_px, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
        raise UsageError(
            f"images of dtype {images.dtype} and shape {images.shape} do not fit this model: expected uint8 "
            f"(batch, {expected[0]}, {expected[1]}, 3), RGB; read files with rrid_edge.crops.images.read_image"
        )
