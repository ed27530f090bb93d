"""The ONNX Runtime engine on an NVIDIA GPU, with pinned memory, its own stream and bound device buffers."""

from __future__ import annotations

import ctypes
import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.engines.cuda import Cuda, host_array, out_of_memory
from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime, open_session
from rrid_edge.errors import MissingDependencyError, ModelFileError, RridEdgeError, printable
from rrid_edge.machine.advice import driver_update, gpu_advice
from rrid_edge.machine.facts import onnxruntime_cuda, onnxruntime_folder
from rrid_edge.machine.gpu import this_gpu
from rrid_edge.machine.gpu_findings import onnxruntime_command
from rrid_edge.machine.processor import threads_for
from rrid_edge.model.spec import HOW_MADE, INPUT_NAME, OUTPUT_NAME
from rrid_edge.model.weights import read_checked_spec

PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCudaEngine(BatchEngine):
    """Runs a model file on ONNX Runtime's CUDA provider, in the precision of the file.

    Buffers for the largest batch are allocated once, on the host (pinned) and on the device.

    Args:
        path: the ONNX file.
        max_batch: images per call.

    Raises:
        MissingDependencyError: no GPU, driver or cuda-bindings, or an onnxruntime without a working CUDA provider.
        ModelFileError: the file does not follow the model contract, its weights changed, or the runtime refuses it.
        UsageError: not enough device memory.
    """

    def __init__(self, path: Path, *, max_batch: int = 32) -> None:
        spec = read_checked_spec(path)
        runtime = import_onnxruntime("gpu")
        if PROVIDER not in runtime.get_available_providers():
            raise _no_provider(
                "the installed onnxruntime was built without it", f"pip uninstall -y onnxruntime, then {gpu_advice()}"
            )
        self._cuda = Cuda()
        _refuse_newer_than_driver()
        self._cuda.select_device()
        super().__init__(spec, f"onnxruntime CUDA {spec.precision}", max_batch, path=path)
        self._file = path
        self._bindings: dict[int, Any] = {}
        self._owned = ExitStack()
        self._session: Any = None
        self._stream: int | None = None
        try:
            self._stream = self._own(self._cuda.create_stream(), self._cuda.destroy_stream)
            self._session = _open_on_gpu(runtime, path, self._stream)
            self._make_buffers()
        except BaseException:
            self.close()
            raise

    def _release(self) -> None:
        # A failed call can leave a copy in flight. After a GPU fault every call here fails too.
        with suppress(RridEdgeError):
            self._cuda.select_device()  # CUDA keeps the device per thread, and this can be another thread
        self._bindings.clear()
        self._session = None  # before its stream
        with suppress(RridEdgeError):
            if self._stream is not None:
                self._cuda.synchronize(self._stream)
        with suppress(RridEdgeError):
            self._owned.close()
        self._stream = None

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        assert self._stream is not None
        count, cuda, stream = len(images), self._cuda, self._stream
        cuda.select_device()
        self._host_images[:count] = images
        cuda.copy_to_device(self._device_input, self._pinned_input, self._host_images[:count].nbytes, stream)
        self._compute(count)
        output_bytes = self._host_descriptors[:count].nbytes
        cuda.copy_to_host(self._pinned_output, self._device_output, output_bytes, stream)
        cuda.synchronize(stream)
        descriptors: NDArray[np.float32] = self._host_descriptors[:count].copy()
        return descriptors

    def _compute(self, count: int) -> None:
        try:
            self._session.run_with_iobinding(self._binding(count))
        except Exception as error:  # the runtime's own exception classes are not public
            reason = str(error).splitlines()[0]
            if "memory" in reason.lower():
                raise out_of_memory(f"running a batch of {count}", reason) from error
            raise ModelFileError(
                f"{printable(self._file)}: ONNX Runtime cannot run this model on the GPU ({reason}); try the runtime "
                f"onnxruntime, or export the model again with: {HOW_MADE}",
                parameter="runtime",
            ) from error

    def _binding(self, count: int) -> Any:  # noqa: ANN401 - the package has no types
        """The binding of the device buffers for one batch size."""
        if count not in self._bindings:
            binding = self._session.io_binding()
            images = (count, *self.spec.input_shape)
            dtype = np.dtype(self.spec.input_dtype).type
            binding.bind_input(INPUT_NAME, "cuda", 0, dtype, images, self._device_input)
            descriptors = (count, self.spec.dimension)
            binding.bind_output(OUTPUT_NAME, "cuda", 0, np.float32, descriptors, self._device_output)
            self._bindings[count] = binding
        return self._bindings[count]

    def _make_buffers(self) -> None:
        cuda = self._cuda
        image_shape = (self.max_batch, *self.spec.input_shape)
        descriptor_shape = (self.max_batch, self.spec.dimension)
        image_bytes, descriptor_bytes = self.max_batch * self.spec.input_bytes, 4 * math.prod(descriptor_shape)
        self._pinned_input = self._own(cuda.allocate_host(image_bytes), cuda.free_host)
        self._pinned_output = self._own(cuda.allocate_host(descriptor_bytes), cuda.free_host)
        self._device_input = self._own(cuda.allocate(image_bytes), cuda.free)
        self._device_output = self._own(cuda.allocate(descriptor_bytes), cuda.free)
        self._host_images = host_array(self._pinned_input, image_shape, self.spec.input_dtype)
        self._host_descriptors = host_array(self._pinned_output, descriptor_shape, np.float32)

    def _own(self, handle: int, release: Callable[[int], None]) -> int:
        self._owned.callback(release, handle)
        return handle


