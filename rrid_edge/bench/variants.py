"""The engines that this machine can run a model on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.engines.base import Engine
from rrid_edge.engines.opening import open_engine
from rrid_edge.errors import RridEdgeError
from rrid_edge.model.names import ENGINE_SUFFIXES
from rrid_edge.model.onnx_header import read_spec

_OPENVINO_PRECISIONS = {"fp32": ("fp32", "bf16"), "fp16": (None,), "int8": (None, "bf16")}


@dataclass(frozen=True)
class Variant:
    """One way to run the network.

    Attributes:
        name: for people.
        open: opens the engine.
        path: its model file, or None for PyTorch.
        runtime: name for ``open_engine``, or empty for PyTorch.
        precision: precision to force, or None.
    """

    name: str
    open: Callable[[], Engine]
    path: Path | None = None
    runtime: str = ""
    precision: str | None = None


def sibling_models(model: Path) -> list[Path]:
    """The model and its other precisions and engines beside it: ``rrid.onnx``, ``rrid.fp16.onnx``, ..."""
    stem = model.name.split(".")[0]
    suffixes = {".onnx", *ENGINE_SUFFIXES}
    others = [path for path in sorted(model.parent.glob(f"{stem}.*")) if path.suffix in suffixes and path != model]
    return [model, *others]


def find_variants(models: list[Path], *, threads: int, max_batch: int) -> tuple[list[Variant], list[str]]:
    """All engines that open here, and one line for each that does not."""
    variants: list[Variant] = []
    passed_over: list[str] = []
    for path in models:
        for runtime, precision in _candidates(path, passed_over):
            variant = _variant(path, runtime, precision, threads, max_batch)
            try:
                variant.open().close()
            except RridEdgeError as error:
                passed_over.append(f"{variant.name}: {error.message}")
            else:
                variants.append(variant)
    return variants, passed_over


def _candidates(path: Path, passed_over: list[str]) -> list[tuple[str, str | None]]:
    if path.suffix in ENGINE_SUFFIXES:
        return [("tensorrt", None)]
    candidates: list[tuple[str, str | None]] = []
    if importlib.util.find_spec("onnxruntime") is not None:
        candidates.append(("onnxruntime", None))
        candidates.append(("onnxruntime-cuda", None))
    else:
        passed_over.append("onnxruntime: not installed")
    if importlib.util.find_spec("openvino") is not None:
        candidates += [("openvino", precision) for precision in _OPENVINO_PRECISIONS[read_spec(path).precision]]
    else:
        passed_over.append("openvino: not installed")
    return candidates


def _variant(path: Path, runtime: str, precision: str | None, threads: int, max_batch: int) -> Variant:
    def opener() -> Engine:
        return open_engine(path, runtime, precision=precision, threads=threads, max_batch=max_batch)

    name = f"{path.name} {runtime}" + (f" {precision}" if precision else "")
    return Variant(name, opener, path, runtime, precision)
