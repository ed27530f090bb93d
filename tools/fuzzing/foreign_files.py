"""Networks of other programs, adopted ones, and damages to them: ONNX graphs, OpenVINO IRs, weights beside a file."""

from __future__ import annotations

import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Final

from fuzzing.containers import Damaged, damaged_bytes, damaged_graph, onnx_tensor_bytes
from fuzzing.values import ODD_TEXTS
from rrid_edge.files import sha256_of_file
from support.foreign import HEIGHT_PX, WIDTH_PX, ForeignFile

FACTS: Final = "--color bgr --scale 255 --mean 0.5,0.5,0.5 --std 0.2,0.3,0.4"
_NUMBERS: Final = (
    *("0", "1", "-1", "7", "2147483648", "4611686018427387904", "-9223372036854775808", "9" * 40, "1.5", "1e9", "nan"),
    *("", "?", "-1,-1,-1,-1", "1,3,0,16", "1,3,24", "0,0,0,0", "f16", "u8", "i64", "string", "dynamic", "opset99"),
    *("opset1", "extension", "Parameter", "Result", "Const", "Loop", "ReadValue", "Convolution", "Reshape"),
)


def write_foreign_files() -> None:
    """Write the sound files into the working folder.

    A process of its own does it: OpenVINO's threads do not survive the fork of the fuzzer's workers.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; from fuzzing import foreign_files; foreign_files.write_here()"
    subprocess.run([sys.executable, "-c", program], check=True)


def write_here() -> None:
    """Write the sound files into the working folder, in this process."""
    import json

    import onnx
    import openvino

    from rrid_edge.engines.openvino.engine import openvino_core
    from rrid_export.adopt.facts import Choices
    from rrid_export.adopt.foreign import read_foreign
    from rrid_export.adopt.pipeline import AdoptSettings, adopt_network

    foreign = ForeignFile().write(Path("foreign.onnx"))
    told = {"preprocess": "resize", "schema_version": 1, "artifact_sha256": sha256_of_file(foreign)}
    told |= {"model_name": "osnet_x0_25", "input_shape": [None, 3, HEIGHT_PX, WIDTH_PX]}
    Path("foreign.onnx.metadata.json").write_text(json.dumps(told))
    onnx.save_model(
        ForeignFile(opset=11).model(), "apart.onnx", save_as_external_data=True, size_threshold=0, location="apart.bin"
    )
    openvino.save_model(openvino_core().read_model("foreign.onnx"), "foreign.xml", compress_to_fp16=False)
    choices = Choices(color="bgr", scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.2, 0.3, 0.4), flip=True)
    for source, name in (("foreign.onnx", "adopted"), ("foreign.xml", "network")):
        adopt_network(read_foreign(Path(source)), Path(), AdoptSettings(choices, name=name, crops=Path("crops")))


def damaged_foreign(content: bytes, generator: random.Random) -> Damaged:
    """Damage an ONNX file of another program: its bytes, its graph or its weights."""
    import onnx

    if generator.random() < 0.3:
        return damaged_bytes(content, generator)
    model = onnx.load_model_from_string(content)
    way = generator.choice(("graph", "graph", "weights", "attribute", "cycle", "input", "output", "axes"))
    graph = model.graph
    if way == "graph":
        way = damaged_graph(model, generator)
    elif way == "weights":
        _spoil_weights(generator.choice(graph.initializer), generator)
    elif way == "attribute":
        node = generator.choice([node for node in graph.node if node.attribute])
        _spoil_attribute(generator.choice(node.attribute), generator)
    elif way == "cycle":
        first, second = generator.sample(range(len(graph.node)), 2)
        graph.node[min(first, second)].input[0] = graph.node[max(first, second)].output[0]
    elif way in ("input", "output"):
        values = graph.input if way == "input" else graph.output
        values.extend(generator.choice(([values[0]], [], [onnx.ValueInfoProto(name="other")])))
        if len(values) == 1:
            del values[:]
    else:
        sides = graph.input[0].type.tensor_type.shape.dim
        del sides[generator.randrange(len(sides)) :]
    return model.SerializeToString(), way


def damaged_apart(content: bytes, generator: random.Random) -> Damaged:
    """Damage an ONNX file whose weights lie beside it, or these weights."""
    import onnx

    if not content.startswith(b"\x08") or generator.random() < 0.3:  # ir_version comes first
        return damaged_bytes(content, generator)
    model = onnx.load_model_from_string(content)
    tensor = generator.choice(model.graph.initializer)
    entry = generator.choice(tensor.external_data)
    entry.value = generator.choice((*_NUMBERS, "../apart.bin", "/etc/passwd", "apart.onnx", "missing", ".", "a\0b"))
    if generator.random() < 0.2:
        entry.key = generator.choice(("", "location", "offset", "length", "checksum"))
    return model.SerializeToString(), f"{entry.key} {entry.value}"


def damaged_ir(content: bytes, generator: random.Random) -> Damaged:
    """Damage the XML of an IR, or its weights."""
    if content.startswith(b"<?xml"):
        return damaged_xml(content, generator)
    way = generator.choice(("bytes", "bytes", "longer", "shorter", "empty", "nan"))
    if way == "bytes":
        return damaged_bytes(content, generator)
    changed = {"longer": content * 3, "shorter": content[: len(content) // 2], "nan": b"\xff" * len(content)}
    return changed.get(way, b""), way


def _spoil_weights(tensor: Any, generator: random.Random) -> None:  # noqa: ANN401 - a protobuf message
    way = generator.choice(("values", "values", "dims", "type", "cut", "repeated"))
    if way == "values":
        tensor.raw_data = onnx_tensor_bytes(tensor, generator.choice((float("nan"), float("inf"), 0.0, 1e38, 1e-40)))
    elif way == "dims":
        tensor.dims[generator.randrange(len(tensor.dims))] = generator.choice((0, -1, 2**31, 2**62, 1))
    elif way == "type":
        tensor.data_type = generator.choice((0, 2, 7, 8, 10, 11, 16, 17, 77, -1))
    elif way == "cut":
        tensor.raw_data = tensor.raw_data[: generator.randrange(len(tensor.raw_data))]
    else:
        tensor.float_data.extend([1.0, 2.0])


def _spoil_attribute(attribute: Any, generator: random.Random) -> None:  # noqa: ANN401 - a protobuf message
    way = generator.choice(("numbers", "numbers", "type", "name", "text"))
    if way == "numbers":
        odd = generator.choice((0, -1, 2**31, 2**62, -(2**62), 3))
        if attribute.ints:
            attribute.ints[generator.randrange(len(attribute.ints))] = odd
        else:
            attribute.i = odd
    elif way == "type":
        attribute.type = generator.choice((0, 1, 2, 3, 4, 5, 7, 14))
    elif way == "name":
        attribute.name = generator.choice(("", "kernel_shape", "axis", "group", "perm", "nonsense"))
    else:
        attribute.s = generator.choice(ODD_TEXTS).encode("utf-8", "replace")


def damaged_xml(content: bytes, generator: random.Random) -> Damaged:
    """Damage the XML of an IR: its bytes, an attribute, or an element."""
    if generator.random() < 0.25:
        return damaged_bytes(content, generator)
    if generator.random() < 0.1:
        return _expanding(content, generator), "declaration"
    net = ElementTree.fromstring(content)
    parents = [(parent, child) for parent in net.iter() for child in parent]
    parent, child = generator.choice(parents)
    way = generator.choice(
        ("attribute", "attribute", "attribute", "attribute", "remove", "twice", "text", "drop", "tag")
    )
    if way == "attribute":
        _, child = generator.choice([pair for pair in parents if pair[1].attrib])
        name = generator.choice(sorted(child.attrib))
        others = [one.attrib[name] for one in net.iter() if name in one.attrib]
        odd = (*_NUMBERS, *others, *(text for text in ODD_TEXTS if text.isprintable()))
        child.set(name, generator.choice(odd))
        way = f"{way} {child.tag}.{name}"
    elif way == "remove":
        parent.remove(child)
    elif way == "twice":
        parent.append(child)
    elif way == "text":
        child.text = generator.choice(_NUMBERS)
    elif way == "drop" and child.attrib:
        del child.attrib[generator.choice(sorted(child.attrib))]
    else:
        child.tag = generator.choice(("layer", "port", "dim", "data", "edge", "net", "x"))
    return ElementTree.tostring(net), f"{way} {child.tag}"


def _expanding(content: bytes, generator: random.Random) -> bytes:
    """The XML with a document type, whose entities would grow or read a file."""
    bomb = b'<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%s">' % (ord("a") + place, b"&%c;" % (ord("a") + place - 1) * 10) for place in range(1, 12)
    )
    head = generator.choice(
        (bomb + b"]>", b'<!DOCTYPE net [<!ENTITY l SYSTEM "file:///etc/passwd">]>', b"<!DOCTYPE net>")
    )
    body = content[content.index(b"<net") :]
    return b'<?xml version="1.0"?>' + head + body.replace(b'version="11"', b'version="11" told="&l;"', 1)
