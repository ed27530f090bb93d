"""Image files of a folder on a disk or in an object store, read by name."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rrid_edge.crops.formats import HEAD_BYTES, format_of, why_refused
from rrid_edge.crops.reading import MAX_BYTES, read_file
from rrid_edge.embedding.pipeline import Fetched
from rrid_edge.errors import ImageError
from rrid_edge.gallery.indexing.left_out import FileState, file_state


class CropFiles(Protocol):
    """Reads image files by name. It can be sent to another machine."""

    def state(self, name: str) -> FileState | None:
        """Size (bytes) and modification time (ns) of a file; None if the system does not tell."""
        ...

    def fetch(self, name: str, path: Path, state: FileState | None = None) -> Fetched:
        """Read a file.

        Args:
            name: of the file.
            path: what the facts name it.
            state: of the file, if a listing told it.

        Raises:
            ImageError: it cannot be read, is too large or has another format.
        """
        ...


@dataclass(frozen=True)
class LocalFiles:
    """Files of a folder that every worker sees at the same place.

    Attributes:
        folder: of the files.
    """

    folder: Path

    def state(self, name: str) -> FileState | None:
        """Size (bytes) and modification time (ns) of a file; None if the system does not tell."""
        try:
            return file_state((self.folder / name).stat())
        except (OSError, ValueError):  # reading it tells the reason
            return None

    def fetch(self, name: str, path: Path, state: FileState | None = None) -> Fetched:
        """Read a file; see :class:`CropFiles`. Its state is that of the file as it is read."""
        content, before = read_file(self.folder / name)
        return Fetched.of(path, content, before.st_size, before.st_mtime_ns)


@dataclass(frozen=True)
class RemoteFiles:
    """Files of an object store.

    Attributes:
        filesystem: a ``pyarrow.fs.FileSystem``.
        base: folder of the files in it.
    """

    filesystem: Any
    base: str

    def state(self, name: str) -> FileState | None:
        """Size (bytes) and modification time (ns) of a file; None if the store does not tell."""
        try:
            info = self.filesystem.get_file_info(posixpath.join(self.base, name))
        except OSError:
            return None
        return None if info.size is None or info.mtime_ns is None else (info.size, info.mtime_ns)

    def fetch(self, name: str, path: Path, state: FileState | None = None) -> Fetched:
        """Read a file; see :class:`CropFiles`. Neither a file that is too large nor one of another format is read."""
        size, mtime_ns = state or self.state(name) or (0, 0)
        if size > MAX_BYTES:
            raise ImageError(name, f"{size:,} bytes, too large; expected at most {MAX_BYTES >> 20} MiB")
        try:
            with self.filesystem.open_input_file(posixpath.join(self.base, name)) as file:
                head = file.read(HEAD_BYTES)
                if format_of(head) is None:
                    raise ImageError(name, why_refused(head))
                content = head + file.read(MAX_BYTES)
        except FileNotFoundError as error:
            raise ImageError(name, "no such file; expected an image, for example a JPEG crop of one person") from error
        except OSError as error:
            reason = " ".join(str(error).split())[:200]
            raise ImageError(name, f"cannot be read ({reason}); run again, or leave it out") from error
        return Fetched.of(path, content, len(content), mtime_ns)
