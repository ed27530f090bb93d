"""The ways to run a model on this machine: runtime, precision and arithmetic."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.engines.base import Engine
from rrid_edge.engines.opening import engine_runtime, open_engine
from rrid_edge.errors import RridEdgeError
from rrid_edge.model.names import Kind, is_model, kind_of, stem_of
from rrid_edge.model.reading import read_any_spec
from rrid_edge.model.spec import ModelSpec

_OPENVINO_PRECISIONS = {"fp32": ("fp32", "bf16"), "fp16": (None,), "int8": (None, "bf16")}


@dataclass(frozen=True)
class Variant:
    """One way to run the network.

    Attributes:
        name: label in the report.
        open: opens the engine.
        path: its model file; None for PyTorch.
        runtime: its name in ``open_engine``; empty for PyTorch.
        precision: arithmetic to force, or None.
    """

    name: str
    open: Callable[[], Engine]
    path: Path | None = None
    runtime: str = ""
    precision: str | None = None


def sibling_models(model: Path) -> list[Path]:
    """The model, then the other model files of its stem in its folder, in alphabetical order."""
    stem = stem_of(model)
    beside = sorted(path for path in model.parent.iterdir() if is_model(path) and stem_of(path) == stem)
    return [model, *(path for path in beside if path.name != model.name)]


def find_variants(
    models: list[Path], fingerprint: str, *, threads: int, max_batch: int
) -> tuple[list[Variant], list[str]]:
    """Find all engines of one network that open on this machine.

    Args:
        models: model files.
        fingerprint: fingerprint of the network. Files of another network are skipped.
        threads: CPU threads; 0 lets the runtime choose.
        max_batch: largest number of images per call.

    Returns:
        The variants, and one line per skipped file or runtime with the reason.
    """
    variants: list[Variant] = []
    passed_over: list[str] = []
    for path in models:
        try:
            spec = read_any_spec(path)
        except RridEdgeError as error:
            passed_over.append(f"{path.name}: {error.message}")
            continue
        if spec.fingerprint != fingerprint:
            passed_over.append(f"{path.name}: another network (fingerprint {spec.fingerprint[:12]})")
            continue
        for runtime, precision in _candidates(path, spec, passed_over):
            variant = _variant(path, runtime, precision, threads, max_batch)
            try:
                variant.open().close()
            except RridEdgeError as error:
                passed_over.append(f"{variant.name}: {error.message}")
            else:
                variants.append(variant)
    return variants, passed_over


def _candidates(path: Path, spec: ModelSpec, passed_over: list[str]) -> list[tuple[str, str | None]]:
    if (runtime := engine_runtime(path)) is not None:
        return [(runtime, None)]
    candidates: list[tuple[str, str | None]] = []
    if kind_of(path) is Kind.IR:
        pass  # runs on OpenVINO only
    elif importlib.util.find_spec("onnxruntime") is not None:
        candidates.append(("onnxruntime", None))
        candidates.append(("onnxruntime-cuda", None))
    else:
        passed_over.append("onnxruntime: not installed")
    if importlib.util.find_spec("openvino") is not None:
        candidates += [("openvino", precision) for precision in _OPENVINO_PRECISIONS[spec.precision]]
    else:
        passed_over.append("openvino: not installed")
    return candidates


def _variant(path: Path, runtime: str, precision: str | None, threads: int, max_batch: int) -> Variant:
    def opener() -> Engine:
        return open_engine(path, runtime, precision=precision, threads=threads, max_batch=max_batch)

    name = f"{path.name} {runtime}" + (f" {precision}" if precision else "")
    return Variant(name, opener, path, runtime, precision)
