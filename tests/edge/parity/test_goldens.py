"""Goldens: files that lie about names, types, shapes and sizes are refused before anything is allocated."""

from __future__ import annotations

import io
import random
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import ModelFileError
from rrid_edge.parity.goldens import Goldens, load_goldens, load_goldens_of, save_goldens
from rrid_edge.ranking.labels import Labels

SPEC = fake_spec()


def _goldens() -> Goldens:
    images = np.random.default_rng(1).integers(0, 256, (3, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)
    with FakeEngine(SPEC) as engine:
        labels = Labels(np.arange(3), np.arange(3))
        return Goldens(images, engine.run(images), ("a.jpg", "bé.jpg", "c.jpg"), SPEC.fingerprint, labels)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("goldens") / "g.npz"
    save_goldens(path, _goldens())
    return path.read_bytes()


def _arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content)) as stored:
        return dict(stored)


def _refused(path: Path, reason: str = "") -> None:
    with pytest.raises(ModelFileError) as caught:
        load_goldens(path)
    message = caught.value.message
    assert message.startswith(f"{path}: not a goldens file, or damaged (")
    assert reason in message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 500 + len(str(path))


def test_goldens_are_read_as_written_also_by_numpy(tmp_path, content):
    path = tmp_path / "g.npz"
    path.write_bytes(content)
    goldens, arrays = load_goldens(path), _arrays(content)
    np.testing.assert_array_equal(goldens.images, arrays["images"])
    np.testing.assert_array_equal(goldens.descriptors, arrays["descriptors"])
    np.testing.assert_array_equal(goldens.labels.persons, arrays["persons"])
    assert goldens.names == tuple(arrays["names"]) == ("a.jpg", "bé.jpg", "c.jpg")
    assert goldens.fingerprint == SPEC.fingerprint
    transposed = replace(_goldens(), descriptors=np.asfortranarray(goldens.descriptors))
    save_goldens(path, transposed)
    np.testing.assert_array_equal(load_goldens(path).descriptors, goldens.descriptors)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("images", np.zeros((3, 4, 4), np.uint8), "images is |u1 [3, 4, 4]"),
        ("images", np.zeros((3, 4, 4, 3), np.float32), "images is <f4"),
        ("images", np.zeros((0, 4, 4, 3), np.uint8), "expected <f4"),  # the other arrays have three rows
        ("descriptors", np.zeros((2, 240), np.float32), "descriptors is <f4 [2, 240], expected <f4 [3, D]"),
        ("descriptors", np.zeros((3, 240), np.float64), "descriptors is <f8"),
        ("descriptors", np.zeros((3, 240), ">f4"), "header is damaged"),
        ("descriptors", np.asfortranarray(np.zeros((3, 240), np.float32)), "no plain array in C order"),
        ("descriptors", np.full((3, 240), np.nan, np.float32), "not finite"),
        ("descriptors", np.full((3, 240), -np.inf, np.float32), "not finite"),
        ("names", np.array(["a", "b"]), "names is <U1 [2]"),
        ("names", np.array([b"a", b"b", b"c"]), "names is |S1"),
        ("names", np.full(3, 0xFFFFFFFF, np.uint32).view("<U1"), "names are no texts"),
        ("names", np.array(["a", None, 3], object), "header is damaged"),
        ("names", np.array(["a", "b\0.jpg", "c"]), "a name with a zero in it"),
        ("fingerprint", np.array("x" * 64), "fingerprint is no sha256"),
        ("fingerprint", np.array("1234"), "fingerprint is <U4"),
        ("persons", np.arange(3.0), "persons is <f8"),
        ("persons", np.array(["1", "2", "3"]), "persons is <U1"),
        ("cameras", np.arange(4), "cameras is <i8 [4]"),
        ("cameras", np.zeros(3, [("a", "i4")]), "header is damaged"),
        ("cameras", None, "0 arrays 'cameras', expected 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path, content, name, value, reason):
    arrays = _arrays(content) | {name: value}
    if value is None:
        del arrays[name]
    np.savez_compressed(tmp_path / "g.npz", **arrays)
    _refused(tmp_path / "g.npz", reason)


def _rewritten(content: bytes, path: Path, header: bytes, *, name: str = "images", length: int | None = None) -> None:
    """Write goldens in which the header of one array says something else."""
    old = zipfile.ZipFile(io.BytesIO(content))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            data = old.read(member)
            if member == f"{name}.npy":
                size = len(header) if length is None else length
                data = b"\x93NUMPY\1\0" + size.to_bytes(2, "little") + header + data[128:]
            new.writestr(member, data)


def _header(shape: str, descr: str = "|u1", order: str = "False") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode().ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (_header("(1099511627776, 3)"), "[1099511627776, 3]"),
        (_header("(3, 500000, 500000, 3)"), "arrays of 2,250,000,"),
        (_header("(3, 999999999999, 999999999999, 3)"), "arrays of"),
        (_header("(3, 193, 64, 3)"), "110,592 bytes, expected 111,168"),
        (_header("(3, 96, 64, 3)"), "bytes, expected 55,296"),
        (_header("(-3, 192, 64, 3)"), "header is damaged"),
        (_header("(3, 192, 64, 3.0)"), "header is damaged"),
        (_header("(3, 192, 64, 3)", order="True"), "header is damaged"),
        (_header("(3, 192, 64, 3)", descr="|O"), "header is damaged"),
        (_header("(3, 192, 64, 3)", descr="|V1"), "images is |V1"),
        (_header("__import__('os').abort()"), "header is damaged"),
        (b"(" * 9_000, "header is damaged"),
        (b"", "header is damaged"),
    ],
    ids=lambda value: value.decode()[40:70].strip("( ") or "short" if isinstance(value, bytes) else None,
)
def test_lying_headers_are_refused_before_anything_is_allocated(tmp_path, content, header, reason):
    _rewritten(content, tmp_path / "g.npz", header)
    tracemalloc.start()
    try:
        _refused(tmp_path / "g.npz", reason)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_lying_archives_are_refused(tmp_path, content):
    path = tmp_path / "g.npz"
    _rewritten(content, path, _header("(3, 192, 64, 3)"), length=60_000)
    _refused(path, "header is damaged")
    with zipfile.ZipFile(path, "w") as archive:
        for member in zipfile.ZipFile(io.BytesIO(content)).namelist():
            archive.writestr(member, zipfile.ZipFile(io.BytesIO(content)).read(member))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("images.npy", b"")
    _refused(path, "2 arrays 'images', expected 1")
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.npy", b"")
    _refused(path, "100 members")
    path.write_bytes(content + bytes(100))
    _refused(path, "no complete .npz archive")
    path.write_bytes(np.arange(4).tobytes())
    _refused(path, "no complete .npz archive")
    bomb = _header("(10000, 10000)", "<f4")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in zipfile.ZipFile(io.BytesIO(content)).namelist():
            archive.writestr(member, b"\x93NUMPY\1\0" + len(bomb).to_bytes(2, "little") + bomb + bytes(1 << 20))
    _refused(path, "images is <f4 [10000, 10000]")
    _refused(tmp_path, "no ordinary file")


