"""Weight files that lie or are damaged: one line with exit code 4, little time, little memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors

from rrid_edge.errors import CheckpointError
from rrid_export.source import load_source
from rrid_train.checkpoint import load_checkpoint, load_training_state
from rrid_train.weight_files import opening
from rrid_train.weight_files.choosing import choose_weights
from rrid_train.weight_files.opening import open_weights
from rrid_train.weight_files.pickles import Budget
from rrid_train.weights import load_weights
from support.weight_containers import called, legacy_of, named, text, zip_of

ANCHOR = text("base.layer1.0.conv1.weight")
MIB = 1 << 20


def _number(value: int) -> bytes:
    """The instruction that pushes a whole number of any size and sign."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def _tuple(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def _numbers(values) -> bytes:
    return _tuple(*(value if isinstance(value, bytes) else _number(value) for value in values))


def _tensor(offset=0, size=(2, 3), stride=(3, 1), *, values=6, key="0", kind="FloatStorage") -> bytes:
    storage = _tuple(text("storage"), named("torch", kind), text(key), text("cpu"), _number(values)) + b"Q"
    shape = [_number(offset) if isinstance(offset, int) else offset, _numbers(size), _numbers(stride)]
    return called("torch._utils", "_rebuild_tensor_v2", storage, *shape, b"\x89", b"}")


def _state(name: bytes, value: bytes) -> bytes:
    """A pickle of a dictionary with one entry."""
    return b"\x80\x02}(" + name + value + b"u."


SIX = np.arange(6, dtype=np.float32).tobytes()


def _read(path):
    return choose_weights(open_weights(path), "base.layer1.0.conv1.weight")


def test_the_tensor_of_these_tests_loads(tmp_path):
    """What the next tests change is sound."""
    (tmp_path / "w.pth").write_bytes(zip_of(_state(ANCHOR, _tensor()), {"0": SIX}))
    expected = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(_read(tmp_path / "w.pth").tensors["base.layer1.0.conv1.weight"], expected)
    (tmp_path / "w.pth").write_bytes(legacy_of(_state(ANCHOR, _tensor()), {"0": (6, SIX)}))
    assert torch.equal(_read(tmp_path / "w.pth").tensors["base.layer1.0.conv1.weight"], expected)


LIES = {
    "behind the storage": _tensor(1),
    "a negative offset": _tensor(-1),
    "negative sizes": _tensor(0, (-2, -3)),
    "negative strides": _tensor(5, (2, 3), (-3, -1)),
    "strides behind the storage": _tensor(0, (2, 3), (4, 1)),
    "another number of strides": _tensor(0, (2, 3), (1,)),
    "huge sizes": _tensor(0, (1 << 61, 1 << 61), (0, 0)),
    "a huge number": _tensor(0, (1 << 2000,), (1,)),
    "sizes that repeat one value": _tensor(0, (1 << 40,), (0,)),
    "no numbers": _tensor(0, (b"N", b"\x88"), (b"N", b"N")),
    "an offset that is a text": _tensor(text("0")),
    "an offset that is true": _tensor(b"\x88"),
    "a size that is a storage": _tensor(0, (named("torch", "Size"),), (1,)),
    "many axes": _tensor(0, (1,) * 100, (1,) * 100),
    "a larger storage": _tensor(values=1 << 40),
    "a smaller storage": _tensor(values=4),
    "a storage of another type": _tensor(kind="DoubleStorage"),
    "an unknown type": _tensor(kind="StrangeStorage"),
    "a missing storage": _tensor(key="1"),
    "a storage elsewhere": _tensor(key="../version"),
    "no storage": called("torch._utils", "_rebuild_tensor_v2", b"NNNNNN"),
    "no arguments": called("torch._utils", "_rebuild_tensor_v2"),
    "too many arguments": called("torch._utils", "_rebuild_from_type_v2", b"N" * 100),
    "an array of another size": called(
        "numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), _numbers((0,)), text("b")
    )
    + _tuple(_number(1), _numbers((1 << 40,)), called("numpy", "dtype", text("f4"), b"\x89\x88"), b"\x89", b"C\x04abcd")
    + b"b",
    "an array of objects": called(
        "numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), _numbers((0,)), text("b")
    )
    + _tuple(_number(1), _numbers((1,)), called("numpy", "dtype", text("O"), b"\x89\x88"), b"\x89", b"]N" + b"a")
    + b"b",
}


@pytest.mark.parametrize("container", ["zip", "older"])
def test_tensors_that_lie_about_their_values_are_refused(tmp_path, container):
    for lie, tensor in LIES.items():
        payload = _state(ANCHOR, tensor)
        content = zip_of(payload, {"0": SIX}) if container == "zip" else legacy_of(payload, {"0": (6, SIX)})
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"w\.pth: ") as refusal:
            _read(tmp_path / "w.pth")
        assert "\n" not in refusal.value.message, lie


