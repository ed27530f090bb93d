"""Containers of pickles, written byte by byte: nothing here pickles or unpickles what is put in."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def zip_of(
    payload: bytes, storages: Mapping[str, bytes] | None = None, others: Mapping[str, bytes] | None = None
) -> bytes:
    """PyTorch's zip format around a pickle.

    Args:
        payload: the pickle.
        storages: bytes of the storages by name.
        others: more entries by name, below the archive's folder.
    """
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/byteorder", "little")
        for name, content in (storages or {}).items():
            archive.writestr(f"archive/data/{name}", content)
        for name, content in (others or {}).items():
            archive.writestr(f"archive/{name}", content)
        archive.writestr("archive/version", "3\n")
    return stored.getvalue()


def legacy_of(payload: bytes, storages: Mapping[str, tuple[int, bytes]] | None = None) -> bytes:
    """PyTorch's older format around a pickle.

    Args:
        payload: the pickle.
        storages: number of values and bytes of the storages by name.
    """
    facts = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(value, protocol=2) for value in (MAGIC, VERSION, facts)]
    parts += [payload, pickle.dumps(list(storages or {}), protocol=2)]
    parts += [values.to_bytes(8, "little", signed=True) + content for values, content in (storages or {}).values()]
    return b"".join(parts)


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    encoded = value.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def named(module: str, name: str) -> bytes:
    """The instruction that pushes a class or function."""
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, *arguments: bytes) -> bytes:
    """The instructions that call a function; arguments are instructions."""
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"