def test_goldens_of_other_sizes_than_the_model_are_refused(tmp_path, content):
    (tmp_path / "g.npz").write_bytes(content)
    assert load_goldens_of(tmp_path / "g.npz", SPEC).names
    with pytest.raises(ModelFileError, match="192 x 64 px with 240 values, expected 384 x 64 px with 240"):
        load_goldens_of(tmp_path / "g.npz", replace(SPEC, height_px=384))
    assert load_goldens_of(tmp_path / "g.npz", replace(SPEC, height_px=384, fingerprint="0" * 64)).names


def test_random_damage_is_one_line_or_sound_goldens(tmp_path, content):
    path, choose = tmp_path / "g.npz", random.Random(5)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        # Most bytes are pixels, whose damage zlib notices: aim at headers and the directory as often.
        spots = (len(damaged), 200) if choose.random() < 0.5 else (1000, 0)
        for _ in range(choose.randint(1, 4)):
            damaged[-1 - choose.randrange(spots[0] - spots[1])] = choose.randrange(256)
        path.write_bytes(damaged[: choose.randrange(len(damaged))] if choose.random() < 0.2 else damaged)
        message = _message_of(path)
        if message is not None:
            refused += 1
            assert str(path) in message
            assert message.isprintable()
    assert refused > 100


def _message_of(path: Path) -> str | None:
    try:
        assert load_goldens(path).descriptors.shape == (3, 240)
    except ModelFileError as error:
        return error.message
    return None
