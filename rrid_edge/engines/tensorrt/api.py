"""TensorRT calls shared by building and running: import, API generation, check of tensors.

TensorRT for RTX is a package of its own with the same classes. Versions 1.4 and 1.7 of it were tried: the first has the
API of TensorRT 10, the second that of 11.

The APIs of TensorRT 8.6, 10.x and 11.x differ. A function that needs a call missing from one of them names the
generations it runs on (``..._trt8``, ``..._trt8_10``, ``..._trt10_11``, ``..._trt11``). Functions without such a suffix
run on all. Tests check each function against those APIs.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.cuda import Cuda
from rrid_edge.errors import MissingDependencyError, ModelFileError, printable
from rrid_edge.machine.advice import import_failure, rtx_advice
from rrid_edge.machine.gpu_findings import refuse_tensorrt_newer_than_driver
from rrid_edge.machine.rtx import RTX_MODULES
from rrid_edge.model.engine_sidecar import Machine, Profile, version_numbers
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    import tensorrt as trt

GENERATIONS = (8, 10, 11)


def load_tensorrt() -> ModuleType:
    """NVIDIA's ``tensorrt``.

    Raises:
        MissingDependencyError: it is not installed, its version is not supported, or the driver is too old for it.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise import_failure(error, "tensorrt", "gpu", "running or building a TensorRT engine") from error
    refuse_tensorrt_newer_than_driver()
    module: ModuleType = tensorrt
    generation(module)
    return module


def load_tensorrt_rtx() -> ModuleType:
    """NVIDIA's TensorRT for RTX. Building with it needs no GPU and no driver; running does.

    Raises:
        MissingDependencyError: it is not installed, or its API is not supported.
    """
    for name in RTX_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            missing = error
        else:
            generation(module)
            return module
    raise MissingDependencyError(
        f"engines for RTX need TensorRT for RTX, which cannot be imported ({missing}): {rtx_advice()}"
    ) from missing


def is_rtx(module: ModuleType) -> bool:
    """Whether the module is TensorRT for RTX."""
    return module.__name__ in RTX_MODULES


def titled(trt: ModuleType) -> str:
    """Name and version of the installed library, for messages."""
    return f"TensorRT{' for RTX' if is_rtx(trt) else ''} {trt.__version__}"


def generation(trt: ModuleType) -> int:
    """The API generation of an installed TensorRT: 8, 10 or 11. For RTX it is 10 or 11.

    Raises:
        MissingDependencyError: the version is not supported.
    """
    if is_rtx(trt):
        return _generation_of_rtx(trt)
    version = version_numbers(trt.__version__)
    if version[0] not in GENERATIONS or version[:2] < (8, 6):
        raise MissingDependencyError(
            f"TensorRT {trt.__version__} is installed, which this package does not know: expected 8.6, 10.x or 11.x"
        )
    return version[0]


def _generation_of_rtx(trt: ModuleType) -> int:
    # Versions of RTX (1.4, 1.7) say nothing of the API. Generation 11 dropped a flag that 10 still has.
    flags = getattr(trt, "NetworkDefinitionCreationFlag", None)
    if not hasattr(flags, "STRONGLY_TYPED") or not hasattr(trt, "ComputeCapability"):
        raise MissingDependencyError(
            f"{titled(trt)} is installed, whose API this package does not know: expected that of 1.4 to 1.7 "
            "(1.4.0.76 and 1.7.1.116 were tried)"
        )
    return 10 if hasattr(flags, "EXPLICIT_BATCH") else 11


def this_machine(trt: ModuleType, cuda: Cuda) -> Machine:
    """The TensorRT version and GPU that a plan built here needs."""
    device = cuda.device()
    return Machine(str(trt.__version__), device.name, device.compute_capability, device.multiprocessors)


def make_runtime(trt: ModuleType, logger: trt.ILogger) -> trt.Runtime | None:
    """A runtime that opens plans; None if TensorRT gives none. The log has the reason."""
    try:
        return trt.Runtime(logger)
    except TypeError:  # Python's bindings answer so if the library gives no object
        return None


def check_tensors(trt: ModuleType, engine: trt.ICudaEngine, spec: ModelSpec, where: Path) -> Profile:
    """Refuse an engine whose tensors do not follow the model contract.

    Returns:
        The batch sizes of its profile.

    Raises:
        ModelFileError: wrong names, types, shapes or memory locations, or not exactly one profile.
    """
    pixels = trt.DataType.FLOAT if spec.input_dtype == "float32" else trt.DataType.UINT8
    expected = {
        INPUT_NAME: (trt.TensorIOMode.INPUT, pixels, (-1, *spec.input_shape)),
        OUTPUT_NAME: (trt.TensorIOMode.OUTPUT, trt.DataType.FLOAT, (-1, spec.dimension)),
    }
    found: dict[str, tuple[object, object, tuple[int, ...]]] = {}
    on_device = True
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))
        found[name] = (engine.get_tensor_mode(name), engine.get_tensor_dtype(name), _with_free_batch(shape))
        on_device = on_device and engine.get_tensor_location(name) == trt.TensorLocation.DEVICE
    if found != expected or not on_device or engine.num_optimization_profiles != 1:
        seen = ", ".join(f"{name} {kind} {list(shape)}" for name, (_mode, kind, shape) in found.items()) or "nothing"
        sizes = ", ".join(map(str, spec.input_shape))
        raise ModelFileError(
            f"{printable(where)}: this engine is not one of rrid-edge: expected {INPUT_NAME} {spec.input_dtype} "
            f"[batch, {sizes}] and {OUTPUT_NAME} float32 [batch, {spec.dimension}] on the device with one profile, "
            f"found {seen}, profiles: {engine.num_optimization_profiles}; build it with: rrid-edge export MODEL.onnx"
        )
    low, best, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(INPUT_NAME, 0))
    return Profile(int(low[0]), int(best[0]), int(high[0]))


def _with_free_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    # A profile with min = max fixes the batch dimension of the plan to that number.
    return (-1, *shape[1:])
