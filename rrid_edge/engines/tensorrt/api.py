"""What building and running share of TensorRT: the module, its generation, its log, and the check of names and types.

TensorRT 8.6, 10.x and 11.x differ in places. A function that names something absent from one of them carries the
generations it may run on in its name (``..._trt8``, ``..._trt8_10``, ``..._trt10_11``, ``..._trt11``); a function
without such an ending runs on all of them. The tests check each against the API of those versions.
"""

from __future__ import annotations

import platform
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrid_edge.engines.cuda import Cuda
from rrid_edge.errors import MissingDependencyError, ModelFileError, printable
from rrid_edge.model.engine_sidecar import Machine, Profile, version_numbers
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    import tensorrt as trt

GENERATIONS = (8, 10, 11)


def load_tensorrt() -> ModuleType:
    """NVIDIA's ``tensorrt``.

    Raises:
        MissingDependencyError: it is not installed, or of a version that this package does not know.
    """
    try:
        import tensorrt
    except ImportError as error:
        jetson = platform.machine() == "aarch64"
        mend = (
            "on a Jetson it comes with JetPack (apt install tensorrt): use a venv made with --system-site-packages, "
            "and never pip install it there"
            if jetson
            else "pip install 'rrid-edge[gpu]'"
        )
        raise MissingDependencyError(
            f"TensorRT engines need the package 'tensorrt', which is not installed: {mend}"
        ) from error
    module: ModuleType = tensorrt
    generation(module)
    return module


def generation(trt: ModuleType) -> int:
    """The API generation of an installed TensorRT: 8, 10 or 11.

    Raises:
        MissingDependencyError: a version without the calls that this package makes.
    """
    version = version_numbers(trt.__version__)
    if version[0] not in GENERATIONS or version[:2] < (8, 6):
        raise MissingDependencyError(
            f"TensorRT {trt.__version__} is installed, which this package does not know: expected 8.6, 10.x or 11.x"
        )
    return version[0]


def this_machine(trt: ModuleType, cuda: Cuda) -> Machine:
    """What a plan built here is bound to."""
    device = cuda.device()
    return Machine(str(trt.__version__), device.name, device.compute_capability)


def make_logger(trt: ModuleType, errors: list[str]) -> trt.ILogger:
    """A logger that keeps TensorRT's errors, and nothing else, in ``errors``.

    TensorRT answers a failure with None or False; the reason stands in the log alone.
    """

    class ErrorKeeper(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - an enum of TensorRT
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(" ".join(msg.split()))

    return ErrorKeeper()


def last_error(errors: list[str]) -> str:
    """The last error of the log, for a line to the user."""
    return errors[-1] if errors else "TensorRT gave no reason"


def is_out_of_memory(errors: list[str]) -> bool:
    """Whether the log says that memory ran out."""
    words = ("out of memory", "outofmemory", "insufficient memory", "memory allocation", "cudaerrormemoryallocation")
    return any(word in line.lower() for line in errors for word in words)


def check_tensors(trt: ModuleType, engine: trt.ICudaEngine, spec: ModelSpec, where: Path) -> Profile:
    """Refuse an engine whose tensors are not those of the model contract.

    Returns:
        The batch sizes of its profile.

    Raises:
        ModelFileError: other names, types, shapes, or places; or no profile.
    """
    expected = {
        INPUT_NAME: (trt.TensorIOMode.INPUT, trt.DataType.UINT8, (-1, spec.height_px, spec.width_px, 3)),
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
        raise ModelFileError(
            f"{printable(where)}: this engine is not one of rrid-edge: expected {INPUT_NAME} uint8 "
            f"[batch, {spec.height_px}, {spec.width_px}, 3] and {OUTPUT_NAME} float32 [batch, {spec.dimension}] on the "
            f"device with one profile, found {seen}; build it with: rrid-edge export MODEL.onnx"
        )
    low, best, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(INPUT_NAME, 0))
    return Profile(int(low[0]), int(best[0]), int(high[0]))


def _with_free_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    # A profile with min = max gives a plan whose batch is a number; it still takes that batch.
    return (-1, *shape[1:])