def _nested(depth: int) -> bytes:
    return b")" + b"\x85" * depth


def _laughs(depth: int) -> bytes:
    """A tuple of two equal tuples of two equal tuples, and so on."""
    return b")" + b"2\x86" * depth


BOMBS = {
    "a number of 2 GiB": b"\x8b\xff\xff\xff\x7f",
    "bytes of 8 EiB": b"\x8e" + b"\xff" * 7 + b"\x7f",
    "an array of bytes of 8 EiB": b"\x96" + b"\xff" * 7 + b"\x7f",
    "a text of 4 GiB": b"X\xff\xff\xff\xff",
    "a text of 8 EiB": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "a memory of 4 G places": b"Nr\xff\xff\xff\xff",
    "a memory of 10**100 places": b"Np" + b"9" * 100 + b"\n",
    "a number of 100,000 digits": b"I" + b"9" * 100_000 + b"\n",
    "deep tuples": _nested(100_000),
    "deep tuples as a key": b"}" + _nested(100_000) + b"Ns",
    "equal tuples as a key": b"}" + _laughs(200) + b"Ns",
    "equal tuples in a set": b"\x8f(" + _laughs(200) + b"\x90",
    "keys of one hash": b"}" + b"".join(_number(index * ((1 << 61) - 1)) + b"Ns" for index in range(1, 20_000)),
    "marks without end": b"(" * 100_000,
    "a list that holds itself": b"]q\x00h\x00a",
    "a dictionary that holds itself": b"}q\x00" + text("a") + b"h\x00s",
    "copies of a long list": b"(" + b"N" * 100_000 + b"lq\x00"
    + (b"0" + named("collections", "deque") + b"h\x00\x85R") * 500,
    "copies of a long text": b"X" + struct.pack("<I", MIB) + b"a" * MIB + b"q\x000"
    + (named("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R0") * 2_000 + b"N",
    "long names": b"X" + struct.pack("<I", MIB) + b"a" * MIB + b"q\x00" + b"h\x00h\x00\x93" * 2,
    "states of one object": named("a", "B") + b")\x81q\x00(" + b"".join(
        text(str(index)) + b"N" for index in range(10_000)
    ) + b"dq\x010" + b"h\x00h\x01b0" * 500 + b"N",
    "modules that hold themselves": named("a", "B") + b")\x81q\x00}" + text("_modules") + b"}("
    + text("a") + b"h\x00" + text("b") + b"h\x00usb",
}  # fmt: skip


@pytest.mark.parametrize("name", list(BOMBS))
def test_few_instructions_cannot_take_much_memory_or_time(tmp_path, name):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02" + BOMBS[name] + b".")
    with pytest.raises(CheckpointError) as refusal:
        load_weights(tmp_path / "w.pth")
    assert "\n" not in refusal.value.message
    assert len(refusal.value.message) < 600


@pytest.mark.parametrize("name", [name for name, bomb in BOMBS.items() if len(bomb) < 200 and "modules" not in name])
def test_lengths_that_lie_reserve_no_memory(tmp_path, name):
    tracemalloc.start()
    try:
        for content in (b"\x80\x02" + BOMBS[name] + b".", zip_of(b"\x80\x04" + BOMBS[name] + b".")):
            (tmp_path / "w.pth").write_bytes(content)
            with pytest.raises(CheckpointError):
                load_weights(tmp_path / "w.pth")
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_pickle_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "Budget", lambda: Budget(1_000))
    (tmp_path / "w.pth").write_bytes(zip_of(b"\x80\x02" + b"]" * 1_000 + b"."))
    with pytest.raises(CheckpointError, match="more than 1,000,000 instructions"):
        load_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("head", [b"cos", b"\x80\x02\x8e" + (10 << 30).to_bytes(8, "little"), b"(I1", b"Vx", b""])
def test_a_sparse_file_of_20_gib_is_refused_without_reading_it(tmp_path, head):
    with (tmp_path / "w.pkl").open("wb") as stream:
        stream.write(head)
        stream.truncate(20 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"w\.pkl: "):
            load_weights(tmp_path / "w.pkl")
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_sparse_tensor_of_20_gib_is_refused_without_reading_it(tmp_path):
    header = _safetensors({"base.layer1.0.conv1.weight": _entry(shape=(5 << 30,), offsets=(0, 20 << 30))}, b"")
    with (tmp_path / "w.safetensors").open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + (20 << 30))
    with pytest.raises(CheckpointError, match="its tensors have more than 4,294,967,296 bytes"):
        load_weights(tmp_path / "w.safetensors")


