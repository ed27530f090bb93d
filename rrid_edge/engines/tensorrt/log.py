"""TensorRT's log: the reason behind a call that returned None or False, and the file that keeps everything.

TensorRT returns None or False on failure; only the log has the reason. The log often has several errors. The first one
is the cause, later ones follow from it, and the last ones may be empty (``Error Code 1: Cuda Runtime``).
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrid_edge.errors import OutputError, printable
from rrid_edge.files import atomic_output

if TYPE_CHECKING:
    import tensorrt as trt

LOG_VARIABLE = "RRID_EDGE_TENSORRT_LOG"
"""Environment variable with the file that keeps everything TensorRT says. Child processes inherit it."""
_INSPECTOR_ENDING = ".inspector.json"
_LAYERS = "Layers:\n"


def make_logger(trt: ModuleType, errors: list[str]) -> trt.ILogger:
    """A logger that appends TensorRT's errors to ``errors``, and everything to the file of :data:`LOG_VARIABLE`.

    Raises:
        OutputError: the file cannot be written.
    """
    path = log_path()
    file = None if path is None else _open_log(path, f"set {LOG_VARIABLE} to another file")

    class Keeper(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors = errors
            self.layers = ""

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - an enum of TensorRT
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(" ".join(msg.split()))
            elif msg.startswith(_LAYERS):
                self.layers = msg
            if file is not None:
                file.add(str(severity.name), msg)

    return Keeper()


def logged_errors(logger: trt.ILogger) -> list[str]:
    """The errors that a logger of :func:`make_logger` has kept."""
    return list(getattr(logger, "errors", ()))


def logged_layers(logger: trt.ILogger) -> str:
    """The list of an engine's layers that a build has logged; empty if it logged none."""
    return str(getattr(logger, "layers", ""))


def log_path() -> Path | None:
    """The file that keeps TensorRT's log; None if none was asked for."""
    named = os.environ.get(LOG_VARIABLE)
    return Path(named) if named else None


def inspector_path(log: Path) -> Path:
    """The file beside the log with the inspector's answer."""
    return log.parent / f"{log.name}{_INSPECTOR_ENDING}"


def check_log(path: Path) -> None:
    """Refuse a log file that cannot be written; makes its folder.

    Raises:
        OutputError: it cannot.
    """
    _open_log(path, "name another file")


def keep_inspector(information: str | bytes) -> None:
    """Keep the inspector's answer beside the log, if a log is kept. It replaces that of an earlier engine."""
    path = log_path()
    if path is None:
        return
    content = information if isinstance(information, bytes) else information.encode("utf-8", "surrogateescape")
    with suppress(OutputError), atomic_output(inspector_path(path)) as partial:  # a full disk must not end a build
        partial.write_bytes(content)


def _open_log(path: Path, remedy: str) -> _LogFile:
    if inspector_path(path).is_dir():
        raise _unwritable(inspector_path(path), "this is a folder", remedy)
    return _LogFile(path, remedy)


class _LogFile:
    """A file that each message is appended to at once, so that a crash keeps it."""

    def __init__(self, path: Path, remedy: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileExistsError as error:
            raise _unwritable(path, f"{printable(path.parent)} is a file", remedy) from error
        except (OSError, ValueError) as error:
            raise _unwritable(path, getattr(error, "strerror", None) or str(error), remedy) from error

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._descriptor)

    def add(self, severity: str, message: str) -> None:
        """Append a message, with time (UTC) and severity in each of its lines."""
        head = f"{datetime.now(timezone.utc).isoformat(timespec='milliseconds')} {severity:<14} "
        lines = "".join(f"{head}{line}\n" for line in message.rstrip("\r\n").split("\n"))
        with suppress(OSError):  # a full disk must not end a build, and no exception may pass through TensorRT
            os.write(self._descriptor, lines.encode("utf-8", "replace"))


def _unwritable(path: Path, reason: str, remedy: str) -> OutputError:
    return OutputError(
        f"{printable(path)}: TensorRT's log cannot be written here ({reason}); {remedy}", parameter="tensorrt_log"
    )
