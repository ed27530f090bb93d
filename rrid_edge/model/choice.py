"""The choice of a model file."""

from __future__ import annotations

import os
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.machine.rtx import rtx_machine
from rrid_edge.model.names import is_engine, is_rtx_engine, preferred_names

ENVIRONMENT_VARIABLE = "RRID_EDGE_MODEL"
MODELS_FOLDER = Path("models")


def choose_model(
    model: Path | None, gallery_model: Path | None = None, *, folder: Path = MODELS_FOLDER
) -> tuple[Path, str]:
    """Choose the model file to use.

    The first of these wins: ``model``, the environment variable RRID_EDGE_MODEL, ``gallery_model`` if it exists, the
    best usable file in ``folder`` (:func:`rrid_edge.model.names.preferred_names`).

    Args:
        model: the file that the user gave, or None.
        gallery_model: the file that the gallery was indexed with, or None.
        folder: folder that ``export`` writes into by default.

    Returns:
        The file, and the reason of the choice as a short phrase.

    Raises:
        UsageError: there is no model, or the named file does not exist.
        ModelFileError: this machine runs engines for RTX, and the sidecar of the one in ``folder`` is damaged.
    """
    if model is not None:
        return _existing(model, "given"), "given"
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _existing(Path(named), f"from {ENVIRONMENT_VARIABLE}"), f"from {ENVIRONMENT_VARIABLE}"
    if gallery_model is not None and gallery_model.is_file():
        return gallery_model, "the gallery was indexed with it"
    for name in preferred_names():
        candidate = folder / name
        if candidate.is_file() and _usable(candidate):
            return candidate, f"the best in {printable(folder)}/"
    raise UsageError(
        f"no model: none was given, and {printable(folder)}/ holds no exported model; give a model file, set "
        f"{ENVIRONMENT_VARIABLE}, or make one with: rrid-edge export CHECKPOINT",
        parameter="model",
    )


def _existing(path: Path, source: str) -> Path:
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such model file ({source}); make one with: rrid-edge export CHECKPOINT",
            parameter="model",
        )
    return path


def _usable(candidate: Path) -> bool:
    """Whether this machine can run a file. Of an engine for RTX it is the GPU that decides."""
    if not is_rtx_engine(candidate):
        return not is_engine(candidate) or _engine_usable()
    from rrid_edge.model.engine_sidecar import EngineSidecar

    machine = rtx_machine()
    return machine is not None and EngineSidecar.read(candidate).serves_rtx(machine)


def _engine_usable() -> bool:
    """Whether TensorRT is installed."""
    import importlib.util

    return importlib.util.find_spec("tensorrt") is not None
