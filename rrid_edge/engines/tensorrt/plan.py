"""Load a plan file as a TensorRT engine: check its bytes, deserialise it, restore stripped weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.tensorrt.api import generation, make_runtime
from rrid_edge.engines.tensorrt.lean import (
    LEAN_RUNTIME_VARIABLE,
    load_lean_runtime,
    missing_lean_runtime,
    named_lean_runtime,
)
from rrid_edge.engines.tensorrt.log import make_logger
from rrid_edge.engines.tensorrt.refusal import Refusal
from rrid_edge.engines.tensorrt.rtx import is_valid_rtx
from rrid_edge.errors import ModelFileError, RridEdgeError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.rebuild import rebuild_command

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass
class LoadedPlan:
    """A deserialised plan with the logger and runtime that the engine uses.

    The lean runtime is None unless the plan was built by another TensorRT and does not contain it.
    :meth:`release` frees them in the order of their dependencies.
    """

    module: ModuleType
    path: Path
    sidecar: EngineSidecar
    errors: list[str] = field(default_factory=list)
    logger: trt.ILogger = None
    runtime: trt.Runtime = None
    lean_runtime: trt.Runtime = None
    engine: trt.ICudaEngine = None

    def refused(self, doing: str) -> RridEdgeError:
        """The error for a call that returned None or False, with the reason from TensorRT's log."""
        refusal = Refusal(
            self.module,
            self.path,
            doing,
            otherwise=f"rebuild the engine with: {rebuild_command(self.path, self.sidecar)}",
            kind=ModelFileError,
        )
        error = refusal.error(self.errors)
        self.errors.clear()
        return error

    def release(self) -> None:
        """Free engine, runtimes and logger."""
        self.engine = None
        self.lean_runtime = None
        self.runtime = None
        self.logger = None


def load_plan(trt: ModuleType, path: Path, sidecar: EngineSidecar) -> LoadedPlan:
    """Deserialise a plan after checking its bytes against the sidecar.

    Create :class:`rrid_edge.engines.cuda.Cuda` first: ``trt.Runtime`` crashes the process where no GPU is usable.

    Raises:
        UsageError: the file cannot be read, or the device memory is too small.
        ModelFileError: damaged bytes, a plan that TensorRT refuses, or the source ONNX of a stripped plan is missing.
        MissingDependencyError: the plan needs a lean runtime that is not installed.
    """
    content = sidecar.read_plan(path)
    plan = LoadedPlan(trt, path, sidecar)
    plan.logger = make_logger(trt, plan.errors)
    plan.runtime = make_runtime(trt, plan.logger)
    if plan.runtime is None:
        raise plan.refused("starting its runtime")
    if sidecar.flags.version_compatible:
        plan.runtime.engine_host_code_allowed = True  # such a plan contains runtime code; its sha256 was checked
    if sidecar.rtx is not None and not is_valid_rtx(trt, plan.runtime, content):
        raise plan.refused("this engine on this GPU")
    plan.engine = _runtime_for(trt, plan).deserialize_cuda_engine(content)
    if plan.engine is None:
        raise plan.refused("loading the engine")
    if sidecar.flags.strip_weights:
        onnx_path = path.with_name(sidecar.onnx_name)
        _check_source(onnx_path, plan)
        if generation(trt) < 10 or not _refit_trt10_11(trt, plan.engine, plan.logger, onnx_path):
            raise plan.refused(f"the weights of {printable(onnx_path)}")
    plan.errors.clear()  # those of calls that succeeded are no reason for a later failure
    return plan


def _runtime_for(trt: ModuleType, plan: LoadedPlan) -> trt.Runtime:
    """The runtime that reads the plan: TensorRT's own, or the lean one of the TensorRT that built the plan."""
    built = plan.sidecar.machine.tensorrt
    if not plan.sidecar.flags.exclude_lean_runtime or built == trt.__version__:
        return plan.runtime
    library = named_lean_runtime() or load_lean_runtime(built)
    if library is None:
        raise missing_lean_runtime(
            built,
            f"{printable(plan.path)}: this engine was built without a lean runtime and",
            f"name the library's path in the environment variable {LEAN_RUNTIME_VARIABLE}",
        )
    plan.lean_runtime = plan.runtime.load_runtime(library)
    if plan.lean_runtime is None:
        raise plan.refused(f"loading the lean runtime {printable(library)}")
    return plan.lean_runtime


def _check_source(onnx_path: Path, plan: LoadedPlan) -> None:
    if onnx_path.is_file() and sha256_of_file(onnx_path) == plan.sidecar.onnx_sha256:
        return
    found = "is another file" if onnx_path.is_file() else "is not there"
    raise ModelFileError(
        f"{printable(plan.path)}: this engine was built without weights and takes them from {printable(onnx_path)}, "
        f"which {found}; put the ONNX file that it was built from beside it"
    )


def _refit_trt10_11(trt: ModuleType, engine: trt.ICudaEngine, logger: trt.ILogger, onnx_path: Path) -> bool:
    """Put the weights of the ONNX file into a stripped engine; False if TensorRT refuses."""
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    return bool(parser.refit_from_file(str(onnx_path)) and refitter.refit_cuda_engine())
