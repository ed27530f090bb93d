"""Read the network of an OpenVINO IR without OpenVINO, and refuse what cannot be adopted before anything loads it."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.model.names import ir_weights_path, sidecar_path
from rrid_edge.model.onnx_header import TensorInfo
from rrid_export.adopt.foreign import ForeignNetwork, check_number, choose_input, choose_output, cycle_in, refused

_VERSIONS: Final = ("10", "11")
_MOST_BYTES: Final = 16 << 20
"""Of the XML: ten thousand layers take about 10 MB."""
_CONTROL: Final = ("If", "Loop", "TensorIterator")
_TYPES: Final = {
    "f32": "float32", "fp32": "float32", "f16": "float16", "fp16": "float16", "f64": "float64", "fp64": "float64",
    "i64": "int64", "i32": "int32", "i8": "int8", "u8": "uint8", "bf16": "bfloat16", "boolean": "bool",
}  # fmt: skip


def read_ir(path: Path, *, input_name: str | None = None, output_name: str | None = None) -> ForeignNetwork:
    """Read an OpenVINO IR of another program; see :func:`rrid_export.adopt.foreign.read_foreign`."""
    if sidecar_path(path).is_file():
        raise UsageError(f"{printable(path)}: this is a model of rrid-edge already; use it as it is", parameter="model")
    net = _parsed(path)
    weights = ir_weights_path(path)
    if not weights.is_file():
        raise ModelFileError(
            f"{printable(path)}: its weights {printable(weights.name)!r} are not beside it; an OpenVINO IR has two "
            "files: copy both"
        )
    layers = {layer.get("id", ""): layer for layer in net.iterfind("layers/layer")}
    edges = list(net.iterfind("edges/edge"))
    try:
        _check_layers(path, layers, weights.stat().st_size)
        _check_order(path, layers, edges)
        inputs = tuple(_of_parameter(layer) for layer in layers.values() if layer.get("type") == "Parameter")
        outputs = tuple(_of_result(layer, layers, edges) for layer in layers.values() if layer.get("type") == "Result")
    except (ValueError, KeyError, AttributeError) as error:
        raise refused(path, f"no OpenVINO IR, or damaged ({error})") from error
    digest = hashlib.sha256(f"{sha256_of_file(path)}{sha256_of_file(weights)}".encode())
    return ForeignNetwork(
        path,
        digest.hexdigest(),
        0,
        choose_input(path, inputs, input_name),
        choose_output(path, outputs, output_name),
    )


def _parsed(path: Path) -> Element:
    if path.exists() and not path.is_file():
        raise UsageError(f"{printable(path)}: this is no ordinary file; give another one", parameter="model")
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise refused(path, f"{size:,} bytes, expected {_MOST_BYTES:,} at most")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{printable(path)}: cannot be read ({error.strerror or error}); give another file", parameter="model"
        ) from error
    if b"\0" in content:  # in UTF-16, the check below would see no declarations
        raise refused(path, "it holds zero bytes, expected XML in UTF-8")
    if b"<!" in content.replace(b"<!--", b""):  # declarations can make a small file huge
        raise refused(path, "it declares entities or document types, expected plain XML")
    try:
        # Read as UTF-8, whatever it declares: declarations in another encoding were not seen above.
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314 - without declarations, nothing expands
        net = ElementTree.fromstring(content, parser)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise refused(path, f"no OpenVINO IR, or damaged ({error})") from error
    if net.tag != "net" or net.get("version") not in _VERSIONS:
        found = f"version {net.get('version')}" if net.tag == "net" else f"<{net.tag}>"
        raise refused(path, f"no OpenVINO IR of version {' or '.join(_VERSIONS)} ({printable(found)[:100]})")
    return net


def _check_layers(path: Path, layers: dict[str, Element], weight_bytes: int) -> None:
    check_number(path, len(layers), "layers")
    for layer in layers.values():
        kind, version = layer.get("type", ""), layer.get("version", "")
        if not version.startswith("opset"):
            raise refused(path, f"custom operator {printable(kind)[:100]} ({printable(version)[:100]})")
        if kind in _CONTROL:
            raise refused(path, f"operator {kind} has graphs of its own, expected one plain graph")
        data = layer.find("data")
        if kind == "Const" and data is not None:
            end = int(data.get("offset", "0")) + int(data.get("size", "0"))
            if min(int(data.get("offset", "0")), int(data.get("size", "0"))) < 0 or end > weight_bytes:
                raise refused(
                    path, f"weights end at byte {end:,}, but {ir_weights_path(path).name} has {weight_bytes:,}"
                )


def _check_order(path: Path, layers: dict[str, Element], edges: list[Element]) -> None:
    """Refuse layers in a cycle."""
    needs: dict[str, set[str]] = {name: set() for name in layers}
    for edge in edges:
        maker = edge.attrib["from-layer"]
        if maker not in layers:
            raise ValueError(f"an edge from layer {printable(maker)[:100]!r}, which is missing")
        needs[edge.attrib["to-layer"]].add(maker)
    if cycle := cycle_in(needs):
        name = next(name for name in layers if name in cycle)
        told = layers[name].get("name", name)[:100]
        raise refused(path, f"layer {told!r} waits for its own output, expected a graph without cycles")


def _of_parameter(layer: Element) -> TensorInfo:
    data = layer.find("data")
    if data is None:
        raise ValueError("an input without a shape")
    sizes = [size for size in data.get("shape", "").split(",") if size]
    port = layer.find("output/port")
    return TensorInfo(_name(port, layer), _type(data.get("element_type", "")), tuple(_size(size) for size in sizes))


def _of_result(layer: Element, layers: dict[str, Element], edges: list[Element]) -> TensorInfo:
    """The tensor that a result takes."""
    edge = next((edge for edge in edges if edge.attrib["to-layer"] == layer.get("id")), None)
    if edge is None:
        raise ValueError(f"no edge to result {printable(layer.get('name', ''))[:100]!r}")
    maker = layers[edge.attrib["from-layer"]]
    port = next((port for port in maker.iterfind("output/port") if port.get("id") == edge.attrib["from-port"]), None)
    if port is None:
        raise ValueError(f"an edge from port {printable(edge.attrib['from-port'])[:100]!r}, which is missing")
    sizes = tuple(_size(axis.text or "") for axis in port.iterfind("dim"))
    return TensorInfo(_name(port, maker), _type(port.get("precision", "")), sizes)


def _name(port: Element | None, layer: Element) -> str:
    """Name of a tensor: its own first one, else its layer's."""
    names = "" if port is None else port.get("names", "")
    return names.replace("\\,", "\0").split(",")[0].replace("\0", ",") or layer.get("name", "")


def _size(text: str) -> int | None:
    """Size of an axis; None if it is dynamic."""
    return int(text) if text.strip().isdigit() else None


def _type(text: str) -> str:
    return _TYPES.get(text.lower(), text or "unknown")
