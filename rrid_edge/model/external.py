"""Files beside an ONNX file that hold weights of it.

A tensor names such a file. Runtimes open it, so a hostile model could make them read any file of the machine. Tensors
lie not only among a graph's weights but also in attributes of nodes, inner graphs and functions: all are searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.protobuf import fields, pair

_KEY: Final = "location"
_ENTRY_OF_TENSOR: Final = 13
_MAX_DEPTH: Final = 100  # protobuf's own limit

_PARTS: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}  # fmt: skip
"""For each kind of message: numbers of the fields that may hold tensors, and what they are (``onnx.proto``)."""


def external_files(model: memoryview) -> tuple[str, ...]:
    """Names of the files with external weights, in the order of the model.

    Args:
        model: a serialised model.

    Raises:
        ValueError: the model is damaged or nested too deeply.
    """
    found: dict[str, None] = {}
    waiting: list[tuple[str, memoryview, int]] = [("model", model, 0)]
    while waiting:
        kind, view, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("its graphs are nested too deeply")
        if kind == "tensor":
            found.update(_locations(view))
            continue
        children = [
            (_PARTS[kind][field], value, depth + 1)
            for field, value in fields(view)
            if field in _PARTS[kind] and isinstance(value, memoryview)
        ]
        # Most nodes hold no tensor, and a message without the word has no external one.
        waiting += [child for child in reversed(children) if child[0] != "node" or _mentions(child[1], depth)]
    return tuple(found)


def _mentions(node: memoryview, depth: int) -> bool:
    """Whether a node of the outermost graph may name a file; inner ones are not searched twice."""
    return depth > 1 or _KEY.encode() in bytes(node)


def _locations(tensor: memoryview) -> dict[str, None]:
    entries = (value for field, value in fields(tensor) if field == _ENTRY_OF_TENSOR)
    pairs = (pair(entry) for entry in entries if isinstance(entry, memoryview))
    return {value: None for key, value in pairs if key == _KEY}


def check_external(model: Path, names: tuple[str, ...], remedy: str) -> None:
    """Refuse files that are missing, or that do not lie in the model's folder. Links are followed.

    Args:
        model: the ONNX file.
        names: names of the files, as the model has them.
        remedy: what to do.

    Raises:
        ModelFileError: a file is missing or lies elsewhere.
    """
    where, folder = printable(model), model.parent.resolve()
    for name in names:
        shown = printable(name)[:100]
        if leads_out(name) or not _lies_in(folder, model.parent / name):
            raise ModelFileError(
                f"{where}: it names the file {shown!r} for its weights, which lies outside the model's folder; "
                f"expected weights inside it; {remedy}"
            )
        if not (model.parent / name).is_file():
            raise ModelFileError(
                f"{where}: its weights are in {shown!r}, which is not beside it; copy that file too, or {remedy}"
            )


def leads_out(name: str) -> bool:
    """Whether a name leads elsewhere by itself, on any system: absolute, with a drive, or upwards."""
    windows = PureWindowsPath(name)
    return bool(windows.anchor) or ".." in windows.parts or PurePosixPath(name).is_absolute() or "\0" in name


def _lies_in(folder: Path, file: Path) -> bool:
    try:
        return file.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # a circle of links, or a name that is too long
        return False