def test_many_tensors_of_one_storage_cannot_take_much_memory(tmp_path):
    state = b"".join(text(f"base.{index}.w") + _tensor(0, (1 << 20,), (0,), values=1) for index in range(400))
    payload = b"\x80\x02}(" + ANCHOR + _tensor(0, (1,), (1,), values=1) + state + b"u."
    (tmp_path / "w.pth").write_bytes(zip_of(payload, {"0": b"\0" * 4}))
    with pytest.raises(CheckpointError, match="claim far more values than it has bytes"):
        load_weights(tmp_path / "w.pth")


def _archive(*entries, compression=zipfile.ZIP_STORED):
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stored.getvalue()


def _overlapping() -> bytes:
    """Two entries of which the second lies in the first."""
    inner = _archive(("a/data/0", SIX))[: 30 + len("a/data/0") + len(SIX)]
    content = bytearray(_archive(("a/data.pkl", _state(ANCHOR, _tensor())), ("a/data/1", inner), ("a/data/0", SIX)))
    place = content.index(inner)
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 42 : directory + 46] = struct.pack("<I", place)
    return bytes(content)


PICKLE = _state(ANCHOR, _tensor())
ENTRIES = (("a/data.pkl", PICKLE), ("a/data/0", SIX))
ARCHIVES = {
    "one name twice": (_archive(*ENTRIES, ("a/data/1", SIX)).replace(b"a/data/1", b"a/data/0"), "twice"),
    "compressed": (_archive(*ENTRIES, compression=zipfile.ZIP_DEFLATED), "compressed"),
    "overlapping": (_overlapping(), "overlap"),
    "no pickle": (_archive(("a/data/0", SIX)), "without PyTorch's data.pkl"),
    "two pickles": (_archive(*ENTRIES, ("b/data.pkl", PICKLE)), "without PyTorch's data.pkl"),
    "an archive in it": (_archive(("weights.pth", zip_of(PICKLE, {"0": SIX}))), "unpack 'weights.pth' from it"),
    "TorchScript of old": (_archive(("a/model.json", "{}"), ("a/code/a.py", "")), "holds code"),
    "a program": (_archive(*ENTRIES, ("a/lib/x.so", "")), "holds code"),
    "big-endian": (_archive(*ENTRIES, ("a/byteorder", "big")), "big-endian"),
    "truncated": (zip_of(PICKLE, {"0": SIX})[:-40], "damaged"),
    "only a head": (b"PK\x03\x04", "damaged"),
    "changed bytes": (zip_of(PICKLE, {"0": SIX}).replace(SIX, SIX[::-1], 1), "changed after they were written"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ARCHIVES))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_never_writes_are_refused_by_name(tmp_path, name):
    content, words = ARCHIVES[name]
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as refusal:
        load_weights(tmp_path / "w.pth")
    assert refusal.value.exit_code == 4


def _safetensors(header, data=SIX, length=None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def _entry(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "a gap": _safetensors({"a": _entry(offsets=(4, 28))}, SIX + b"1234"),
    "an overlap": _safetensors({"a": _entry(), "b": _entry()}),
    "behind the file": _safetensors({"a": _entry(shape=(9, 3), offsets=(0, 108))}),
    "bytes that nothing names": _safetensors({"a": _entry()}, SIX * 2),
    "another size than its shape": _safetensors({"a": _entry(shape=(2, 2))}),
    "negative shapes": _safetensors({"a": _entry(shape=(-2, -3))}),
    "offsets in reverse": _safetensors({"a": _entry(offsets=(24, 0))}),
    "huge shapes": _safetensors({"a": _entry(shape=(1 << 62, 1 << 62))}),
    "an unknown type": _safetensors({"a": _entry("F31")}),
    "a type that is a number": _safetensors({"a": _entry(3)}),
    "no type": _safetensors({"a": {"shape": [2, 3], "data_offsets": [0, 24]}}),
    "one name twice": _safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(_entry()).encode(),) * 2)),
    "deep JSON": _safetensors(b'{"a":' * 100_000),
    "deep lists": _safetensors(b'{"a":' + b"[" * 100_000),
    "no JSON": _safetensors(b"{words"),
    "a list": _safetensors(b"{}", b"", 2)[:8] + b"[]",
    "no UTF-8": _safetensors(b'{"\xff":1}'),
    "a header behind the file": _safetensors({"a": _entry()}, length=1 << 31),
    "a header of 8 EiB": _safetensors({"a": _entry()}, length=(1 << 63) - 1),
    "no header": b"\0" * 8,
    "three bytes": b"abc",
    "metadata that is a number": _safetensors({"__metadata__": 3, "a": _entry()}),
    "metadata that holds a list": _safetensors({"__metadata__": {"a": []}, "b": _entry()}),
    "a huge number": _safetensors(b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,24]}}' % (b"9" * 5000)),
}


