"""From an image file to its bytes: ordinary files of a promised format and a bounded size only."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Final

from rrid_edge.crops.formats import HEAD_BYTES, format_of, why_refused
from rrid_edge.errors import ImageError

MAX_BYTES: Final = 256 << 20
"""Size of the largest file that is read: 64 million pixels of 4 bytes, uncompressed, and some metadata."""

_PART: Final = 1 << 20
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def why_no_images(folder: str | Path) -> str:
    """Why a folder gave no images, as a part of a message: it cannot be read, or has none."""
    try:
        with os.scandir(folder):
            return "no images in it"
    except PermissionError as error:
        return f"this folder cannot be read ({error.strerror}); make it readable"
    except OSError:  # an address
        return "no images in it"


def read_file(path: str | Path) -> tuple[bytes, os.stat_result]:
    """Read an image file.

    Neither a file that is too large nor one that starts as no image is read to its end.

    Returns:
        Its bytes, and its state before reading.

    Raises:
        ImageError: no ordinary file, of another format, too large, or the system refuses to read it.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            return _read(path, file)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(path, "no such file; expected an image, for example a JPEG crop of one person") from error
    except IsADirectoryError as error:
        raise ImageError(path, "this is a folder; expected an image file") from error
    except PermissionError as error:
        raise ImageError(path, "permission denied; make the file readable") from error
    except MemoryError as error:
        raise ImageError(path, "not enough memory to read this file; close other programs, or leave it out") from error
    except (OSError, ValueError) as error:  # a name with a zero is a ValueError
        raise ImageError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. A pipe would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read(path: str | Path, file: IO[bytes]) -> tuple[bytes, os.stat_result]:
    state = os.fstat(file.fileno())
    if not stat.S_ISREG(state.st_mode):
        raise ImageError(path, "no ordinary file; expected an image file")
    _refuse_size(path, state.st_size)
    head = file.read(HEAD_BYTES)
    if format_of(head) is None:
        raise ImageError(path, why_refused(head))
    file.seek(0)  # one part is not copied
    parts, size = list[bytes](), 0
    # One byte more than the rest, so that the usual file ends here; a growing one ends at the limit.
    while part := file.read(max(state.st_size - size, _PART if parts else 0) + 1):
        parts.append(part)
        size += len(part)
        _refuse_size(path, size)
    return b"".join(parts), state


def _refuse_size(path: str | Path, size: int) -> None:
    if size > MAX_BYTES:
        limit = _size_text(MAX_BYTES)
        raise ImageError(
            path, f"{_size_text(size)}, too large; at most {limit} are read: expected a crop of one person"
        )


def _size_text(size: int) -> str:
    """A size with a unit, such as ``40 GiB`` or ``1.5 MiB``."""
    unit = max(0, min((size.bit_length() - 1) // 10, len(_UNITS) - 1))
    number = f"{size / 1024**unit:.1f}".removesuffix(".0")
    return f"{number} {_UNITS[unit]}"
