"""The spec of a model: metadata, input sizes, fingerprint."""

from __future__ import annotations

import dataclasses

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.spec import ModelSpec, block_names, check_input_size, fingerprint


def test_blocks_are_in_the_published_order():
    names = block_names()
    assert len(names) == 15
    assert names[0] == "stripe-1-of-6"
    assert names[5:7] == ("stripe-6-of-6", "stripe-1-of-4")
    assert names[10:] == ("stripe-1-of-2", "stripe-2-of-2", "global-of-6", "global-of-4", "global-of-2")


def test_the_published_network_has_3840_values():
    spec = dataclasses.replace(fake_spec(), height_px=384, width_px=128, block_width=256)
    assert spec.dimension == 3840


def test_metadata_are_read_as_written():
    spec = dataclasses.replace(fake_spec(), flip=False, training_data="Market-1501 \u00fc", version="1.2.3")
    assert ModelSpec.from_metadata(spec.to_metadata(), where="x") == spec
    assert all(key.startswith("rrid.") for key in spec.to_metadata())


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("rrid.height_px", "abc", "height_px"),
        ("rrid.height_px", "100", "height 100 px"),
        ("rrid.height_px", "192.0", "height_px"),
        ("rrid.height_px", '"192"', "height_px"),
        ("rrid.height_px", "true", "height_px"),
        ("rrid.height_px", "\u0661\u0669\u0662", "height_px"),  # Arabic digits, which int() reads
        ("rrid.height_px", "1" * 5000, "height_px"),
        ("rrid.height_px", "1000000000", "height_px"),
        ("rrid.width_px", "-64", "width_px"),
        ("rrid.width_px", "NaN", "width_px"),
        ("rrid.flip", "maybe", "flip"),
        ("rrid.flip", "1", "flip"),
        ("rrid.fingerprint", "1234", "fingerprint"),
        ("rrid.fingerprint", "0" * 64 + "\n", "fingerprint"),
        ("rrid.fingerprint", "A" * 64, "fingerprint"),
        ("rrid.blocks", '["one"]', "blocks"),
        ("rrid.blocks", "[" * 60_000, "blocks"),
        ("rrid.blocks", "[" * 600_000, "blocks"),
        ("rrid.blocks", '{"0": "one"}', "blocks"),
        ("rrid.stripes", "[6, 4", "stripes"),
        ("rrid.stripes", "[]", "stripes"),
        ("rrid.stripes", "[6, [4], 2]", "stripes"),
        ("rrid.stripes", "[1000000000]", "stripes"),
        ("rrid.stripes", "[6, 6]", "stripes"),
        ("rrid.stripes", "[" + "2," * 99 + "3]", "stripes"),
        ("rrid.precision", "fp8", "precision"),
        ("rrid.format", "99", "of format 99, expected at most 2: made by a newer release; update rrid-edge"),
        ("rrid.format", "0", "format"),
        ("rrid.format", "two", "format"),
        ("rrid.block_width", None, "block_width"),
        ("rrid.block_width", "0", "block_width"),
        ("rrid.block_width", "10000000000", "block_width"),
        ("rrid.version", None, "version"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_damaged_metadata_are_refused_in_one_line(key, value, reason):
    metadata = fake_spec().to_metadata()
    if value is None:
        del metadata[key]
    else:
        metadata[key] = value
    with pytest.raises(ModelFileError, match=r"^model\.onnx: (damaged )?metadata of the model ") as refusal:
        ModelSpec.from_metadata(metadata, where="model.onnx")
    assert refusal.value.exit_code == 4
    assert reason in refusal.value.message
    assert len(refusal.value.message) < 400
    assert "\n" not in refusal.value.message


def test_numbers_that_are_texts_stay_texts():
    spec = dataclasses.replace(fake_spec(), training_data="1501", version="2", backbone="null")
    assert ModelSpec.from_metadata(spec.to_metadata(), where="x") == spec


def test_foreign_metadata_are_refused():
    with pytest.raises(ModelFileError, match="has no rrid-edge metadata"):
        ModelSpec.from_metadata({"author": "someone"}, where="model.onnx")


@pytest.mark.parametrize(("height", "width"), [(384, 128), (192, 64), (576, 256)])
def test_fitting_sizes_are_accepted(height, width):
    check_input_size(height, width, (6, 4, 2))


@pytest.mark.parametrize(
    ("height", "width", "stripes", "words"),
    [
        (256, 128, (6, 4, 2), r"height 256 px does not fit.*\[6\].*multiple of 192, for example 192 or 384"),
        (380, 128, (6, 4, 2), "height 380 px.*for example 192 or 384"),
        (0, 128, (6, 4, 2), "height 0 px"),
        (384, 100, (6, 4, 2), "width 100 px.*multiple of 16"),
        (384, 128, (6, 1), r"stripes \(6, 1\)"),
        (384, 128, (), "stripes"),
        (384, 128, (4, 4), "stripes"),
    ],
)
def test_other_sizes_are_refused_with_sizes_that_fit(height, width, stripes, words):
    with pytest.raises(UsageError, match=words):
        check_input_size(height, width, stripes)


def test_the_fingerprint_depends_on_settings_and_tensors_but_not_on_their_order():
    one = {"a": ("float32", (2,), b"12345678"), "b": ("float32", (1,), b"1234")}
    base = fingerprint({"flip": True}, one)
    assert base == fingerprint({"flip": True}, dict(reversed(list(one.items()))))
    others = [
        fingerprint({"flip": False}, one),
        fingerprint({"flip": True}, {**one, "b": ("float32", (1,), b"1235")}),
        fingerprint({"flip": True}, {"a": one["a"], "c": one["b"]}),
        fingerprint({"flip": True}, {**one, "a": ("float32", (1, 2), b"12345678")}),
    ]
    assert len({base, *others}) == 5