@pytest.mark.parametrize("name", list(HEADERS))
def test_safetensors_with_lying_headers_are_refused(tmp_path, name):
    (tmp_path / "w.safetensors").write_bytes(_safetensors({"base.layer1.0.conv1.weight": _entry()}))
    assert _read(tmp_path / "w.safetensors").tensors["base.layer1.0.conv1.weight"].shape == (2, 3)
    (tmp_path / "w.safetensors").write_bytes(HEADERS[name])
    for read in (load_weights, load_checkpoint, load_source):
        with pytest.raises(CheckpointError, match=r"w\.safetensors: ") as refusal:
            read(tmp_path / "w.safetensors")
        assert "\n" not in refusal.value.message
        assert refusal.value.exit_code == 4


MODEL = {"backbone": "resnet18", "height_px": 96, "width_px": 32, "stripes": [3, 2], "block_width": 8}
FACTS: dict[str, object] = {
    "format": 1,
    "version": "0.2.0",
    "model": MODEL,
    "num_identities": 5,
    "training_data": "market1501",
    "epoch": 2,
    "config": {},
    "metrics": {"mAP": 0.5},
}


def _changed(place, value):
    facts = json.loads(json.dumps(FACTS))
    *outer, key = place.split(".")
    target = facts[outer[0]] if outer else facts
    if value is None:
        del target[key]
    else:
        target[key] = value
    return facts


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((key, None) for key in FACTS if key != "version"),
        *((f"model.{key}", None) for key in MODEL),
        ("model.width_px", -32), ("model.width_px", 33), ("model.width_px", "32"), ("model.height_px", 1 << 40),
        ("model.stripes", []), ("model.stripes", [0, 0]), ("model.stripes", [3] * 1000), ("model.stripes", [512] * 64),
        ("model.backbone", "resnet9"), ("model.block_width", 1 << 30), ("num_identities", 1 << 30),
        ("num_identities", 0), ("format", 2), ("format", "1"), ("epoch", -1), ("metrics", {"mAP": "good"}),
        ("config", []), ("training_data", 3), ("model", []),
    ],
)  # fmt: skip
def test_facts_that_are_missing_or_wrong_are_refused_and_not_guessed(tmp_path, place, value):
    content = save_tensors({"a": torch.zeros(1)}, {"rrid.checkpoint": json.dumps(_changed(place, value))})
    (tmp_path / "c.safetensors").write_bytes(content)
    for read in (load_checkpoint, load_source):
        with pytest.raises(CheckpointError, match=r"c\.safetensors") as refusal:
            read(tmp_path / "c.safetensors")
        if value is None:
            assert place.rpartition(".")[2] in refusal.value.message


def test_a_sound_list_of_facts_with_the_wrong_tensors_takes_no_memory(tmp_path):
    """The facts describe a network of 80 GB."""
    facts = _changed("model.block_width", 1 << 20)
    content = save_tensors({f"t{index}": torch.zeros(1) for index in range(9)}, {"rrid.checkpoint": json.dumps(facts)})
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="the tensors do not fit the network"):
        load_source(tmp_path / "c.safetensors")


def _sound_files() -> dict[str, bytes]:
    state = {"base.layer1.0.conv1.weight": torch.arange(6.0).reshape(2, 3), "base.bn1.bias": torch.ones(2)}
    content = {
        "model": state,
        "rng": np.random.RandomState(0).get_state(),
        "optimiser": {"state": {0: {"m": torch.ones(2)}}},
    }
    found = {"plain": pickle.dumps(content, protocol=4)}
    for name, zipped in (("zip", True), ("older", False)):
        stored = io.BytesIO()
        torch.save(content, stored, _use_new_zipfile_serialization=zipped)
        found[name] = stored.getvalue()
    found["safetensors"] = save_tensors(state, {"rrid.checkpoint": json.dumps(FACTS)})
    return found


@pytest.mark.parametrize("kind", ["plain", "zip", "older", "safetensors"])
def test_random_damage_gives_one_line_or_sound_tensors(tmp_path, kind):
    sound = _sound_files()[kind]
    generator = np.random.default_rng(7)
    path = tmp_path / "w.pth"
    refusals = 0
    for _ in range(150):
        content = bytearray(sound)
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(len(content)))
            damage = generator.integers(3)
            if damage == 0:
                content[place] = int(generator.integers(256))
            elif damage == 1:
                del content[place : place + int(generator.integers(1, 40))]
            else:
                content[place:place] = generator.bytes(int(generator.integers(1, 12)))
        path.write_bytes(content)
        for read in (load_weights, load_training_state, load_checkpoint):
            try:
                read(path)
            except CheckpointError as error:
                refusals += 1
                assert error.message.isprintable()  # noqa: PT017 - a file may also be sound
    assert refusals > 150
