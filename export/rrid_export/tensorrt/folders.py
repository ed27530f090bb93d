"""Where a build writes: checked before the build, which takes minutes."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.files import check_writable, sha256_of_file
from rrid_export.tensorrt.settings import BuildSettings


def check_folders(onnx_path: Path, engine_path: Path, settings: BuildSettings) -> None:
    """Refuse folders that cannot be written, and an engine without weights that would not find its ONNX file.

    Raises:
        OutputError: the folder of the engine or of the timing cache cannot be written.
        UsageError: the weights are to be left out, and the ONNX file is not in the engine's folder.
    """
    check_writable(engine_path.parent)
    if settings.timing_cache_folder is not None:
        check_writable(settings.timing_cache_folder)
    if settings.strip_weights and not is_beside(onnx_path, engine_path):
        raise UsageError(
            f"{printable(onnx_path)}: an engine without weights reads them from this file, which must be in the "
            f"engine's folder: copy it to {printable(engine_path.parent)} first",
            parameter=("strip_weights", "output"),
        )


def is_beside(onnx_path: Path, engine_path: Path) -> bool:
    """Whether the engine's folder has the ONNX file, or a copy of it under the same name."""
    beside = engine_path.with_name(onnx_path.name)
    if not beside.is_file():
        return False
    return beside.samefile(onnx_path) or sha256_of_file(beside) == sha256_of_file(onnx_path)
