"""Damages inside containers: npz, zip, safetensors, ONNX and SQLite files whose outer form stays sound."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sqlite3
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.mutations import mutate
from fuzzing.values import ODD_TEXTS, as_text, damaged_json, odd_value

Damaged = tuple[bytes, str]


def damaged_bytes(content: bytes, generator: random.Random) -> Damaged:
    """Damage any file."""
    return mutate(content, generator, [content])


def damaged_npz(content: bytes, generator: random.Random) -> Damaged:
    """Damage an npz file: its bytes, a member's bytes, or an array."""
    if generator.random() < 0.35:
        return damaged_bytes(content, generator)
    members = _members(content)
    name = generator.choice(sorted(members))
    way = generator.choice(("array", "array", "header", "header", "bytes", "remove", "rename"))
    if way == "array":
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            members[name] = _odd_array(np.load(io.BytesIO(members[name]), allow_pickle=False), generator)
    elif way == "header":
        members[name] = _lying_header(generator) + members[name][128:]
    elif way == "bytes":
        members[name] = damaged_bytes(members[name], generator)[0]
    else:
        moved = members.pop(name)
        members |= {generator.choice(("x.npy", name.upper(), "../x.npy")): moved} if way == "rename" else {}
    return _zipped(members, zipfile.ZIP_DEFLATED), f"{way} {name}"


def _odd_array(array: np.ndarray[Any, Any], generator: random.Random) -> bytes:
    array = np.atleast_1d(array)
    shapes = [
        array.reshape(-1),
        array[:0],
        array[None],
        array[..., :1],
        np.repeat(array, 3, axis=0),
    ]
    kinds = [array.astype(kind) for kind in ("f8", "i1", "U5", "S3", "?", ">f4", "c8") if array.dtype.kind in "uif"]
    values = np.full(array.shape, generator.choice((np.nan, np.inf, -1, 1e30, 0)), "f4")
    stream = io.BytesIO()
    np.save(stream, generator.choice([*shapes, *kinds, values]), allow_pickle=False)
    return stream.getvalue()


def _lying_header(generator: random.Random) -> bytes:
    shape = generator.choice(((10**12,), (2**40, 2**40), (-1, 5), (0,), (), (2**63, 1), "x", (1.5,), (10**5, 10**5, 3)))
    kind = generator.choice(("<f4", "|u1", "|O", "<U9", ">i8", "|V100000", "nonsense", "<M8[s]"))
    text = f"{{'descr': {kind!r}, 'fortran_order': {generator.choice((True, False, 7))}, 'shape': {shape}, }}"
    text = generator.choice((text, text, text, "[" * 2000, "__import__('os').system('touch ran')"))
    return b"\x93NUMPY\x01\0" + struct.pack("<H", 118) + text.encode()[:117].ljust(117) + b"\n"


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return stream.getvalue()


HOSTILE_PICKLES = (
    b"\x80\x02cposix\nsystem\nX\x09\0\0\0touch ran\x85R.",
    b"\x80\x02cbuiltins\neval\nX\x12\0\0\0open('ran','w')   \x85R.",
    b"\x80\x02cbuiltins\nexec\nX\x12\0\0\0open('ran','w')   \x85R.",
    b"\x80\x02ctorch.serialization\nload\nX\x03\0\0\0ran\x85R.",
    b"\x80\x02csubprocess\nPopen\nX\x09\0\0\0touch ran\x85R.",
    b"(X\x09\0\0\0touch ranios\nsystem\n.",
    b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\nX\x03\0\0\0run\x86R.",
)


def damaged_torch_zip(content: bytes, generator: random.Random) -> Damaged:
    """Damage a weight file in PyTorch's zip format: its bytes, its pickle, or its members."""
    if generator.random() < 0.3:
        return damaged_bytes(content, generator)
    members = _members(content)
    names = sorted(members)
    pickled = next(name for name in names if name.endswith("data.pkl"))
    root = pickled.removesuffix("data.pkl")
    way = generator.choice(("pickle", "pickle", "pickle", "hostile", "member", "remove", "script", "nested"))
    if way == "pickle":
        members[pickled] = damaged_bytes(members[pickled], generator)[0]
    elif way == "hostile":
        members[pickled] = generator.choice(HOSTILE_PICKLES)
    elif way == "member":
        name = generator.choice(names)
        members[name] = damaged_bytes(members[name][:4096], generator)[0]
    elif way == "remove":
        del members[generator.choice(names)]
    elif way == "script":  # as a TorchScript archive
        members |= {f"{root}constants.pkl": b"\x80\x02).", f"{root}code/__torch__.py": b"def forward(self): pass\n"}
    else:
        members = {f"{root}data.pkl": content, **{name: data for name, data in members.items() if name != pickled}}
    return _zipped(members), way


def damaged_pickle(content: bytes, generator: random.Random) -> Damaged:
    """Damage a pickle, or replace it by one that runs a program."""
    if generator.random() < 0.1:
        return generator.choice(HOSTILE_PICKLES) + content[generator.randrange(len(content)) :], "hostile"
    return damaged_bytes(content, generator)


