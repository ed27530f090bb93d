"""PyTorch's zip format: ``NAME/data.pkl`` and one entry per storage, ``NAME/data/KEY``, none of them compressed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Final

from rrid_train.weight_files.pickles import Budget, read_pickle
from rrid_train.weight_files.records import RefusedError, storage_of
from rrid_train.weight_files.streams import MOST_BYTES

MAGIC: Final = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_MAX_ENTRIES = 1 << 16
_CONTAINERS = (".zip", ".pth", ".pt", ".ckpt", ".pkl", ".tar", ".bin", ".safetensors")


class ZipArchive:
    """The entries of an archive in a file.

    Args:
        content: the whole file.

    Raises:
        RefusedError: it holds code.
        ValueError: it is damaged, compressed, or no archive of PyTorch.
    """

    def __init__(self, content: memoryview, stream: io.BufferedIOBase) -> None:
        self._content = content
        try:
            with zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, struct.error, OverflowError) as error:
            raise ValueError(f"the archive is damaged: {error}") from error
        self._entries = {entry.filename: entry for entry in entries}
        self._folder = _check_entries(entries)
        _check_places(entries)
        order = self._folder + "byteorder"
        if order in self._entries and bytes(self._entry(order)) != b"little":
            raise ValueError("it was written on a big-endian machine")

    def load(self, budget: Budget) -> object:
        """Read what the archive's pickle describes.

        Raises:
            RefusedError: it asks for something that no weight file needs.
            ValueError: it is damaged.
        """
        name = self._folder + "data.pkl"
        if self._entries[name].file_size > MOST_BYTES:
            raise ValueError(f"its data.pkl has more than {MOST_BYTES:,} bytes")
        return read_pickle(io.BytesIO(bytes(self._entry(name))), budget, persistent=self._storage)

    def read(self, key: str, size: int) -> memoryview:
        """The bytes of a storage; see :class:`rrid_train.weight_files.records.Source`."""
        content = self._entry(f"{self._folder}data/{key}")
        if len(content) != size:
            raise ValueError(f"storage {key[:40]!r} has {len(content):,} bytes, expected {size:,}")
        return content

    def _entry(self, name: str) -> memoryview:
        entry = self._entries.get(name)
        if entry is None:
            raise ValueError(f"the archive has no entry {name[:80]!r}")
        head = self._content[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
        if len(head) != _LOCAL_HEADER.size:
            raise ValueError(f"the entry {name[:80]!r} is truncated")
        magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)
        start = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        content = self._content[start : start + entry.file_size]
        if magic != MAGIC or len(content) != entry.file_size:
            raise ValueError(f"the entry {name[:80]!r} is truncated")
        # PyTorch writes the sum 0 where it was told not to compute any.
        if entry.CRC and zlib.crc32(content) != entry.CRC:
            raise ValueError(f"the bytes of {name[:80]!r} changed after they were written (CRC-32)")
        return content

    def _storage(self, identity: object) -> object:
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise RefusedError("refers to data outside the file")
        return storage_of(identity[1], identity[2], identity[4], self)


def _check_entries(entries: list[zipfile.ZipInfo]) -> str:
    """Refuse archives that hold code, and everything that PyTorch does not write.

    Returns:
        The folder of the archive that holds ``data.pkl``, with its slash.
    """
    names = [entry.filename for entry in entries]
    if len(names) > _MAX_ENTRIES or len(set(names)) != len(names):
        raise ValueError("the archive has one name twice, or too many names")
    folders = [name.removesuffix("data.pkl") for name in names if name.count("/") <= 1 and _is_pickle(name)]
    if any(_is_code(name) for name in names):
        raise RefusedError("is a TorchScript or package archive, which holds code")
    if len(folders) != 1:
        inside = next((name for name in names if name.lower().endswith(_CONTAINERS)), None)
        unpack = f"; unpack {inside[:80]!r} from it" if inside else ""
        raise ValueError(f"a zip archive without PyTorch's data.pkl{unpack}")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise ValueError("the archive is compressed, which torch.save never does; unpack what is in it")
    return folders[0]


def _is_pickle(name: str) -> bool:
    return name == "data.pkl" or name.endswith("/data.pkl")


def _is_code(name: str) -> bool:
    """Whether an entry is one that only programs have: TorchScript, torch.package, torch.export."""
    parts = name.lower().split("/")
    return (
        parts[-1] in ("constants.pkl", "model.json", "extern_modules", "archive_format")
        or "code" in parts[:-1]
        or parts[-1].endswith((".py", ".pyc", ".so", ".dll", ".dylib"))
    )


def _check_places(entries: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse entries that lie in one another: few bytes could claim any number of storages."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ValueError("entries of the archive overlap")
        end = entry.header_offset + _LOCAL_HEADER.size + len(entry.orig_filename.encode()) + entry.compress_size
