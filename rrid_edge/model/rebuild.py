"""The command that builds an engine again, with the options that it was built with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.errors import printable
from rrid_edge.model.names import is_rtx_engine, onnx_beside

if TYPE_CHECKING:
    from rrid_edge.model.engine_sidecar import EngineSidecar

DEFAULT_BATCHES = (1, 8, 32)
"""Smallest, best and largest batch of an engine, unless the build says otherwise."""
_FLAGS = {
    "version_compatible": "--version-compatible",
    "exclude_lean_runtime": "--exclude-lean-runtime",
    "hardware_compatible": "--hardware-compatible",
    "strip_weights": "--strip-weights",
    "tf32": "--tf32",
}


def rebuild_command(engine_path: Path, sidecar: EngineSidecar | None) -> str:
    """The command that rebuilds an engine on this machine.

    The builder's memory is not among its options: it depends on the machine.

    Args:
        engine_path: the engine.
        sidecar: its sidecar; None if there is none. Then the ONNX file is the one that its name suggests.
    """
    target = " --for rtx" if is_rtx_engine(engine_path) else ""
    if sidecar is None:
        return f"rrid-edge export {printable(onnx_beside(engine_path))}{target}"
    options = "".join(f" {word}" for word in _options(sidecar))
    if sidecar.onnx_beside:
        return f"rrid-edge export {printable(engine_path.with_name(sidecar.onnx_name))}{target}{options}"
    # The sidecar does not know the folder of the ONNX file.
    name, folder = printable(sidecar.onnx_name), shlex.quote(printable(engine_path.parent))
    return f"rrid-edge export .../{name}{target}{options} --output {folder}"


def _options(sidecar: EngineSidecar) -> list[str]:
    profile, flags = sidecar.profile, sidecar.flags
    batches = (profile.min_batch, profile.opt_batch, profile.max_batch)
    words: list[str] = []
    for name, built, default in zip(("min", "opt", "max"), batches, DEFAULT_BATCHES, strict=True):
        if built != default:
            words += [f"--{name}-batch", str(built)]
    words += [option for name, option in _FLAGS.items() if getattr(flags, name)]
    if flags.strongly_typed is False and not sidecar.machine.tensorrt.startswith("8."):  # 8.6 has no other way
        words.append("--weak-typing")
    if flags.optimization_level is not None:
        words += ["--optimization-level", str(flags.optimization_level)]
    if sidecar.rtx is not None and not sidecar.rtx.target.later:
        words += [word for name in sidecar.rtx.target.compute_capabilities for word in ("--compute-capability", name)]
    return words