def cuda_providers(stream: int) -> list[Any]:
    """Providers of a session that computes on ``stream`` of device 0, without TF32."""
    # TF32 is off because fp32 parity needs all 24 bits. The default algorithm search times all kernels per batch size.
    options = {
        "device_id": "0",
        "user_compute_stream": str(stream),
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    return [(PROVIDER, options), "CPUExecutionProvider"]


def _open_on_gpu(runtime: Any, path: Path, stream: int) -> Any:  # noqa: ANN401 - the package has no types
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads_for(0)
    options.log_severity_level = 4  # errors are raised; the runtime would print them too, in colour
    said = _preload(runtime)
    with _quiet(runtime):
        session = open_session(path, options, cuda_providers(stream), enable_fallback=0)
    # Without its libraries ONNX Runtime drops the provider with a warning and runs on the CPU.
    if PROVIDER not in session.get_providers():
        built, reason = onnxruntime_cuda(), _missing_library() or said or "ONNX Runtime gave no reason"
        raise _no_provider(f"it did not start: {reason}", onnxruntime_command(built[0]) if built else gpu_advice())
    return session


def _preload(runtime: Any) -> str:  # noqa: ANN401 - the package has no types
    """Load CUDA and cuDNN where pip installed them. Returns the first complaint: the package prints it on stdout."""
    if not hasattr(runtime, "preload_dlls"):
        return ""
    with redirect_stdout(io.StringIO()) as printed:
        runtime.preload_dlls()
    return next((line for line in printed.getvalue().splitlines() if line.strip()), "")


@contextmanager
def _quiet(runtime: Any) -> Iterator[None]:  # noqa: ANN401 - the package has no types
    """Silence the log of the process while a session opens: it repeats in colour what is raised as an error."""
    if not hasattr(runtime, "set_default_logger_severity"):
        yield
        return
    runtime.set_default_logger_severity(4)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(2)  # its default: warnings


def _missing_library() -> str:
    """What the provider's library needs and does not find, in the words of the system's loader; empty if nothing."""
    folder = onnxruntime_folder()
    for library in sorted((folder / "capi").glob("*onnxruntime_providers_cuda*")) if folder else ():
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return ""


def _refuse_newer_than_driver() -> None:
    built, gpu = onnxruntime_cuda(), this_gpu()
    if built and (reason := gpu.why_not(built[0])):
        raise MissingDependencyError(
            f"the installed onnxruntime-gpu {reason}: {onnxruntime_command(12)}, or {driver_update(gpu)}",
            parameter="runtime",
        )


def _no_provider(reason: str, mend: str) -> MissingDependencyError:
    gpu = this_gpu()
    if gpu.kind == "jetson" or not gpu.is_x86:
        mend = "build a TensorRT engine instead: rrid-edge export MODEL.onnx"
    return MissingDependencyError(
        f"ONNX Runtime's CUDA provider is not usable ({reason}): {mend}; or use the runtime onnxruntime on the CPU",
        parameter="runtime",
    )
