"""TensorRT's lean runtime: the library that a version-compatible plan contains, or needs where it was left out."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rrid_edge.errors import MissingDependencyError
from rrid_edge.machine.gpu import is_jetson
from rrid_edge.model.engine_sidecar import version_numbers

LEAN_RUNTIME_VARIABLE = "RRID_EDGE_LEAN_RUNTIME"
"""Environment variable with the path of the lean runtime that plans without one are opened with."""

_WHEEL = "tensorrt_lean_libs"  # the import package of the wheels tensorrt-lean, tensorrt-lean-cu12-libs, ...
_WHEELS = ("-cu13", "-cu12", "")  # endings of their names
_MAPS = Path("/proc/self/maps")


def load_lean_runtime(tensorrt: str) -> str | None:
    """Load the lean runtime that TensorRT embeds into version-compatible plans.

    TensorRT asks the system's loader for the library, which does not look into the folders of Python packages. The
    loader finds a library that is loaded already by its name.

    Args:
        tensorrt: version of TensorRT, for example ``10.3.0``. A wheel of another version is passed over. Elsewhere only
            the major version is known, from the name of the file.

    Returns:
        The path or name of the library; None if no library can be loaded.
    """
    name = library_name(tensorrt)
    in_wheel = list(_in_wheel(name)) if other_wheel(tensorrt) is None else []
    for library in (*in_wheel, *_beside_tensorrt(name), name):
        with suppress(OSError):
            load_library(library)
            return library
    return None


def load_library(library: str) -> None:
    """Load a shared library into this process.

    Raises:
        OSError: it is not there, or is no library of this machine.
    """
    ctypes.CDLL(library)


def missing_lean_runtime(tensorrt: str, purpose: str, otherwise: str) -> MissingDependencyError:
    """The error for a machine without the lean runtime of a version of TensorRT, with the package to install.

    Args:
        tensorrt: the version whose lean runtime is missing.
        purpose: what needs it.
        otherwise: what helps besides installing it.
    """
    major = version_numbers(tensorrt)[0]
    wheel = _wheel_of_lean_runtime()
    install = f"pip install '{wheel}=={tensorrt}'" if wheel else f"sudo apt install libnvinfer-lean{major}"
    other = other_wheel(tensorrt)
    missing = "which is not installed" if other is None else f"but {other} is installed"
    return MissingDependencyError(
        f"{purpose} needs the lean runtime of TensorRT {tensorrt} ({library_name(tensorrt)}), {missing}: "
        f"{install}, or {otherwise}",
        parameter=("version_compatible", "exclude_lean_runtime"),
    )


def other_wheel(tensorrt: str) -> str | None:
    """Name and version of an installed wheel of the lean runtime of another version; None if there is none."""
    for ending in _WHEELS:
        name = f"tensorrt-lean{ending}-libs"
        with suppress(importlib.metadata.PackageNotFoundError, ValueError):
            installed, wanted = version_numbers(importlib.metadata.version(name)), version_numbers(tensorrt)
            parts = min(len(installed), len(wanted))
            if installed[:parts] != wanted[:parts]:
                return f"{name} {importlib.metadata.version(name)}"
    return None


def library_name(tensorrt: str) -> str:
    """File name of the lean runtime of a version of TensorRT."""
    return f"libnvinfer_lean.so.{version_numbers(tensorrt)[0]}"


def named_lean_runtime() -> str | None:
    """The lean runtime that the user named in :data:`LEAN_RUNTIME_VARIABLE`; None if there is none."""
    return os.environ.get(LEAN_RUNTIME_VARIABLE) or None


def _in_wheel(name: str) -> Iterator[str]:
    spec = importlib.util.find_spec(_WHEEL)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield str(Path(folder) / name)


def _beside_tensorrt(name: str) -> Iterator[str]:
    """The file in the folders of TensorRT's own library, which this process has loaded."""
    with suppress(OSError):
        paths = {line.split(maxsplit=5)[-1] for line in _MAPS.read_text().splitlines() if "/libnvinfer.so" in line}
        yield from sorted(str(Path(path).with_name(name)) for path in paths)


def _wheel_of_lean_runtime() -> str | None:
    """The package on PyPI that fits the installed TensorRT; None if that did not come from PyPI."""
    if is_jetson():
        return None  # pip must not install TensorRT over JetPack's
    for ending in _WHEELS:
        with suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(f"tensorrt{ending}-libs")
            return f"tensorrt-lean{ending}-libs"
    return None
