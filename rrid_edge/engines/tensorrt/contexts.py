"""Execution contexts of one engine. They share one block of device memory, because only one of them runs at a time.

NVIDIA advises one context per captured CUDA graph: a graph also captures the state of its context, and a context that
changes afterwards makes the graph's results undefined.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.tensorrt.plan import LoadedPlan
from rrid_edge.engines.tensorrt.rtx import KernelCache, keep_kernels_rtx, make_context_rtx
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt


class Context:
    """An execution context, with the batch size that is set in it."""

    def __init__(self, module: ModuleType, plan: LoadedPlan, context: trt.IExecutionContext) -> None:
        self._trt: ModuleType = module
        self._plan = plan
        self._context: trt.IExecutionContext = context
        self.batch = 0

    def set_batch(self, batch: int) -> None:
        """Set the shapes of a batch size. No work of this context may be in flight.

        Raises:
            ModelFileError: TensorRT refuses the batch size, or gives the output another shape.
        """
        self.batch = 0
        spec: ModelSpec = self._plan.sidecar.spec
        shape = self._trt.Dims([batch, *spec.input_shape])
        if not self._context.set_input_shape(INPUT_NAME, shape) or self._context.infer_shapes():
            raise self._plan.refused(f"a batch of {batch}")
        if tuple(self._context.get_tensor_shape(OUTPUT_NAME)) != (batch, spec.dimension):
            raise self._plan.refused(f"to give {batch} descriptors of {spec.dimension} values")
        self.batch = batch

    def enqueue(self, images: int, descriptors: int, stream: int) -> bool:
        """Enqueue the network on a stream, between two device buffers; False if TensorRT refuses."""
        return bool(
            self._context.set_tensor_address(INPUT_NAME, images)
            and self._context.set_tensor_address(OUTPUT_NAME, descriptors)
            and self._context.execute_async_v3(stream)
        )

    def release(self) -> None:
        """Free the context."""
        self._context = None


class SharedContexts:
    """Makes contexts and owns their memory.

    Args:
        module: TensorRT.
        plan: the plan; it must outlive the contexts.
        cuda: the CUDA runtime.
        kernels: for RTX: the kernels that its context compiles. There the only context has memory of its own.

    Attributes:
        memory_bytes: device memory that all contexts share. It holds the activations of the largest batch.

    Raises:
        UsageError: not enough device memory.
    """

    def __init__(self, module: ModuleType, plan: LoadedPlan, cuda: Cuda, kernels: KernelCache | None = None) -> None:
        self._trt, self._plan, self._cuda, self._kernels = module, plan, cuda, kernels
        self._runtime_cache: Any = None
        self.memory_bytes = _memory_bytes(plan.engine)
        self._memory = cuda.allocate(max(1, self.memory_bytes)) if kernels is None else None
        self._made: list[Context] = []

    def create(self) -> Context:
        """Make a context in the shared memory; for RTX only once.

        Raises:
            ModelFileError: TensorRT refuses.
            UsageError: not enough device memory.
        """
        if self._kernels is not None:
            made, self._runtime_cache = make_context_rtx(self._trt, self._plan.engine, self._kernels)
        else:
            made = _create(self._trt, self._plan.engine)
        if made is None:
            raise self._plan.refused("making an execution context")
        if made.active_optimization_profile < 0:  # setting a batch would crash the process
            raise self._plan.refused("another execution context, because its profile is in use")
        if self._memory is not None:
            _give_memory(made, self._memory, self.memory_bytes)
        self._made.append(Context(self._trt, self._plan, made))
        return self._made[-1]

    def drop(self, context: Context) -> None:
        """Free one context."""
        self._made.remove(context)
        context.release()

    def close(self) -> None:
        """Free all contexts, then their memory. Destroy their graphs first."""
        if self._kernels is not None and self._runtime_cache is not None:
            keep_kernels_rtx(self._runtime_cache, self._kernels)
        for context in self._made:
            context.release()
        self._made.clear()
        self._runtime_cache = None  # after its context
        if self._memory is not None:
            self._cuda.free(self._memory)


def _memory_bytes(engine: trt.ICudaEngine) -> int:
    # TensorRT 10.0 has the calls of 8.6; 11 has the new ones only.
    new = hasattr(engine, "device_memory_size_v2")
    return _memory_bytes_trt10_11(engine) if new else _memory_bytes_trt8(engine)


def _memory_bytes_trt8(engine: trt.ICudaEngine) -> int:
    return int(engine.device_memory_size)


def _memory_bytes_trt10_11(engine: trt.ICudaEngine) -> int:
    return int(engine.device_memory_size_v2)


def _create(trt: ModuleType, engine: trt.ICudaEngine) -> trt.IExecutionContext:
    new = hasattr(trt, "ExecutionContextAllocationStrategy")
    return _create_trt10_11(trt, engine) if new else _create_trt8(engine)


def _create_trt8(engine: trt.ICudaEngine) -> trt.IExecutionContext:
    return engine.create_execution_context_without_device_memory()


def _create_trt10_11(trt: ModuleType, engine: trt.ICudaEngine) -> trt.IExecutionContext:
    return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)


def _give_memory(context: trt.IExecutionContext, address: int, size_bytes: int) -> None:
    if hasattr(context, "set_device_memory"):
        _give_memory_trt10_11(context, address, size_bytes)
    else:
        _give_memory_trt8(context, address)


def _give_memory_trt8(context: trt.IExecutionContext, address: int) -> None:
    context.device_memory = address


def _give_memory_trt10_11(context: trt.IExecutionContext, address: int, size_bytes: int) -> None:
    context.set_device_memory(address, size_bytes)
