"""Settings of an engine's build, and which of them a TensorRT version and GPU support."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rrid_edge.engines.tensorrt.api import generation
from rrid_edge.engines.tensorrt.lean import load_lean_runtime, missing_lean_runtime
from rrid_edge.errors import UsageError
from rrid_edge.machine.gpu import is_jetson
from rrid_edge.model.engine_sidecar import Machine, Profile, version_numbers
from rrid_edge.model.rtx_target import RtxTarget
from rrid_edge.model.spec import PRECISIONS
from rrid_export.tensorrt.rtx import check_rtx_settings

MIN_WORKSPACE_MIB = 16


@dataclass(frozen=True)
class BuildSettings:
    """How to build an engine.

    Attributes:
        min_batch: smallest batch of the profile, in images. The engine pads smaller batches.
        opt_batch: batch size that TensorRT optimises for, in images.
        max_batch: largest batch of the profile, in images. The engine splits larger batches.
        workspace_mib: largest scratch memory of the builder, in MiB.
        precision: the expected precision of the ONNX file, or None to accept any.
        timing_cache_folder: folder that keeps measured kernel times between builds; the engine's folder if None. It
            is created if missing.
        optimization_level: effort of the builder, 0 to 5; TensorRT's default if None.
        strongly_typed: on TensorRT 10, True takes the types of the ONNX file and False lets builder flags choose. Use
            False on 10.0 to 10.11 if a strongly typed engine fails parity. TensorRT 8.6 always uses flags, 11 types.
        version_compatible: build a plan that later versions of TensorRT can run too. It contains TensorRT's lean
            runtime, so this library must be installed.
        exclude_lean_runtime: leave the lean runtime out of a version-compatible plan. A machine with another version of
            TensorRT then needs the library.
        hardware_compatible: build a slower plan for all GPUs of compute capability 8.0 or later; not on Jetson.
        strip_weights: leave the weights out of the plan. The ONNX file must then be in the engine's folder.
        tf32: allow TF32 rounding of float32 products.
        rtx: build for TensorRT for RTX and these GPUs, on any machine; None builds for this machine's TensorRT and GPU.
    """

    # workspace_mib: TensorRT's default is the whole device memory, which a Jetson shares with all its processes.
    # tf32: off, because fp32 parity needs all 24 bits of the significand.

    min_batch: int = 1
    opt_batch: int = 8
    max_batch: int = 32
    workspace_mib: int = 1024
    precision: str | None = None
    timing_cache_folder: Path | None = None
    optimization_level: int | None = None
    strongly_typed: bool = True
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    tf32: bool = False
    rtx: RtxTarget | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise UsageError(
                f"batch sizes {self.min_batch}, {self.opt_batch}, {self.max_batch} do not work: expected "
                "1 <= smallest <= best <= largest"
            )
        if self.workspace_mib < MIN_WORKSPACE_MIB:
            raise UsageError(
                f"a workspace of {self.workspace_mib} MiB does not work: expected at least {MIN_WORKSPACE_MIB} MiB, "
                "for example 1024"
            )
        if self.optimization_level not in (None, 0, 1, 2, 3, 4, 5):
            raise UsageError(f"optimization level {self.optimization_level} does not work: expected 0 to 5")
        if self.exclude_lean_runtime and not self.version_compatible:
            raise UsageError(
                "exclude_lean_runtime does not work without version_compatible, because other plans contain no lean "
                "runtime: give both or neither",
                parameter=("version_compatible", "exclude_lean_runtime"),
            )
        if self.precision not in (None, *PRECISIONS):
            raise UsageError(f"precision {self.precision!r} is none of {', '.join(PRECISIONS)}")

    @property
    def profile(self) -> Profile:
        """The batch sizes of the optimisation profile."""
        return Profile(self.min_batch, self.opt_batch, self.max_batch)


def is_strongly_typed(trt: ModuleType, settings: BuildSettings) -> bool:
    """Whether the engine takes the types of the ONNX file: never on 8.6, as set on 10, always on 11."""
    return {8: False, 10: settings.strongly_typed, 11: True}[generation(trt)]


def check_settings(trt: ModuleType, settings: BuildSettings, machine: Machine) -> None:
    """Refuse settings that this version of TensorRT or this GPU does not support.

    Raises:
        UsageError: names the setting, and what to do instead.
        MissingDependencyError: a version-compatible plan needs the lean runtime, which is not installed.
    """
    if settings.rtx is not None:
        check_rtx_settings(trt, settings, settings.rtx)
        return
    version = f"TensorRT {trt.__version__}"
    if settings.strip_weights and generation(trt) < 10:
        raise UsageError(
            f"strip_weights does not work with {version}: expected 10 or later; leave it out", parameter="strip_weights"
        )
    if not settings.strongly_typed and generation(trt) > 10:
        raise UsageError(
            f"builder flags do not choose precisions in {version}: leave strong typing on", parameter="strongly_typed"
        )
    if settings.hardware_compatible and is_jetson():
        raise UsageError(
            "hardware_compatible is not offered on a Jetson: build the engine on each device",
            parameter="hardware_compatible",
        )
    if settings.hardware_compatible and version_numbers(machine.compute_capability) < (8, 0):
        raise UsageError(
            f"hardware_compatible needs a GPU of compute capability 8.0 or later, this {machine.gpu} has "
            f"{machine.compute_capability}: leave it out",
            parameter="hardware_compatible",
        )
    needs_lean = settings.version_compatible and not settings.exclude_lean_runtime
    if needs_lean and load_lean_runtime(trt.__version__) is None:
        raise missing_lean_runtime(
            trt.__version__, "a version-compatible plan", "leave it out of the plan with exclude_lean_runtime"
        )
