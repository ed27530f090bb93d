"""The TensorRT engine: one plan, its contexts, stream, buffers and CUDA graphs, owned once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine, arranged
from rrid_edge.engines.cuda import Cuda, host_array
from rrid_edge.engines.tensorrt.api import check_tensors, load_tensorrt, load_tensorrt_rtx, this_machine
from rrid_edge.engines.tensorrt.contexts import Context, SharedContexts
from rrid_edge.engines.tensorrt.plan import LoadedPlan, load_plan
from rrid_edge.engines.tensorrt.rtx import KernelCache
from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.model.engine_sidecar import EngineSidecar

# Each graph and its context use memory, so their number is limited: 16 batch sizes in two slots.
MAX_GRAPHS = 32


@dataclass
class _Slot:
    """Host (pinned) and device buffers of one batch in flight, with the stream and events that order its copies."""

    stream: int
    uploaded: int
    computed: int
    host_images: int
    host_descriptors: int
    device_images: int
    device_descriptors: int
    images: NDArray[Any]
    descriptors: NDArray[np.float32]
    result: NDArray[np.float32] | None = None
    uses: Counter[int] = field(default_factory=Counter)
    graphs: dict[int, int] = field(default_factory=dict)


class TensorRTEngine(BatchEngine):
    """Runs a plan on TensorRT 8.6, 10.x or 11.x, or on TensorRT for RTX.

    Two slots of pinned and device buffers are allocated once for the largest batch. A larger batch is split; copies
    overlap with compute. A batch size is replayed as a CUDA graph from its third use, if it can be captured. Each graph
    has its own execution context. All contexts share one block of device memory. For RTX no graphs are captured: there
    a new batch size first compiles its kernels.

    Args:
        path: the plan; its sidecar is ``<path>.json``, and says which of the two runs it.
        max_batch: images per call of TensorRT; None or a larger number means the limit of the plan's profile.
        graphs: False never captures CUDA graphs.
        loaded: the plan, if it was loaded already, with a sidecar that may not be written yet; the engine frees it.
            None loads the file.

    Raises:
        MissingDependencyError: no GPU, driver, cuda-bindings or TensorRT.
        ModelFileError: the sidecar is missing or damaged, or the plan is damaged or for another machine.
        UsageError: the device memory is too small, or ``max_batch`` is below the profile.
    """

    def __init__(
        self, path: Path, *, max_batch: int | None = None, graphs: bool = True, loaded: LoadedPlan | None = None
    ) -> None:
        self.sidecar = EngineSidecar.read(path) if loaded is None else loaded.sidecar
        self._cuda = Cuda()  # first: TensorRT crashes the process where no GPU is usable
        self._cuda.select_device()
        rtx = self.sidecar.rtx is not None
        self._trt: ModuleType = load_tensorrt_rtx() if rtx else load_tensorrt()
        machine = this_machine(self._trt, self._cuda)
        self.sidecar.check_fits(machine, path)
        self._plan = load_plan(self._trt, path, self.sidecar) if loaded is None else loaded
        profile = check_tensors(self._trt, self._plan.engine, self.sidecar.spec, path)
        largest = profile.max_batch if max_batch is None else min(max_batch, profile.max_batch)
        if largest < profile.min_batch:
            raise UsageError(
                f"a largest batch of {largest} does not work with {printable(path)}: it takes {profile.min_batch} to "
                f"{profile.max_batch} images per call"
            )
        version = ".".join(machine.tensorrt.split(".")[:2])
        super().__init__(self.sidecar.spec, f"{self.sidecar.runtime} {version} · {machine.gpu}", largest, path=path)
        self._min_batch = profile.min_batch
        self._graphs_wanted = graphs and not rtx
        self._owned = ExitStack()
        self._slots: tuple[_Slot, ...] = ()
        try:
            kernels = KernelCache(path, machine) if rtx else None
            self._contexts = SharedContexts(self._trt, self._plan, self._cuda, kernels)
            self._owned.callback(self._contexts.close)
            self._context = self._contexts.create()  # of all batch sizes without a graph
            self._stream = self._own(self._cuda.create_stream(), self._cuda.destroy_stream)
            self._slots = (self._make_slot(), self._make_slot())
        except BaseException:
            self.close()
            raise

    def _release(self) -> None:
        """Wait for the device, then free graphs, events, streams, buffers, contexts and the engine."""
        # After a GPU fault every call here fails too. The fault itself was already raised.
        with suppress(RridEdgeError):
            self._cuda.select_device()  # CUDA keeps the device per thread, and this can be another thread
        self._abandon()
        with suppress(RridEdgeError):
            self._owned.close()
        self._slots = ()
        self._plan.release()

    @property
    def graph_batches(self) -> tuple[int, ...]:
        """Batch sizes that are replayed as CUDA graphs."""
        return tuple(sorted({batch for slot in self._slots for batch in slot.graphs}))

    @property
    def context_memory_bytes(self) -> int:
        """Device memory of the activations. All execution contexts share it, so graphs do not add to it."""
        return self._contexts.memory_bytes

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        descriptors = np.empty((len(images), self.spec.dimension), np.float32)
        self._run_split(images, descriptors)
        return descriptors

    def _run_split(self, images: NDArray[np.uint8], descriptors: NDArray[np.float32]) -> None:
        self._cuda.select_device()
        try:
            self._run_slots(images, descriptors)
        except BaseException:
            self._abandon()
            raise

    def _run_slots(self, images: NDArray[np.uint8], descriptors: NDArray[np.float32]) -> None:
        for number, start in enumerate(range(0, len(images), self.max_batch)):
            slot = self._slots[number % len(self._slots)]
            self._collect(slot)
            slot.result = descriptors[start : start + self.max_batch]
            self._submit(slot, images[start : start + self.max_batch])
        for slot in self._slots:
            self._collect(slot)

    def _submit(self, slot: _Slot, images: NDArray[np.uint8]) -> None:
        """Submit copy in, compute and copy out of one part, without waiting."""
        count = len(images)
        batch = max(count, self._min_batch)
        slot.images[:count] = arranged(images, self.spec.input)
        slot.images[count:batch] = 0
        input_bytes, output_bytes = slot.images[:batch].nbytes, slot.descriptors[:count].nbytes
        self._cuda.copy_to_device(slot.device_images, slot.host_images, input_bytes, slot.stream)
        self._cuda.record(slot.uploaded, slot.stream)
        self._cuda.wait(self._stream, slot.uploaded)
        self._compute(slot, batch)
        self._cuda.record(slot.computed, self._stream)
        self._cuda.wait(slot.stream, slot.computed)
        self._cuda.copy_to_host(slot.host_descriptors, slot.device_descriptors, output_bytes, slot.stream)

    def _collect(self, slot: _Slot) -> None:
        """Wait for a slot and copy its descriptors to the result."""
        if slot.result is None:
            return
        self._cuda.synchronize(slot.stream)
        slot.result[:] = slot.descriptors[: len(slot.result)]
        slot.result = None

    def _compute(self, slot: _Slot, batch: int) -> None:
        if batch in slot.graphs:
            self._cuda.launch(slot.graphs[batch], self._stream)
            return
        # A size that occurs once (the rest of a split) gets no graph.
        if self._graphs_wanted and slot.uses[batch] == 1 and sum(len(one.graphs) for one in self._slots) < MAX_GRAPHS:
            self._compute_and_capture(slot, batch)
        else:
            self._compute_in(self._context, slot, batch)
        slot.uses[batch] += 1

    def _compute_in(self, context: Context, slot: _Slot, batch: int) -> None:
        if batch != context.batch:
            # Work in flight can still read the shapes of the context.
            self._cuda.synchronize(self._stream)
            context.set_batch(batch)
        if not self._enqueue(context, slot):
            raise self._plan.refused(f"running a batch of {batch}")

    def _compute_and_capture(self, slot: _Slot, batch: int) -> None:
        """Compute in a new context, which stays as it is from then on, and capture its work."""
        try:
            context = self._contexts.create()
        except RridEdgeError:
            self._graphs_wanted = False  # there is no room for more
            self._compute_in(self._context, slot, batch)
            return
        graph = None
        try:
            # The capture follows a normal enqueue of the same shape, so that deferred set-up stays outside the graph.
            self._compute_in(context, slot, batch)
            self._cuda.synchronize(self._stream)
            graph = self._cuda.capture(self._stream, lambda: self._enqueue(context, slot))
        finally:
            if graph is None:
                self._contexts.drop(context)
        if graph is None:
            self._graphs_wanted = False  # the network cannot be captured at any batch size
            self._plan.errors.clear()
            return
        slot.graphs[batch] = self._own(graph, self._cuda.destroy_graph)

    def _enqueue(self, context: Context, slot: _Slot) -> bool:
        return context.enqueue(slot.device_images, slot.device_descriptors, self._stream)

    def _abandon(self) -> None:
        """Wait for work in flight and discard its results."""
        for slot in self._slots:
            slot.result = None
            with suppress(RridEdgeError):
                self._cuda.synchronize(slot.stream)
        if self._slots:
            self._context.batch = 0
            with suppress(RridEdgeError):  # work that no slot waits for yet
                self._cuda.synchronize(self._stream)

    def _make_slot(self) -> _Slot:
        cuda = self._cuda
        image_shape = (self.max_batch, *self.spec.input_shape)
        descriptor_shape = (self.max_batch, self.spec.dimension)
        image_bytes, descriptor_bytes = self.max_batch * self.spec.input_bytes, 4 * int(np.prod(descriptor_shape))
        host_images = self._own(cuda.allocate_host(image_bytes), cuda.free_host)
        host_descriptors = self._own(cuda.allocate_host(descriptor_bytes), cuda.free_host)
        return _Slot(
            stream=self._own(cuda.create_stream(), cuda.destroy_stream),
            uploaded=self._own(cuda.create_event(), cuda.destroy_event),
            computed=self._own(cuda.create_event(), cuda.destroy_event),
            host_images=host_images,
            host_descriptors=host_descriptors,
            device_images=self._own(cuda.allocate(image_bytes), cuda.free),
            device_descriptors=self._own(cuda.allocate(descriptor_bytes), cuda.free),
            images=host_array(host_images, image_shape, self.spec.input_dtype),
            descriptors=host_array(host_descriptors, descriptor_shape, np.float32),
        )

    def _own(self, handle: int, release: Callable[[int], None]) -> int:
        self._owned.callback(release, handle)
        return handle
