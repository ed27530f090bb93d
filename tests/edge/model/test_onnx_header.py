"""The ONNX header reader gives what the package onnx gives."""

from __future__ import annotations

import dataclasses

import onnx
import pytest
from onnx import TensorProto, helper

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model import onnx_header
from rrid_edge.model.onnx_header import read_model_header, read_spec
from support.onnx_models import save_tiny_model, tiny_model


def test_the_header_equals_that_of_the_package_onnx(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    header = read_model_header(path)
    model = onnx.load(path)
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert header.opset == model.opset_import[0].version
    assert [(item.name, item.dtype, item.shape) for item in header.inputs] == [
        ("images", "uint8", ("batch", 192, 64, 3))
    ]
    assert [(item.name, item.dtype, item.shape) for item in header.outputs] == [
        ("descriptors", "float32", ("batch", 240))
    ]


def test_weights_among_the_inputs_are_ignored(tmp_path):
    """Older exporters list all weights as graph inputs."""
    model = tiny_model()
    weight = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))
    onnx.save(model, tmp_path / "m.onnx")
    assert [item.name for item in read_model_header(tmp_path / "m.onnx").inputs] == ["images"]


def test_the_spec_is_read_as_written(tmp_path):
    spec = dataclasses.replace(fake_spec("other"), training_data="demo")
    assert read_spec(save_tiny_model(tmp_path / "m.onnx", spec)) == spec


def test_truncated_files_are_refused_in_one_line(tmp_path):
    data = tiny_model().SerializeToString()
    path = tmp_path / "m.onnx"
    for length in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError) as refusal:
            read_spec(path)
        assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"these are words, not a model", "this is a text file, not an ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "this is a PNG picture, not an ONNX file"),
        (b"PK\x03\x04" + bytes(40), "this is a ZIP archive, not an ONNX file"),
        (b"\x07\x01\x9f" + bytes(40), "not an ONNX file, or damaged"),
    ],
)
def test_other_content_is_refused(tmp_path, content, kind):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match=kind):
        read_spec(tmp_path / "m.onnx")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such model file"):
        read_spec(tmp_path / "m.onnx")


def test_an_onnx_file_without_metadata_is_refused(tmp_path):
    model = tiny_model()
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="has no rrid-edge metadata"):
        read_spec(tmp_path / "m.onnx")


def _float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def _other_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "out"


def _other_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 100


@pytest.mark.parametrize("change", [_float_input, _fixed_batch, _other_name, _other_size])
def test_a_graph_that_contradicts_its_metadata_is_refused(tmp_path, change):
    model = tiny_model()
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="the graph contradicts its metadata"):
        read_spec(tmp_path / "m.onnx")


def test_missing_external_weights_are_named(tmp_path):
    onnx.save_model(tiny_model(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert read_model_header(tmp_path / "m.onnx").external_files == ("w.bin",)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelFileError, match=r"'w\.bin', which is not beside it"):
        read_spec(tmp_path / "m.onnx")


def test_a_header_is_parsed_once_until_its_file_changes(tmp_path, monkeypatch):
    parsed = []
    real = onnx_header._parse_model

    def counted(view):
        parsed.append(len(view))
        return real(view)

    monkeypatch.setattr(onnx_header, "_parse_model", counted)
    path = save_tiny_model(tmp_path / "m.onnx")
    assert read_spec(path) == read_spec(path) == fake_spec()
    assert len(parsed) == 1
    save_tiny_model(path, fake_spec("other", height_px=384))
    assert read_spec(path) == fake_spec("other", height_px=384)
    assert len(parsed) == 2
