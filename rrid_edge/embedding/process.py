"""A worker process that decodes images for one thread, so that the GIL does not limit decoding.

Pillow holds the GIL for half of the time that a crop of 64 x 128 pixels takes, so threads decode at most about 4000
crops per second on any number of cores. The process receives a file's bytes through a pipe and answers with pixels. It
opens no files. It ends when its pipe is closed, which also happens when its parent is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from rrid_edge.errors import ImageError, unforeseen

_ROOT = Path(__file__).parent.parent
_SERVE = f"from {__name__} import serve; serve()"
_READY = b"ready"
_LENGTH = struct.Struct("<Q")
_ANSWER = struct.Struct("<?Q")  # True: pixels follow, False: an error text; its length in bytes
_PIPE_BYTES = 1 << 20
_EXIT_TIMEOUT_S = 2.0


def can_start_processes() -> bool:
    """Whether ``sys.executable`` is a Python interpreter. It is not in a frozen application."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class DecodingProcess(Closable):
    """Starts a decoding process and talks to it. Use it from one thread at a time. A context manager.

    Args:
        height_px: rows of every result.
        width_px: columns of every result.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, height_px: int, width_px: int) -> None:
        self._shape = (height_px, width_px, 3)
        # Started in the package's folder, so that nothing in the working folder is imported. It needs one thread only.
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
            raise OSError("the decoding process ended at once")

    def decode(self, content: bytes, path: Path) -> NDArray[np.uint8]:
        """Decode the bytes of an image file: uint8 (height_px, width_px, 3), equal to ``read_image`` of the file.

        Raises:
            ImageError: as for :func:`rrid_edge.crops.images.read_image`.
            OSError: the process has ended.
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
            self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve() -> None:
    """Main loop of the process: answer each file with pixels or an error text, until the input ends."""
    # Ctrl-C reaches all processes of the group; the parent closes this one's pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    height_px, width_px = map(int, sys.argv[1:3])
    source, target = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(OSError, AttributeError):  # the pipe holds a whole image, so each needs one write
        fcntl.fcntl(target.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    target.write(_READY)
    target.flush()
    with contextlib.suppress(OSError):  # the parent closed the pipe
        while len(length := source.read(_LENGTH.size)) == _LENGTH.size:
            content = source.read(*_LENGTH.unpack(length))
            try:
                answer: Any = read_image_bytes(content, "", height_px, width_px).data
                good = True
            except Exception as error:  # it costs this file only
                reason = error.reason if isinstance(error, ImageError) else unforeseen(error)
                good, answer = False, memoryview(reason.encode("utf-8", "replace"))
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
            raise OSError("the decoding process has ended")
        left = left[count:]
    return room
