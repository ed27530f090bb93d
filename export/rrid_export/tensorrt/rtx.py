"""Building for TensorRT for RTX: which settings it has, and for which GPUs it builds.

It builds ahead of time, on any machine: the GPU that loads the engine compiles its kernels.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.engines.tensorrt.api import titled
from rrid_edge.errors import UsageError
from rrid_edge.machine.rtx import rtx_machine
from rrid_edge.model.engine_sidecar import Machine
from rrid_edge.model.rtx_target import RtxTarget

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from rrid_export.tensorrt.settings import BuildSettings

_NOT_OFFERED = {
    "version_compatible": "an engine for RTX needs the version that built it",
    "hardware_compatible": "an engine for RTX runs on many GPUs already",
    "strip_weights": "an engine for RTX without weights is compiled on a GPU when it is built",
    "timing_cache_folder": "no kernel is timed when an engine for RTX is built",
}
"""Settings of a build that TensorRT for RTX does not have: why."""


def target_machine(trt: ModuleType, target: RtxTarget) -> Machine:
    """What a plan for these GPUs is bound to: the version, and the lowest compute capability."""
    return Machine(str(trt.__version__), "RTX GPUs", target.compute_capabilities[0])


def check_rtx_settings(trt: ModuleType, settings: BuildSettings, target: RtxTarget) -> None:
    """Refuse settings that TensorRT for RTX does not have.

    Raises:
        UsageError: names the setting.
    """
    for name, reason in _NOT_OFFERED.items():
        if getattr(settings, name):
            raise UsageError(f"{name} is not offered by {titled(trt)}: {reason}; leave it out", parameter=name)
    if not settings.strongly_typed:
        raise UsageError(
            f"builder flags do not choose precisions in {titled(trt)}: leave strong typing on",
            parameter="strongly_typed",
        )
    known = _capabilities_rtx(trt)
    unknown = [name for name in target.compute_capabilities if name not in known]
    if unknown:
        raise UsageError(
            f"{titled(trt)} does not build for compute capability {', '.join(unknown)}: expected one of "
            f"{', '.join(known)}",
            parameter="compute_capability",
        )


def set_target_rtx(trt: ModuleType, config: trt.IBuilderConfig, target: RtxTarget) -> None:
    """Build for exactly these GPUs; by default for those that TensorRT itself chooses, which include later ones.

    Raises:
        UsageError: TensorRT refuses one of them.
    """
    if target.later:
        return
    known = _capabilities_rtx(trt)
    config.num_compute_capabilities = len(target.compute_capabilities)
    for index, name in enumerate(target.compute_capabilities):
        if not config.set_compute_capability(known[name], index):
            raise UsageError(
                f"{titled(trt)} refuses compute capability {name}: leave it out", parameter="compute_capability"
            )


def gpu_is_here(target: RtxTarget) -> bool:
    """Whether this machine has a GPU that the engine serves, so that the built engine can be loaded and inspected."""
    machine = rtx_machine()
    return machine is not None and target.serves(machine.compute_capability)


def _capabilities_rtx(trt: ModuleType) -> dict[str, object]:
    """``8.9`` -> TensorRT's SM89, for all that it knows."""
    names = sorted(
        (name for name in vars(trt.ComputeCapability) if name.startswith("SM")), key=lambda name: int(name[2:])
    )
    return {f"{name[2:-1]}.{name[-1]}": getattr(trt.ComputeCapability, name) for name in names}
