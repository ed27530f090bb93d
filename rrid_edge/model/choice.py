"""The choice of a model file."""

from __future__ import annotations

import os
from pathlib import Path

from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.file_kinds import why_no_file
from rrid_edge.machine.rtx import rtx_machine
from rrid_edge.model.names import DEFAULT_STEM, is_engine, is_model, is_rtx_engine, preferred_names, stem_of
from rrid_edge.model.reading import read_any_spec
from rrid_edge.model.spec import ADOPTED, HOW_MADE, ModelSpec

ENVIRONMENT_VARIABLE = "RRID_EDGE_MODEL"
MODELS_FOLDER = Path("models")
_MOST_NAMED = 5


def choose_model(
    model: Path | None, gallery_model: Path | None = None, *, folder: Path = MODELS_FOLDER
) -> tuple[Path, str]:
    """Choose the model file to use.

    The first of these wins: ``model``, the environment variable RRID_EDGE_MODEL, ``gallery_model`` if it exists, the
    best usable file in ``folder`` (:func:`rrid_edge.model.names.preferred_names`). There the files named ``rrid`` win,
    which ``export`` writes. Without any of them, the adopted network is taken, if it is the only one.

    Args:
        model: the file that the user gave, or None.
        gallery_model: the file that the gallery was indexed with, or None.
        folder: folder that ``export`` and ``adopt`` write into by default.

    Returns:
        The file, and the reason of the choice as a short phrase.

    Raises:
        UsageError: there is no model, the named file does not exist, or ``folder`` has several adopted networks.
        ModelFileError: this machine runs engines for RTX, and the sidecar of the one in ``folder`` is damaged.
    """
    if model is not None:
        return _existing(model, "given"), "given"
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _existing(Path(named), f"from {ENVIRONMENT_VARIABLE}"), f"from {ENVIRONMENT_VARIABLE}"
    if gallery_model is not None and gallery_model.is_file():
        return gallery_model, "the gallery was indexed with it"
    best = _best(folder, DEFAULT_STEM)
    if best is None and not any((folder / name).is_file() for name in preferred_names()):
        best = _adopted(folder)
    if best is not None:
        return best, f"the best in {printable(folder)}/"
    raise UsageError(
        f"no model: none was given, and {printable(folder)}/ holds no model that this machine can run; give a model "
        f"file, set {ENVIRONMENT_VARIABLE}, or make one with: {HOW_MADE}",
        parameter="model",
    )


def _existing(path: Path, source: str) -> Path:
    if path.is_dir():
        raise UsageError(
            f"{printable(path)}: this is a folder ({source}); expected a model file{_models_in(path)}",
            parameter="model",
        )
    if not path.is_file():
        problem = why_no_file(path, "model file") if path.exists() else "no such model file"  # those there are named
        raise UsageError(
            f"{printable(path)}: {problem} ({source}){_models_in(path.parent)}; make one with: {HOW_MADE}",
            parameter="model",
        )
    return path


def _models_in(folder: Path) -> str:
    """The models in a folder, as a part of a message; empty if there are none."""
    try:
        names = sorted(path.name for path in folder.iterdir() if is_model(path) and path.is_file())
    except OSError:
        return ""
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    place = "this folder" if folder == Path() else printable(folder)
    return f"; {place} holds {', '.join(map(printable, names[:_MOST_NAMED]))}{more}"


def _best(folder: Path, stem: str) -> Path | None:
    """The best usable file of a stem."""
    candidates = (folder / name for name in preferred_names(stem))
    return next((path for path in candidates if path.is_file() and _usable(path)), None)


def _adopted(folder: Path) -> Path | None:
    """The best usable file of the only adopted network in a folder. Files that are no models are passed over.

    Raises:
        UsageError: there are several networks.
    """
    networks: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and is_model(path) and (spec := _spec_of(path)) is not None and spec.family == ADOPTED:
            networks.setdefault(spec.fingerprint, []).append(path)
    if len(networks) > 1:
        named = [printable(paths[0].name) for paths in networks.values()]
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        raise UsageError(
            f"no model: none was given, and {printable(folder)}/ holds {len(named)} adopted networks "
            f"({', '.join(named[:_MOST_NAMED])}{more}): give one of these files, or set {ENVIRONMENT_VARIABLE}",
            parameter="model",
        )
    stems = dict.fromkeys(stem_of(path) for paths in networks.values() for path in paths)
    return next((best for stem in stems if (best := _best(folder, stem)) is not None), None)


def _spec_of(path: Path) -> ModelSpec | None:
    try:
        return read_any_spec(path)
    except RridEdgeError:  # for example the original of an adopted file
        return None


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
