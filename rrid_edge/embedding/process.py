"""A process that decodes images for a thread of this one: pixels by the same code, without sharing the interpreter.

For a crop of 64 x 128 pixels Pillow holds the interpreter for half of the time of reading it, so threads cannot decode more
than some four thousand crops a second, however many processors there are. The process gets a file's bytes through a pipe and
answers with pixels; it opens no files, and ends when its pipe is closed, also because whoever started it was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.crops.images import read_image_bytes
from rrid_edge.errors import ImageError

_ROOT = Path(__file__).parent.parent
_SERVE = f"from {__name__} import serve; serve()"
_READY = b"ready"
_LENGTH = struct.Struct("<Q")
_ANSWER = struct.Struct("<?Q")  # whether pixels follow, or the reason why there are none; its length
_PIPE_BYTES = 1 << 20
_FAREWELL_S = 2.0


def can_start_processes() -> bool:
    """Whether this interpreter can be started again: not inside an executable that another program was made into."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class DecodingProcess(Closable):
    """Starts the process, and is its other end; for one thread at a time. A context manager.

    Args:
        height_px: rows of every result.
        width_px: columns of every result.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, height_px: int, width_px: int) -> None:
        self._shape = (height_px, width_px, 3)
        # Started beside the package: what lies in the working folder must not be imported. One thread is all it needs.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-c", _SERVE, str(height_px), str(width_px)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        if self._from.read(len(_READY)) != _READY:
            self.close()
            raise OSError("a process for decoding ended at once")

    def decode(self, content: bytes, path: Path) -> NDArray[np.uint8]:
        """The pixels of an image file's bytes, (height_px, width_px, 3), as :func:`rrid_edge.crops.images.read_image` gives them.

        Raises:
            ImageError: as for :func:`rrid_edge.crops.images.read_image`.
            OSError: the process is gone.
        """
        self._to.write(_LENGTH.pack(len(content)))
        self._to.write(content)
        self._to.flush()
        good, length = _ANSWER.unpack(_read(self._from, bytearray(_ANSWER.size)))
        if not good:
            raise ImageError(path, _read(self._from, bytearray(length)).decode("utf-8", "replace"))
        pixels = np.empty(self._shape, np.uint8)
        _read(self._from, pixels.data.cast("B"))
        return pixels

    def close(self) -> None:
        """End the process; safe to call twice."""
        for stream in (self._to, self._from):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve() -> None:
    """What the process does: answer with pixels, or with the reason why there are none, until its input ends."""
    # Ctrl-C reaches all processes; the one that counts closes this one's pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    height_px, width_px = map(int, sys.argv[1:3])
    source, target = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(OSError, AttributeError):  # so that a whole image fits: each goes over at once
        fcntl.fcntl(target.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    target.write(_READY)
    target.flush()
    with contextlib.suppress(OSError):  # nobody reads any more
        while len(length := source.read(_LENGTH.size)) == _LENGTH.size:
            content = source.read(*_LENGTH.unpack(length))
            try:
                answer: Any = read_image_bytes(io.BytesIO(content), "", height_px, width_px).data
                good = True
            except ImageError as error:
                good, answer = False, memoryview(error.reason.encode("utf-8", "replace"))
            target.write(_ANSWER.pack(good, answer.nbytes))
            target.write(answer)
            target.flush()


def _read(stream: IO[bytes], room: Any) -> Any:  # noqa: ANN401 - any writable buffer of bytes
    """Fill ``room`` from a pipe.

    Raises:
        OSError: the pipe ended.
    """
    left = memoryview(room)
    while left:
        count = stream.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise OSError("a process for decoding is gone")
        left = left[count:]
    return room
