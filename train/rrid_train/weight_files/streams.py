"""What instructions of pickles are read from."""

from __future__ import annotations

import io
import mmap
from typing import Final, TypeAlias

MOST_BYTES: Final = 256 << 20
"""Most bytes of one value or line of a pickle, and of the pickle in an archive. Sparse files claim far more."""


class MappedFile(mmap.mmap):
    """A file in memory of which no single value or line of more than :data:`MOST_BYTES` is copied."""

    def read(self, size: int | None = None) -> bytes:
        """The next bytes.

        Raises:
            ValueError: these are too many.
        """
        if size is None or min(size, len(self) - self.tell()) > MOST_BYTES:
            raise ValueError(f"a value has more than {MOST_BYTES:,} bytes")
        return super().read(size)

    def readline(self) -> bytes:
        """The next line.

        Raises:
            ValueError: it is too long.
        """
        start = self.tell()
        if len(self) - start > MOST_BYTES and self.find(b"\n", start, start + MOST_BYTES) < 0:
            raise ValueError(f"a line has more than {MOST_BYTES:,} bytes")
        return super().readline()


Stream: TypeAlias = io.BytesIO | MappedFile
"""What instructions are read from. Neither reserves memory for more bytes than it holds."""
