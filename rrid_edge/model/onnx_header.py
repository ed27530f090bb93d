"""Read the header of an ONNX file without the package ``onnx``.

The header has the metadata, the inputs and outputs, and the names of external weight files. It is read from the
protobuf wire format (field numbers: ``onnx.proto``); weights are skipped. Every length is checked, so a truncated or
foreign file gives one error line and does not abort a runtime.
"""

from __future__ import annotations

import functools
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.file_kinds import ONNX, SAFETENSORS, TAR, TORCH, ZIP, kind_of_file
from rrid_edge.model.external import check_external, external_files
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.model.protobuf import MOST_BYTES, fields, pair, text
from rrid_edge.model.spec import HOW_MADE, INPUT_NAME, OUTPUT_NAME, ModelSpec

_ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
_MOST_SEEN = 200
EXPORT_HINT = f"export it with: {HOW_MADE}"


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output.

    Attributes:
        name: name in the graph.
        dtype: element type, as NumPy names it.
        shape: one entry per axis: a number if fixed, a name or None if dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class OnnxHeader:
    """The header of an ONNX file.

    Attributes:
        opset: version of the default operator set.
        producer: program that wrote the file.
        metadata: all entries of ``metadata_props``.
        inputs: graph inputs, without weights.
        outputs: graph outputs.
        external_files: names of the files with external weights of any tensor.
    """

    opset: int
    producer: str
    metadata: dict[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    external_files: tuple[str, ...]


def read_spec(path: Path) -> ModelSpec:
    """Read the spec of an ONNX file, and check that its inputs and outputs agree with it.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is not ONNX, is truncated, has external weights that are missing or lie outside its
            folder, or its metadata is missing, damaged or contradicts the graph.
    """
    header = read_model_header(path)
    spec = ModelSpec.from_metadata(header.metadata, where=printable(path))
    _check_contract(path, header, spec)
    return spec


def read_model_header(path: Path, *, remedy: str = EXPORT_HINT, check_weights: bool = True) -> OnnxHeader:
    """Read the header of any ONNX file.

    Args:
        path: the file.
        remedy: what messages tell to do.
        check_weights: check that external weights lie beside it.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is not ONNX, is truncated, or its external weights are missing or lie outside its
            folder.
    """
    where = printable(path)
    try:
        facts = path.stat()
        if facts.st_size == 0:
            raise ModelFileError(f"{where}: this file is empty; {remedy}")
        if facts.st_size > MOST_BYTES:
            raise ValueError(f"{facts.st_size:,} bytes, an ONNX file has at most {MOST_BYTES:,}")
        header = _parse_file(path, (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
    except OSError as error:
        raise UsageError(f"{where}: {_why_unread(error)}, or {remedy}", parameter="model") from error
    except ValueError as error:
        raise no_onnx(path, error, remedy=remedy) from error
    if check_weights:
        check_external(path, header.external_files, remedy)
    return header


def _why_unread(error: OSError) -> str:
    """What is wrong with a file that cannot be opened, and what to do about it."""
    if isinstance(error, IsADirectoryError):
        return "this is a folder; expected a model file: give one"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no such model file; give another one"
    advice = "make it readable" if isinstance(error, PermissionError) else "give another one"
    return f"cannot be read ({error.strerror or error}); {advice}"


@functools.lru_cache(maxsize=16)
def _parse_file(path: Path, _version: tuple[int, ...]) -> OnnxHeader:
    """Parse a header once per version of a file: several modules read it when an engine is opened."""
    with path.open("rb") as stream:
        # The map is not closed here: an error's traceback holds views of it. The last view unmaps the file.
        return _parse_model(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))


def no_onnx(path: Path, error: Exception, *, remedy: str = EXPORT_HINT) -> ModelFileError:
    """The error for a file that cannot be parsed. It says what the file is, if its content or its name shows it."""
    where, named, content = printable(path), kind_of(path), kind_of_file(path)
    if content in (TORCH, SAFETENSORS) or (named is Kind.CHECKPOINT and content in (None, ZIP, TAR)):
        return ModelFileError(
            f"{where}: this is a checkpoint, not an ONNX file; make one with: rrid-edge export {where}"
        )
    if named not in (Kind.ONNX, Kind.OTHER, Kind.CHECKPOINT):
        return ModelFileError(
            f"{where}: this is {named.value}, not an ONNX file; give the ONNX file of its network, or {remedy}"
        )
    if content not in (None, ONNX):
        remedy = f"make one with: {HOW_MADE}" if remedy == EXPORT_HINT else remedy
        return ModelFileError(f"{where}: this is {content}, not an ONNX file; {remedy}")
    return ModelFileError(f"{where}: not an ONNX file, or damaged ({error}); {remedy}")


def _check_contract(path: Path, header: OnnxHeader, spec: ModelSpec) -> None:
    expected = (
        (header.inputs, INPUT_NAME, spec.input_dtype, spec.input_shape),
        (header.outputs, OUTPUT_NAME, "float32", (spec.dimension,)),
    )
    for tensors, name, dtype, shape in expected:
        found = tensors[0] if len(tensors) == 1 else None
        fits = found is not None and found.name == name and found.dtype == dtype and found.shape[1:] == shape
        if not fits or found is None or isinstance(found.shape[0], int):
            seen = (
                ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors[:3]) or "nothing"
            )
            raise ModelFileError(
                f"{printable(path)}: the graph contradicts its metadata: expected {name} {dtype} "
                f"['batch', {', '.join(map(str, shape))}], found {printable(seen[:_MOST_SEEN])}; {EXPORT_HINT}"
            )


_NEWEST_THINKABLE_OPSET: Final = 1000
"""ONNX 1.20 has 25. OpenVINO 2026.2 counts down from what a file says, for hours if it says 2 ** 62."""


def _parse_model(view: memoryview) -> OnnxHeader:
    opset, producer, metadata, graph = 0, "", {}, None
    for field, value in fields(view):
        if field == 2 and isinstance(value, memoryview):
            producer = text(value)
        elif field == 7 and isinstance(value, memoryview):
            if graph is not None:  # protobuf would merge them
                raise ValueError("two graphs")
            graph = value
        elif field == 8 and isinstance(value, memoryview):
            entries = dict(fields(value))
            domain, version = entries.get(1), entries.get(2)
            if not domain and isinstance(version, int):
                opset = version
        elif field == 14 and isinstance(value, memoryview):
            key, entry = pair(value)
            metadata[key] = entry
    if graph is None or opset == 0:
        raise ValueError("no graph or no operator set")
    if opset > _NEWEST_THINKABLE_OPSET:
        raise ValueError(f"operator set {opset:,}")
    inputs, outputs, weights = _parse_graph(graph)
    inputs = tuple(item for item in inputs if item.name not in weights)
    return OnnxHeader(opset, producer, metadata, inputs, outputs, external_files(view))


def _parse_graph(view: memoryview) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...], frozenset[str]]:
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    weights: set[str] = set()
    for field, value in fields(view):
        if not isinstance(value, memoryview):
            continue
        if field == 11:
            inputs.append(_tensor_info(value))
        elif field == 12:
            outputs.append(_tensor_info(value))
        elif field == 5:
            for part, content in fields(value):
                if part == 8 and isinstance(content, memoryview):
                    weights.add(text(content))
    return tuple(inputs), tuple(outputs), frozenset(weights)


