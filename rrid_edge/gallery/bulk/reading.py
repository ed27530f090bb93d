"""Reading the crops of one batch, each at most once: also those whose bytes are compared with a stored row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.embedding.pipeline import Fetched
from rrid_edge.errors import ImageError
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.bulk.files import CropFiles
from rrid_edge.gallery.bulk.records import CropBatch
from rrid_edge.gallery.indexing.left_out import FileState, is_same_file

HELD_BYTES = 64 << 20
"""Bytes of compared files that wait for embedding; 6,000 crops of 10 KB."""


@dataclass(frozen=True)
class Part:
    """Crops of a batch whose held bytes fit into memory.

    Attributes:
        unchanged: number of crops that the gallery has.
        outdated: names of the others.
    """

    unchanged: int
    outdated: tuple[str, ...]


class BatchReader:
    """Reads the crops of a batch.

    Args:
        crops: the batch.
        files: read the crops that are files.
        folder: that the facts' paths are in.
    """

    def __init__(self, crops: CropBatch, files: CropFiles, folder: Path) -> None:
        self._crops, self._files, self._folder = crops, files, folder
        self._held: dict[str, Fetched | ImageError] = {}
        self._asked: dict[str, FileState | None] = {}

    def parts(self, stored: Mapping[str, GalleryRow]) -> Iterator[Part]:
        """Compare the crops with their rows. A part must be read before the next one is asked for.

        Args:
            stored: intact rows by path.
        """
        unchanged, outdated, held_bytes = 0, list[str](), 0
        for name in self._crops.names:
            if name in stored and self._is_same(name, stored[name]):
                unchanged += 1
                continue
            outdated.append(name)
            held = self._held.get(name)
            held_bytes += len(held.content) if isinstance(held, Fetched) else 0
            if held_bytes > HELD_BYTES:
                yield Part(unchanged, tuple(outdated))
                self._held.clear()
                unchanged, outdated, held_bytes = 0, [], 0
        yield Part(unchanged, tuple(outdated))

    def fetch(self, path: Path) -> Fetched:
        """Read a crop; see :meth:`CropFiles.fetch`. May be called from several threads.

        Args:
            path: in the folder.
        """
        name = path.relative_to(self._folder).as_posix()
        held = self._held.pop(name, None) or self._read(name)
        if isinstance(held, ImageError):
            raise held
        return held

    def _read(self, name: str) -> Fetched | ImageError:
        path = self._folder / name
        try:
            if self._crops.contents is None:
                return self._files.fetch(name, path, self._crops.states.get(name) or self._asked.get(name))
        except ImageError as error:
            return error
        content = self._crops.contents[name]
        return Fetched.of(path, content, len(content), 0)

    def _is_same(self, name: str, row: GalleryRow) -> bool:
        """Whether the gallery has a crop: by size and time of its file, else by its content."""
        if self._crops.contents is None:
            state = self._crops.states.get(name) or self._state(name)
            if state is not None and state[1]:
                if is_same_file(state, (row.size, row.mtime_ns)):
                    return True
                if state[0] != row.size:  # another content: the threads that embed it read it
                    return False
        if not row.sha256:
            return False
        read = self._read(name)
        if isinstance(read, Fetched) and read.facts.sha256 == row.sha256:
            return True
        self._held[name] = read
        return False

    def _state(self, name: str) -> FileState | None:
        self._asked[name] = self._files.state(name)
        return self._asked[name]
