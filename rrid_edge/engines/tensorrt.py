"""The TensorRT engine: one plan, its context, stream, buffers and CUDA graphs, owned once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine, check_images
from rrid_edge.engines.cuda import Cuda, host_array, out_of_memory
from rrid_edge.engines.sidecar import EngineSidecar, rebuild_command
from rrid_edge.engines.tensorrt_api import (
    check_tensors,
    generation,
    is_out_of_memory,
    last_error,
    load_tensorrt,
    make_logger,
    this_machine,
)
from rrid_edge.errors import ModelFileError, RridEdgeError, UsageError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.spec import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    import tensorrt as trt

# One graph holds a few MiB on the device; a caller with ever new batch sizes must not fill it.
MAX_GRAPHS = 32


@dataclass
class _Slot:
    """Buffers of one batch in flight: pinned on the host, their twins on the device, and what orders the copies."""

    stream: int
    uploaded: int
    computed: int
    host_images: int
    host_descriptors: int
    device_images: int
    device_descriptors: int
    images: NDArray[np.uint8]
    descriptors: NDArray[np.float32]
    result: NDArray[np.float32] | None = None
    uses: Counter[int] = field(default_factory=Counter)
    graphs: dict[int, int] = field(default_factory=dict)


class TensorRTEngine(BatchEngine):
    """Runs a plan on TensorRT 8.6, 10.x or 11.x.

    Two slots of pinned and device buffers are made once for the largest batch. A batch beyond it is split, and while
    one part computes, the next is copied in and the last one out. From the second use of a batch size on, its work is
    replayed as a CUDA graph; where a graph cannot be captured the ordinary way goes on.

    One call runs at a time: threads may share an engine, but wait for each other. For parallel work open one engine a
    thread.

    Args:
        path: the plan; its sidecar ``<path>.json`` lies beside it.
        max_batch: images a call to TensorRT; the largest batch of the plan's profile if None or larger.
        graphs: False to never capture CUDA graphs.

    Raises:
        MissingExtraError: no GPU, driver, cuda-bindings or TensorRT.
        ModelFileError: a missing or damaged sidecar, an engine of another machine, a damaged plan.
        UsageError: the device's memory does not suffice, or ``max_batch`` is too small.
    """

    def __init__(self, path: Path, *, max_batch: int | None = None, graphs: bool = True) -> None:
        sidecar = EngineSidecar.read(path)
        self._cuda = Cuda()  # before TensorRT, whose Runtime crashes the process where no GPU answers
        self._trt: ModuleType = load_tensorrt()
        machine = this_machine(self._trt, self._cuda)
        sidecar.check_fits(machine, path)
        self.sidecar = sidecar
        self._path = path
        self._lock = threading.Lock()
        self._errors: list[str] = []
        self._logger: trt.ILogger = make_logger(self._trt, self._errors)
        # Logger and runtime live as long as the engine, which calls both.
        self._runtime: trt.Runtime = self._trt.Runtime(self._logger)
        self._engine: trt.ICudaEngine = self._deserialize()
        profile = check_tensors(self._trt, self._engine, sidecar.spec, path)
        self._min_batch = profile.min_batch
        largest = min(max_batch or profile.max_batch, profile.max_batch)
        if largest < max(1, profile.min_batch):
            raise UsageError(f"a largest batch of {max_batch} does not work: this engine takes {profile.min_batch} up")
        version = ".".join(machine.tensorrt.split(".")[:2])
        super().__init__(sidecar.spec, f"tensorrt {version} · {machine.gpu}", largest)
        self._context: trt.IExecutionContext = self._create_context()
        self._context_batch = 0
        self._graphs_wanted = graphs
        self._owned = ExitStack()
        self._closed = False
        try:
            self._stream = self._own(self._cuda.create_stream(), self._cuda.destroy_stream)
            self._slots = (self._make_slot(), self._make_slot())
        except BaseException:
            self.close()
            raise

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of a batch of any size; see :class:`rrid_edge.engines.base.Engine`."""
        check_images(images, self.spec)
        descriptors = np.empty((len(images), self.spec.dimension), np.float32)
        with self._lock:
            if self._closed:
                raise UsageError(f"{printable(self._path)}: this engine was closed; open it again")
            self._cuda.select_device()
            try:
                self._run_split(images, descriptors)
            except BaseException:
                self._abandon()
                raise
        return descriptors

    def close(self) -> None:
        """Wait for the device, then free graphs, events, streams, buffers and the engine; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with suppress(RridEdgeError):
                self._abandon()
            self._owned.close()
            self._slots = ()
            # In this order: a context uses its engine, an engine its runtime, both the logger.
            self._context = None
            self._engine = None
            self._runtime = None

    @property
    def graph_batches(self) -> tuple[int, ...]:
        """Batch sizes that are replayed as CUDA graphs so far."""
        return tuple(sorted({batch for slot in self._slots for batch in slot.graphs}))

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.run(images)

    def _run_split(self, images: NDArray[np.uint8], descriptors: NDArray[np.float32]) -> None:
        for number, start in enumerate(range(0, len(images), self.max_batch)):
            slot = self._slots[number % len(self._slots)]
            self._collect(slot)
            slot.result = descriptors[start : start + self.max_batch]
            self._submit(slot, images[start : start + self.max_batch])
        for slot in self._slots:
            self._collect(slot)

    def _submit(self, slot: _Slot, images: NDArray[np.uint8]) -> None:
        """Queue copy in, compute and copy out of one part; returns at once."""
        count = len(images)
        batch = max(count, self._min_batch)
        slot.images[:count] = images
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
        """Wait for a slot's part and hand its descriptors over."""
        if slot.result is None:
            return
        self._cuda.synchronize(slot.stream)
        slot.result[:] = slot.descriptors[: len(slot.result)]
        slot.result = None

    def _compute(self, slot: _Slot, batch: int) -> None:
        if batch in slot.graphs:
            self._cuda.launch(slot.graphs[batch], self._stream)
            return
        self._set_batch(batch)
        if not self._enqueue(slot):
            raise self._refused(f"running a batch of {batch}")
        slot.uses[batch] += 1
        # Sizes that come once (the rest of a split) are not worth a graph. The capture comes after an ordinary
        # enqueue of the same shape, which lets TensorRT do its late set-up outside the graph.
        if self._graphs_wanted and slot.uses[batch] == 2 and sum(len(one.graphs) for one in self._slots) < MAX_GRAPHS:
            self._capture(slot, batch)

    def _capture(self, slot: _Slot, batch: int) -> None:
        self._cuda.synchronize(self._stream)
        graph = self._cuda.capture(self._stream, lambda: self._enqueue(slot))
        if graph is None:
            self._graphs_wanted = False  # the network, not the batch, is what cannot be captured
            return
        slot.graphs[batch] = self._own(graph, self._cuda.destroy_graph)

    def _set_batch(self, batch: int) -> None:
        if batch == self._context_batch:
            return
        # The context is about to change under work that may still read its shapes.
        self._cuda.synchronize(self._stream)
        self._context_batch = 0
        shape = self._trt.Dims([batch, self.spec.height_px, self.spec.width_px, 3])
        if not self._context.set_input_shape(INPUT_NAME, shape) or self._context.infer_shapes():
            raise self._refused(f"a batch of {batch}")
        found = tuple(self._context.get_tensor_shape(OUTPUT_NAME))
        if found != (batch, self.spec.dimension):
            raise ModelFileError(
                f"{printable(self._path)}: the engine answers a batch of {batch} with shape {found}, expected "
                f"{(batch, self.spec.dimension)}; rebuild it with: {self._rebuild()}"
            )
        self._context_batch = batch

    def _enqueue(self, slot: _Slot) -> bool:
        return bool(
            self._context.set_tensor_address(INPUT_NAME, slot.device_images)
            and self._context.set_tensor_address(OUTPUT_NAME, slot.device_descriptors)
            and self._context.execute_async_v3(self._stream)
        )

    def _abandon(self) -> None:
        """Wait for whatever is in flight and forget its results."""
        self._context_batch = 0
        for slot in self._slots:
            slot.result = None
            with suppress(RridEdgeError):
                self._cuda.synchronize(slot.stream)
        with suppress(RridEdgeError):
            self._cuda.synchronize(self._stream)

    def _deserialize(self) -> trt.ICudaEngine:
        try:
            plan = self._path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{printable(self._path)}: cannot be read ({error.strerror or error}); give --model FILE"
            ) from error
        self.sidecar.check_plan(plan, self._path)
        if self.sidecar.flags.version_compatible:
            # Such a plan brings its own runtime code; its sha256 was checked above.
            self._runtime.engine_host_code_allowed = True
        engine: trt.ICudaEngine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused("loading the engine")
        if self.sidecar.flags.strip_weights:
            onnx_path = self._path.with_name(self.sidecar.onnx_name)
            check_source(onnx_path, self.sidecar, self._path)
            if generation(self._trt) < 10 or not refit_trt10_11(self._trt, engine, self._logger, onnx_path):
                raise self._refused(f"taking the weights from {printable(onnx_path)}")
        return engine

    def _create_context(self) -> trt.IExecutionContext:
        context: trt.IExecutionContext = self._engine.create_execution_context()
        if context is None:
            raise self._refused("making an execution context")
        return context

    def _make_slot(self) -> _Slot:
        cuda = self._cuda
        image_shape = (self.max_batch, self.spec.height_px, self.spec.width_px, 3)
        descriptor_shape = (self.max_batch, self.spec.dimension)
        image_bytes, descriptor_bytes = int(np.prod(image_shape)), 4 * int(np.prod(descriptor_shape))
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
            images=host_array(host_images, image_shape, np.uint8),
            descriptors=host_array(host_descriptors, descriptor_shape, np.float32),
        )

    def _own(self, handle: int, release: Callable[[int], None]) -> int:
        self._owned.callback(release, handle)
        return handle

    def _refused(self, doing: str) -> RridEdgeError:
        reason = last_error(self._errors)
        if is_out_of_memory(self._errors):
            self._errors.clear()
            return out_of_memory(doing, reason)
        return ModelFileError(
            f"{printable(self._path)}: TensorRT refused {doing} ({reason}); rebuild the engine with: {self._rebuild()}"
        )

    def _rebuild(self) -> str:
        return rebuild_command(self._path, self.sidecar.onnx_name)


def check_source(onnx_path: Path, sidecar: EngineSidecar, engine_path: Path) -> None:
    """Refuse the weights of another ONNX file for a plan that was stripped of its own.

    Raises:
        ModelFileError: the file is absent or is not the one that the plan was built from.
    """
    if onnx_path.is_file() and sha256_of_file(onnx_path) == sidecar.onnx_sha256:
        return
    found = "is another file" if onnx_path.is_file() else "is not there"
    raise ModelFileError(
        f"{printable(engine_path)}: this engine was built without weights and takes them from {printable(onnx_path)}, "
        f"which {found}; put the ONNX file that it was built from beside it"
    )


def refit_trt10_11(trt: ModuleType, engine: trt.ICudaEngine, logger: Any, onnx_path: Path) -> bool:  # noqa: ANN401
    """Fill a stripped engine with the weights of its ONNX file; False where TensorRT refuses."""
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    return bool(parser.refit_from_file(str(onnx_path)) and refitter.refit_cuda_engine())
