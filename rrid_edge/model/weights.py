"""``rrid.weights_sha256``: the sum that vouches for the graph and the weights of an ONNX file.

The sum is the sha256 of all top-level protobuf fields of the file as they stand in it, except ``metadata_props`` (field
14, which holds the sum itself). So it covers every byte of the graph, its initialisers and operator sets. Files of
format 1 have no sum. They open, but nothing vouches for their weights.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from pathlib import Path
from typing import BinaryIO

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.model.onnx_header import no_onnx, read_model_header, read_spec
from rrid_edge.model.protobuf import MOST_BYTES, MOST_FIELDS, MOST_TEXT_BYTES, encoded_pair, pair
from rrid_edge.model.spec import FORMAT_KEY, HOW_MADE, ModelSpec

WEIGHTS_KEY = "rrid.weights_sha256"
_METADATA_FIELD = 14
_BLOCK_BYTES = 1 << 20
_AGAIN = f"export it again with: {HOW_MADE}"


def contract_file(content: bytes, spec: ModelSpec) -> bytes:
    """The bytes of an ONNX file that keeps the model contract.

    Args:
        content: a serialised ONNX model without external weights. Its metadata is replaced.
        spec: spec of the model.
    """
    network = io.BytesIO()
    digest, _ = _read_network(io.BytesIO(content), len(content), network)
    entries = spec.to_metadata() | {WEIGHTS_KEY: digest}
    metadata = [encoded_pair(_METADATA_FIELD, key, value) for key, value in entries.items()]
    return network.getvalue() + b"".join(metadata)


def read_checked_spec(path: Path) -> ModelSpec:
    """Read the spec of an ONNX file and check its weights: for every reader that computes with them.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: see :func:`rrid_edge.model.onnx_header.read_spec` and :func:`check_weights`.
    """
    spec = read_spec(path)
    check_weights(path)
    return spec


def check_weights(path: Path) -> str | None:
    """Compare the graph and the weights of an ONNX file with the sum in its metadata. It reads the whole file.

    Returns:
        The sum (hex), or None for a file of format 1 without one: nothing vouches for its weights.

    Raises:
        UsageError: the file cannot be read.
        ModelFileError: the sum differs, is missing in a file of format 2, or does not cover external weights.
    """
    where = printable(path)
    try:
        with path.open("rb", buffering=_BLOCK_BYTES) as stream:
            found, metadata = _read_network(stream, os.fstat(stream.fileno()).st_size)
    except OSError as error:
        raise UsageError(
            f"{where}: cannot be read ({error.strerror or error}); give another model file", parameter="model"
        ) from error
    except ValueError as error:
        raise no_onnx(path, error) from error
    expected = metadata.get(WEIGHTS_KEY)
    if expected is None and metadata.get(FORMAT_KEY) == "1":
        return None
    if expected is None:
        raise ModelFileError(f"{where}: damaged metadata of the model ({WEIGHTS_KEY} is missing); {_AGAIN}")
    if found != expected:
        raise ModelFileError(
            f"{where}: its graph or weights changed after the export (sha256 {found[:12]}, expected "
            f"{printable(expected[:12])}): the file is damaged or was edited; {_AGAIN}"
        )
    if external := read_model_header(path).external_files:
        raise ModelFileError(
            f"{where}: its weights are in {printable(external[0])!r}, which its sha256 does not cover: expected one "
            f"file; {_AGAIN}"
        )
    return found


def has_sum(path: Path) -> bool:
    """Whether an ONNX file has a sum of its weights. It does not compute it.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is damaged.
    """
    return WEIGHTS_KEY in read_model_header(path).metadata


def _read_network(stream: BinaryIO, size: int, copy: BinaryIO | None = None) -> tuple[str, dict[str, str]]:
    """The sum of a serialised model, and its metadata.

    Args:
        stream: the serialised model.
        size: its bytes.
        copy: takes all fields except the metadata, if given.
    """
    digest, metadata, position, count = hashlib.sha256(), dict[str, str](), 0, 0
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, an ONNX file has at most {MOST_BYTES:,}")
    while position < size:
        field, head, length = _head(stream)
        position, count = position + len(head) + length, count + 1
        if count > MOST_FIELDS or (field == _METADATA_FIELD and length > MOST_TEXT_BYTES):
            raise ValueError(f"more than {MOST_FIELDS:,} fields, or metadata of {length:,} bytes")
        if position > size:
            raise ValueError(f"it ends {position - size:,} bytes too early")
        if field == _METADATA_FIELD:
            key, value = pair(memoryview(_exactly(stream, length)))
            metadata[key] = value
            continue
        blocks = (_exactly(stream, min(_BLOCK_BYTES, length - start)) for start in range(0, length, _BLOCK_BYTES))
        for block in itertools.chain((head,), blocks):
            digest.update(block)
            if copy is not None:
                copy.write(block)
    return digest.hexdigest(), metadata


def _head(stream: BinaryIO) -> tuple[int, bytes, int]:
    """Number of the next field, the bytes before its content, and the length of its content."""
    head, key = _varint(stream)
    number, kind = key >> 3, key & 7
    if number == 0 or kind not in (0, 1, 2, 5) or (number == _METADATA_FIELD and kind != 2):
        raise ValueError(f"field {number} of wire type {kind}")
    if kind in (1, 5):
        return number, head, 8 if kind == 1 else 4
    more, value = _varint(stream)
    return number, head + more, value if kind == 2 else 0


def _varint(stream: BinaryIO) -> tuple[bytes, int]:
    """The bytes of the next number, and the number."""
    taken, value = b"", 0
    while not taken or taken[-1] >= 0x80:
        if len(taken) == 10:
            raise ValueError("a number has more than 64 bits")
        taken += _exactly(stream, 1)
        value |= (taken[-1] & 0x7F) << 7 * (len(taken) - 1)
    return taken, value


def _exactly(stream: BinaryIO, length: int) -> bytes:
    content = stream.read(length)
    if len(content) != length:
        raise ValueError(f"it ends {length - len(content):,} bytes too early")
    return content