def _tensor_info(view: memoryview) -> TensorInfo:
    name, dtype = "", "unknown"
    shape: list[int | str | None] = []
    for field, value in fields(view):
        if not isinstance(value, memoryview):
            continue
        if field == 1:
            name = text(value)
        elif field == 2:
            for part, tensor in fields(value):
                if part == 1 and isinstance(tensor, memoryview):
                    dtype, shape = _tensor_type(tensor)
    return TensorInfo(name, dtype, tuple(shape))


def _tensor_type(view: memoryview) -> tuple[str, list[int | str | None]]:
    dtype = "unknown"
    shape: list[int | str | None] = []
    for field, value in fields(view):
        if field == 1 and isinstance(value, int):
            dtype = _ELEMENT_TYPES.get(value, f"type {value}")
        elif field == 2 and isinstance(value, memoryview):
            for part, axis in fields(value):
                if part == 1 and isinstance(axis, memoryview):
                    entries = dict(fields(axis))
                    size, label = entries.get(1), entries.get(2)
                    shape.append(text(label) if isinstance(label, memoryview) else size if _is_size(size) else None)
    return dtype, shape


def _is_size(size: int | memoryview | None) -> TypeGuard[int]:
    """Whether this is a size. Negative numbers, which some programs write for any size, are none."""
    return isinstance(size, int) and size < 1 << 63
