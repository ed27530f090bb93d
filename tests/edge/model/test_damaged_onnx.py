"""ONNX files that lie about lengths, sizes and numbers: one line, little memory, little time."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.protobuf import MOST_FIELDS, fields
from rrid_edge.model.weights import check_weights, read_checked_spec
from support.onnx_models import tiny_model


@pytest.fixture(scope="module")
def content() -> bytes:
    return tiny_model().SerializeToString()


@pytest.fixture
def bounded() -> Iterator[None]:
    """Assert that a test needs less than 32 MiB and 5 seconds."""
    start = time.process_time()
    tracemalloc.start()
    yield
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
    assert time.process_time() - start < 5


def _refusal(path: Path, read: Callable[[Path], object]) -> str:
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.message.isprintable()
    return caught.value.message


def _varint(value: int) -> bytes:
    return bytes([*(value >> shift & 0x7F | 0x80 for shift in range(0, 63, 7)), value >> 63])


LIES = {
    "a graph of 2^62 bytes": b"\x3a" + _varint(1 << 62) + b"abc",
    "a graph of 2^31 bytes": b"\x3a" + _varint(1 << 31) + b"abc",
    "a number without an end": b"\x08" + b"\xff" * 30,
    "a number cut off": b"\x08\x80",
    "a length cut off": b"\x3a",
    "groups in groups": b"\x0b" * 100_000,
    "lengths in lengths": b"\x3a\xf0\x7f" * 10_000,
    "field 0": b"\x00\x00",
    "metadata that is a number": b"\x70\x01",
    "metadata without texts": b"\x72\x04\x08\x01\x10\x01",
    "metadata that is no UTF-8": b"\x72\x04\x0a\x02\xff\xfe",
    "two graphs": b"\x3a\x00\x3a\x00\x42\x04\x0a\x00\x10\x11",
    "no graph": b"\x42\x04\x0a\x00\x10\x11",
    "operator set 2^62": b"\x42\x0c\x0a\x00\x10" + _varint(1 << 62),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_bytes_are_refused_alone_and_after_a_sound_model(tmp_path, content, name, bounded):
    path = tmp_path / "m.onnx"
    path.write_bytes(LIES[name])
    _refusal(path, read_spec)
    _refusal(path, read_checked_spec)
    path.write_bytes(content + LIES[name])
    if name not in ("no graph", "metadata that is a number"):  # sound for the header; the sum of the weights differs
        _refusal(path, read_spec)
    _refusal(path, read_checked_spec)


def test_endless_fields_are_refused(tmp_path):
    assert len(list(fields(memoryview(b"\x08\x01" * 1000)))) == 1000
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x01" * (MOST_FIELDS + 1))
    assert "more than 262,144 fields" in _refusal(path, read_spec)


def test_endless_texts_are_refused(tmp_path, content, bounded):
    """A metadata entry of 200 MB, in a sparse file."""
    path = tmp_path / "m.onnx"
    size = 200_000_000
    with path.open("wb") as stream:
        stream.write(content + b"\x72" + _varint(size + 11) + b"\x0a" + _varint(size))
        stream.truncate(stream.tell() + size)
    assert "a text of 200,000,000 bytes" in _refusal(path, read_spec)
    assert "metadata of 200,000,011 bytes" in _refusal(path, check_weights)


def test_sparse_files_of_any_size_are_refused_unread(tmp_path, content, bounded):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with path.open("ab") as stream:
        stream.truncate(1 << 40)
    for read in (read_spec, check_weights):
        assert "1,099,511,627,776 bytes, an ONNX file has at most 2,147,483,647" in _refusal(path, read)


def test_control_characters_of_names_are_escaped(tmp_path):
    model = tiny_model()
    model.graph.output[0].name = "\x1b[31mred"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert r"\x1b[31mred" in _refusal(path, read_spec)


def test_unreadable_paths_are_wrong_use(tmp_path):
    for path in (tmp_path, tmp_path / "none.onnx", tmp_path / ("n" * 300)):
        with pytest.raises(UsageError, match=r"a folder|no such model|cannot be read \(File name too long\)"):
            read_spec(path)


def test_random_damage_is_one_line(tmp_path, content):
    """Every change is noticed: by the header, the metadata's schema or the sum of the weights."""
    choose, path = random.Random(7), tmp_path / "m.onnx"
    ends = (600, len(content) - 1500)  # between them lie the weights
    unnoticed = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(choose.randint(1, 3)):
            at = choose.choice((choose.randrange(ends[0]), choose.randrange(ends[1], len(damaged))))
            kind = choose.randrange(3)
            if kind == 0:
                damaged[at] = choose.choice((0, 0x7F, 0x80, 0xFF, choose.randrange(256)))
            elif kind == 1:
                del damaged[at : at + choose.randint(1, 40)]
            else:
                damaged[at:at] = damaged[at : at + choose.randint(1, 40)]
        path.write_bytes(damaged)
        message = _message_of(path)
        if message is None:
            unnoticed += 1
        else:
            assert message.startswith(f"{path}: ")
            assert message.isprintable()
    assert unnoticed < 20  # names in the metadata, such as the backbone's, have no sum


def _message_of(path: Path) -> str | None:
    try:
        read_checked_spec(path)
    except ModelFileError as error:
        return error.message
    return None
