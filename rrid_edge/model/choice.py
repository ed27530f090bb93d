"""Which model a command uses when several could be meant."""

from __future__ import annotations

import os
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.names import ENGINE_SUFFIXES

ENVIRONMENT_VARIABLE = "RRID_EDGE_MODEL"
MODELS_FOLDER = Path("models")

_PREFERENCE = (
    "rrid.fp16.engine",
    "rrid.int8.engine",
    "rrid.fp32.engine",
    "rrid.onnx",
    "rrid.int8.onnx",
    "rrid.fp16.onnx",
)


def choose_model(
    model: Path | None, gallery_model: Path | None = None, *, folder: Path = MODELS_FOLDER
) -> tuple[Path, str]:
    """The model file to use.

    Args:
        model: what the user asked for.
        gallery_model: the file that the gallery was indexed with.
        folder: where ``export`` writes by default.

    Returns:
        The file, and why it was chosen, for a line on stderr. The order: what was asked for, the environment variable
        RRID_EDGE_MODEL, the gallery's model, the best usable file in ``models/``.

    Raises:
        UsageError: there is none, or the one named does not exist.
    """
    if model is not None:
        return _existing(model, "given"), "given"
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _existing(Path(named), f"from {ENVIRONMENT_VARIABLE}"), f"from {ENVIRONMENT_VARIABLE}"
    if gallery_model is not None and gallery_model.is_file():
        return gallery_model, "the gallery was indexed with it"
    for name in _PREFERENCE:
        candidate = folder / name
        if candidate.is_file() and (candidate.suffix not in ENGINE_SUFFIXES or _engine_usable()):
            return candidate, f"the best in {printable(folder)}/"
    raise UsageError(
        f"no model: {printable(folder)}/ holds none; give a model file, set {ENVIRONMENT_VARIABLE}, or make one with: "
        "rrid-edge export CHECKPOINT",
        parameter="model",
    )


def _existing(path: Path, source: str) -> Path:
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such model file ({source}); make one with: rrid-edge export CHECKPOINT",
            parameter="model",
        )
    return path


def _engine_usable() -> bool:
    """Whether a TensorRT engine could run here at all."""
    import importlib.util

    return importlib.util.find_spec("tensorrt") is not None
