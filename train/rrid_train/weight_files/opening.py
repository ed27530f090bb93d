"""Open a weight file: its content decides how it is read, its name does not."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from rrid_edge.errors import CheckpointError, UsageError, printable
from rrid_edge.file_kinds import SAFETENSORS, TAR, TORCH, ZIP, kind_of_file, why_no_file
from rrid_train.weight_files import zip_archive
from rrid_train.weight_files.arrays import read_array
from rrid_train.weight_files.older import load_old
from rrid_train.weight_files.pickles import Budget
from rrid_train.weight_files.records import RefusedError, StoredArray, StoredTensor, TensorLike
from rrid_train.weight_files.safetensors_file import is_safetensors, parse_safetensors
from rrid_train.weight_files.streams import MappedFile
from rrid_train.weight_files.zip_archive import ZipArchive

_SAFETENSORS: Final = ".safetensors"
_OTHERS: Final = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "an array of NumPy"),
)
_TAR_MAGIC, _TAR_PLACE = b"ustar", 257
_MAX_REASON, _MAX_DEPTH = 200, 32
_MOST_BYTES = 4 << 30
"""Most bytes of all tensors that are read. A training state of the largest network has 1 GB."""
_MOST_VALUES_PER_BYTE, _FREE_VALUES = 4, 1 << 24


@dataclass
class Opened:
    """What a weight file holds.

    Attributes:
        where: name of the file, for messages.
        size: its bytes.
        content: dictionaries, lists, plain values, and records of :mod:`rrid_train.weight_files.records`.
        metadata: the texts of a safetensors file; empty for other files.
    """

    where: str
    size: int
    content: object
    metadata: dict[str, str] = field(default_factory=dict)
    _storages: dict[tuple[int, str], Tensor] = field(default_factory=dict, repr=False)
    _values_read: int = 0
    _plain_left: int = 1_000_000

    def tensor(self, stored: TensorLike) -> Tensor:
        """Read one tensor.

        Raises:
            CheckpointError: its bytes are missing or damaged, or the tensors claim far more values than the file holds.
        """
        self._values_read += math.prod(stored.size if isinstance(stored, StoredTensor) else stored.shape)
        try:
            if self._values_read > _MOST_VALUES_PER_BYTE * self.size + _FREE_VALUES:
                raise ValueError("its tensors claim far more values than it has bytes")
            held = stored.storage.size_bytes if isinstance(stored, StoredTensor) else 0
            if max(held, 4 * self._values_read) > _MOST_BYTES:
                raise ValueError(f"its tensors have more than {_MOST_BYTES:,} bytes")
            if isinstance(stored, StoredTensor):
                return stored.read(self._storages)
            return torch.from_numpy(read_array(stored))
        except (ValueError, RuntimeError, TypeError) as error:
            raise damaged(self.where, error) from error

    def plain(self) -> object:
        """The content with every tensor read: dictionaries, lists, tuples, numbers, texts and tensors.

        Raises:
            CheckpointError: it holds other objects, is nested too deeply, or a tensor is damaged.
        """
        return self._plain(self.content, 0)

    def _plain(self, value: object, depth: int) -> object:
        self._plain_left -= 1
        if depth > _MAX_DEPTH or self._plain_left < 0:
            raise damaged(self.where, ValueError("its values are nested too deeply, or too many"))
        if isinstance(value, dict):
            return {key: self._plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._plain(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self._plain(item, depth + 1) for item in value)
        if isinstance(value, StoredTensor | StoredArray):
            return self.tensor(value)
        if value is None or isinstance(value, str | bytes | int | float):
            return value
        raise damaged(self.where, ValueError("it holds objects that are neither tensors nor plain values"))


def open_weights(path: Path) -> Opened:
    """Read what a weight file holds; its tensors are read when they are asked for.

    Raises:
        UsageError: no such file, or it cannot be read.
        CheckpointError: the file is damaged, of another kind, or asks for more than tensors.
    """
    where = printable(path)
    if not path.is_file():
        raise UsageError(f"{where}: {why_no_file(path, 'weight file')}; give a .safetensors, .pth or .pt file")
    try:
        with path.open("rb") as stream:
            # The map stays open as long as something needs it: tensors are read later.
            file = MappedFile(stream.fileno(), 0, access=mmap.ACCESS_READ)
            content = memoryview(file)
            if is_safetensors(content) or _is_named_safetensors(path, content):
                parsed = parse_safetensors(content, where)
                return Opened(where, len(content), parsed.tensors, parsed.metadata)
            _refuse_others(content, where)
            budget = Budget()
            if bytes(content[:4]) == zip_archive.MAGIC:
                return Opened(where, len(content), ZipArchive(content, stream).load(budget))
            return Opened(where, len(content), load_old(file, content, budget))
    except RefusedError as error:
        raise CheckpointError(
            f"{where}: refused, it {printable(str(error))[:_MAX_REASON]}; expected tensors only: get the weights as a "
            "state dict, from a source you trust"
        ) from error
    except OSError as error:
        raise UsageError(f"{where}: cannot be read ({error.strerror or error}); make it readable") from error
    except (ValueError, RuntimeError, RecursionError) as error:
        raise _of_other_kind(path) or damaged(where, error) from error


def _of_other_kind(path: Path) -> CheckpointError | None:
    """The error for a file that cannot be read, if its first bytes show what it is; None for a damaged weight file."""
    kind = kind_of_file(path)
    if kind is None or kind in (TORCH, SAFETENSORS, ZIP, TAR):
        return None
    return CheckpointError(
        f"{printable(path)}: this is {kind}, not a checkpoint; expected weights of PyTorch: give a file of rrid-edge "
        "train or of the published training"
    )


def _is_named_safetensors(path: Path, content: memoryview) -> bool:
    """Whether a damaged file was a safetensors file, by its name and because nothing else begins as it does."""
    return path.suffix.lower() == _SAFETENSORS and bytes(content[:4]) != zip_archive.MAGIC and content[0] != 0x80


def _refuse_others(content: memoryview, where: str) -> None:
    found = next((name for magic, name in _OTHERS if bytes(content[: len(magic)]) == magic), None)
    if bytes(content[_TAR_PLACE : _TAR_PLACE + len(_TAR_MAGIC)]) == _TAR_MAGIC:
        found = "a tar archive"
    if found is not None:
        raise damaged(where, ValueError(f"it is {found}: unpack or convert it first"))


def damaged(where: str, error: Exception) -> CheckpointError:
    """The error for a file that cannot be read."""
    lines = str(error).strip().splitlines()
    reason = printable(lines[0])[:_MAX_REASON] if lines else type(error).__name__
    return CheckpointError(
        f"{where}: not a PyTorch weight file, or damaged ({reason}); save it again with "
        "torch.save(model.state_dict(), ...)"
    )