def damaged_safetensors(content: bytes, generator: random.Random) -> Damaged:
    """Damage a safetensors file: its bytes, its header, the settings in its header, or the header's length."""
    if generator.random() < 0.2:
        return damaged_bytes(content, generator)
    length = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + length], content[8 + length :]
    way = generator.choice(("header", "header", "settings", "settings", "settings", "length"))
    if way == "length":
        claimed = generator.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, 100_000_000))
        return struct.pack("<Q", claimed) + header + body, way
    values = json.loads(header)
    texts = values.get("__metadata__", {})
    if way == "settings" and texts:
        name = generator.choice(sorted(texts))
        damaged, what = damaged_json(texts[name].encode(), generator)
        texts[name] = damaged.decode("utf-8", "replace")
        header = as_text(values)
    else:
        header, what = damaged_json(header, generator)
    return struct.pack("<Q", len(header)) + header + body, f"{way} {what}"


def damaged_onnx(content: bytes, generator: random.Random) -> Damaged:
    """Damage a model's ONNX file: its bytes, an entry of its metadata, or its graph with a right sum of the weights."""
    import onnx

    if generator.random() < 0.35:
        return damaged_bytes(content, generator)
    model = onnx.load_model_from_string(content)
    if generator.random() < 0.4:
        entry = generator.choice(model.metadata_props)
        entry.value = _odd_entry(entry.value, generator)
        return model.SerializeToString(), f"entry {entry.key}"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    way = damaged_graph(model, generator)
    return _summed(model.SerializeToString(), metadata), way


def _odd_entry(value: str, generator: random.Random) -> str:
    if value.startswith("{") and generator.random() < 0.7:
        odd = damaged_json(value.encode(), generator)[0].decode("utf-8", "ignore")
    elif generator.random() < 0.7:
        odd = str(odd_value(generator))
    else:
        odd = damaged_json(b'["a",1]', generator)[0].decode(errors="ignore")
    return odd.encode("utf-8", "ignore").decode()


def damaged_graph(model: Any, generator: random.Random) -> str:  # noqa: ANN401 - a protobuf message
    """Damage the graph of an ONNX model in place; returns the name of the damage."""
    import onnx

    way = generator.choice(("shape", "kind", "outside", "node", "opset"))
    graph = model.graph
    if way == "shape":
        value = generator.choice([*graph.input, *graph.output])
        sides = value.type.tensor_type.shape.dim
        generator.choice(sides).dim_value = generator.choice((0, 1, -1, 2**31, 2**62, 7))
    elif way == "kind":
        generator.choice([*graph.input, *graph.output]).type.tensor_type.elem_type = generator.choice((0, 1, 2, 7, 99))
    elif way == "outside":
        tensor = generator.choice(graph.initializer)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = generator.choice(
            ("/etc/passwd", "../../../../etc/passwd", "../outside.bin", "missing.bin", "", "/dev/zero")
        )
        for key, text in (("location", place), ("offset", "0"), ("length", generator.choice(("8", "-1", str(2**62))))):
            tensor.external_data.add(key=key, value=text)
    elif way == "node":
        node = generator.choice(graph.node)
        generator.choice((node.input, node.output))[0] = generator.choice(("", "images", "descriptors", "nowhere"))
    else:
        model.opset_import[0].version = generator.choice((0, -1, 1, 99, 2**62))
    return way


def onnx_tensor_bytes(tensor: Any, value: float) -> bytes:  # noqa: ANN401 - a protobuf message
    """Bytes of a float32 tensor in which every value is this one."""
    return np.full(max(1, len(tensor.raw_data) // 4), value, "<f4").tobytes()


def _summed(content: bytes, metadata: dict[str, str]) -> bytes:
    """The model with metadata that fits its graph, so that a runtime sees the graph; unchanged where that fails."""
    from rrid_edge.errors import RridEdgeError
    from rrid_edge.model.spec import ModelSpec
    from rrid_edge.model.weights import contract_file

    try:
        return contract_file(content, ModelSpec.from_metadata(metadata, where="the sound file"))
    except (RridEdgeError, ValueError):
        return content


def damage_catalogue(path: Path, generator: random.Random) -> str:
    """Put odd values into a SQLite database; returns what was changed."""
    odd = [
        None,
        -1,
        2**62,
        1.5,
        "",
        "x" * 5000,
        b"\0\xff",
        *ODD_TEXTS[5:10],
        "\ud800".encode("utf-8", "replace"),
        "[" * 5000,
    ]
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        table = generator.choice([name for name in tables if not name.startswith("sqlite_")])
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        column, value = generator.choice(columns), generator.choice(odd)
        way = generator.choice(("value", "value", "value", "value", "rows", "drop", "column"))
        statements = {
            "value": f'UPDATE "{table}" SET "{column}" = ? WHERE rowid % ? = 0',
            "rows": f'DELETE FROM "{table}" WHERE ? IS NOT rowid AND rowid % ? = 0',
            "drop": f'DROP TABLE "{table}" -- ? ?',
            "column": f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO other -- ? ?',
        }
        given = (value, generator.choice((1, 2, 3))) if way in ("value", "rows") else ()
        with contextlib.suppress(sqlite3.Error), database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            database.execute(statements[way], given)
    return f"{way} {table}.{column}"
